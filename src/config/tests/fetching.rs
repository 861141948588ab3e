//! Queues and listings, which need the AWS client.

use super::*;

const QUEUE: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/q";
const BUCKET: (&str, &str) = ("filemanagement.provider.bucket_name", "photos");
const POLLING: (&str, &str) = ("event.vendor.type", "polling");

/// `pairs` of a polling instance.
fn polling(pairs: &[(&str, &str)]) -> Map {
    let mut map = env(&[POLLING]);
    map.remove("EVENT_SNS_TOPIC_ARN");
    map.extend(bare(pairs));
    map
}

/// One problem, of the setting `name` and with `words`.
#[track_caller]
fn refused(map: &Map, name: &str, words: &str) {
    let problem = one(map);
    assert!(problem.name.ends_with(name) && problem.to_string().contains(words), "{name}, {words}: {problem}");
}

#[cfg(not(feature = "aws"))]
#[test]
fn a_build_without_aws_says_so() {
    refused(&env(&[("POSTERN_SQS_QUEUE_URL", QUEUE)]), "POSTERN_SQS_QUEUE_URL", "no AWS client");
    refused(&env(&[("POSTERN_RECONCILE", "1h"), BUCKET]), "POSTERN_RECONCILE", "no AWS client");
    refused(&polling(&[BUCKET]), "event.vendor.type", "no AWS client");
}

#[cfg(feature = "aws")]
mod with_aws {
    use super::*;

    fn of(map: &Map) -> ListingConfig {
        good(map).instances[0].listing.clone().expect("a listing")
    }

    #[test]
    fn a_queue_is_drained_by_one_instance() {
        let config = good(&env(&[("POSTERN_SQS_QUEUE_URL", QUEUE), ("POSTERN_SQS_VERIFY", "on")]));
        let sqs = config.instances[0].sqs.clone().expect("queues");
        assert_eq!((sqs.queues.len(), sqs.verify, sqs.consumers), (1, true, 8));
        assert!(warns(&good(&env(&[("POSTERN_SQS_QUEUE_URL", QUEUE)])), "POSTERN_SQS_VERIFY is off"));
        let document = |name: &str| {
            format!(
                r#"{{"name": "{name}", "configuration": {{"event.notification.enabled": true, "POSTERN_SQS_QUEUE_URL": ["{QUEUE}"]}}}}"#
            )
        };
        let (_folder, map) = with_document(&format!("[{},{}]", document("n"), document("m")), &[CALLBACK]);
        refused(&map, "(document 2): POSTERN_SQS_QUEUE_URL", "also drained by the instance \"n\"");
        let (_folder, map) = with_document(&document("n"), &[CALLBACK]);
        assert!(!warns(&good(&map), "POSTERN_SQS_VERIFY"), "without topics there is nothing to verify");
    }

    #[test]
    fn a_queue_that_cannot_be_is_refused() {
        refused(&env(&[("POSTERN_SQS_QUEUE_URL", "http://sqs.x.amazonaws.com/1/q")]), "QUEUE_URL", "plain HTTP");
        refused(&env(&[("POSTERN_SQS_QUEUE_URL", "https://sqs.x.amazonaws.com/q")]), "QUEUE_URL", "account and queue");
        refused(&env(&[("POSTERN_SQS_QUEUE_URL", ",")]), "QUEUE_URL", "holds no URL");
        refused(&env(&[("POSTERN_SQS_QUEUE_URL", QUEUE), ("POSTERN_SQS_CONSUMERS", "65")]), "CONSUMERS", "64");
        let mut unverifiable =
            env(&[("POSTERN_SQS_QUEUE_URL", QUEUE), ("POSTERN_SQS_VERIFY", "on"), ("POSTERN_INSTANCE_NAME", "n")]);
        unverifiable.remove("EVENT_SNS_TOPIC_ARN");
        refused(&unverifiable, "POSTERN_SQS_VERIFY", "no SNS topic");
    }

    #[test]
    fn polling_lists_the_bucket_every_quarter_of_an_hour() {
        let config = good(&polling(&[BUCKET]));
        let it = &config.instances[0];
        let listing = it.listing.clone().expect("a listing");
        assert_eq!((&*it.name, it.buckets.clone()), ("photos", vec!["photos".to_owned()]));
        assert_eq!(
            (listing.kind, listing.every, listing.grace),
            (ListingKind::Poll, Duration::from_secs(900), Duration::ZERO)
        );
        assert_eq!((listing.page_size, listing.emit_initial, listing.prefixes.len()), (1000, false, 0));
        let quick = polling(&[BUCKET, ("event.poller.refresh_interval", "30s"), ("POSTERN_POLL_INITIAL", "emit")]);
        assert_eq!((of(&quick).every, of(&quick).emit_initial), (Duration::from_secs(30), true));
        refused(&polling(&[BUCKET, ("event.poller.refresh_interval", "0")]), "refresh_interval", "1 to 10080");
    }

    #[test]
    fn what_is_polled_may_be_nested_as_cloud_elements_does() {
        const NAME: &str = "event.poller.configuration";
        let map = polling(&[(
            NAME,
            r#"{"documents": {"bucket": ["b", "c"], "prefixes": ["in/", "in/x/"], "pageSize": "10", "url": "/x", "idField": "id"}}"#,
        )]);
        let config = good(&map);
        let listing = config.instances[0].listing.clone().expect("a listing");
        assert_eq!(
            (listing.buckets.clone(), listing.prefixes, listing.page_size),
            (vec!["b".into(), "c".into()], vec!["in/".to_owned()], 10)
        );
        assert_eq!(config.instances[0].buckets, ["b", "c"]);
        assert!(warns(&config, "idField, url has no meaning"), "{:?}", config.warnings);
        assert!(warns(&config, "\"in/x/\" is listed already"), "{:?}", config.warnings);
        for (bad, words) in [
            (r#"{"prefx": "a"}"#, "did you mean prefix?"),
            (r#"{"documents": {"pagesize": 1}}"#, "did you mean pageSize?"),
            (r#"{"pageSize": 1001}"#, "1 to 1000"),
            (r#"{"pageSize": [1]}"#, "1 to 1000"),
            (r#"{"prefix": 1}"#, "prefix is a number"),
            (r#"{"prefix": "a", "x": {"prefix": "b"}}"#, "more than one object"),
            (r#"{"bucket": "s3://b"}"#, "not a bucket's name"),
            (r#"{"#, "ends too early"),
            ("[]", "a list and not an object"),
            (r#"{"prefix": "a", "prefix": "b"}"#, "there twice"),
        ] {
            refused(&polling(&[BUCKET, (NAME, bad)]), NAME, words);
        }
        refused(&polling(&[("POSTERN_BUCKETS", "a"), (NAME, r#"{"bucket": "b"}"#)]), NAME, "POSTERN_BUCKETS");
    }

    #[test]
    fn polling_stands_alone_and_needs_a_bucket() {
        refused(&polling(&[("POSTERN_INSTANCE_NAME", "n")]), "event.vendor.type", "no bucket is named");
        let queue = ("POSTERN_SQS_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/123456789012/q");
        refused(&polling(&[BUCKET, queue]), "event.vendor.type", "POSTERN_SQS_QUEUE_URL is set as well");
        let config = good(&env(&[POLLING, BUCKET]));
        assert!(config.instances[0].topics.is_empty() && warns(&config, "EVENT_SNS_TOPIC_ARN has no effect"));
        refused(&polling(&[BUCKET, ("POSTERN_RECONCILE", "1h")]), "POSTERN_RECONCILE", "event.vendor.type is polling");
        let in_document = r#"{"name": "n", "configuration": {"event.notification.enabled": true, "event.vendor.type": "Polling",
            "event.poller.refresh_interval": 5, "event.poller.configuration": {"bucket": "b"}}}"#;
        let (_folder, map) = with_document(in_document, &[CALLBACK]);
        assert_eq!((of(&map).buckets, of(&map).every), (vec!["b".to_owned()], Duration::from_secs(300)));
    }

    /// Hard case 17. A command that opens the store of a stopped sidecar (`postern replay`) once took the default of a day, although the
    /// sidecar remembered for longer because of how seldom it reconciled, and would have dropped what was out of that span.
    #[test]
    fn a_command_forgets_nothing_that_the_sidecar_remembers() {
        let map = env(&[("POSTERN_RECONCILE", "30days"), BUCKET]);
        let sidecar = good(&map).queue.dedupe_for;
        assert!(sidecar > Duration::from_secs(60 * 24 * 3600), "{sidecar:?}");
        let told_otherwise = bare(&[("POSTERN_DEDUPE_FOR", "1h")]);
        for shell in [Map::new(), told_otherwise, map] {
            assert!(queue(&shell).expect("bounds").dedupe_for > sidecar * 2, "{shell:?}");
        }
    }

    #[test]
    fn reconciliation_lists_the_buckets_beside_push() {
        let config = good(&env(&[("POSTERN_RECONCILE", "1h"), BUCKET, ("POSTERN_RECONCILE_GRACE", "5m")]));
        let listing = config.instances[0].listing.clone().expect("a listing");
        assert_eq!(
            (listing.kind, listing.every, listing.grace),
            (ListingKind::Reconcile, Duration::from_secs(3600), Duration::from_secs(300))
        );
        refused(&env(&[("POSTERN_RECONCILE", "1h")]), "POSTERN_RECONCILE", "no bucket is named");
        refused(&env(&[("POSTERN_RECONCILE", "900ms"), BUCKET]), "POSTERN_RECONCILE", "less than a second");
        let mut mcs = env(&[
            ("POSTERN_RECONCILE", "1h"),
            ("POSTERN_MCS_TOPICS", "p|photos,p|scans"),
            ("POSTERN_MCS_URL", "https://h/0123456789abcdefg"),
        ]);
        mcs.remove("EVENT_SNS_TOPIC_ARN");
        assert_eq!(of(&mcs).buckets, ["photos", "scans"]);
    }

    #[test]
    fn what_push_told_is_remembered_until_a_listing_has_passed_it() {
        let day = |text: &str| env(&[("POSTERN_RECONCILE", text), BUCKET]);
        assert_eq!(good(&day("1h")).queue.dedupe_for, Duration::from_hours(24));
        assert_eq!(good(&day("24h")).queue.dedupe_for, Duration::from_secs(48 * 3600 + 900));
        let mut set = day("24h");
        set.insert("POSTERN_DEDUPE_FOR".into(), "24h".into());
        refused(&set, "POSTERN_DEDUPE_FOR", "2days 15m");
        set.insert("POSTERN_DEDUPE_FOR".into(), "49h".into());
        good(&set);
        let extra = r#", "POSTERN_RECONCILE": "24h", "POSTERN_BUCKETS": "b""#;
        let (_folder, map) = with_document(&document(extra), &[CALLBACK]);
        assert_eq!(good(&map).queue.dedupe_for, Duration::from_secs(48 * 3600 + 900), "a document's counts too");
    }
}
