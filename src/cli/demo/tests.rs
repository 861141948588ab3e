use super::*;

#[test]
fn a_story_in_which_anything_is_off_is_not_well() {
    let mut story = Story::default();
    story.check(true, "this holds");
    assert!(story.is_well());
    story.check(false, "this does not");
    story.check(true, "this holds again");
    assert!(!story.is_well());
}

#[test]
fn the_scratch_folder_is_private_and_gone_afterwards() {
    let scratch = Scratch::new(&mut Dice::new()).expect("a folder");
    let path = scratch.path().to_owned();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("metadata").permissions());
    assert_eq!(mode & 0o077, 0);
    std::fs::write(path.join("file"), "x").expect("a file");
    drop(scratch);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_sidecar_that_does_not_run_ends_the_demo_before_it_begins() {
    let args = Args { localstack: false, binary: Some(PathBuf::from("/nonexistent/postern")) };
    assert_eq!(run(args).await, ExitCode::from(2));
}

#[test]
fn json_is_indented_in_its_own_order_and_strings_stay_as_they_are() {
    let json = r#"{"b":[1,{}],"a":"x, \"{y}\": \\","c":[]}"#;
    let expected = "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": \"x, \\\"{y}\\\": \\\\\",\n  \"c\": []\n}";
    assert_eq!(story::indented(json), expected);
}
