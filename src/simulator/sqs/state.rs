//! The messages of the queue.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{Call, Fault, Ledger, Options};

#[derive(Debug)]
pub(super) struct State {
    pub(super) options: Options,
    pub(super) faults: HashMap<Call, (Fault, u32)>,
    pub(super) ledger: Ledger,
    messages: HashMap<u64, Message>,
    /// What can be handed out, oldest first.
    visible: BTreeSet<u64>,
    /// What is hidden, by the end of that.
    hidden: BTreeMap<(Instant, u64), ()>,
    /// Groups with a message in flight; only in a FIFO queue.
    locked: HashSet<String>,
    next: u64,
}

#[derive(Debug)]
struct Message {
    body: String,
    group: String,
    receives: u32,
    hidden_until: Option<Instant>,
}

/// A message as it is handed out.
pub(super) struct Handed {
    pub(super) number: u64,
    pub(super) body: String,
    pub(super) group: String,
    pub(super) receives: u32,
}

impl State {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            faults: HashMap::new(),
            ledger: Ledger::default(),
            messages: HashMap::new(),
            visible: BTreeSet::new(),
            hidden: BTreeMap::new(),
            locked: HashSet::new(),
            next: 1,
        }
    }

    pub(super) fn send(&mut self, group: &str, body: String) -> u64 {
        let number = self.next;
        self.next += 1;
        self.messages.insert(number, Message { body, group: group.to_owned(), receives: 0, hidden_until: None });
        self.visible.insert(number);
        number
    }

    pub(super) fn send_again(&mut self, receives: u32, body: String) -> u64 {
        let number = self.send("", body);
        if let Some(message) = self.messages.get_mut(&number) {
            message.receives = receives;
        }
        number
    }

    pub(super) fn left(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn in_flight(&mut self) -> usize {
        self.uncover();
        self.hidden.len()
    }

    /// The fault of this call, if it is to have one.
    pub(super) fn fault(&mut self, call: Call) -> Option<Fault> {
        let (fault, times) = self.faults.get_mut(&call)?;
        *times = times.checked_sub(1)?;
        Some(*fault)
    }

    pub(super) fn receive(&mut self, most: usize, hide: Duration) -> Vec<Handed> {
        self.uncover();
        let until = Instant::now() + hide;
        let fifo = self.options.fifo;
        let mut own = HashSet::new();
        let mut numbers = Vec::new();
        for number in &self.visible {
            let group = &self.messages[number].group;
            if numbers.len() == most {
                break;
            }
            if fifo && self.locked.contains(group) {
                continue;
            }
            if fifo {
                own.insert(group.clone());
            }
            numbers.push(*number);
        }
        self.locked.extend(own);
        let mut handed = Vec::with_capacity(numbers.len());
        for number in numbers {
            self.visible.remove(&number);
            self.hidden.insert((until, number), ());
            if let Some(message) = self.messages.get_mut(&number) {
                message.receives += 1;
                message.hidden_until = Some(until);
                let (body, group) = (message.body.clone(), message.group.clone());
                handed.push(Handed { number, body, group, receives: message.receives });
            }
        }
        self.ledger.handed_out += handed.len() as u64;
        handed
    }

    pub(super) fn delete(&mut self, number: u64) {
        if let Some(message) = self.messages.remove(&number) {
            self.visible.remove(&number);
            if let Some(until) = message.hidden_until {
                self.hidden.remove(&(until, number));
            }
            self.ledger.deleted.push(number);
            self.unlock(&message.group);
        }
    }

    /// Whether it is in flight, so that its time can be changed.
    pub(super) fn hide_for(&mut self, number: u64, time: Duration) -> bool {
        self.uncover();
        let Some(message) = self.messages.get_mut(&number) else { return false };
        let Some(before) = message.hidden_until else { return false };
        let until = Instant::now() + time;
        message.hidden_until = Some(until);
        self.hidden.remove(&(before, number));
        self.hidden.insert((until, number), ());
        self.ledger.visibility.push((number, time.as_secs()));
        self.uncover();
        true
    }

    /// When the next hidden message becomes visible.
    pub(super) fn next_visible(&self) -> Option<Instant> {
        self.hidden.keys().next().map(|(until, _)| *until)
    }

    /// Makes visible what is hidden no longer.
    fn uncover(&mut self) {
        let now = Instant::now();
        while let Some((until, number)) = self.hidden.keys().next().copied().filter(|(until, _)| *until <= now) {
            self.hidden.remove(&(until, number));
            self.visible.insert(number);
            if let Some(message) = self.messages.get_mut(&number) {
                message.hidden_until = None;
                let group = message.group.clone();
                self.unlock(&group);
            }
        }
    }

    fn unlock(&mut self, group: &str) {
        if !self.options.fifo {
            return;
        }
        let others = self.hidden.keys().any(|(_, number)| self.messages.get(number).is_some_and(|m| m.group == group));
        if !others {
            self.locked.remove(group);
        }
    }
}
