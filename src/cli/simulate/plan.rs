//! What is sent: genuine messages in their order, and between them repeated, late and forged ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::HeaderMap;
use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::tally::Class;
use super::{Args, store};
use crate::clock::{Clock as _, SystemClock};
use crate::simulator::dice::Dice;
use crate::simulator::load::Shot;
use crate::simulator::sns::forge::Forgery;
use crate::simulator::sns::{Simulator, records};
use crate::simulator::stores;

/// How many messages later something that is held back is sent, at most.
const LATE_BY: u64 = 20;

/// Who makes the messages.
pub(super) enum Speaker {
    /// Amazon's SNS.
    Sns(Arc<Simulator>),
    /// Any other store.
    Store(store::Speaker),
}

/// A plan that several threads work off together.
pub(super) struct Plan {
    args: Args,
    speaker: Speaker,
    region: String,
    next: AtomicU64,
}

impl Plan {
    pub(super) fn new(args: &Args, speaker: Speaker) -> Self {
        let region = args.topic().split(':').nth(3).unwrap_or("us-east-1").to_owned();
        Self { args: args.clone(), speaker, region, next: AtomicU64::new(0) }
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
        let (headers, body, forged) = match &self.speaker {
            Speaker::Sns(simulator) => self.of_sns(simulator, number, dice),
            Speaker::Store(speaker) => self.of_store(speaker, number, dice),
        };
        let later = |dice: &mut Dice| (number + 2 + dice.below(LATE_BY), dice.throw() >> 1);
        if dice.percent(self.args.duplicates) {
            late.insert(later(dice), shot(Class::Duplicate, headers.clone(), body.clone()));
        }
        if dice.percent(self.args.reorder) {
            late.insert(later(dice), shot(Class::Genuine, headers, body));
        } else {
            now.push(shot(Class::Genuine, headers, body));
        }
        now.extend(forged);
    }

    /// A message of SNS, and a forgery made from it where the dice say so.
    fn of_sns(&self, simulator: &Simulator, number: u64, dice: &mut Dice) -> (HeaderMap, String, Option<Shot>) {
        let records: Vec<_> = (0..u64::from(self.args.records)).map(|at| self.record(number, at, dice)).collect();
        let envelope = simulator.s3_notification(&records, dice);
        let forged = dice.percent(self.args.forge).then(|| {
            let kind = Forgery::ALL[dice.below(Forgery::ALL.len() as u64) as usize];
            let (headers, body) = simulator.forge(kind, &envelope, dice);
            shot(Class::Forged(kind), headers, body)
        });
        (envelope.headers(), envelope.to_body(), forged)
    }

    /// The same of another store.
    fn of_store(&self, speaker: &store::Speaker, number: u64, dice: &mut Dice) -> (HeaderMap, String, Option<Shot>) {
        let all = u64::from(self.args.records);
        let keys: Vec<String> = (0..all).map(|at| self.key(number * all + at)).collect();
        let changes: Vec<_> = (number * all..)
            .zip(&keys)
            .map(|(order, key)| stores::Change {
                event: self.event(order, &stores::EVENT_NAMES),
                owner: self.args.project(),
                bucket: &self.args.bucket,
                key,
                time: SystemClock.now(),
                order: u32::try_from(order & 0xffff_ffff).unwrap_or(u32::MAX),
                opaque_data: None,
            })
            .collect();
        let (headers, body) = speaker.message(&changes, dice);
        let forged = dice.percent(self.args.forge).then(|| {
            let (kind, headers, body) = speaker.forge(&changes, dice);
            shot(Class::Posed(kind), headers, body)
        });
        (headers, body, forged)
    }

    fn key(&self, order: u64) -> String {
        format!("simulated/object {:06}.txt", order % self.args.keys)
    }

    fn event<'a>(&'a self, order: u64, mix: &[&'a str]) -> &'a str {
        match self.args.event.as_str() {
            "mix" => mix[(order % mix.len() as u64) as usize],
            name => name,
        }
    }

    fn record(&self, number: u64, at: u64, dice: &mut Dice) -> serde_json::Value {
        let order = number * u64::from(self.args.records) + at;
        let (event, key) = (self.event(order, &records::EVENT_NAMES), self.key(order));
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
