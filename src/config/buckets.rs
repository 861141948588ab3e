//! Buckets: their names, and whose events an instance accepts.

use super::problem::quote;
use super::text::{Wrong, list, wrong};
use super::values::Reader;
use super::{ListingConfig, ListingKind, McsTopic};

/// The list of allowed buckets: in the environment the default of all instances.
pub(super) const BUCKETS: &str = "POSTERN_BUCKETS";

/// Refuses what can be no bucket's name.
pub(super) fn check(text: &str) -> Result<(), Wrong> {
    // Old buckets have upper case and underscores, and other stores have rules of their own: this only catches what no bucket can be.
    let fits = (1..=255).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'));
    if fits {
        Ok(())
    } else {
        wrong(format!("{} is not a bucket's name", quote(text)), "use the name alone, without s3:// and path")
    }
}

/// The buckets that are allowed by name: those of this place, else `shared`; empty where there are none.
pub(super) fn allowed(reader: &mut Reader<'_>, shared: &[String]) -> Vec<String> {
    let own = reader.read(BUCKETS, |text| {
        let buckets = list(text);
        buckets.iter().try_for_each(|name| check(name))?;
        Ok(buckets)
    });
    own.filter(|buckets| !buckets.is_empty()).unwrap_or_else(|| shared.to_vec())
}

/// The buckets that the instance is about: those allowed by name, else its own and those of its MCS topics.
pub(super) fn about(allowed: &[String], bucket: Option<&str>, mcs_topics: &[McsTopic]) -> Vec<String> {
    if !allowed.is_empty() {
        return allowed.to_vec();
    }
    let mut buckets: Vec<String> = Vec::new();
    for name in bucket.into_iter().chain(mcs_topics.iter().map(|topic| topic.bucket.as_str())) {
        if !buckets.iter().any(|known| known == name) {
            buckets.push(name.to_owned());
        }
    }
    buckets
}

/// The buckets whose events are accepted; empty is any. MCS topics are a list of their own: without a bucket beside them they
/// narrow no other source.
pub(super) fn accepted(
    allowed: Vec<String>,
    about: Vec<String>,
    has_bucket: bool,
    listing: Option<&ListingConfig>,
) -> Vec<String> {
    match listing {
        _ if !allowed.is_empty() => allowed,
        Some(listing) if listing.kind == ListingKind::Poll => listing.buckets.clone(),
        _ if has_bucket => about,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_no_buckets_name_is_refused() {
        assert!(check("my.Bucket_1-x").is_ok());
        for bad in ["s3://b", "b/c", "a b", ""] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
