use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const A: [u8; 16] = [b'a'; 16];
const B: [u8; 16] = [b'b'; 16];
const GONE: [u8; 16] = [0; 16];

fn seconds(n: i64) -> UnixMillis {
    UnixMillis(1_700_000_000_000 + n * 1000)
}

fn pushed(state: [u8; 16], at: Option<i64>) -> Change {
    Change { object: [1; 16], state, at: at.map(seconds), listed_at: None, missing_since: None }
}

fn listed(state: [u8; 16], modified: Option<i64>, listed_at: i64) -> Change {
    Change {
        object: [1; 16],
        state,
        at: modified.map(seconds),
        listed_at: Some(seconds(listed_at)),
        missing_since: None,
    }
}

/// An object that is gone, missed since then.
fn missed(since: i64, listed_at: i64) -> Change {
    Change { missing_since: Some(seconds(since)), ..listed(GONE, None, listed_at) }
}

/// What each of `changes` comes to, one after another: `=` covered, `!` news, `<` outdated.
fn run(changes: &[Change]) -> String {
    let mut known = None;
    let mut found = String::new();
    for change in changes {
        found.push(match judge(known.as_ref(), change) {
            Verdict::Covered => '=',
            Verdict::Outdated => '<',
            Verdict::News(news) => {
                known = Some(news);
                '!'
            }
        });
    }
    found
}

#[test]
fn a_listing_tells_nothing_that_push_told() {
    assert_eq!(run(&[pushed(A, Some(100)), listed(A, Some(100), 5000)]), "!=");
    // A host's clock runs ahead; LastModified of a multipart upload is its beginning; some stores tell no eventTime.
    assert_eq!(run(&[pushed(A, Some(100)), listed(A, Some(105), 5000)]), "!=");
    assert_eq!(run(&[pushed(A, Some(100)), listed(A, Some(10), 5000)]), "!=");
    assert_eq!(run(&[pushed(A, None), listed(A, Some(100), 5000)]), "!=");
    assert_eq!(run(&[pushed(GONE, Some(100)), listed(GONE, None, 5000)]), "!=");
}

#[test]
fn a_listing_tells_what_push_missed() {
    assert_eq!(run(&[pushed(A, Some(100)), listed(B, Some(200), 5000)]), "!!");
    assert_eq!(run(&[pushed(A, Some(100)), listed(GONE, None, 5000)]), "!!");
    assert_eq!(run(&[pushed(GONE, Some(100)), listed(A, Some(200), 5000)]), "!!");
    // The same bytes written again, and a state that came back.
    assert_eq!(run(&[pushed(A, Some(100)), listed(A, Some(106), 5000)]), "!!");
    assert_eq!(run(&[pushed(A, Some(100)), pushed(B, Some(200)), listed(A, Some(300), 5000)]), "!!!");
    // The version that was pushed is removed, and the one before it is the object again.
    assert_eq!(run(&[pushed(B, Some(200)), listed(A, Some(100), 5000)]), "!!");
}

#[test]
fn a_listing_tells_its_own_news_once() {
    assert_eq!(run(&[listed(A, Some(100), 5000), listed(A, Some(100), 9000)]), "!=");
    assert_eq!(run(&[listed(A, Some(100), 5000), listed(A, Some(101), 9000)]), "!!");
    assert_eq!(run(&[listed(GONE, None, 5000), listed(GONE, None, 9000)]), "!=");
}

#[test]
fn a_listing_that_was_read_before_a_pushed_change_is_not_told_after_it() {
    assert_eq!(run(&[pushed(B, Some(5001)), listed(A, Some(100), 5000), listed(B, Some(5001), 9000)]), "!==");
    assert_eq!(run(&[pushed(B, Some(5001)), listed(GONE, None, 5000)]), "!=");
}

#[test]
fn a_late_push_is_recognised_however_often_it_comes_and_whatever_came_between() {
    assert_eq!(run(&[listed(A, Some(100), 5000), pushed(A, Some(100)), pushed(A, Some(100))]), "!==");
    assert_eq!(run(&[listed(A, Some(100), 5000), pushed(A, None)]), "!=");
    assert_eq!(run(&[listed(A, Some(100), 5000), pushed(B, Some(6000)), pushed(A, Some(100))]), "!!=");
    assert_eq!(run(&[listed(GONE, None, 5000), pushed(GONE, Some(100))]), "!=");
    // Without a time, a push after another change may be one of its own.
    assert_eq!(run(&[listed(A, Some(100), 5000), pushed(B, None), pushed(A, None)]), "!!!");
}

#[test]
fn a_push_of_a_change_after_the_listing_is_news_also_with_the_same_bytes() {
    assert_eq!(run(&[listed(A, Some(100), 5000), pushed(A, Some(5001))]), "!!");
    assert_eq!(run(&[listed(GONE, None, 5000), pushed(GONE, Some(5001))]), "!!");
    assert_eq!(run(&[listed(GONE, None, 5000), pushed(A, Some(5001)), listed(A, Some(5001), 9000)]), "!!=");
}

#[test]
fn a_push_that_is_older_than_what_a_listing_told_ends_superseded_and_changes_nothing() {
    let told = listed(B, Some(200), 5000);
    assert_eq!(run(&[told, pushed(A, Some(100)), listed(B, Some(200), 9000)]), "!<=");
    assert_eq!(run(&[listed(GONE, None, 5000), pushed(A, Some(100)), listed(GONE, None, 9000)]), "!<=");
    // Within what clocks may differ it is delivered, and what the listing told is told again when it is pushed.
    assert_eq!(run(&[listed(B, Some(200), 230), pushed(A, Some(210)), pushed(B, Some(211))]), "!!!");
    assert_eq!(run(&[missed(4000, 5000), pushed(A, Some(4950)), pushed(GONE, Some(4951))]), "!!!");
}

#[test]
fn what_was_written_and_overwritten_before_a_listing_with_a_short_grace_is_told_once_and_ends_as_listed() {
    // Both pushes come late. The older was delivered after the newer state, whose own push was then taken for told: the app kept
    // what was overwritten.
    let late = [pushed(A, Some(200)), pushed(B, Some(201))];
    assert_eq!(run(&[listed(B, Some(201), 205), late[0], late[1]]), "!<=");
    assert_eq!(run(&[listed(B, Some(200), 205), late[0], late[1]]), "!<=", "LastModified in whole seconds");
    assert_eq!(run(&[missed(202, 205), pushed(A, Some(200)), pushed(GONE, Some(201))]), "!<=");
    // The same bytes before and after.
    assert_eq!(
        run(&[listed(A, Some(202), 206), pushed(A, Some(200)), pushed(B, Some(201)), pushed(A, Some(202))]),
        "!=<="
    );
}

#[test]
fn a_push_that_follows_another_one_is_told_although_a_listing_told_the_same() {
    // The listing was read by a clock that ran ahead.
    let told = listed(A, Some(100), 91_000);
    assert_eq!(run(&[told, pushed(B, Some(90_980)), pushed(A, Some(90_990)), pushed(A, Some(90_990))]), "!!!=");
}

#[test]
fn pushes_may_overtake_each_other_and_the_later_change_stays_known() {
    assert_eq!(run(&[pushed(B, Some(200)), pushed(A, Some(100)), listed(B, Some(200), 5000)]), "!!=");
    assert_eq!(run(&[pushed(A, Some(100)), pushed(A, Some(100)), pushed(A, None)]), "!!!", "ids tell pushes apart");
    // Ties, and what tells no time, go by arrival.
    assert_eq!(run(&[pushed(B, Some(100)), pushed(A, Some(100)), listed(A, Some(100), 5000)]), "!!=");
    assert_eq!(run(&[pushed(B, Some(200)), pushed(A, None), listed(A, Some(250), 5000)]), "!!=");
}

/// A write or removal of an object, and what becomes of its notification.
#[derive(Clone, Debug)]
struct Write {
    /// Seconds since the write before.
    gap: i64,
    /// 0 is gone.
    state: u8,
    /// Seconds until each copy of the notification arrives; none is a missed one.
    arrives: Vec<i64>,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let delay = prop_oneof![3 => 0..120_i64, 1 => 0..20_000_i64];
    let arrives = proptest::collection::vec(delay, 0..3);
    // Writes closer than clocks compare are not told apart, by design.
    let write = (6..6000_i64, 0..3_u8, arrives).prop_map(|(gap, state, arrives)| Write { gap, state, arrives });
    proptest::collection::vec(write, 1..14)
}

const GRACE: i64 = 900;
const WALK: i64 = 3600;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Push { write: usize },
    Walk,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The bucket's history, with pushes missed, late and doubled, and walks that leave what is young to push: in the end the app
    /// has the bucket's state, and it was told of no write twice.
    #[test]
    fn push_and_listings_together_tell_each_state_once_and_end_with_the_buckets(writes in writes(), offset in 0..WALK) {
        let mut at = 0;
        let mut history: Vec<(i64, u8)> = Vec::new();
        let mut happens: Vec<(i64, Happens)> = Vec::new();
        for write in &writes {
            // A removal of nothing is no event.
            let state = if write.state == 0 && history.last().is_none_or(|last| last.1 == 0) { 1 } else { write.state };
            at += write.gap;
            happens.extend(write.arrives.iter().map(|delay| (at + delay, Happens::Push { write: history.len() })));
            history.push((at, state));
        }
        let end = at + 20_000 + 3 * WALK;
        happens.extend((0..).map(|n| offset + n * WALK).take_while(|at| *at <= end).map(|at| (at, Happens::Walk)));
        happens.sort();

        let name = |state: u8| if state == 0 { GONE } else { [state; 16] };
        let mut known: Option<Known> = None;
        let mut ids = HashSet::new();
        // What the walker remembers: the state it settled last, and since when it misses an object.
        let (mut snapshot, mut missing): (Option<(i64, u8)>, Option<i64>) = (None, None);
        // What the app is told, with the order that the queue keeps among pushes by their sequencers.
        let (mut app, mut newest_push): (u8, i64) = (0, i64::MIN);
        let mut told: HashMap<i64, usize> = HashMap::new();
        let mut settled = HashSet::new();
        for (now, what) in happens {
            match what {
                Happens::Push { write } => {
                    let (at, state) = history[write];
                    if !ids.insert(write) {
                        continue;
                    }
                    match judge(known.as_ref(), &pushed(name(state), Some(at))) {
                        Verdict::News(news) => {
                            known = Some(news);
                            if at > newest_push {
                                newest_push = at;
                                app = state;
                                *told.entry(at).or_default() += 1;
                            }
                        }
                        Verdict::Covered | Verdict::Outdated => {}
                    }
                }
                Happens::Walk => {
                    let current = history.iter().rev().find(|(at, _)| *at <= now).copied();
                    let seen = current.filter(|(_, state)| *state != 0);
                    let change = match (seen, snapshot) {
                        (Some(object), _) if object.0 + GRACE > now => { missing = None; continue }
                        (Some(object), had) if had == Some(object) => { missing = None; continue }
                        (Some((at, state)), _) => { missing = None; listed(name(state), Some(at), now) }
                        (None, None) => continue,
                        // It may have been removed just now: only what is missed for the length of the grace is told.
                        (None, Some(_)) if missing.is_none_or(|since| since + GRACE > now) => { missing = missing.or(Some(now)); continue }
                        (None, Some(_)) => listed(GONE, None, now),
                    };
                    snapshot = seen;
                    settled.extend(seen.map(|(at, _)| at));
                    if let Verdict::News(news) = judge(known.as_ref(), &change) {
                        known = Some(news);
                        app = seen.map_or(0, |(_, state)| state);
                        *told.entry(current.map_or(0, |(at, _)| at)).or_default() += 1;
                    }
                }
            }
        }
        let (last, before) = history.split_last().expect("a write");
        // An object that came and went between two walks is in no snapshot: that it went only push can tell.
        let lived = before.iter().rev().take_while(|(_, state)| *state != 0);
        if last.1 != 0 || lived.into_iter().any(|(at, _)| settled.contains(at)) {
            prop_assert_eq!(app, last.1, "the app ends with the bucket's state");
        }
        prop_assert!(told.values().all(|times| *times == 1), "no write is told twice: {:?}", told);
    }
}
