//! What is known of one object's state, and whether a push or a listing has news of it (hard case 20).
//!
//! Two kinds of clock meet here. A push's eventTime and a listing's LastModified are the store's own and compare well; when a
//! listing was read is told by ours. Each rule below says which it compares, and gives in to doubt by telling twice:
//!
//! | who tells | it is | when |
//! |---|---|---|
//! | listing | covered | the known state is the same, and LastModified is not after the time of it |
//! | listing | covered | the known state differs and was pushed of a change after the listing was read: the next walk sees it |
//! | push | covered | a listing told the same state, and the change is not after that listing was read; unless push has told another state since that is not of a later change |
//! | push | outdated | a listing told another state that is provably of a later change |
//! | either | news | otherwise |
//!
//! A push never covers another push: those have ids and sequencers. What is news becomes the known state, except that a push
//! of a change before the one that is known leaves it: pushes overtake each other. Nothing orders a push and what a listing told, which
//! the app hears as they come: such a push is the known state whatever its time, and when the listing's own is then pushed, it is told again.
//!
//! What a listing tells is older than the grace when it is read. So a change that is no later than the one that the listing shows was
//! made before it was read, unless clocks differ by more than the grace; what was outdated by mistake the next walk tells.

use std::time::Duration;

use crate::clock::UnixMillis;
use crate::queue::Change;

/// How far eventTime may lie before LastModified for one and the same write: different hosts of the store set them, and some
/// stores tell whole seconds. LastModified of a multipart upload is its beginning and so lies earlier.
const SAME_WRITE: Duration = Duration::from_secs(5);

/// How much later than told a change may be where times are whole seconds.
const WHOLE_SECOND: Duration = Duration::from_secs(1);

/// How far our clock may be off before the product itself says that it is off
/// ([`ClockSkew::TOLERANCE`](crate::clock::ClockSkew)).
const OUR_CLOCK: Duration = crate::clock::ClockSkew::TOLERANCE;

/// What was told of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The state that the app has, or will have when all that is owed was delivered.
    pub state: [u8; 16],
    /// When the object came into it, as far as whoever told it knew.
    pub at: Option<UnixMillis>,
    /// Whether a listing told it.
    pub by_listing: bool,
    /// What a listing told last, also when pushes have told of other states since: a push that is late by hours is still
    /// recognised.
    pub listed: Option<Listed>,
}

/// What a listing told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The state.
    pub state: [u8; 16],
    /// LastModified; for an object that is gone, when it was missed first.
    pub at: Option<UnixMillis>,
    /// When it was read.
    pub listed_at: UnixMillis,
}

/// What a change comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was told before, or something newer was: a duplicate.
    Covered,
    /// It is owed, and this is known now.
    News(Known),
    /// A listing told a provably newer state: the app must not hear of this one after it, so it ends superseded. What is known
    /// stays.
    Outdated,
}

/// Judges `change` by what is known of its object.
pub fn judge(known: Option<&Known>, change: &Change) -> Verdict {
    match change.listed_at {
        Some(listed_at) => listing(known, change, listed_at),
        None => push(known, change),
    }
}

fn listing(known: Option<&Known>, change: &Change, listed_at: UnixMillis) -> Verdict {
    if let Some(known) = known {
        let covered = if known.state == change.state {
            // LastModified against LastModified is exact.
            let slack = if known.by_listing { Duration::ZERO } else { SAME_WRITE };
            !matches!((change.at, known.at), (Some(modified), Some(at)) if modified > at.plus(slack))
        } else {
            !known.by_listing && known.at.is_some_and(|at| at > listed_at)
        };
        if covered {
            return Verdict::Covered;
        }
    }
    let listed = Listed { state: change.state, at: change.at.or(change.missing_since), listed_at };
    Verdict::News(Known { state: change.state, at: change.at, by_listing: true, listed: Some(listed) })
}

fn push(known: Option<&Known>, change: &Change) -> Verdict {
    let news = Known { state: change.state, at: change.at, by_listing: false, listed: None };
    let Some(known) = known else { return Verdict::News(news) };
    if let Some(listed) = &known.listed {
        if listed.state == change.state {
            let covered = match change.at {
                Some(at) => at <= listed.listed_at && !is_followed(known, at),
                // Without a time it is taken for what the listing saw, unless another change was pushed in between.
                None => known.by_listing,
            };
            if covered {
                return Verdict::Covered;
            }
        } else if change.at.is_some_and(|at| is_older(at, listed)) {
            return Verdict::Outdated;
        }
    }
    match (change.at, known.at) {
        (Some(at), Some(known_at)) if at < known_at && !known.by_listing => Verdict::News(*known),
        _ => Verdict::News(Known { listed: known.listed, ..news }),
    }
}

/// Whether the app was pushed another state than the listing's, of a change that is not later than `at`: then it has that other one, and
/// must hear of the change although a listing told the same.
fn is_followed(known: &Known, at: UnixMillis) -> bool {
    let other = known.listed.is_none_or(|listed| listed.state != known.state);
    !known.by_listing && other && known.at.is_none_or(|known_at| known_at <= at)
}

/// Whether a pushed change of that time was made before the state that `listed` tells of.
fn is_older(at: UnixMillis, listed: &Listed) -> bool {
    let shown = |since: UnixMillis| at <= since.plus(SAME_WRITE) && at.plus(WHOLE_SECOND) < listed.listed_at;
    at.plus(OUR_CLOCK) < listed.listed_at || listed.at.is_some_and(shown)
}

#[cfg(test)]
mod tests;
