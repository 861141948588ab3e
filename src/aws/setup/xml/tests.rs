//! Documents of others, friendly and hostile.

use proptest::prelude::*;

use super::*;

fn ours() -> Hook {
    Hook {
        id: "postern-photos".to_owned(),
        events: vec!["s3:ObjectCreated:*".to_owned(), "s3:ObjectRemoved:*".to_owned()],
        target: "https://hooks.example.com/mcs/hush?a=1&b=2".to_owned(),
        keys: KeyFilter { prefix: "a<b/".to_owned(), suffix: ".png".to_owned() },
    }
}

fn read(text: &str) -> Configuration {
    Configuration::read(text, MCS).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const THEIRS: &str = "<SimpleTopicConfiguration >\n  <!-- </NotificationConfiguration> --><Id>1</Id><Event>s3:ObjectCreated:Put</Event>\
    <Url><![CDATA[http://test.com/?a=1&b=2]]></Url><Brand><New x='1'/></Brand></SimpleTopicConfiguration>";

#[test]
fn ours_is_added_replaced_and_removed_and_every_other_byte_stays() {
    for (open, close) in [
        (
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<NotificationConfiguration>",
            "\n</NotificationConfiguration>\n<!-- end -->",
        ),
        (
            "<NotificationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
            "</NotificationConfiguration >",
        ),
        ("<s3:NotificationConfiguration xmlns:s3=\"x\">", "</s3:NotificationConfiguration>"),
    ] {
        let before = format!("{open}{THEIRS}{close}");
        let added = read(&before).with(&ours(), MCS).expect("added");
        assert!(added.starts_with(&format!("{open}{THEIRS}")) && added.ends_with(close.trim_start()), "{added}");
        assert!(read(&added).has(&ours(), MCS));
        assert_eq!(read(&added).with(&ours(), MCS).expect("again"), added, "twice is once");
        let mut other = ours();
        other.events.pop();
        assert!(!read(&added).has(&other, MCS));
        let changed = read(&added).with(&other, MCS).expect("changed");
        assert!(read(&changed).has(&other, MCS) && changed.contains(THEIRS));
        assert_eq!(read(&changed).without(&ours().id, MCS).expect("removed"), before);
    }
}

#[test]
fn an_empty_element_is_opened_and_two_of_ours_become_one() {
    for empty in [
        "<NotificationConfiguration/>",
        "<NotificationConfiguration xmlns='x' />",
        "<NotificationConfiguration></NotificationConfiguration>",
    ] {
        assert!(read(&read(empty).with(&ours(), MCS).expect("added")).has(&ours(), MCS), "{empty}");
    }
    let one = read("<NotificationConfiguration/>").with(&ours(), MCS).expect("added");
    let element =
        one.trim_start_matches("<NotificationConfiguration>").trim_end_matches("</NotificationConfiguration>");
    let two = one.replace(element, &format!("{element}{THEIRS}{element}"));
    assert!(!read(&two).has(&ours(), MCS));
    let mended = read(&two).with(&ours(), MCS).expect("mended");
    assert!(read(&mended).has(&ours(), MCS) && mended.contains(THEIRS));
}

#[test]
fn what_is_not_understood_is_refused() {
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]><NotificationConfiguration>&b;</NotificationConfiguration>";
    let external = "<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><NotificationConfiguration/>";
    for bad in [
        "",
        " ",
        "{}",
        "<html/>",
        "<Error><Code>NoSuchBucket</Code></Error>",
        "<NotificationConfiguration>",
        bomb,
        external,
        "<NotificationConfiguration><Id></NotificationConfiguration>",
        "<NotificationConfiguration/><x/>",
        "<NotificationConfiguration>&undefined;</NotificationConfiguration>",
    ] {
        assert!(Configuration::read(bad, MCS).is_err(), "{bad}");
    }
    let long = format!("<NotificationConfiguration><!--{}--></NotificationConfiguration>", "x".repeat(MAX_XML));
    assert!(Configuration::read(&long, MCS).is_err());
    let deep = "<a>".repeat(100_000);
    assert!(Configuration::read(&deep, MCS).is_err());
    let other_kind = "<NotificationConfiguration><TopicConfiguration><Id>postern-photos</Id></TopicConfiguration></NotificationConfiguration>";
    assert!(
        read(other_kind).with(&ours(), MCS).is_err(),
        "an Id of another kind of configuration is not ours to replace"
    );
}

#[test]
fn an_id_within_a_comment_or_deeper_down_is_not_ours() {
    let text = "<NotificationConfiguration><X><Y><Id>postern-photos</Id></Y></X><!--<SimpleTopicConfiguration><Id>postern-photos</Id>\
        </SimpleTopicConfiguration>--></NotificationConfiguration>";
    assert!(!read(text).has_id("postern-photos"));
    assert_eq!(read(text).without("postern-photos", MCS).expect("nothing"), text);
}

#[test]
fn cephs_form_has_the_topic() {
    let hook = Hook { target: "arn:aws:sns:default::t".to_owned(), ..ours() };
    let text = Configuration::read(&empty(), CEPH).expect("empty").with(&hook, CEPH).expect("added");
    assert!(
        text.contains("<TopicConfiguration><Id>postern-photos</Id><Topic>arn:aws:sns:default::t</Topic><Event>"),
        "{text}"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_others_survive(inside in "[<>a-zA-Z/&;!\\[\\]\"'= -]{0,80}", id in "[a-z]{1,4}") {
        let text = format!("<NotificationConfiguration>{inside}<SimpleTopicConfiguration><Id>{id}</Id></SimpleTopicConfiguration></NotificationConfiguration>");
        if let Ok(found) = Configuration::read(&text, MCS) {
            let added = found.with(&ours(), MCS).expect("a document that was understood");
            prop_assert!(added.contains(&inside));
            prop_assert_eq!(Configuration::read(&added, MCS).expect("ours").without(&ours().id, MCS).expect("removed"), text);
        }
    }
}
