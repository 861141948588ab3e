//! Pure: what a bucket announces by other configurations than ours, against what ours would announce.
//!
//! S3 refuses two configurations of a bucket that share an event for the same keys, whatever they lead to; EventBridge alone stands
//! apart. Where the other one leads to our topic there is nothing to add.

use super::wanted::KeyFilter;

/// One configuration of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its Id, unique in its bucket.
    pub id: String,
    /// ARN of a topic, queue or function.
    pub target: String,
    /// Events, with `s3:`.
    pub events: Vec<String>,
    /// How keys begin and end.
    pub keys: KeyFilter,
}

impl Entry {
    /// How people find it.
    pub fn shown(&self) -> String {
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(256).collect::<String>();
        format!("{} (to {})", plain(&self.id), plain(&self.target))
    }
}

/// What others already announce to `topic` of `events` for all of `keys`, and the events that are left to announce.
pub fn covered<'a>(
    others: &'a [Entry],
    topic: &str,
    events: &[String],
    keys: &KeyFilter,
) -> (Vec<&'a Entry>, Vec<String>) {
    let wide = |other: &&Entry| {
        other.target == topic
            && keys.prefix.starts_with(&other.keys.prefix)
            && keys.suffix.ends_with(&other.keys.suffix)
    };
    let whole = |event: &String| {
        let mut all = others.iter().filter(wide);
        all.find(|other| other.events.iter().any(|one| one == event || covers(one, event)))
    };
    let mut by: Vec<&Entry> = Vec::new();
    let mut left = Vec::new();
    for event in events {
        match whole(event) {
            Some(other) if by.contains(&other) => {}
            Some(other) => by.push(other),
            None => left.push(event.clone()),
        }
    }
    (by, left)
}

/// The first of `others` beside which S3 would refuse `events` for `keys`, and the event that both have.
pub fn clash<'a>(others: &'a [Entry], events: &[String], keys: &KeyFilter) -> Option<(&'a Entry, String)> {
    let meet = |a: &str, b: &str, same: fn(&str, &str) -> bool| same(a, b) || same(b, a);
    others.iter().find_map(|other| {
        let both = meet(&other.keys.prefix, &keys.prefix, |a, b| a.starts_with(b))
            && meet(&other.keys.suffix, &keys.suffix, |a, b| a.ends_with(b));
        let shared = other.events.iter().find_map(|one| {
            let event = events.iter().find(|event| *event == one || covers(one, event) || covers(event, one))?;
            // The narrower of the two says what both announce.
            Some(if covers(event, one) { one.clone() } else { event.clone() })
        });
        shared.filter(|_| both).map(|event| (other, event))
    })
}

fn covers(group: &str, event: &str) -> bool {
    group.strip_suffix('*').is_some_and(|stem| group != event && event.starts_with(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "arn:aws:sns:eu-central-1:1:uploads";

    fn entry(id: &str, target: &str, events: &[&str], prefix: &str) -> Entry {
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        let keys = KeyFilter { prefix: prefix.to_owned(), suffix: String::new() };
        Entry { id: id.to_owned(), target: target.to_owned(), events, keys }
    }

    fn wanted() -> Vec<String> {
        vec!["s3:ObjectCreated:*".to_owned(), "s3:ObjectRemoved:*".to_owned()]
    }

    #[test]
    fn what_another_announces_to_our_topic_is_not_announced_again() {
        let keys = KeyFilter { prefix: "images/".to_owned(), suffix: ".png".to_owned() };
        let all = [entry("console", TOPIC, &["s3:ObjectCreated:*"], "")];
        let (by, left) = covered(&all, TOPIC, &wanted(), &keys);
        assert_eq!((by[0].id.as_str(), left.as_slice()), ("console", &["s3:ObjectRemoved:*".to_owned()][..]));
        assert_eq!(clash(&all, &left, &keys), None);
        let narrow = [entry("console", TOPIC, &["s3:ObjectCreated:*"], "images/2026/")];
        assert_eq!(covered(&narrow, TOPIC, &wanted(), &keys).1.len(), 2, "a part of the keys is not all of them");
        let elsewhere = [entry("q", "arn:q", &["s3:ObjectCreated:*"], "")];
        assert_eq!(covered(&elsewhere, TOPIC, &wanted(), &keys).1.len(), 2);
    }

    #[test]
    fn what_s3_would_refuse_is_named_with_the_event_that_both_have() {
        let none = KeyFilter::default();
        let of = |events: &[&str], prefix: &str, keys: &KeyFilter| {
            let all = [entry("theirs", "arn:q", events, prefix)];
            clash(&all, &wanted(), keys).map(|(other, event)| format!("{} {event}", other.id))
        };
        assert_eq!(of(&["s3:ObjectCreated:Put"], "", &none).as_deref(), Some("theirs s3:ObjectCreated:Put"));
        assert_eq!(of(&["s3:ObjectRemoved:*"], "logs/", &none).as_deref(), Some("theirs s3:ObjectRemoved:*"));
        assert_eq!(of(&["s3:ObjectTagging:*"], "", &none), None);
        let images = KeyFilter { prefix: "images/".to_owned(), suffix: String::new() };
        assert_eq!(of(&["s3:ObjectCreated:*"], "logs/", &images), None, "no key begins with both");
        assert!(of(&["s3:ObjectCreated:*"], "images/2026/", &images).is_some());
    }
}
