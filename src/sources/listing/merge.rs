//! Pure: a stretch of a listing against the same stretch of what is remembered, both in key order.
//!
//! | remembered | listed | what follows |
//! |---|---|---|
//! | no | yes | appeared |
//! | yes | yes, another | overwritten |
//! | yes | no | noted as missing. It is told only after the whole walk turned out to be in order: in a listing that is not, a key that is missing here may come later |
//! | yes | yes, the same | nothing; not missing any more |
//!
//! A silent walk (the first of a range) remembers and tells nothing. What was written after it began is left for the next walk,
//! which tells it: it is news, not part of the first picture.
//!
//! Reconciliation leaves what is younger than the grace as if it had not been listed, so that the next walk sees the difference again.

use std::time::Duration;

use crate::aws::listing::Entry;
use crate::clock::UnixMillis;
use crate::config::ListingKind;
use crate::normalize::Finding;

/// One remembered object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// As it was last told, or first seen.
    pub(super) entry: Entry,
    /// When the walk began that first did not list it any more.
    pub(super) missing_since: Option<UnixMillis>,
}

/// The walk that the stretch belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    pub(super) kind: ListingKind,
    pub(super) grace: Duration,
    /// When it began.
    pub(super) began: UnixMillis,
    /// Whether it only remembers.
    pub(super) silent: bool,
}

/// One change of what is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// The object is as listed, and there.
    Put(Entry),
    /// The key is missing since, or is there again.
    Missing(String, Option<UnixMillis>),
}

/// What follows from a stretch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) writes: Vec<Write>,
    pub(super) news: Vec<(Finding, Entry)>,
}

impl Walk {
    /// Missing since then or longer, an object is gone.
    pub(super) fn gone_if_missing_since(&self) -> UnixMillis {
        self.began.minus(self.grace)
    }

    /// Whether the object's state is none of this walk's business yet.
    fn leaves(&self, entry: &Entry) -> bool {
        let Some(modified) = entry.last_modified else { return false };
        (self.silent && modified > self.began)
            || (self.kind == ListingKind::Reconcile && !self.silent && modified > self.began.minus(self.grace))
    }
}

/// Compares `rows` and `listed`, each in ascending key order and both of one stretch of keys.
pub(super) fn merge(rows: Vec<Row>, listed: Vec<Entry>, walk: &Walk) -> Step {
    let mut step = Step::default();
    let mut rows = rows.into_iter().peekable();
    for entry in listed {
        while let Some(row) = rows.next_if(|row| row.entry.key < entry.key) {
            step.missing(row, walk);
        }
        let row = rows.next_if(|row| row.entry.key == entry.key);
        step.listed(row, entry, walk);
    }
    for row in rows {
        step.missing(row, walk);
    }
    step
}

impl Step {
    fn missing(&mut self, row: Row, walk: &Walk) {
        // A time to come was told by a clock that ran ahead: the object would have to be missed until then.
        if row.missing_since.is_none_or(|since| since > walk.began) {
            self.writes.push(Write::Missing(row.entry.key, Some(walk.began)));
        }
    }

    fn listed(&mut self, row: Option<Row>, entry: Entry, walk: &Walk) {
        let finding = match &row {
            None => Finding::Appeared,
            Some(row) if row.entry != entry => Finding::Overwritten,
            Some(_) => return self.there_again(row),
        };
        if walk.leaves(&entry) {
            return self.there_again(row);
        }
        if !walk.silent {
            self.news.push((finding, entry.clone()));
        }
        self.writes.push(Write::Put(entry));
    }

    fn there_again(&mut self, row: Option<Row>) {
        if let Some(Row { entry, missing_since: Some(_) }) = row {
            self.writes.push(Write::Missing(entry.key, None));
        }
    }
}

#[cfg(test)]
mod tests;
