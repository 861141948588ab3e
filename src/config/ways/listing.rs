//! Listings of buckets: polling, and reconciliation of what push missed (hard case 20).

use std::sync::Arc;
use std::time::Duration;

use super::poller::{self, Poller};
use crate::config::Instance;
use crate::config::problem::quote;
use crate::config::text::{Wrong, choice, duration, number, wrong};
use crate::config::values::Reader;

/// What a listing of buckets is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingKind {
    /// `event.vendor.type=polling`: the only way by which changes are learnt of.
    Poll,
    /// `POSTERN_RECONCILE`: beside push, for what push missed.
    Reconcile,
}

/// Listings of an instance's buckets (hard case 20).
#[derive(Clone, Debug)]
pub struct ListingConfig {
    /// What they are for.
    pub kind: ListingKind,
    /// The buckets; never empty.
    pub buckets: Vec<String>,
    /// From the beginning of one walk to that of the next.
    pub every: Duration,
    /// Key prefixes that are listed; empty is the whole bucket. None is a prefix of another.
    pub prefixes: Vec<String>,
    /// Keys asked for in one page, 1 to 1000.
    pub page_size: u16,
    /// Whether the first walk is sent too (`POSTERN_POLL_INITIAL=emit`).
    pub emit_initial: bool,
    /// Age below which reconciliation leaves a change to push (`POSTERN_RECONCILE_GRACE`); zero when polling.
    pub grace: Duration,
}

/// What the instance is besides its listings.
pub(in crate::config) struct Asked<'a> {
    /// `event.vendor.type=polling`.
    pub(in crate::config) polling: bool,
    /// The first setting by which changes are pushed or fetched from a queue, where there is one.
    pub(in crate::config) push: Option<&'static str>,
    /// The buckets that `POSTERN_BUCKETS` allows; empty where it is not set.
    pub(in crate::config) allowed: &'a [String],
    /// The buckets that the instance is about.
    pub(in crate::config) buckets: &'a [String],
}

const VENDOR: &str = "event.vendor.type";
const INTERVAL: &str = "event.poller.refresh_interval";
const RECONCILE: &str = "POSTERN_RECONCILE";
const GRACE: &str = "POSTERN_RECONCILE_GRACE";
const INITIAL: &str = "POSTERN_POLL_INITIAL";

const SECOND: Duration = Duration::from_secs(1);
/// A listing once a week is the rarest that means something.
const WEEK_MINUTES: u64 = 7 * 24 * 60;

/// The instance's listings, if it has any.
pub(in crate::config) fn listing(
    reader: &mut Reader<'_>,
    asked: &Asked<'_>,
    warnings: &mut Vec<String>,
) -> Option<ListingConfig> {
    let reconcile = reader.read(RECONCILE, at_least_a_second);
    let grace = reader.read(GRACE, duration).unwrap_or(Duration::from_secs(15 * 60));
    let emit = [("emit", true), ("silent", false)];
    let emit_initial = reader.read(INITIAL, |text| choice(text, &emit)).unwrap_or(false);
    let reconciles = reader.values.is_set(RECONCILE);
    if !asked.polling {
        warnings.extend(
            reader.values.idle(&[poller::CONFIGURATION, INTERVAL], "event.vendor.type is webhooks and not polling"),
        );
    }
    if !reconciles {
        warnings.extend(reader.values.idle(&[GRACE], "POSTERN_RECONCILE is not set"));
    }
    if !asked.polling && !reconciles {
        warnings.extend(reader.values.idle(&[INITIAL], "no bucket is listed"));
        return None;
    }
    if cfg!(not(feature = "aws")) {
        let name = if asked.polling { VENDOR } else { RECONCILE };
        reader.refuse(
            name,
            "this build has no AWS client, with which buckets are listed",
            "use a build with the feature aws, or remove it",
        );
    }
    let config = if asked.polling { poll(reader, asked, warnings) } else { push(reader, asked, reconcile) };
    config.map(|config| ListingConfig {
        emit_initial,
        grace: if asked.polling { Duration::ZERO } else { grace },
        ..config
    })
}

/// `event.vendor.type=polling`.
fn poll(reader: &mut Reader<'_>, asked: &Asked<'_>, warnings: &mut Vec<String>) -> Option<ListingConfig> {
    if let Some(push) = asked.push {
        let label = reader.values.label(push);
        reader.refuse(
            VENDOR,
            format!("is polling, but {label} is set as well"),
            "remove one of them; for push with a listing of what it missed, use webhooks and POSTERN_RECONCILE",
        );
    } else if reader.values.is_set(RECONCILE) {
        reader.refuse(RECONCILE, "stands beside push, but event.vendor.type is polling", "remove one of them");
    }
    let every = reader.read(INTERVAL, interval).unwrap_or(Duration::from_secs(15 * 60));
    let poller = poller::read(reader, warnings)?;
    let Poller { buckets, prefixes, page_size } = poller;
    if let Some(bucket) = buckets.iter().find(|bucket| !asked.allowed.is_empty() && !asked.allowed.contains(bucket)) {
        reader.refuse(
            poller::CONFIGURATION,
            format!("the bucket {} is not one that POSTERN_BUCKETS allows", quote(bucket)),
            "add it there, or leave POSTERN_BUCKETS out: what is listed is then accepted",
        );
    }
    let buckets = if buckets.is_empty() { asked.buckets.to_vec() } else { buckets };
    if buckets.is_empty() {
        // Who is to choose between polling and push is not asked for a bucket as well.
        if asked.push.is_none() {
            reader.refuse(
                VENDOR,
                "is polling, but no bucket is named",
                "set filemanagement.provider.bucket_name, POSTERN_BUCKETS, or bucket in event.poller.configuration",
            );
        }
        return None;
    }
    Some(ListingConfig { kind: ListingKind::Poll, every, prefixes, page_size, ..whole(buckets) })
}

/// `POSTERN_RECONCILE`.
fn push(reader: &mut Reader<'_>, asked: &Asked<'_>, every: Option<Duration>) -> Option<ListingConfig> {
    if asked.buckets.is_empty() {
        // Without push it is refused already.
        asked.push?;
        reader.refuse(
            RECONCILE,
            "is set, but no bucket is named that could be listed",
            "set filemanagement.provider.bucket_name or POSTERN_BUCKETS",
        );
        return None;
    }
    Some(ListingConfig { every: every?, ..whole(asked.buckets.to_vec()) })
}

/// Reconciliation of whole buckets, with the defaults.
fn whole(buckets: Vec<String>) -> ListingConfig {
    ListingConfig {
        kind: ListingKind::Reconcile,
        buckets,
        every: Duration::ZERO,
        prefixes: Vec::new(),
        page_size: 1000,
        emit_initial: false,
        grace: Duration::ZERO,
    }
}

/// How long events must be remembered so that no reconciliation takes what push told for missed: a change may be told just after one
/// walk began, and is judged at the latest by the walk after the next one. Zero without reconciliation.
pub(in crate::config) fn remember_for(instances: &[Arc<Instance>]) -> Duration {
    let listings = instances.iter().filter_map(|instance| instance.listing.as_ref());
    let reconciling = listings.filter(|listing| listing.kind == ListingKind::Reconcile);
    reconciling.map(|listing| listing.every * 2 + listing.grace).max().unwrap_or_default()
}

fn at_least_a_second(text: &str) -> Result<Duration, Wrong> {
    let every = duration(text)?;
    if every >= SECOND {
        Ok(every)
    } else {
        wrong(format!("{} is less than a second", quote(text)), "use a duration such as 1h")
    }
}

/// Minutes, as Cloud Elements writes them, or a duration with its unit.
fn interval(text: &str) -> Result<Duration, Wrong> {
    if text.bytes().all(|c| c.is_ascii_digit()) {
        return number(text, 1, WEEK_MINUTES).map(|minutes| Duration::from_secs(minutes * 60));
    }
    match duration(text) {
        Ok(every) if (SECOND..=Duration::from_secs(WEEK_MINUTES * 60)).contains(&every) => Ok(every),
        _ => wrong(
            format!("{} is neither minutes nor a duration from a second to a week", quote(text)),
            "use whole minutes such as 15, or a duration with its unit such as 30s",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_minutes_or_has_its_unit() {
        for (text, seconds) in [("15", 900), ("1", 60), ("10080", 604_800), ("30s", 30), ("1h", 3600), ("7d", 604_800)]
        {
            assert_eq!(interval(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["0", "10081", "0.5", "900ms", "8d", "soon", "-1"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
