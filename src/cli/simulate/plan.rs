//! What is sent: genuine messages in their order, and between them repeated, late and forged ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::HeaderMap;
use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::Args;
use super::tally::Class;
use crate::clock::{Clock as _, SystemClock};
use crate::simulator::dice::Dice;
use crate::simulator::load::Shot;
use crate::simulator::sns::forge::Forgery;
use crate::simulator::sns::{Simulator, records};

/// How many messages later something that is held back is sent, at most.
const LATE_BY: u64 = 20;

/// A plan that several threads work off together.
pub(super) struct Plan {
    args: Args,
    simulator: Arc<Simulator>,
    region: String,
    next: AtomicU64,
}

impl Plan {
    pub(super) fn new(args: &Args, simulator: Arc<Simulator>) -> Self {
        let region = args.topic.split(':').nth(3).unwrap_or("us-east-1").to_owned();
        Self { args: args.clone(), simulator, region, next: AtomicU64::new(0) }
    }

    /// Makes and signs messages until all are made or nobody takes them any more.
    pub(super) fn produce(&self, shots: &mpsc::Sender<Shot>) {
        let mut dice = Dice::new();
        let mut late = BTreeMap::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.args.count {
                break;
            }
            let mut now = Vec::new();
            self.make(number, &mut dice, &mut now, &mut late);
            let due = late.split_off(&(number + 1, u64::MAX));
            now.extend(std::mem::replace(&mut late, due).into_values());
            if now.into_iter().any(|shot| shots.blocking_send(shot).is_err()) {
                return;
            }
        }
        for shot in late.into_values() {
            if shots.blocking_send(shot).is_err() {
                return;
            }
        }
    }

    fn make(&self, number: u64, dice: &mut Dice, now: &mut Vec<Shot>, late: &mut BTreeMap<(u64, u64), Shot>) {
        let records: Vec<_> = (0..u64::from(self.args.records)).map(|at| self.record(number, at, dice)).collect();
        let envelope = self.simulator.s3_notification(&records, dice);
        let (headers, body) = (envelope.headers(), envelope.to_body());
        let later = |dice: &mut Dice| (number + 2 + dice.below(LATE_BY), dice.throw() >> 1);
        if dice.percent(self.args.duplicates) {
            late.insert(later(dice), shot(Class::Duplicate, headers.clone(), body.clone()));
        }
        if dice.percent(self.args.reorder) {
            late.insert(later(dice), shot(Class::Genuine, headers, body));
        } else {
            now.push(shot(Class::Genuine, headers, body));
        }
        if dice.percent(self.args.forge) {
            let kind = Forgery::ALL[dice.below(Forgery::ALL.len() as u64) as usize];
            let (headers, body) = self.simulator.forge(kind, &envelope, dice);
            now.push(shot(Class::Forged(kind), headers, body));
        }
    }

    fn record(&self, number: u64, at: u64, dice: &mut Dice) -> serde_json::Value {
        let order = number * u64::from(self.args.records) + at;
        let event = match self.args.event.as_str() {
            "mix" => records::EVENT_NAMES[(order % records::EVENT_NAMES.len() as u64) as usize],
            name => name,
        };
        let key = format!("simulated/object {:06}.txt", order % self.args.keys);
        let change = records::Change {
            event,
            bucket: &self.args.bucket,
            key: &key,
            region: &self.region,
            time: SystemClock.now(),
            order: u32::try_from(order & 0xffff_ffff).unwrap_or(u32::MAX),
        };
        records::record(&change, dice)
    }
}

fn shot(class: Class, headers: HeaderMap, body: String) -> Shot {
    Shot { tag: class.tag(), headers, body: Bytes::from(body) }
}
