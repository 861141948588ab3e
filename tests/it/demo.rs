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
}
