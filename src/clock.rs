//! Time as a value: everything that judges age, validity or a schedule takes [`UnixMillis`] or a [`Clock`] as an argument.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The time `duration` later; saturates instead of overflowing.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time `duration` earlier; saturates instead of overflowing.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The calendar form; times beyond what a calendar can show are clamped to its ends.
    pub fn to_utc(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).unwrap_or(if self.0 < 0 {
            OffsetDateTime::UNIX_EPOCH
        } else {
            time::macros::datetime!(9999-12-31 23:59:59 UTC)
        })
    }

    /// Reads an RFC 3339 time; `None` when it is not one.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
        i64::try_from(parsed.unix_timestamp_nanos().div_euclid(1_000_000)).ok().map(Self)
    }

    /// Reads an HTTP date in any of the three forms of RFC 9110, 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`, RFC 850's with two
    /// digits of the year, which are taken for this century's, and that of `asctime`. `None` when it is none of them.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let preferred =
            format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
        let asctime = format_description!(
            "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
        );
        let dashed = format_description!("[day]-[month repr:short]-[year] [hour]:[minute]:[second] GMT");
        let text = text.trim();
        let parsed = PrimitiveDateTime::parse(text, &preferred)
            .or_else(|_| PrimitiveDateTime::parse(text, &asctime))
            .ok()
            .or_else(|| PrimitiveDateTime::parse(&with_century(text)?, &dashed).ok())?;
        parsed.assume_utc().unix_timestamp().checked_mul(1000).map(Self)
    }

    /// Whole seconds in the form `2026-02-21T16:43:41Z`.
    pub fn to_iso_seconds(self) -> String {
        let t = self.to_utc();
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    }

    /// Milliseconds in the form `2026-02-21T16:43:41.250Z`.
    pub fn to_iso_millis(self) -> String {
        let seconds = self.to_iso_seconds();
        format!("{}.{:03}Z", seconds.trim_end_matches('Z'), self.0.rem_euclid(1000))
    }

    /// Java's `Date.toString()` in UTC, as Cloud Elements prints `createdDate`: `Fri Feb 21 16:43:41 UTC 2020`.
    pub fn to_java_date(self) -> String {
        let t = self.to_utc();
        let weekday = t.weekday().to_string();
        let month = t.month().to_string();
        format!(
            "{} {} {:02} {:02}:{:02}:{:02} UTC {}",
            &weekday[..3],
            &month[..3],
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            t.year()
        )
    }
}

/// The date of RFC 850 (`Sunday, 06-Nov-94 08:49:37 GMT`) without its weekday and with four digits of the year. Nothing that
/// is compared with our clock was written before this century.
fn with_century(text: &str) -> Option<String> {
    let (_, date) = text.split_once(", ")?;
    let (day, rest) = date.split_once('-')?;
    let (month, rest) = rest.split_once('-')?;
    Some(format!("{day}-{month}-20{rest}"))
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_iso_millis())
    }
}

/// Where "now" comes from. Monotonic waits use tokio's timers; this is for times that are compared with what others wrote.
pub trait Clock: Send + Sync + 'static {
    /// The present wall-clock time.
    fn now(&self) -> UnixMillis;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands where it is put: for `postern verify --at` and for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: UnixMillis) -> Self {
        Self(AtomicI64::new(now.0))
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Puts the clock elsewhere.
    pub fn set(&self, now: UnixMillis) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

/// How far our clock is from the `Date` of answers we fetched (hard case 9: time refusals while it is off are 503, not 403).
#[derive(Debug, Default)]
pub struct ClockSkew(AtomicI64);

impl ClockSkew {
    /// Off by more than this, our own judgement of time is not to be trusted.
    pub const TOLERANCE: Duration = Duration::from_secs(60);

    /// Notes the `Date` header of an answer that arrived at `now`.
    pub fn observe(&self, date: UnixMillis, now: UnixMillis) {
        self.0.store(now.0.saturating_sub(date.0), Ordering::Relaxed);
    }

    /// Our clock minus theirs, in milliseconds, at the last observation.
    pub fn millis(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether our clock is known to be off.
    pub fn is_off(&self) -> bool {
        self.millis().unsigned_abs() > Self::TOLERANCE.as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_in_the_three_forms_that_the_envelope_needs() {
        let t = UnixMillis::parse_rfc3339("2020-02-21T16:43:41.250Z").expect("a valid time");
        assert_eq!(t.to_java_date(), "Fri Feb 21 16:43:41 UTC 2020");
        assert_eq!(t.to_iso_seconds(), "2020-02-21T16:43:41Z");
        assert_eq!(t.to_iso_millis(), "2020-02-21T16:43:41.250Z");
    }

    #[test]
    fn an_http_date_is_read_in_its_three_forms_and_in_no_other() {
        let at = UnixMillis::parse_rfc3339("2094-11-06T08:49:37Z");
        for text in [
            "Sat, 06 Nov 2094 08:49:37 GMT",
            " Sat, 06 Nov 2094 08:49:37 GMT ",
            "Saturday, 06-Nov-94 08:49:37 GMT",
            "Sat Nov  6 08:49:37 2094",
        ] {
            assert_eq!(UnixMillis::parse_http_date(text), at, "{text:?}");
        }
        for text in ["", "Sat, 06 Nov 2094 08:49:37 +0100", "Sat, 31 Feb 2094 08:49:37 GMT", "2094-11-06T08:49:37Z"] {
            assert_eq!(UnixMillis::parse_http_date(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_clock_is_off_only_beyond_its_tolerance_and_in_both_directions() {
        let skew = ClockSkew::default();
        skew.observe(UnixMillis(0), UnixMillis(60_000));
        assert!(!skew.is_off());
        skew.observe(UnixMillis(0), UnixMillis(60_001));
        assert!(skew.is_off());
        skew.observe(UnixMillis(60_001), UnixMillis(0));
        assert!(skew.is_off());
    }
}
