//! What each store sends, byte for byte as it was captured (`s3-dialects.md` 2 and 3), and what becomes of it.

use std::cmp::Ordering;

use crate::clock::UnixMillis;
use crate::event::{Event, EventType, Origin, Sequencer};
use crate::normalize::{self, Context};
use crate::record::{Body, Dialect, parse_as};

const MINIO: &str = r#"{"EventName":"s3:ObjectCreated:Put","Key":"images/myphoto.jpg","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","awsRegion":"","eventTime":"2019-09-10T17:41:54Z",
"eventName":"s3:ObjectCreated:Put","userIdentity":{"principalId":"AKIAIOSFODNN7EXAMPLE"},"requestParameters":{"accessKey":"AKIAIOSFODNN7EXAMPLE","region":"","sourceIPAddress":"192.168.56.192"},
"responseElements":{"x-amz-request-id":"15C3249451E12784","x-minio-deployment-id":"751a8ba6-acb2-42f6-a297-4cdf1cf1fa4f","x-minio-origin-endpoint":"http://192.168.97.83:9000"},
"s3":{"s3SchemaVersion":"1.0","configurationId":"Config","bucket":{"name":"images","ownerIdentity":{"principalId":"AKIAIOSFODNN7EXAMPLE"},"arn":"arn:aws:s3:::images"},
"object":{"key":"myphoto.jpg","size":6474,"eTag":"430f89010c77aa34fc8760696da62d08-1","contentType":"image/jpeg","userMetadata":{"content-type":"image/jpeg"},"versionId":"1","sequencer":"15C32494527B46C5"}},
"source":{"host":"192.168.56.192","port":"","userAgent":"Mozilla/5.0 ..."}}]}"#;

const CEPH: &str = r#"{"Records":[{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":"my-store","eventTime":"2024-02-15T10:34:23.904497Z","eventName":"ObjectCreated:Put",
"userIdentity":{"principalId":"obc-..."},"requestParameters":{"sourceIPAddress":""},"responseElements":{"x-amz-request-id":"87b29a21-...","x-amz-id-2":"14574-my-store-my-store"},
"s3":{"s3SchemaVersion":"1.0","configurationId":"detect-repository-file-creation","bucket":{"name":"ceph-bkt-07f8...","ownerIdentity":{"principalId":"obc-..."},
"arn":"arn:aws:s3:my-store::ceph-bkt-07f8...","id":"87b29a21-....83322.1"},
"object":{"key":"test5/kopia.repository","size":6,"eTag":"9a7fc1b14c3f14eb4262ee602a7f7fe6","versionId":"","sequencer":"AFE8CD6506C2FD36","metadata":[],"tags":[]}},
"eventId":"1707993263.922599.9a7fc1b14c3f14eb4262ee602a7f7fe6","opaqueData":"iamopaque"}]}"#;

/// Put together from the description in 2.4; nobody published a capture.
const NOOBAA: &str = r#"{"Records":[{"eventVersion":"2.3","eventSource":"noobaa:s3","eventTime":"2024-02-15T10:34:23.904Z","eventName":"ObjectCreated:Put",
"userIdentity":{"principalId":"noobaa"},"requestParameters":{"sourceIPAddress":"10.0.0.7"},"responseElements":{"x-amz-request-id":"lsn9jq3c","x-amz-id-2":"lsn9jq3c"},
"s3":{"s3SchemaVersion":"1.0","configurationId":"n1","bucket":{"name":"first.bucket","ownerIdentity":{"principalId":"noobaa"},"arn":"arn:aws:s3:::first.bucket"},
"object":{"key":"a b+c%20.jpg","size":"6","eTag":"9a7fc1b14c3f14eb4262ee602a7f7fe6","sequencer":"18dad5e2a40"}}}]}"#;

/// Put together from the description in 2.5.
const VERSITYGW: &str = r#"{"Records":[{"eventVersion":"2.2","eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2024-02-15T12:34:23+02:00","eventName":"s3:ObjectCreated:Put",
"userIdentity":{"PrincipalId":"user"},"requestParameters":{"sourceIPAddress":"127.0.0.1"},"responseElements":{"x-amz-request-id":"","x-amz-id-2":""},
"s3":{"s3SchemaVersion":"1.0","configurationId":"webhook-global","bucket":{"name":"images","ownerIdentity":{"PrincipalId":"user"},"arn":"arn:aws:s3:::/images/a b+c%20.jpg"},
"object":{"key":"a b+c%20.jpg","size":0,"eTag":null,"versionId":null,"sequencer":"1"}},"glacierEventData":{"restoreEventData":{"lifecycleRestorationExpiryTime":"","lifecycleRestoreStorageClass":""}}}]}"#;

const AWS: &str = r#"{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-west-2","eventTime":"1970-01-01T00:00:00.000Z","eventName":"ObjectCreated:Put","userIdentity":{"principalId":"AIDAJDPLRKLG7UEXAMPLE"},
"requestParameters":{"sourceIPAddress":"127.0.0.1"},"responseElements":{"x-amz-request-id":"C3D13FE58DE4C810","x-amz-id-2":"FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"},
"s3":{"s3SchemaVersion":"1.0","configurationId":"testConfigRule","bucket":{"name":"mybucket","ownerIdentity":{"principalId":"A3NL1KOZZKExample"},"arn":"arn:aws:s3:::mybucket"},
"object":{"key":"HappyFace.jpg","size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e","versionId":"096fKKXTRTtl3on89fVO.nfljtsv6qko","sequencer":"0055AED6DCD90281E5"}}}]}"#;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn of(dialect: Dialect, text: &str) -> Event {
    let context = Context {
        instance_id: "7",
        origin: Origin::S3http,
        dialect,
        topic: None,
        message_id: None,
        received_at: NOW,
        notification: None,
    };
    match parse_as(dialect.shape, text) {
        Ok(Body::Records(records)) if records.len() == 1 => {
            normalize::event(records[0].as_ref().expect("a good record"), &context)
        }
        other => panic!("{other:?}: {text}"),
    }
}

fn time(text: &str) -> UnixMillis {
    UnixMillis::parse_rfc3339(text).expect("a time")
}

#[test]
fn minio_writes_form_coded_keys_and_leaves_a_size_of_nothing_out() {
    let event = of(Dialect::MINIO, MINIO);
    assert_eq!((event.bucket.as_str(), event.key.as_str(), event.size), ("images", "myphoto.jpg", Some(6474)));
    assert_eq!((event.event_name.as_str(), event.event_type), ("ObjectCreated:Put", EventType::Created));
    assert_eq!((event.version_id.as_deref(), event.region), (Some("1"), None));
    assert_eq!(event.e_tag.as_deref(), Some("430f89010c77aa34fc8760696da62d08-1"));
    assert_eq!(event.time, time("2019-09-10T17:41:54Z"));
    assert_eq!(event.sequencer, Some(Sequencer::Aws("15C32494527B46C5".to_owned())));
    assert!(event.raw.get().starts_with(r#"{"eventVersion":"2.0""#) && event.raw.get().ends_with(r#"..."}}"#));

    let coded = of(Dialect::MINIO, &MINIO.replace(r#""key":"myphoto.jpg""#, r#""key":"photos%2F2024+05%2Fa%2Bb.jpg""#));
    assert_eq!(coded.key, "photos/2024 05/a+b.jpg");
    assert_eq!(coded.raw_key.as_deref(), Some("photos%2F2024+05%2Fa%2Bb.jpg"));
    let plain = of(Dialect::MINIO, &MINIO.replace(r#""key":"myphoto.jpg""#, r#""key":"photos%2F2024+05%2Fa+b.jpg""#));
    assert_eq!(plain.key, "photos/2024 05/a b.jpg");

    let empty = of(Dialect::MINIO, &MINIO.replace(r#""size":6474,"#, ""));
    assert_eq!((empty.size, empty.event_type), (None, EventType::Created));
    let later = of(Dialect::MINIO, &MINIO.replace("46C5", "46C6"));
    let order = later.sequencer.zip(event.sequencer).and_then(|(a, b)| a.compare(&b));
    assert_eq!(order, Some(Ordering::Greater));
}

#[test]
fn minios_own_names_are_typed_and_old_outer_members_ignored() {
    use EventType::{Deleted, Unknown, Updated};
    for (name, event_type) in [
        ("s3:ObjectRemoved:Delete", Deleted),
        ("s3:ObjectRemoved:DeleteMarkerCreated", Deleted),
        ("s3:ObjectRemoved:DeleteAllVersions", Deleted),
        ("s3:LifecycleDelMarkerExpiration:Delete", Deleted),
        ("s3:ObjectCreated:PutTagging", Updated),
        ("s3:ObjectCreated:PutRetention", Updated),
        ("s3:ObjectAccessed:Head", Unknown),
        ("s3:BucketCreated:*", Unknown),
    ] {
        let text = MINIO.replace(r#""EventName""#, r#""EventType""#).replace("s3:ObjectCreated:Put", name);
        assert_eq!(of(Dialect::MINIO, &text).event_type, event_type, "{name}");
    }
    let removed = MINIO.replace(r#""size":6474,"eTag":"430f89010c77aa34fc8760696da62d08-1","contentType":"image/jpeg","userMetadata":{"content-type":"image/jpeg"},"versionId":"1","#, "");
    let event = of(Dialect::MINIO, &removed);
    assert_eq!((event.size, event.e_tag, event.version_id), (None, None, None));
}

#[test]
fn rustfs_is_as_minio_and_keeps_a_size_of_nothing() {
    let text = MINIO
        .replace("minio:s3", "rustfs:s3")
        .replace(r#""size":6474"#, r#""size":0"#)
        .replace("17:41:54Z", "17:41:54.123Z")
        .replace(r#""versionId":"1","#, "");
    let event = of(Dialect::RUSTFS, &text);
    assert_eq!((event.size, event.version_id, event.time.0 % 1000), (Some(0), None, 123));
}

#[test]
fn ceph_writes_raw_keys_and_its_sequencers_compare_by_time() {
    let event = of(Dialect::CEPH, CEPH);
    assert_eq!((event.bucket.as_str(), event.key.as_str()), ("ceph-bkt-07f8...", "test5/kopia.repository"));
    assert_eq!((event.size, event.version_id.as_deref()), (Some(6), None));
    assert_eq!(event.time.0, time("2024-02-15T10:34:23.904Z").0, "microseconds are cut");
    assert_eq!(event.region.as_deref(), Some("my-store"));
    let plain = of(Dialect::CEPH, &CEPH.replace("test5/kopia.repository", "a b+c%20.jpg"));
    assert_eq!((plain.key.as_str(), plain.raw_key), ("a b+c%20.jpg", None));

    // The sample of the documentation is of 2019 and greater as text.
    let older = of(Dialect::CEPH, &CEPH.replace("AFE8CD6506C2FD36", "F7E6D75DC742D108"));
    let order = older.sequencer.zip(event.sequencer).and_then(|(a, b)| a.compare(&b));
    assert_eq!(order, Some(Ordering::Less));
    let text = CEPH.replace(r#""size":6,"#, r#""size":"1024","#).replace("ObjectCreated:Put", "s3:ObjectCreated:Put");
    let documented = of(Dialect::CEPH, &text);
    assert_eq!((documented.size, documented.event_name.as_str()), (Some(1024), "ObjectCreated:Put"));
    let expired = of(Dialect::CEPH, &CEPH.replace("ObjectCreated:Put", "ObjectLifecycle:Expiration:Current"));
    assert_eq!(expired.event_type, EventType::Deleted);
}

#[test]
fn a_change_that_ceph_sends_again_is_the_same_event() {
    let first = of(Dialect::CEPH, CEPH);
    assert_eq!(of(Dialect::CEPH, &CEPH.replace("iamopaque", "rotated")).id, first.id);
    assert_ne!(of(Dialect::CEPH, &CEPH.replace("904497", "904498")).id, first.id);
}

#[test]
fn noobaa_writes_raw_keys_and_sizes_as_text() {
    let event = of(Dialect::NOOBAA, NOOBAA);
    assert_eq!((event.bucket.as_str(), event.key.as_str(), event.size), ("first.bucket", "a b+c%20.jpg", Some(6)));
    assert_eq!((event.version_id, event.region, event.sequencer), (None, None, None));
    let test = r#"{"Records":[{"Service":"NooBaa","Event":"s3:TestEvent","Time":"2024-02-15T10:34:23.904Z","Bucket":"first.bucket","RequestId":"1","HostId":"2"}]}"#;
    assert!(
        matches!(parse_as(Dialect::NOOBAA.shape, test), Ok(Body::TestEvent(test)) if test.bucket == "first.bucket")
    );
}

#[test]
fn versitygw_writes_local_times_nulls_and_a_capital_principal() {
    let event = of(Dialect::VERSITYGW, VERSITYGW);
    assert_eq!((event.key.as_str(), event.size, event.time), ("a b+c%20.jpg", Some(0), time("2024-02-15T10:34:23Z")));
    assert_eq!((event.e_tag, event.version_id, event.sequencer), (None, None, None));
    let many = of(Dialect::VERSITYGW, &VERSITYGW.replace("ObjectCreated:Put", "ObjectRemoved:DeleteObjects"));
    assert_eq!(many.event_type, EventType::Deleted);
    let test = r#"{"Bucket":"Test-Bucket","Event":"s3:TestEvent","Service":"S3","Time":"2024-02-15T12:34:23+02:00"}"#;
    assert!(
        matches!(parse_as(Dialect::VERSITYGW.shape, test), Ok(Body::TestEvent(test)) if test.bucket == "Test-Bucket")
    );
}

#[test]
fn amazons_record_in_a_raw_delivery_is_the_same_event_in_each_way() {
    let event = of(Dialect::AWS, AWS);
    assert_eq!((event.key.as_str(), event.size, event.time), ("HappyFace.jpg", Some(1024), UnixMillis(0)));
    assert_eq!(event.sequencer, Some(Sequencer::Aws("0055AED6DCD90281E5".to_owned())));
    let newer = AWS
        .replace(r#""eventVersion":"2.1""#, r#""eventVersion":"2.5""#)
        .replace(r#":::mybucket""#, r#":::mybucket","awsGeneratedTags":{"aws:cloudformation:stack-name":"x"}"#);
    assert_eq!(of(Dialect::AWS, &newer).id, event.id);
    let removed = AWS
        .replace("ObjectCreated:Put", "ObjectRemoved:Delete")
        .replace(r#""size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e","#, "");
    let removed = of(Dialect::AWS, &removed);
    assert_eq!((removed.event_type, removed.size, removed.e_tag), (EventType::Deleted, None, None));
}

#[test]
fn a_record_of_one_store_read_by_the_settings_of_another_orders_nothing_wrongly() {
    let minio = of(Dialect::CEPH, MINIO).sequencer.expect("16 hexadecimal digits");
    assert_eq!(minio.compare(&Sequencer::Aws("15C32494527B46C5".to_owned())), None, "kinds are never compared");
    assert_eq!(of(Dialect::VERSITYGW, MINIO).sequencer, None);
}
