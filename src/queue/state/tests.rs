//! The window against a model: a disk that is a map, and an owner that does at random what the store may do.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::event::{Event, EventId, EventType, ObjectType, Origin};

const LIMITS: Limits = Limits { deliveries: 16, bytes: 1 << 20, lane: 4 };

#[derive(Clone, Debug)]
enum Step {
    Append { lane: u8, sequencer: Option<u64> },
    Claim { claims: usize, batch: usize, probe: bool },
    Settle { pick: usize, how: u8 },
    Wait,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_u8, proptest::option::of(0..30_u64)).prop_map(|(lane, sequencer)| Step::Append { lane, sequencer }),
        3 => (1..5_usize, 1..4_usize, proptest::bool::weighted(0.1)).prop_map(|(claims, batch, probe)| Step::Claim { claims, batch, probe }),
        5 => (any::<usize>(), 0..10_u8).prop_map(|(pick, how)| Step::Settle { pick, how }),
        1 => Just(Step::Wait),
        1 => Just(Step::Reset),
    ]
}

fn item(seq: u64, lane: u8, sequencer: Option<u64>) -> Item {
    let event = Event {
        id: EventId([0; 15]),
        event_type: EventType::Created,
        object_type: ObjectType::File,
        bucket: String::new(),
        key: String::new(),
        raw_key: None,
        event_name: String::new(),
        version_id: None,
        e_tag: None,
        size: None,
        sequencer: sequencer.map(Sequencer::Integer),
        time: UnixMillis(0),
        poll_date: None,
        origin: Origin::Sns,
        topic: None,
        region: None,
        message_id: None,
        notification: None,
        raw: RawValue::from_string("{}".into()).expect("JSON"),
    };
    let owed = Owed { seq, accepted_at: UnixMillis(0), paused_at_accept: Duration::ZERO, event };
    Item {
        owed: Arc::new(owed),
        lane: LaneKey([lane; 16]),
        size: 100,
        attempts: 0,
        first_failed_at: None,
        next_at: None,
        batch: None,
        replayed: false,
    }
}

/// The store, as far as the window can tell.
struct Model {
    state: State,
    disk: BTreeMap<u64, Item>,
    last: HashMap<LaneKey, Sequencer>,
    claims: Vec<Taken>,
    delivered: HashSet<u64>,
    superseded: HashSet<u64>,
    next_seq: u64,
    now: i64,
}

impl Model {
    fn new() -> Self {
        Self {
            state: State::new(&[0], LIMITS),
            disk: BTreeMap::new(),
            last: HashMap::new(),
            claims: Vec::new(),
            delivered: HashSet::new(),
            superseded: HashSet::new(),
            next_seq: 1,
            now: 1000,
        }
    }

    fn window(&mut self) -> &mut Window {
        self.state.window(0).expect("one window")
    }

    fn supersede(&mut self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            let last = self.last.get(&item.lane);
            assert!(lane::older(item.owed.event.sequencer.as_ref(), last), "only what is provably older is superseded");
            assert!(self.disk.remove(&item.owed.seq).is_some(), "an end happens once");
            assert!(self.superseded.insert(item.owed.seq));
            self.window().ended_outside();
        }
    }

    fn append(&mut self, lane: u8, sequencer: Option<u64>) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let item = item(seq, lane, sequencer);
        let key = item.lane;
        let behind = self.window().lane_tail(&key).is_some() || self.disk.values().any(|other| other.lane == key);
        let last = self.last.get(&key).cloned();
        self.disk.insert(seq, item.clone());
        let superseded = self.window().append(item, last, behind);
        self.supersede(superseded.map(|item| *item));
    }

    fn bring(&mut self, lane: LaneKey) -> bool {
        let mut keys = vec![lane];
        let mut group: Vec<LaneRows> = Vec::new();
        while let Some(key) = keys.pop() {
            if group.iter().any(|rows| rows.lane == key) {
                continue;
            }
            let rows: Vec<Item> = self.disk.values().filter(|item| item.lane == key).cloned().collect();
            let batches: HashSet<u64> = rows.iter().filter_map(|item| item.batch).collect();
            let member = |item: &&Item| item.batch.is_some_and(|batch| batches.contains(&batch));
            keys.extend(self.disk.values().filter(member).map(|item| item.lane));
            let (more, last) = (rows.len() > LIMITS.lane, self.last.get(&key).cloned());
            let first = |(n, item): &(usize, Item)| *n < LIMITS.lane || item.batch.is_some();
            let items = rows.into_iter().enumerate().filter(first).map(|(_, item)| item).collect();
            group.push(LaneRows { lane: key, items, more, last });
        }
        match self.window().admit_lanes(group) {
            Some(superseded) => {
                self.supersede(superseded);
                true
            }
            None => false,
        }
    }

    fn parked(&mut self) -> Vec<(UnixMillis, LaneKey)> {
        let rows: Vec<_> = self.disk.values().filter_map(|item| Some((item.next_at?, item.lane))).collect();
        let mut rows: Vec<_> = rows.into_iter().filter(|(_, lane)| self.window().lane_tail(lane).is_none()).collect();
        rows.sort();
        rows
    }

    fn load(&mut self) {
        for _ in 0..50 {
            let now = UnixMillis(self.now);
            let plan = self.window().plan(now);
            if plan.is_empty() {
                return;
            }
            let mut progress = false;
            for lane in plan.refill {
                progress |= self.bring(lane);
            }
            if plan.due {
                for (at, lane) in self.parked() {
                    if at > now || (self.window().lane_tail(&lane).is_none() && !self.bring(lane)) {
                        break;
                    }
                    progress = true;
                }
                let next = self.parked().first().map(|(at, _)| *at);
                self.window().set_parked(next);
            }
            if let Some((after, limit)) = plan.fresh {
                let fresh = self.disk.range(after + 1..).filter(|(_, item)| item.next_at.is_none());
                let rows: Vec<Item> = fresh.map(|(_, item)| item.clone()).take(limit).collect();
                let (mut cursor, mut stopped) = (after, false);
                for item in &rows {
                    let seq = item.owed.seq;
                    let came_in = match self.window().lane_tail(&item.lane) {
                        _ if self.window().is_resident(seq) => true,
                        // The row may have ended superseded as its lane came in.
                        _ if !self.disk.contains_key(&seq) => true,
                        Some(true) => true,
                        Some(false) => match self.window().admit(item.clone(), None) {
                            Admission::Full => false,
                            Admission::Superseded(item) => {
                                self.supersede([*item]);
                                true
                            }
                            Admission::Resident | Admission::Tail => true,
                        },
                        None => self.bring(item.lane),
                    };
                    if !came_in {
                        stopped = true;
                        break;
                    }
                    cursor = seq;
                }
                let highest = self.next_seq - 1;
                self.window().advance(cursor);
                if !stopped && rows.len() < limit {
                    self.window().caught_up(highest);
                }
                progress |= cursor > after;
            }
            if !progress {
                return;
            }
        }
    }

    fn claim(&mut self, want: Want) -> usize {
        let now = UnixMillis(self.now);
        let taken = self.state.take(0, want, now);
        for claim in &taken {
            assert!(!claim.items.is_empty());
            for item in &claim.items {
                let row = self.disk.get(&item.owed.seq).expect("what is claimed is owed");
                assert!(want.probe || row.next_at.is_none_or(|at| at <= now), "nothing goes before its time");
                let other = |claim: &Taken| claim.items.iter().any(|other| other.lane == item.lane);
                assert!(!self.claims.iter().any(other), "never two of a lane in flight");
            }
            if let Some(batch) = claim.items[0].batch {
                let members = self.disk.values().filter(|item| item.batch == Some(batch)).count();
                assert_eq!(members, claim.items.len(), "a composition stays whole");
            }
            if claim.compose {
                let id = claim.items.iter().map(|item| item.owed.seq).min();
                for item in &claim.items {
                    self.disk.get_mut(&item.owed.seq).expect("owed").batch = id;
                }
                self.state.composed(claim.token);
            }
        }
        let count = taken.len();
        self.claims.extend(taken);
        count
    }

    fn settle(&mut self, pick: usize, how: u8) {
        if self.claims.is_empty() {
            return;
        }
        let claim = self.claims.swap_remove(pick % self.claims.len());
        let items = self.state.claimed(claim.token).expect("a known claim").1;
        let seqs = |items: &[Item]| items.iter().map(|item| item.owed.seq).collect::<Vec<_>>();
        assert_eq!(seqs(&items), seqs(&claim.items));
        let (at, attempts) = (UnixMillis(self.now + 10 * i64::from(how)), items[0].attempts + 1);
        let first_failed_at = Some(UnixMillis(self.now));
        let effect = match how {
            0..5 => Effect::Ended { delivered: true },
            5 => Effect::Released,
            6 => Effect::Split { at, attempts, first_failed_at },
            _ => Effect::Retry { at, attempts, first_failed_at },
        };
        for item in &items {
            let seq = item.owed.seq;
            match effect {
                Effect::Ended { .. } => {
                    assert!(self.disk.remove(&seq).is_some() && self.delivered.insert(seq), "delivered once");
                    if let Some(sequencer) = &item.owed.event.sequencer
                        && !lane::older(Some(sequencer), self.last.get(&item.lane))
                    {
                        self.last.insert(item.lane, sequencer.clone());
                    }
                }
                Effect::Released => {}
                Effect::Retry { .. } | Effect::Split { .. } => {
                    let row = self.disk.get_mut(&seq).expect("owed");
                    (row.next_at, row.attempts, row.first_failed_at) = (Some(at), attempts, first_failed_at);
                    if matches!(effect, Effect::Split { .. }) {
                        row.batch = Some(seq);
                    }
                }
            }
        }
        let superseded = self.state.finish(claim.token, effect);
        self.supersede(superseded);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Append { lane, sequencer } => self.append(lane, sequencer),
            Step::Claim { claims, batch, probe } => {
                self.claim(Want { claims, retries: claims, batch, probe });
            }
            Step::Settle { pick, how } => self.settle(pick, how),
            Step::Wait => self.now += 60,
            Step::Reset => {
                let owed = self.disk.len() as u64;
                self.window().reset(owed);
            }
        }
        self.load();
        let (count, _) = self.window().load();
        // One composition may come in over a window that is half full.
        assert!(count <= LIMITS.deliveries + 3 * (LIMITS.lane + 3), "{count} are in memory");
        assert!(!self.window().is_astray());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_nothing_is_lost_or_doubled_and_lanes_keep_their_order(steps in proptest::collection::vec(step(), 1..150)) {
        let mut model = Model::new();
        for step in steps {
            model.run(step);
        }
        let mut idle = 0;
        while idle < 20 {
            model.now += 200;
            model.load();
            let claimed = model.claim(Want { claims: 4, retries: 4, batch: 2, probe: false });
            while !model.claims.is_empty() {
                model.settle(0, 0);
            }
            idle = if claimed == 0 { idle + 1 } else { 0 };
        }
        prop_assert!(model.disk.is_empty(), "never handed out: {:?}", model.disk.keys().collect::<Vec<_>>());
        prop_assert_eq!(model.delivered.len() + model.superseded.len(), usize::try_from(model.next_seq - 1).unwrap());
    }
}

#[test]
fn retries_leave_room_for_first_attempts_and_keep_to_their_share() {
    let mut model = Model::new();
    for n in 0..4 {
        model.append(n, None);
    }
    model.claim(Want { claims: 4, retries: 4, batch: 1, probe: false });
    for _ in 0..4 {
        model.settle(0, 9);
    }
    model.now += 1000;
    model.append(5, None);
    assert_eq!(model.claim(Want { claims: 4, retries: 2, batch: 1, probe: false }), 3);
}

#[test]
fn a_probe_takes_another_lane_each_time_also_before_its_time() {
    let mut model = Model::new();
    for lane in [1, 2] {
        model.append(lane, None);
    }
    let mut lanes = Vec::new();
    for _ in 0..4 {
        assert_eq!(model.claim(Want { claims: 1, retries: 1, batch: 1, probe: true }), 1);
        lanes.push(model.claims[0].items[0].lane);
        model.settle(0, 9);
    }
    assert!(lanes.windows(2).all(|pair| pair[0] != pair[1]), "{lanes:?}");
}
