use clap::Parser;

use super::*;
use crate::simulator::receiver::{Behaviour, Receiver};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn args(more: &[&str]) -> Args {
    let folder = std::env::temp_dir().join(format!("postern-anchor-{}-{}.pem", std::process::id(), Dice::new().hex(8)));
    let fixed = ["simulate", "--listen", "127.0.0.1:0", "--anchor-out", folder.to_str().expect("a path")];
    Command::try_parse_from(fixed.iter().copied().chain(more.iter().copied())).expect("arguments").args
}

#[test]
fn a_rate_has_its_unit_or_none_and_is_above_zero() {
    assert_eq!(parse_rate("500/s"), Ok(500.0));
    assert_eq!(parse_rate("0.5"), Ok(0.5));
    for wrong in ["0/s", "-1", "x", "inf", "NaN", ""] {
        assert!(parse_rate(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_target_elsewhere_is_refused_before_anything_is_sent() {
    let why = simulate(args(&["--target", "http://192.0.2.1/sns", "--wait", "0s"])).await.expect_err("refused");
    assert!(why.contains("--allow-remote"), "{why}");
    let why = simulate(args(&["--target", "http://127.0.0.1:1/", "--event", "Nothing"])).await.expect_err("refused");
    assert!(why.contains("ObjectCreated:Put"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_planned_is_sent_and_an_app_that_accepts_forgeries_fails_the_run() {
    let receiver = Receiver::start(Default::default()).await.expect("a receiver");
    let url = receiver.url();
    let more = [
        "--target",
        &url,
        "--count",
        "40",
        "--duplicates",
        "100",
        "--reorder",
        "50",
        "--event",
        "mix",
        "--records",
        "2",
    ];
    let args_plain = args(&more);
    assert_eq!(simulate(args_plain.clone()).await, Ok(true));
    // The probe, 40 messages and each once more.
    receiver.ledger(|ledger| assert_eq!(ledger.requests, 81));

    let forging = args(&[&more[..], &["--forge", "100"]].concat());
    assert_eq!(simulate(forging).await, Ok(false));
    receiver.ledger(|ledger| assert_eq!(ledger.requests, 81 + 121));

    receiver.always(Behaviour::Status(503));
    assert_eq!(simulate(args_plain).await, Ok(false));
}

#[test]
fn the_report_tells_refused_forgeries_from_accepted_ones() {
    use crate::simulator::sns::forge::Forgery;
    use crate::simulator::wire::Reply;
    let tally = Tally::default();
    let reply = |code: u16| {
        let status = hyper::StatusCode::from_u16(code).expect("a status");
        Ok(Reply { status, headers: Default::default(), body: Bytes::new() })
    };
    let ms = Duration::from_millis(3);
    tally.note(tally::Class::Genuine.tag(), &reply(200), ms);
    tally.note(tally::Class::Forged(Forgery::Replay).tag(), &reply(403), ms);
    assert!(tally.is_well());
    assert!(tally.report(ms).contains("1 refused, 0 ACCEPTED"));
    tally.note(tally::Class::Forged(Forgery::Unsigned).tag(), &reply(200), ms);
    assert!(!tally.is_well());
    let report = tally.report(ms);
    assert!(report.contains("1 refused, 1 ACCEPTED") && report.contains("unsigned (raw)"), "{report}");
}
