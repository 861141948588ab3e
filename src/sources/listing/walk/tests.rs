//! A bucket's history against the real walker, the real desk and the real store, on a clock of its own: pushes are missed, late and
//! doubled, walks take time, fail and are killed, and the app takes what it is given in order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::registry::Registry;

use super::*;
use crate::clock::ManualClock;
use crate::config::{Format, NonS3, Ordering, QueueConfig};
use crate::event::{Event, EventType};
use crate::queue::embedded::{self, Embedded};
use crate::queue::{Attempt, Outcome, Queue, Settlement, Want};
use crate::record::Dialect;
use crate::shutdown;
use crate::simulator::dice::Dice;
use crate::sources::intake::Notice;

mod ends;

const BEGINNING: i64 = 1_700_000_000_000;
const KEYS: [&str; 3] = ["a", "b/ü +", "c"];
const GRACE: i64 = 900;
const EVERY: i64 = 3600;

/// How long the queue may take to give out what it owes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A write or removal: when, in seconds, and the eTag; none is gone.
type Written = (i64, Option<u8>);

/// One copy of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Push {
    arrives: i64,
    key: usize,
    write: usize,
    copy: u64,
}

struct World {
    seed: u64,
    clock: Arc<ManualClock>,
    history: [Vec<Written>; 3],
    pushes: BTreeSet<Push>,
    /// When each key was last looked at by a walk, with what it was then.
    read: HashMap<usize, Written>,
    dice: Dice,
    /// No fault is thrown any more.
    calm: bool,
    log: Vec<String>,
}

impl World {
    fn throw(seed: u64) -> Self {
        let mut dice = Dice::seeded(seed);
        let (mut history, mut pushes) = ([const { Vec::new() }; 3], BTreeSet::new());
        for (key, written) in history.iter_mut().enumerate() {
            let mut at = 60;
            // Some are there before anybody looks.
            if dice.percent(50) {
                written.push((-10_000, Some(0)));
            }
            for _ in 0..1 + dice.below(6) {
                // Writes closer than clocks compare are not told apart, by design.
                let gap = if dice.percent(30) { 60 } else { 6000 };
                at += 7 + dice.below(gap) as i64;
                let is_there = written.last().is_some_and(|(_, state)| state.is_some());
                let state = (!is_there || !dice.percent(35)).then(|| dice.below(2) as u8);
                for copy in 0..[0, 1, 1, 1, 2][dice.below(5) as usize] {
                    let longest = if dice.percent(25) { 20_000 } else { 120 };
                    let delay = 1 + dice.below(longest) as i64;
                    pushes.insert(Push { arrives: at + delay, key, write: written.len(), copy });
                }
                written.push((at, state));
            }
        }
        let clock = Arc::new(ManualClock::at(UnixMillis(BEGINNING)));
        Self { seed, clock, history, pushes, read: HashMap::new(), dice, calm: false, log: Vec::new() }
    }

    fn now(&self) -> i64 {
        (self.clock.now().0 - BEGINNING) / 1000
    }

    fn state(&self, key: usize) -> Option<Written> {
        self.history[key].iter().rev().find(|(at, _)| *at <= self.now()).copied()
    }

    fn list(&mut self, from: &From, size: u16) -> Page {
        let after = match from {
            From::After(key) | From::Token(key) => key.clone(),
        };
        let mut entries = Vec::new();
        let mut next = None;
        for (at, key) in KEYS.iter().enumerate().filter(|(_, key)| ***key > *after) {
            if entries.len() == usize::from(size) {
                next = entries.last().map(|entry: &Entry| entry.key.clone());
                break;
            }
            let Some((written, state)) = self.state(at) else { continue };
            self.read.insert(at, (written, state));
            entries.extend(state.map(|state| Entry {
                key: (*key).to_owned(),
                e_tag: state.to_string(),
                size: 7,
                last_modified: Some(time(written)),
            }));
        }
        Page { entries, next }
    }
}

fn time(seconds: i64) -> UnixMillis {
    UnixMillis(BEGINNING + seconds * 1000)
}

/// A sidecar as one run of the program has it.
struct Run {
    store: Arc<Embedded>,
    walker: Walker,
    range: Range,
    dir: tempfile::TempDir,
    app: App,
}

/// What the app was given.
#[derive(Default)]
struct App {
    /// By key, its state.
    states: BTreeMap<usize, Option<u8>>,
    /// By key and time of the write, how often it was told.
    told: BTreeMap<(usize, i64), u32>,
    /// Ends of walks settle these, so that their removal is missed later.
    settled: HashSet<(usize, i64)>,
}

async fn begin(world: &Mutex<World>, dir: tempfile::TempDir, app: App) -> Run {
    let clock: Arc<ManualClock> = Arc::clone(&world.lock().expect("no panic").clock);
    let settings = [
        ("POSTERN_TLS", "off"),
        ("EVENT_SNS_TOPIC_ARN", "arn:aws:sns:eu-central-1:123456789012:uploads"),
        ("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost/"),
        ("POSTERN_BUCKETS", "b"),
        ("POSTERN_RECONCILE", "1h"),
    ];
    let env: BTreeMap<String, String> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let instance = Arc::clone(&crate::config::load(&env).expect("a configuration").instances[0]);
    let bounds = QueueConfig {
        max_bytes: 1 << 30,
        dead_max_bytes: 1 << 30,
        dedupe_for: Duration::from_secs(7 * 86_400),
        ordering: Ordering::Key,
    };
    let metrics = Metrics::register(&mut Registry::default());
    let names = [Arc::clone(&instance.name)];
    let store = embedded::open(dir.path(), &bounds, &names, Arc::clone(&clock) as _, metrics.clone());
    let store = Arc::new(store.expect("a store"));
    let desk = Desk::new(Arc::clone(&store) as _, metrics.clone(), NonS3::SetAside, Format::CloudElements);
    let config =
        ListingConfig { page_size: 2, every: Duration::from_millis(2), ..instance.listing.clone().expect("a listing") };
    let snapshots = Arc::new(Snapshots::new(dir.path()));
    let wanted = vec![("b".to_owned(), String::new())];
    let range = snapshots.ranges(Arc::clone(&instance.name), wanted).await.expect("a range").remove(0);
    let walker = Walker { instance, config, snapshots, desk: Arc::new(desk), clock, metrics };
    Run { store, walker, range, dir, app }
}

/// The bucket, as one walk sees it.
struct Bucket<'a> {
    world: &'a Mutex<World>,
    desk: &'a Desk,
    instance: &'a Arc<Instance>,
}

impl Bucket<'_> {
    /// Time passes, and what arrives in it is handed in.
    async fn until(&self, then: i64) {
        loop {
            let (push, written) = {
                let mut world = self.world.lock().expect("no panic");
                let due = world.pushes.first().copied().filter(|push| push.arrives <= then);
                let Some(push) = due else {
                    world.clock.set(time(then.max(world.now())));
                    return;
                };
                world.pushes.remove(&push);
                let now = push.arrives.max(world.now());
                world.clock.set(time(now));
                let written = world.history[push.key][push.write];
                world.log.push(format!("{now}: push {push:?} {written:?}"));
                (push, written)
            };
            self.hand_in(push, written).await;
        }
    }

    async fn hand_in(&self, push: Push, (at, state): Written) {
        let key: String = url::form_urlencoded::byte_serialize(KEYS[push.key].as_bytes()).collect();
        let mut object = serde_json::json!({"key": key, "sequencer": format!("{at:016X}")});
        if let Some(state) = state {
            object["eTag"] = state.to_string().into();
        }
        let name = if state.is_some() { "ObjectCreated:Put" } else { "ObjectRemoved:Delete" };
        let record = serde_json::json!({
            "eventName": name,
            "eventTime": time(at).to_iso_millis(),
            "s3": {"bucket": {"name": "b"}, "object": object},
        });
        let message = serde_json::json!({"Records": [record]}).to_string();
        let origin = [Origin::Sns, Origin::Sqs, Origin::S3http][push.write % 3];
        let received_at = self.world.lock().expect("no panic").clock.now();
        let id = format!("{push:?}");
        let notice = Notice {
            origin,
            dialect: Dialect::AWS,
            topic: "uploads",
            topic_region: None,
            message_id: Some(&id),
            message: &message,
            envelope: &message,
            received_at,
        };
        self.desk.accept(std::slice::from_ref(self.instance), notice).await.expect("stored");
    }
}

impl Pages for Bucket<'_> {
    async fn page(&self, bucket: &str, _: &str, from: &From, size: u16) -> Result<Page, ListError> {
        let (then, fails) = {
            let mut world = self.world.lock().expect("no panic");
            let fails = !world.calm && world.dice.percent(20);
            (world.now() + world.dice.below(40) as i64, fails)
        };
        self.until(then).await;
        if fails {
            return Err(ListError::Throttled { bucket: bucket.to_owned(), code: "SlowDown".to_owned() });
        }
        Ok(self.world.lock().expect("no panic").list(from, size))
    }
}

impl Run {
    async fn walk(&mut self, world: &Mutex<World>) -> bool {
        let (_conductor, mut shutdown) = shutdown::channel();
        let (desk, instance) = (Arc::clone(&self.walker.desk), Arc::clone(&self.walker.instance));
        let bucket = Bucket { world, desk: &desk, instance: &instance };
        let walked = self.walker.walk(&bucket, &mut self.range, &mut shutdown).await;
        let mut from_start = self.range.clone();
        from_start.position.clear();
        for row in self.walker.snapshots.rows(&from_start, None).await.expect("rows") {
            let key = KEYS.iter().position(|key| *key == row.entry.key).expect("a key");
            let at = row.entry.last_modified.expect("a time");
            self.app.settled.insert((key, (at.0 - BEGINNING) / 1000));
        }
        match walked {
            Ok(walked) => walked != Walked::Emptied,
            Err(Trouble::List(ListError::Throttled { .. }) | Trouble::Flickers { .. }) => false,
            Err(other) => panic!("{other}"),
        }
    }

    /// The app takes all that it is owed.
    async fn deliver(&mut self, world: &Mutex<World>) {
        let deadline = Instant::now() + PATIENCE;
        while self.store.stats().instances.iter().map(|instance| instance.owed).sum::<u64>() > 0 {
            if Instant::now() > deadline {
                let world = world.lock().expect("no panic");
                panic!("POSTERN_LISTING_SEED={}: what is owed is not given out\n{:#?}", world.seed, world.log);
            }
            let want = Want { claims: 64, retries: 64, batch: 1, probe: false };
            let claims = self.store.claim(&self.walker.instance.name, want);
            // What is owed may just have been superseded.
            let Ok(claims) = tokio::time::timeout(Duration::from_millis(500), claims).await else { continue };
            for claim in claims {
                let event = &claim.items[0].event;
                {
                    let mut world = world.lock().expect("no panic");
                    let now = world.now();
                    world
                        .log
                        .push(format!("{now}: told {} of {:?} by {:?}", event.event_name, event.key, event.origin));
                    self.hear(&world, event);
                }
                let at = self.walker.clock.now();
                let attempt =
                    Attempt { at, took_ms: 1, status: None, outcome: "t".into(), detail: String::new(), counted: true };
                let settled =
                    Settlement { token: claim.token, outcome: Outcome::Delivered, attempt: Some(attempt), at };
                self.store.settle(settled).await.expect("settled");
            }
        }
    }

    fn hear(&mut self, world: &World, event: &Event) {
        let key = KEYS.iter().position(|key| *key == event.key).expect("a key");
        let at = (event.time.0 - BEGINNING) / 1000;
        let (at, state) = match event.event_type {
            EventType::Created => (at, event.e_tag.as_deref().map(|tag| tag.parse().expect("a number"))),
            // A listing cannot know when: it is the removal that it saw.
            EventType::Deleted if event.origin == Origin::Reconcile => world.read[&key],
            EventType::Deleted => (at, None),
            other => panic!("{other:?}"),
        };
        self.app.states.insert(key, state);
        *self.app.told.entry((key, at)).or_default() += 1;
    }

    /// Ends the run, at its end or by a kill, and begins another.
    async fn again(self, world: &Mutex<World>, killed: bool) -> Self {
        let dir = match killed {
            // The files as they are, in another directory.
            true => {
                let copy = tempfile::tempdir().expect("a directory");
                for file in std::fs::read_dir(self.dir.path()).expect("a directory").flatten() {
                    if file.file_name().to_string_lossy().contains(".db") {
                        std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
                    }
                }
                self.store.close().await;
                copy
            }
            false => {
                self.store.close().await;
                self.dir
            }
        };
        drop((self.walker, self.store));
        begin(world, dir, self.app).await
    }
}

/// One history; what is wrong at its end.
async fn live(seed: u64) -> Result<(), String> {
    let world = Mutex::new(World::throw(seed));
    let mut run = begin(&world, tempfile::tempdir().expect("a directory"), App::default()).await;
    world.lock().expect("no panic").calm = true;
    assert!(run.walk(&world).await, "the silent walk");
    run.deliver(&world).await;
    world.lock().expect("no panic").calm = false;

    let end = {
        let world = world.lock().expect("no panic");
        let last = world.pushes.last().map_or(0, |push| push.arrives);
        world.history.iter().flatten().map(|(at, _)| *at).max().unwrap_or(0).max(last) + 2 * GRACE
    };
    let mut next_walk = EVERY;
    let mut walks_left = 4;
    while walks_left > 0 {
        let (now, killed) = {
            let mut world = world.lock().expect("no panic");
            let now = world.now();
            world.calm = now > end;
            (now, world.dice.percent(15).then(|| world.dice.percent(60)))
        };
        walks_left -= u32::from(now > end);
        let (desk, instance) = (Arc::clone(&run.walker.desk), Arc::clone(&run.walker.instance));
        let bucket = Bucket { world: &world, desk: &desk, instance: &instance };
        // The app takes what it gets in between, as it does.
        while let Some(arrives) = {
            let world = world.lock().expect("no panic");
            world.pushes.first().map(|push| push.arrives).filter(|at| *at <= next_walk)
        } {
            bucket.until(arrives).await;
            run.deliver(&world).await;
        }
        bucket.until(next_walk).await;
        drop(desk);
        let complete = run.walk(&world).await;
        run.deliver(&world).await;
        let now = world.lock().expect("no panic").now();
        next_walk = if complete { next_walk + EVERY } else { now + 5 };
        if let Some(killed) = killed {
            world.lock().expect("no panic").log.push(format!("{now}: begun anew, killed: {killed}"));
            run = run.again(&world, killed).await;
        }
    }
    run.store.close().await;

    let world = world.into_inner().expect("no panic");
    let mut wrong: Vec<String> = Vec::new();
    for (key, history) in world.history.iter().enumerate() {
        let Some((&last, before)) = history.split_last() else { continue };
        // What came and went between two walks is in no snapshot: only push can tell that it went.
        let mut lived = before.iter().rev().take_while(|(_, state)| state.is_some());
        let is_known = last.1.is_some() || lived.any(|(at, _)| run.app.settled.contains(&(key, *at)));
        let has = run.app.states.get(&key).copied();
        let is_silent = has.is_none() && last.0 < 0;
        if is_known && !is_silent && has != Some(last.1) {
            wrong.push(format!("{:?} is {last:?}, and the app has {has:?}", KEYS[key]));
        }
    }
    wrong.extend(run.app.told.iter().filter(|(_, times)| **times != 1).map(|told| format!("told twice: {told:?}")));
    wrong.extend(run.app.told.keys().filter(|(_, at)| *at < 0).map(|told| format!("told what was there: {told:?}")));
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("{seed}: {wrong:#?}\n{:#?}\n{:#?}", world.history, world.log)),
    }
}

/// The same 16 histories each time. `POSTERN_LISTING_SEED` runs one, `POSTERN_LISTING_HISTORIES` so many random ones.
#[tokio::test]
async fn push_and_walks_through_the_store_tell_each_write_at_most_once_and_end_with_the_buckets_state() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match (number("POSTERN_LISTING_SEED"), number("POSTERN_LISTING_HISTORIES")) {
        (Some(seed), _) => vec![seed],
        (None, Some(histories)) => {
            let mut dice = Dice::new();
            (0..histories).map(|_| dice.throw() >> 1).collect()
        }
        (None, None) => (0..16).collect(),
    };
    for seed in seeds {
        if let Err(wrong) = live(seed).await {
            panic!("POSTERN_LISTING_SEED={wrong}");
        }
    }
}
