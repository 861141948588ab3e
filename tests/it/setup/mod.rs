//! `postern setup`, against LocalStack, an MCS of our own and Ceph RGW, with the real binary on both sides.

mod amazon;
mod ceph;
mod mcs;

use std::process::Command;

/// What a run of `postern setup` said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Lines whose verdict is `word`.
    pub(crate) fn verdicts(&self, word: &str) -> Vec<&str> {
        let of =
            |line: &&str| line.starts_with("  ") && !line.starts_with("    ") && line.trim_start().starts_with(word);
        self.out.lines().filter(of).collect()
    }
}

/// Runs `postern setup` with `settings` as its whole environment.
pub(crate) async fn setup(settings: &[(&str, &str)], arguments: &[&str]) -> Said {
    run("setup", settings, arguments).await
}

/// What `postern doctor` says of the webhooks of MCS.
async fn doctor(settings: &[(&str, &str)]) -> Said {
    run("doctor", settings, &["--only", "mcs_webhook"]).await
}

async fn run(name: &str, settings: &[(&str, &str)], arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg(name).args(arguments).env_clear();
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("NO_PROXY", "127.0.0.1").envs(settings.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().expect("postern runs")).await.expect("no panic");
    let said = Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    };
    assert!(!said.out.contains("hush") || arguments.contains(&"--show-secrets"), "a secret was printed: {said:?}");
    assert!(!said.err.contains("hush"), "a secret was printed: {said:?}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anything_to_set_up_it_says_which_settings_do_and_ends_with_usage() {
    let said = setup(&[], &[]).await;
    assert_eq!(said.code, 64, "{said:?}");
    assert!(said.err.contains("event.sns.topic.arn") && said.err.contains("POSTERN_MCS_TOPICS"), "{said:?}");
    let said = setup(&[("EVENT_SNS_TOPIC_ARN", "nonsense"), ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "hush")], &[]).await;
    assert_eq!(said.code, 64, "{said:?}");
    assert!(said.err.lines().count() >= 2, "every problem at once: {said:?}");
}
