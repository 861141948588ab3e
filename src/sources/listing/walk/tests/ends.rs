//! Walks against a store that answers what it is told to: their ends, and where they begin anew.

use std::collections::VecDeque;

use super::*;

/// Answers in this order; what was asked for is kept.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Result<Page, ListError>>>,
    asked: Mutex<Vec<From>>,
}

impl Script {
    fn of(answers: impl IntoIterator<Item = Result<Page, ListError>>) -> Self {
        Self { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() }
    }

    /// What was asked for, when all answers are given.
    fn asked(self) -> Vec<From> {
        assert!(self.answers.lock().expect("no panic").is_empty(), "an answer is left");
        self.asked.into_inner().expect("no panic")
    }
}

impl Pages for Script {
    async fn page(&self, _: &str, _: &str, from: &From, _: u16) -> Result<Page, ListError> {
        self.asked.lock().expect("no panic").push(from.clone());
        self.answers.lock().expect("no panic").pop_front().expect("an answer")
    }
}

fn listed(keys: &[&str], next: Option<&str>) -> Result<Page, ListError> {
    let entry = |key: &&str| Entry {
        key: (*key).to_owned(),
        e_tag: "1".to_owned(),
        size: 7,
        last_modified: Some(time(-10_000)),
    };
    Ok(Page { entries: keys.iter().map(entry).collect(), next: next.map(str::to_owned) })
}

fn unreadable(unspeakable: bool) -> Result<Page, ListError> {
    Err(ListError::Unreadable { bucket: "b".to_owned(), detail: "no".to_owned(), unspeakable })
}

fn throttled() -> Result<Page, ListError> {
    Err(ListError::Throttled { bucket: "b".to_owned(), code: "SlowDown".to_owned() })
}

fn after(key: &str) -> From {
    From::After(key.to_owned())
}

fn token(token: &str) -> From {
    From::Token(token.to_owned())
}

/// A run that remembers `keys`, on a clock that is past the grace.
async fn remembering(keys: &[&str]) -> (Mutex<World>, Run) {
    let world = Mutex::new(World::throw(0));
    let mut run = begin(&world, tempfile::tempdir().expect("a directory"), App::default()).await;
    assert_eq!(
        run.walked(&Script::of([listed(keys, None)])).await.expect("silent"),
        Walked::Complete { missing: false }
    );
    run.walker.clock = Arc::new(ManualClock::at(time(EVERY)));
    (world, run)
}

impl Run {
    async fn walked(&mut self, script: &Script) -> Result<Walked, Trouble> {
        let (_conductor, mut shutdown) = shutdown::channel();
        self.walker.walk(script, &mut self.range, &mut shutdown).await
    }

    /// All keys are missing since a walk that is over, and old enough to be told.
    async fn missing(&mut self) {
        let script = Script::of([listed(&[], None)]);
        // Within the grace nothing is told, so that nothing is asked twice.
        assert_eq!(self.walked(&script).await.expect("a walk"), Walked::Complete { missing: true });
        self.walker.clock = Arc::new(ManualClock::at(time(3 * EVERY)));
    }

    fn owed(&self) -> u64 {
        self.store.stats().instances.iter().map(|instance| instance.owed).sum()
    }

    /// The range as it is after a restart.
    async fn remembered(&self) -> Range {
        let wanted = vec![("b".to_owned(), String::new())];
        let ranges = self.walker.snapshots.ranges(Arc::clone(&self.walker.instance.name), wanted).await;
        ranges.expect("a range").remove(0)
    }
}

/// A first page that is empty and promises more was taken for one that has something.
#[tokio::test]
async fn an_emptied_range_is_told_after_a_second_walk_also_where_empty_pages_promise_more() {
    let (_world, mut run) = remembering(&["a", "c"]).await;
    run.missing().await;
    let empty = || Script::of([listed(&[], Some("1")), listed(&[], Some("2")), listed(&[], None)]);
    let script = empty();
    assert_eq!(run.walked(&script).await.expect("a walk"), Walked::Emptied);
    assert_eq!((run.owed(), script.asked()), (0, vec![after(""), token("1"), token("2")]));
    let script = empty();
    assert_eq!(run.walked(&script).await.expect("a walk"), Walked::Complete { missing: false });
    assert_eq!((run.owed(), script.asked()), (2, vec![after(""), token("1"), token("2")]));
    run.store.close().await;
}

#[tokio::test]
async fn a_range_that_has_keys_when_it_is_walked_again_is_not_told_as_deleted() {
    let (_world, mut run) = remembering(&["a", "c"]).await;
    run.missing().await;
    for _ in 0..2 {
        assert_eq!(run.walked(&Script::of([listed(&[], None)])).await.expect("a walk"), Walked::Emptied);
        let second = Script::of([listed(&[], Some("1")), listed(&["c"], None)]);
        assert!(matches!(run.walked(&second).await, Err(Trouble::Flickers { .. })));
        assert_eq!(run.owed(), 0);
    }
    let script = Script::of([listed(&["c"], None)]);
    assert_eq!(run.walked(&script).await.expect("a walk"), Walked::Complete { missing: false });
    assert_eq!((run.owed(), script.asked()), (1, vec![after("")]), "a is gone");
    run.store.close().await;
}

/// Killed between its last page and its end, a walk had nothing left to see, and said that the bucket flickers.
#[tokio::test]
async fn a_walk_that_goes_on_at_its_end_after_a_restart_begins_anew_and_complains_of_nothing() {
    let (_world, mut run) = remembering(&["a", "c"]).await;
    run.missing().await;
    run.range = run.remembered().await;
    run.range.began = Some(time(3 * EVERY));
    run.range.position = "c".to_owned();
    let script = Script::of([listed(&[], None), listed(&["c"], None)]);
    assert_eq!(run.walked(&script).await.expect("a walk"), Walked::Complete { missing: false });
    assert_eq!((run.owed(), script.asked()), (1, vec![after("c"), after("")]));
    run.store.close().await;
}

/// The position was given up at such a key on every store, also where the page after it can be read.
#[tokio::test]
async fn a_walk_goes_on_after_a_key_that_xml_cannot_hold_and_begins_anew_only_where_the_store_cannot() {
    let (_world, mut run) = remembering(&["a", "b\u{1}", "c"]).await;
    for (position, answers, asked) in [
        ("b\u{1}", vec![listed(&["c"], None)], vec![after("b\u{1}")]),
        ("b\u{1}", vec![unreadable(true), listed(&["a", "b\u{1}", "c"], None)], vec![after("b\u{1}"), after("")]),
    ] {
        run.range.position = position.to_owned();
        let script = Script::of(answers);
        assert!(matches!(run.walked(&script).await, Ok(Walked::Complete { .. })), "{asked:?}");
        assert_eq!((run.owed(), script.asked()), (0, asked));
    }
    for (position, answer) in [("b\u{1}", unreadable(false)), ("b\u{1}", throttled()), ("b", unreadable(true))] {
        run.range.position = position.to_owned();
        assert!(matches!(run.walked(&Script::of([answer])).await, Err(Trouble::List(_))));
        assert_eq!(run.range.position, position, "the same is asked for again");
    }
    run.store.close().await;
}

/// A walk whose first page failed took its beginning for durable. Killed after an offer it began at another time, with other ids.
#[tokio::test]
async fn a_walks_beginning_is_durable_before_its_first_offer_also_after_a_failure() {
    let (_world, mut run) = remembering(&["a"]).await;
    assert!(matches!(run.walked(&Script::of([throttled()])).await, Err(Trouble::List(_))));
    assert_eq!(run.remembered().await.began, None);
    run.store.close().await;
    let script = Script::of([listed(&["a", "new"], None)]);
    assert!(matches!(run.walked(&script).await, Err(Trouble::Queue { .. })));
    assert_eq!(run.remembered().await.began, Some(time(EVERY)));
}
