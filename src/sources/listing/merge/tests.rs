use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_millis(100);

fn entry(key: &str, version: u8, modified: i64) -> Entry {
    Entry { key: key.to_owned(), e_tag: format!("e{version}"), size: 1, last_modified: Some(UnixMillis(modified)) }
}

fn row(entry: Entry) -> Row {
    Row { entry, missing_since: None }
}

fn walk(kind: ListingKind, began: i64) -> Walk {
    let grace = if kind == ListingKind::Poll { Duration::ZERO } else { GRACE };
    Walk { kind, grace, began: UnixMillis(began), silent: false }
}

#[test]
fn polling_tells_new_and_overwritten_objects_and_notes_what_is_missing() {
    let rows = vec![row(entry("a", 1, 1)), row(entry("b", 1, 1)), row(entry("d", 1, 1))];
    let listed = vec![entry("a", 1, 1), entry("b", 2, 2), entry("c", 1, 2)];
    let step = merge(rows, listed, &walk(ListingKind::Poll, 10));
    assert_eq!(step.news, [(Finding::Overwritten, entry("b", 2, 2)), (Finding::Appeared, entry("c", 1, 2))]);
    let missing = Write::Missing("d".to_owned(), Some(UnixMillis(10)));
    assert_eq!(step.writes, [Write::Put(entry("b", 2, 2)), Write::Put(entry("c", 1, 2)), missing]);
}

#[test]
fn an_object_written_again_with_the_same_content_is_overwritten() {
    let step = merge(vec![row(entry("a", 1, 1))], vec![entry("a", 1, 2)], &walk(ListingKind::Poll, 10));
    assert_eq!(step.news, [(Finding::Overwritten, entry("a", 1, 2))]);
}

#[test]
fn reconciliation_leaves_what_is_younger_than_the_grace_and_remembers_the_old_state() {
    let old = Row { entry: entry("a", 1, 1), missing_since: Some(UnixMillis(500)) };
    let listed = vec![entry("a", 2, 950), entry("b", 1, 901), entry("c", 1, 900)];
    let step = merge(vec![old], listed, &walk(ListingKind::Reconcile, 1000));
    assert_eq!(step.news, [(Finding::Appeared, entry("c", 1, 900))]);
    // It is there, in whatever state: it must not be told as gone.
    assert_eq!(step.writes, [Write::Missing("a".to_owned(), None), Write::Put(entry("c", 1, 900))]);
}

#[test]
fn a_silent_walk_leaves_what_was_written_after_it_began_to_the_next() {
    let silent = Walk { silent: true, ..walk(ListingKind::Poll, 10) };
    let step = merge(Vec::new(), vec![entry("a", 1, 10), entry("b", 1, 11)], &silent);
    assert_eq!(step, Step { writes: vec![Write::Put(entry("a", 1, 10))], news: Vec::new() });
}

#[test]
fn an_unchanged_stretch_writes_and_tells_nothing() {
    let missing = Row { entry: entry("b", 1, 1), missing_since: Some(UnixMillis(5)) };
    let step = merge(vec![row(entry("a", 1, 1)), missing], vec![entry("a", 1, 1)], &walk(ListingKind::Poll, 10));
    assert_eq!(step, Step::default());
}

/// A store and a queue in memory, walked as [`walk`](super::super::walk) does, with a crash whenever `crashes` says so.
#[derive(Default)]
struct Model {
    rows: BTreeMap<String, Row>,
    told: Vec<(Finding, Entry, UnixMillis)>,
    position: String,
    crashes: Vec<bool>,
}

struct Crash;

impl Model {
    fn tell(&mut self, finding: Finding, entry: &Entry, seen: UnixMillis) {
        let news = (finding, entry.clone(), seen);
        // The queue's memory of ids.
        if !self.told.contains(&news) {
            self.told.push(news);
        }
    }

    fn crash(&mut self) -> Result<(), Crash> {
        if !self.crashes.pop().unwrap_or(false) {
            return Ok(());
        }
        // The position is not written down after every page.
        if self.crashes.len().is_multiple_of(2) {
            self.position.clear();
        }
        Err(Crash)
    }

    fn walk(&mut self, listing: &[Entry], page: usize, stretch: usize, walk: &Walk) -> Result<(), Crash> {
        loop {
            let rest: Vec<_> = listing.iter().filter(|entry| entry.key > self.position).cloned().collect();
            let last = rest.len() <= page;
            let mut entries: Vec<_> = rest.into_iter().take(page).collect();
            let end = if last { None } else { entries.last().map(|entry| entry.key.clone()) };
            loop {
                let within = |key: &str| end.as_deref().is_none_or(|end| key <= end);
                let after = self.rows.values().filter(|row| row.entry.key > self.position && within(&row.entry.key));
                let rows: Vec<_> = after.take(stretch).cloned().collect();
                let more = rows.len() == stretch;
                let bound = if more { rows.last().map(|row| row.entry.key.clone()) } else { end.clone() };
                let (now, later): (Vec<_>, _) =
                    entries.into_iter().partition(|entry| bound.as_ref().is_none_or(|bound| entry.key <= *bound));
                entries = later;
                let reached =
                    bound.or_else(|| now.iter().chain(rows.iter().map(|row| &row.entry)).map(|e| e.key.clone()).max());
                let step = merge(rows, now, walk);
                for (finding, entry) in &step.news {
                    self.tell(*finding, entry, walk.began);
                    self.crash()?;
                }
                for write in step.writes {
                    match write {
                        Write::Put(entry) => drop(self.rows.insert(entry.key.clone(), row(entry))),
                        Write::Missing(key, since) => self.rows.get_mut(&key).expect("a row").missing_since = since,
                    }
                }
                self.position = reached.unwrap_or_default().max(self.position.clone());
                self.crash()?;
                if !more {
                    break;
                }
            }
            if last {
                break;
            }
        }
        if !walk.silent {
            let gone: Vec<_> =
                self.rows.values().filter_map(|row| Some((row.entry.clone(), row.missing_since?))).collect();
            for (entry, since) in gone {
                if since <= walk.gone_if_missing_since() {
                    self.tell(Finding::Vanished, &entry, since);
                    self.crash()?;
                    self.rows.remove(&entry.key);
                }
            }
        }
        self.position.clear();
        Ok(())
    }
}

fn bucket() -> impl Strategy<Value = BTreeMap<String, (u8, i64)>> {
    // Few keys, so that buckets share them; some of them sort differently in UTF-16.
    let key = prop::sample::select(vec!["a", "a/", "a/b", "b", "ba", "c\u{1}", "é", "\u{ffee}", "😀", "😀b", "z"]);
    prop::collection::btree_map(key.prop_map(str::to_owned), (0_u8..3, 0_i64..4), 0..9)
}

fn listing(bucket: &BTreeMap<String, (u8, i64)>) -> Vec<Entry> {
    bucket.iter().map(|(key, (version, modified))| entry(key, *version, *modified)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_tells_exactly_the_difference_whatever_the_pages_and_wherever_it_crashes(
        before in bucket(), after in bucket(), page in 1_usize..5, stretch in 1_usize..5, crashes in prop::collection::vec(any::<bool>(), 0..12)
    ) {
        let mut model = Model { crashes, ..Model::default() };
        let first = Walk { silent: true, ..walk(ListingKind::Poll, 10) };
        while model.walk(&listing(&before), page, stretch, &first).is_err() {}
        prop_assert!(model.told.is_empty(), "the first walk is silent");
        let second = walk(ListingKind::Poll, 20);
        while model.walk(&listing(&after), page, stretch, &second).is_err() {}

        let mut expected = BTreeSet::new();
        for key in before.keys().chain(after.keys()) {
            match (before.get(key), after.get(key)) {
                (None, Some(_)) => drop(expected.insert((key.clone(), "ObjectCreated:Listed"))),
                (Some(old), Some(new)) if old != new => drop(expected.insert((key.clone(), "ObjectCreated:Overwritten"))),
                (Some(_), None) => drop(expected.insert((key.clone(), "ObjectRemoved:Unlisted"))),
                _ => {}
            }
        }
        let told: Vec<_> = model.told.iter().map(|(finding, entry, _)| (entry.key.clone(), finding.event_name())).collect();
        prop_assert_eq!(told.len(), expected.len(), "nothing is told twice: {:?}", told);
        prop_assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), expected);
        let remembered: Vec<_> = model.rows.values().cloned().collect();
        prop_assert_eq!(remembered, listing(&after).into_iter().map(row).collect::<Vec<_>>());

        // A walk of what is known changes nothing.
        model.crashes.clear();
        let told = model.told.len();
        prop_assert!(model.walk(&listing(&after), page, stretch, &walk(ListingKind::Poll, 30)).is_ok());
        prop_assert_eq!(model.told.len(), told);
    }

    #[test]
    fn reconciliation_arrives_at_the_last_state_and_tells_none_twice(
        buckets in prop::collection::vec(bucket(), 1..6), page in 1_usize..5, crashes in prop::collection::vec(any::<bool>(), 0..8)
    ) {
        let mut model = Model { crashes, ..Model::default() };
        let first = Walk { silent: true, ..walk(ListingKind::Reconcile, 0) };
        while model.walk(&listing(&buckets[0]), page, 3, &first).is_err() {}
        let mut began = 0;
        for bucket in &buckets {
            // Half a grace apart: differences are seen by two walks.
            began += 50;
            while model.walk(&listing(bucket), page, 3, &walk(ListingKind::Reconcile, began)).is_err() {}
        }
        let last = &buckets[buckets.len() - 1];
        for began in [began + 100, began + 300] {
            while model.walk(&listing(last), page, 3, &walk(ListingKind::Reconcile, began)).is_err() {}
        }
        let remembered: Vec<_> = model.rows.values().cloned().collect();
        prop_assert_eq!(remembered, listing(last).into_iter().map(row).collect::<Vec<_>>());
        // What an app that follows the events believes is what is there, of all keys it was told of.
        let mut believed: BTreeMap<String, Option<Entry>> = BTreeMap::new();
        for (finding, entry, _) in &model.told {
            believed.insert(entry.key.clone(), (*finding != Finding::Vanished).then(|| entry.clone()));
        }
        for (key, state) in believed {
            let there = last.get(&key).map(|(version, modified)| entry(&key, *version, *modified));
            prop_assert_eq!(state, there, "{}", key);
        }
    }
}
