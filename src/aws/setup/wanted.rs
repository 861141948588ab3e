//! Pure: from `event.objects` to what a store can be asked to announce.

use crate::config::ObjectFilter;

/// A kind of store, by the events that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Amazon S3.
    Amazon,
    /// MCS S3: the events of its newer page are not confirmed live (`s3-dialects.md` 1.1).
    Mcs,
    /// Ceph RGW.
    Ceph,
}

/// What is asked for where `event.objects` names no event: everything that changes an object or what is known of it.
const AMAZON: [&str; 6] = [
    "ObjectCreated:*",
    "ObjectRemoved:*",
    "ObjectRestore:*",
    "ObjectTagging:*",
    "ObjectAcl:Put",
    "LifecycleExpiration:*",
];
const CREATED_AND_REMOVED: [&str; 2] = ["ObjectCreated:*", "ObjectRemoved:*"];

/// The groups and single events of S3 (`sns.md` 3.1), for patterns wider than a group.
const GROUPS: [&str; 10] = [
    "ObjectCreated:*",
    "ObjectRemoved:*",
    "ObjectRestore:*",
    "ObjectTagging:*",
    "ObjectAcl:Put",
    "LifecycleExpiration:*",
    "LifecycleTransition",
    "IntelligentTiering",
    "ReducedRedundancyLostObject",
    "Replication:*",
];

/// Events within groups, for patterns such as `ObjectCreated:P*`.
const EVENTS: [&str; 16] = [
    "ObjectCreated:Put",
    "ObjectCreated:Post",
    "ObjectCreated:Copy",
    "ObjectCreated:CompleteMultipartUpload",
    "ObjectRemoved:Delete",
    "ObjectRemoved:DeleteMarkerCreated",
    "ObjectRestore:Post",
    "ObjectRestore:Completed",
    "ObjectRestore:Delete",
    "ObjectTagging:Put",
    "ObjectTagging:Delete",
    "LifecycleExpiration:Delete",
    "LifecycleExpiration:DeleteMarkerCreated",
    "Replication:OperationFailedReplication",
    "Replication:OperationMissedThreshold",
    "Replication:OperationReplicatedAfterThreshold",
];

/// The events to announce, each with `s3:`, none of which covers another: S3 refuses overlaps.
pub fn events(filter: &ObjectFilter, store: Store) -> Vec<String> {
    let all: &[&str] = match store {
        Store::Amazon => &GROUPS,
        Store::Mcs | Store::Ceph => &CREATED_AND_REMOVED,
    };
    let mut wanted: Vec<String> = Vec::new();
    for pattern in &filter.events {
        match pattern.strip_suffix('*') {
            Some(stem) if !stem.ends_with(':') => {
                let groups: Vec<&&str> = all.iter().filter(|group| group.starts_with(stem)).collect();
                let within = EVENTS.iter().filter(|event| groups.is_empty() && event.starts_with(stem));
                wanted.extend(groups.iter().copied().chain(within).map(|event| (*event).to_owned()));
            }
            _ => wanted.push(pattern.clone()),
        }
    }
    if filter.events.is_empty() {
        let default: &[&str] = if store == Store::Amazon { &AMAZON } else { &CREATED_AND_REMOVED };
        wanted = default.iter().map(|event| (*event).to_owned()).collect();
    }
    let covers = |a: &str, b: &str| a != b && a.strip_suffix('*').is_some_and(|stem| b.starts_with(stem));
    let mut kept: Vec<String> = Vec::new();
    for event in &wanted {
        if !wanted.iter().any(|other| covers(other, event)) && !kept.contains(event) {
            kept.push(event.clone());
        }
    }
    kept.iter().map(|event| format!("s3:{event}")).collect()
}

/// What a store can narrow by: how keys begin and end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// What keys begin with; empty is anything.
    pub prefix: String,
    /// What keys end with; empty is anything.
    pub suffix: String,
}

/// The filter that says exactly what the globs say; none where there is no such filter, and the sidecar then sifts by itself.
///
/// Amazon wants all but safe characters percent-encoded there, a blank as `+`; what comes of that is nowhere said to the letter, so that a
/// key with any other character is sifted here too.
pub fn keys(filter: &ObjectFilter, store: Store) -> KeyFilter {
    let [glob] = filter.keys.as_slice() else { return KeyFilter::default() };
    let safe = |c: char| c.is_ascii_alphanumeric() || "/!-_.'()".contains(c);
    let fits = |keys: &KeyFilter| store != Store::Amazon || keys.prefix.chars().chain(keys.suffix.chars()).all(safe);
    exact(glob.glob().glob()).filter(fits).unwrap_or_default()
}

/// `images/**`, `**/*.png` and `images/**/*.png` are exact; `*.png` is not, because its star stays within a folder.
fn exact(glob: &str) -> Option<KeyFilter> {
    let literal = |text: &str| !text.contains(['*', '?', '[', ']', '{', '}', '\\', '!']);
    if let Some(prefix) = glob.strip_suffix("/**").filter(|prefix| literal(prefix)) {
        return Some(KeyFilter { prefix: format!("{prefix}/"), suffix: String::new() });
    }
    let (prefix, suffix) = match glob.strip_prefix("**/*") {
        Some(suffix) => (String::new(), suffix),
        None => {
            let (prefix, suffix) = glob.split_once("/**/*")?;
            (format!("{prefix}/"), suffix)
        }
    };
    // A suffix with a slash would mean a folder, and one that a prefix may overlap with is no exact match.
    (literal(&prefix) && literal(suffix) && !suffix.contains('/'))
        .then(|| KeyFilter { prefix, suffix: suffix.to_owned() })
}

/// The name of what is ours in a store, with at most 64 letters, digits, `-` and `_`.
pub fn our_id(instance: &str) -> String {
    let plain: String =
        instance.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' }).collect();
    if plain == instance && plain.len() <= 56 {
        return format!("postern-{plain}");
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, instance.as_bytes());
    let hash: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("postern-{}-{hash}", plain.chars().take(47).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> ObjectFilter {
        ObjectFilter::parse(text).expect("a filter")
    }

    #[test]
    fn patterns_become_events_that_do_not_overlap() {
        let of = |text: &str| events(&filter(text), Store::Amazon).join(" ");
        assert_eq!(
            of("s3:ObjectCreated:*, s3:ObjectCreated:Put, ObjectRemoved:Delete"),
            "s3:ObjectCreated:* s3:ObjectRemoved:Delete"
        );
        assert_eq!(of("ObjectCreated:P*"), "s3:ObjectCreated:Put s3:ObjectCreated:Post");
        assert_eq!(of("s3:Object*").split(' ').count(), 5);
        assert_eq!(of("s3:*").split(' ').count(), GROUPS.len());
        assert_eq!(of("file").split(' ').count(), AMAZON.len());
        assert_eq!(events(&filter("s3:*"), Store::Mcs), ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]);
        assert_eq!(events(&filter(""), Store::Ceph), ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]);
    }

    #[test]
    fn only_globs_that_a_filter_says_exactly_become_one() {
        let of = |text: &str| {
            let KeyFilter { prefix, suffix } = keys(&filter(text), Store::Amazon);
            format!("{prefix}|{suffix}")
        };
        assert_eq!(of("key:images/**"), "images/|");
        assert_eq!(of("key:**/*.png"), "|.png");
        assert_eq!(of("key:images/2026/**/*.png"), "images/2026/|.png");
        for not_exact in
            ["key:*.png", "key:images/*", "key:a/**, key:b/**", "key:{a,b}/**", "key:a*/**", "file", "key:a"]
        {
            assert_eq!(of(not_exact), "|", "{not_exact}");
        }
    }

    #[test]
    fn a_filter_that_amazon_wants_encoded_is_left_to_the_sidecar() {
        for glob in ["key:my images/**", "key:a+b/**", "key:größe/**", "key:a=b/**/*.png"] {
            assert_eq!(keys(&filter(glob), Store::Amazon), KeyFilter::default(), "{glob}");
            assert!(!keys(&filter(glob), Store::Ceph).prefix.is_empty(), "{glob}");
        }
    }

    #[test]
    fn a_filter_passes_every_key_that_its_glob_passes() {
        for glob in ["key:images/**", "key:**/*.png", "key:images/**/*.png"] {
            let filter = filter(glob);
            let narrow = keys(&filter, Store::Amazon);
            for key in [
                "images/a.png",
                "images/b/c/d.png",
                "images/.png",
                "images/",
                "a.png",
                "x/a.png",
                ".png",
                "images",
                "x",
            ] {
                let passes = key.starts_with(&narrow.prefix) && key.ends_with(&narrow.suffix);
                assert!(passes || !filter.matches("file", "x", key), "{glob} {key}");
            }
        }
    }

    #[test]
    fn an_id_is_plain_bounded_and_distinct() {
        assert_eq!(our_id("uploads"), "postern-uploads");
        let odd = our_id("ünï code|bucket");
        assert!(odd.starts_with("postern--n--code-bucket-"), "{odd}");
        assert_ne!(odd, our_id("ünï code/bucket"));
        assert!(our_id(&"x".repeat(200)).len() <= 64);
    }
}
