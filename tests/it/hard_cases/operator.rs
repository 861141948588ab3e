//! What failed and why, sending it again, and giving up on purpose, beside a running sidecar and without one. (Hard case 3.)

use postern::simulator::receiver::Behaviour;

use super::stand::{Stand, created, run, stderr, stdout};

const TOKEN: &str = "a-token-that-is-long-enough";

/// A sidecar whose app refuses everything, with dead letters about these keys.
async fn with_dead(keys: &[&str], token: &str) -> Stand {
    let stand = Stand::start(&[("POSTERN_RETRY_MAX_ATTEMPTS", "1"), ("POSTERN_ADMIN_TOKEN", token)]).await;
    stand.app.always(Behaviour::Status(422));
    stand.create(keys).await;
    stand.wait_rows(&["--state", "dead"], keys.len()).await;
    stand
}

async fn id_of(stand: &Stand, key: &str) -> String {
    let rows = stand.rows(&["--key", key]).await;
    rows[0]["eventId"].as_str().expect("an id").to_owned()
}

/// Hard case 3. The sidecar alone writes to its store: it is asked, with its token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_replayed_and_another_discarded_while_the_sidecar_runs() {
    let stand = with_dead(&["a", "b", "c"], TOKEN).await;
    stand.app.always(Behaviour::Status(200));
    let (a, b) = (id_of(&stand, "a").await, id_of(&stand, "b").await);

    let replayed = stand.cli(&["replay", "--id", &a]).await;
    assert_eq!(
        (replayed.status.code(), stdout(&replayed).as_str()),
        (Some(0), "1 owed again\n"),
        "{}",
        stderr(&replayed)
    );
    stand.delivered(&["a"]).await;
    assert!(stand.app.ledger(|ledger| ledger.events.contains_key(&a)), "under its old id");

    let discarded = stand.cli(&["discard", "--id", &b]).await;
    assert_eq!(
        (discarded.status.code(), stdout(&discarded).as_str()),
        (Some(0), "1 discarded\n"),
        "{}",
        stderr(&discarded)
    );
    let rows = stand.wait_rows(&["--state", "discarded"], 1).await;
    assert_eq!(rows[0]["eventId"], b.as_str());
    stand.wait_rows(&["--state", "dead"], 1).await;

    // By selection and not by id; and what fits nothing is no error.
    let rest = stand.cli(&["replay", "--state", "dead", "--key", "c*"]).await;
    assert_eq!(stdout(&rest), "1 owed again\n", "{}", stderr(&rest));
    stand.delivered(&["c"]).await;
    let none = stand.cli(&["replay", "--id", "AAAAAAAAAAAAAAAAAAAA"]).await;
    assert_eq!((none.status.code(), stdout(&none).as_str()), (Some(0), "0 owed again\n"));
    assert!(!stand.app.ledger(|ledger| ledger.objects.contains_key("b")));
}

/// Hard case 3. Without a sidecar the command owns the store for a moment; the next start delivers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_replayed_and_discarded_while_the_sidecar_is_stopped() {
    let mut stand = with_dead(&["a", "b"], "").await;
    stand.app.always(Behaviour::Status(200));
    stand.signal("INT");
    assert_eq!(stand.ended().await.code(), Some(0), "{}", stand.log());
    let (a, b) = (id_of(&stand, "a").await, id_of(&stand, "b").await);
    assert_eq!(stdout(&stand.cli(&["replay", "--id", &a]).await), "1 owed again\n");
    assert_eq!(stdout(&stand.cli(&["discard", "--id", &b]).await), "1 discarded\n");
    let table = stdout(&stand.cli(&["events"]).await);
    assert!(table.contains("owed") && table.contains("discarded"), "{table}");
    stand.begin().await;
    stand.delivered(&["a"]).await;
    assert!(!stand.app.ledger(|ledger| ledger.objects.contains_key("b")));
}

/// What the operator got wrong is said with what to do, and never with a token. Settings that are wrong or missing end with 64, as they
/// do for `serve`: these commands once ended with 69, by which a script would have tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_cannot_be_made_says_what_to_do() {
    let mut stand = with_dead(&["a"], TOKEN).await;
    let all = stand.cli(&["replay"]).await;
    assert_eq!(all.status.code(), Some(64));
    assert!(stderr(&all).contains("--all"), "{}", stderr(&all));

    stand.set("POSTERN_ADMIN_TOKEN", "");
    let without = stand.cli(&["replay", "--all"]).await;
    assert_eq!(without.status.code(), Some(64));
    assert!(stderr(&without).contains("set POSTERN_ADMIN_TOKEN"), "{}", stderr(&without));

    stand.set("POSTERN_ADMIN_TOKEN", "a wrong token, as long");
    let bad = stand.cli(&["replay", "--all"]).await;
    assert_eq!(bad.status.code(), Some(64), "a token with blanks is a mistake in the setting: {}", stderr(&bad));

    stand.set("POSTERN_ADMIN_TOKEN", "a-wrong-token-as-long");
    let wrong = stand.cli(&["discard", "--all"]).await;
    assert_eq!(wrong.status.code(), Some(69));
    assert!(stderr(&wrong).contains("401"), "{}", stderr(&wrong));
    assert!(!stderr(&wrong).contains("a-wrong-token"), "{}", stderr(&wrong));
    stand.wait_rows(&["--state", "dead"], 1).await;

    let elsewhere = stand.cli(&["events", "--data-dir", "/nowhere/at/all"]).await;
    assert_eq!(elsewhere.status.code(), Some(69));
    assert!(stderr(&elsewhere).contains("there is no store in /nowhere/at/all"), "{}", stderr(&elsewhere));
    let state = stand.cli(&["events", "--state", "lost"]).await;
    assert_eq!(state.status.code(), Some(64));
    assert!(stderr(&state).contains("superseded"), "{}", stderr(&state));
}

/// Hard case 17. The operator's command opens the store with the settings of a shell, which knows nothing of a long dedupe memory. It
/// once forgot, with the default of a day, what the sidecar had been told to remember for a month.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_without_the_sidecar_forgets_nothing() {
    let mut stand = Stand::start(&[("POSTERN_DEDUPE_FOR", "30days"), ("POSTERN_RETRY_MAX_ATTEMPTS", "1")]).await;
    let known = stand.envelope(&[created("known")]);
    assert_eq!(stand.post(&known).await, 200, "{}", stand.log());
    stand.delivered(&["known"]).await;
    stand.app.script([Behaviour::Status(500)]);
    stand.create(&["dead"]).await;
    stand.wait_rows(&["--state", "dead"], 1).await;
    stand.signal("INT");
    assert_eq!(stand.ended().await.code(), Some(0), "{}", stand.log());
    // Ten days pass: the tables of the memory are named by the time at which they began.
    let store = rusqlite::Connection::open(stand.dir.path().join("store/postern.db")).expect("the store");
    let tables = store.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB '*_[0-9]*'");
    let names: Vec<String> = tables
        .expect("a query")
        .query_map([], |row| row.get(0))
        .expect("names")
        .collect::<Result<_, _>>()
        .expect("names");
    assert!(!names.is_empty());
    for name in names {
        let (kind, start) = name.split_once('_').expect("a start");
        let start = start.parse::<i64>().expect("a time") - 10 * 24 * 3600 * 1000;
        store.execute_batch(&format!("ALTER TABLE {name} RENAME TO {kind}_{start}")).expect("a new name");
    }
    drop(store);

    let mut shell = stand.command(&["replay", "--state", "dead"]);
    shell.env_remove("POSTERN_DEDUPE_FOR");
    let replayed = run(shell).await;
    assert_eq!(stdout(&replayed), "1 owed again\n", "{}", stderr(&replayed));
    stand.begin().await;
    stand.delivered(&["dead"]).await;
    assert_eq!(stand.post(&known).await, 200, "{}", stand.log());
    stand.create(&["after"]).await;
    stand.delivered(&["after"]).await;
    assert_eq!(stand.app.ledger(|ledger| (ledger.taken, ledger.repeated)), (3, 0));
    assert_eq!(stand.rows(&["--key", "known"]).await.len(), 1);
}

/// `postern events | head -1`: whoever reads may stop reading. This once was a panic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_into_a_closed_pipe_is_no_failure() {
    let stand = Stand::start(&[]).await;
    let records: Vec<_> = (0..50).map(|n| created(&format!("{n} {}", "long".repeat(200)))).collect();
    for half in records.chunks(25) {
        assert_eq!(stand.notify(half).await, 200, "{}", stand.log());
    }
    stand.wait_rows(&["--state", "delivered"], 50).await;
    for arguments in [&["events"][..], &["events", "--json"]] {
        // More than a pipe holds, so that the listing meets its end whenever the reader goes.
        let mut listing = stand.command(arguments);
        listing.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = listing.spawn().expect("it starts");
        drop(child.stdout.take());
        let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("a thread");
        let output = output.expect("an end");
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    }
}
