//! The commands a newcomer tries first, run as they are typed.

use std::process::Command;

#[test]
fn the_demo_tells_its_whole_story_and_everything_in_it_holds() {
    let output = Command::new(env!("CARGO_BIN_EXE_postern")).arg("demo").output().expect("the demo runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}\n{complained}");
    assert!(told.contains("Everything was as it should be.") && !told.contains("NOT OK"), "{told}");
    assert!(told.contains("elements-webhook-signature: sha256="), "{told}");
    // The second system that comes in by the same door, of which the demo shows the URL without its secret.
    for told_of_mcs in ["MCS would save the webhook", "its elementKey is mcss3", "the stranger's change was dropped"] {
        assert!(told.contains(told_of_mcs), "{told_of_mcs}: {told}");
    }
    let webhook = told.split("/mcs/").nth(1).and_then(|rest| rest.split(' ').next()).expect("the webhook's URL");
    assert!(webhook.ends_with('…') && webhook.len() < 16, "{webhook}");
}
