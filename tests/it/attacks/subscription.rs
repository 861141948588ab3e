//! A37, A40 to A47: subscriptions are confirmed only for our topics, only by what we build, and once.

use std::time::Duration;

use super::amazon::Script;
use super::bench::{Bench, HOST, Message, TOPIC, timestamp};

fn confirmed(topic: &str) -> Script {
    let arn = format!("{topic}:6b0e71bd-7e97-4d97-80ce-4a0994e55286");
    let xml = format!(
        "<ConfirmSubscriptionResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><ConfirmSubscriptionResult>\
         <SubscriptionArn>{arn}</SubscriptionArn></ConfirmSubscriptionResult></ConfirmSubscriptionResponse>"
    );
    Script::Body(200, xml.into_bytes())
}

fn confirmations(bench: &Bench) -> Vec<String> {
    bench.amazon.requests().into_iter().filter(|url| url.contains("Action=ConfirmSubscription")).collect()
}

#[tokio::test]
async fn a_genuine_confirmation_of_our_topic_is_confirmed_once_by_the_url_that_we_build() {
    let bench = Bench::start().await;
    bench.amazon.script(&format!("{HOST}/"), confirmed(TOPIC));
    let message = Message::confirmation("SubscriptionConfirmation").signed(&bench);
    assert_eq!(bench.send(&message).await, 200);
    bench.eventually("confirmed", async |b| confirmations(b).len() == 1).await;
    let asked = confirmations(&bench);
    assert_eq!(asked[0], message.get("SubscribeURL"));
    bench.eventually("ready says so", async |b| b.admin_get("/ready").await.body.contains("confirmed at")).await;
    // The same token again, as SNS repeats messages: known.
    assert_eq!(bench.send(&message.clone().with("Timestamp", timestamp(0)).signed(&bench)).await, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(confirmations(&bench).len(), 1, "a token is confirmed once");
    assert!(!bench.log().contains(message.get("Token")), "a token is never logged");
    assert_eq!(bench.metric("outcome=\"confirmed\"").await, 1);
}

#[tokio::test]
async fn a37_a_genuine_confirmation_of_a_strangers_topic_is_not_confirmed() {
    let bench = Bench::start().await;
    let stranger = "arn:aws:sns:us-west-2:999999999999:postern-test";
    let message = Message::confirmation("SubscriptionConfirmation");
    let url = message.get("SubscribeURL").replace(TOPIC, stranger);
    let message = message.with("TopicArn", stranger).with("SubscribeURL", url).signed(&bench);
    bench.refuses(&message.body(), &[], 403, "topic_not_allowed").await;
}

#[tokio::test]
async fn a40_with_confirming_turned_off_it_is_answered_and_left_alone() {
    let bench = Bench::with(&[("POSTERN_SNS_CONFIRM", "never")]).await;
    assert_eq!(bench.send(&Message::confirmation("SubscriptionConfirmation").signed(&bench)).await, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(confirmations(&bench).is_empty());
    assert_eq!(bench.refusals("unexpected_confirmation").await, 1, "audited");
}

/// Hard case 7: somebody unsubscribed and subscribed again, with a new token.
#[tokio::test]
async fn a40_a_new_token_of_a_confirmed_topic_is_confirmed_too() {
    let bench = Bench::start().await;
    bench.amazon.script(&format!("{HOST}/"), confirmed(TOPIC));
    for count in 1..=2 {
        assert_eq!(bench.send(&Message::confirmation("SubscriptionConfirmation").signed(&bench)).await, 200);
        bench.eventually("confirmed", async |b| confirmations(b).len() == count).await;
    }
}

#[tokio::test]
async fn a41_a42_a_subscribe_url_that_is_not_the_one_we_build_is_refused() {
    let bench = Bench::start().await;
    let message = Message::confirmation("SubscriptionConfirmation");
    let good = message.get("SubscribeURL").to_owned();
    let urls = [
        good.replace("us-west-2", "evil"),
        good.replace("https:", "http:"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "file:///etc/passwd".to_owned(),
        good.replace("https://", "https://user:pass@"),
        good.replace("amazonaws.com/", "amazonaws.com:8443/"),
        good.replace("ConfirmSubscription", "Unsubscribe"),
        good.replace("ConfirmSubscription", "Publish"),
        format!("{good}&AuthenticateOnUnsubscribe=false"),
        good.replace("us-west-2.amazonaws.com", "us-west-2.amazonaws.com."),
        good.replace(&good[good.len() - 4..], "0000"),
        format!("{good}#x"),
    ];
    for url in urls {
        let message = message.clone().with("SubscribeURL", url).signed(&bench);
        bench.refuses(&message.body(), &[], 403, "subscribe_url_untrusted").await;
    }
}

#[tokio::test]
async fn a43_a_redirect_is_not_followed_and_the_intent_survives_a_crash() {
    let mut bench = Bench::start().await;
    bench.amazon.script(&format!("{HOST}/"), Script::Redirect("https://evil.example/".into()));
    assert_eq!(bench.send(&Message::confirmation("SubscriptionConfirmation").signed(&bench)).await, 200);
    bench.eventually("tried", async |b| b.metric("outcome=\"confirm_failed\"").await >= 1).await;
    assert!(bench.amazon.requests().iter().all(|url| !url.contains("evil")), "not followed");
    bench.crash_and_restart().await;
    bench.amazon.script(&format!("{HOST}/"), confirmed(TOPIC));
    bench.eventually("confirmed after the restart", async |b| b.metric("outcome=\"confirmed\"").await == 1).await;
}

#[tokio::test]
async fn a44_an_answer_that_is_no_confirmation_of_our_topic_is_an_alarm() {
    for (name, body) in [
        ("other xml", b"<html>hello</html>".to_vec()),
        ("10 MB", vec![b'<'; 10 << 20]),
        (
            "another topic",
            match confirmed("arn:aws:sns:us-west-2:123456789012:postern-test-2") {
                Script::Body(_, body) => body,
                _ => Vec::new(),
            },
        ),
    ] {
        let bench = Bench::start().await;
        bench.amazon.script(&format!("{HOST}/"), Script::Body(200, body));
        assert_eq!(bench.send(&Message::confirmation("SubscriptionConfirmation").signed(&bench)).await, 200, "{name}");
        bench
            .eventually(name, async |b| {
                b.metric("outcome=\"confirm_bad_response\"").await + b.metric("outcome=\"confirm_failed\"").await >= 1
            })
            .await;
        assert_eq!(bench.metric("outcome=\"confirmed\"").await, 0, "{name}");
    }
}

#[tokio::test]
async fn a45_many_confirmations_are_bounded_and_one_at_a_time() {
    let bench = Bench::start().await;
    bench.amazon.script(&format!("{HOST}/"), Script::Silence);
    let mut statuses = Vec::new();
    let begun = std::time::Instant::now();
    for _ in 0..60 {
        statuses.push(bench.send(&Message::confirmation("SubscriptionConfirmation").signed(&bench)).await);
    }
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    assert!(statuses.contains(&429), "bounded");
    bench.eventually("one is under way", async |b| !confirmations(b).is_empty()).await;
    // One that is not answered is given up after ten seconds, and the next one begins.
    let one_after_another = 1 + begun.elapsed().as_secs() / 10;
    let asked = confirmations(&bench).len() as u64;
    assert!((1..=one_after_another).contains(&asked), "one in flight for a topic: {asked} in {:?}", begun.elapsed());
}

#[tokio::test]
async fn a46_an_unsubscribe_confirmation_is_an_alarm_and_never_followed() {
    let bench = Bench::start().await;
    bench.amazon.script(&format!("{HOST}/"), confirmed(TOPIC));
    assert_eq!(bench.send(&Message::confirmation("UnsubscribeConfirmation").signed(&bench)).await, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(confirmations(&bench).is_empty(), "its link would subscribe again");
    assert_eq!(bench.metric("postern_unsubscribed_total").await, 1);
    assert!(bench.admin_get("/ready").await.body.contains("somebody ended the subscription"));
}

#[tokio::test]
async fn an_operator_may_ask_to_be_subscribed_again() {
    let bench = Bench::with(&[("POSTERN_SNS_UNSUBSCRIBE", "resubscribe")]).await;
    bench.amazon.script(&format!("{HOST}/"), confirmed(TOPIC));
    assert_eq!(bench.send(&Message::confirmation("UnsubscribeConfirmation").signed(&bench)).await, 200);
    bench.eventually("subscribed again", async |b| confirmations(b).len() == 1).await;
}

#[tokio::test]
async fn a47_a_token_that_sns_refuses_ends_the_trying() {
    let bench = Bench::start().await;
    bench.amazon.script(&format!("{HOST}/"), Script::Body(400, b"<ErrorResponse/>".to_vec()));
    assert_eq!(bench.send(&Message::confirmation("SubscriptionConfirmation").signed(&bench)).await, 200);
    bench.eventually("refused", async |b| b.metric("outcome=\"confirm_rejected\"").await == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(confirmations(&bench).len(), 1, "no endless retry");
}
