//! ListObjectsV2: one page of a bucket's keys, exactly as the bucket has them, or an error that says what to do.
//!
//! A page is believed only when it is whole. The SDK reads an answer that was cut off, or that is no XML from some key on, as a
//! shorter page without saying so, and a key that is missing from a listing looks like one that was deleted. So each answer is
//! also checked to be well-formed XML to its end, and bounded in bytes.

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::list_objects_v2::{ListObjectsV2Error, ListObjectsV2Output};
use aws_sdk_s3::types::EncodingType;

use super::bound::Bound;
use super::{Aws, MAX_REASON, causes};
use crate::clock::UnixMillis;
use crate::config::S3Config;
use crate::record::KeyCoding;
use speakable::holds_unspeakable;

mod speakable;

pub use speakable::is_speakable;

/// Bound on one page. A thousand keys of 1024 bytes, each byte percent-encoded, with all that S3 says of them, are below 5 MiB.
const MAX_PAGE_BYTES: usize = 8 << 20;

/// Keys that S3 gives in one page, at most.
const MOST: u16 = 1000;

/// One listed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, decoded; never empty.
    pub key: String,
    /// Entity tag without quotes; empty where the store tells none.
    pub e_tag: String,
    /// Bytes.
    pub size: u64,
    /// When the object came to be as it is, by the store's clock.
    pub last_modified: Option<UnixMillis>,
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its objects in the order in which they were listed.
    pub entries: Vec<Entry>,
    /// By what the next page is asked for; `None` when this is the last.
    pub next: Option<String>,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// After this key, or at the beginning where it is empty. Good at any time.
    After(String),
    /// Where the page before ended. A store may forget what it means.
    Token(String),
}

/// Why there is no page. The text says what to do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ListError {
    /// The credentials are wrong, or may not list the bucket.
    #[error(
        "listing bucket {bucket} is refused ({code}): allow s3:ListBucket on it to the credentials in use, and check those"
    )]
    Denied {
        /// The bucket.
        bucket: String,
        /// S3's word.
        code: String,
    },
    /// There is no such bucket.
    #[error(
        "bucket {bucket} does not exist: check its name, its region and POSTERN_S3_ENDPOINT_URL; nothing is taken for deleted"
    )]
    NoSuchBucket {
        /// The bucket.
        bucket: String,
    },
    /// The store asks for patience, or has trouble of its own.
    #[error("listing bucket {bucket} is held back by the store ({code}); it goes on where it was")]
    Throttled {
        /// The bucket.
        bucket: String,
        /// S3's word, or its status.
        code: String,
    },
    /// No answer.
    #[error("the store of bucket {bucket} does not answer ({detail}); the listing goes on where it was")]
    Unreachable {
        /// The bucket.
        bucket: String,
        /// What failed.
        detail: String,
    },
    /// An answer that is no page, or not a whole one.
    #[error("the listing of bucket {bucket} cannot be read ({detail}); none of that page is believed")]
    Unreadable {
        /// The bucket.
        bucket: String,
        /// What is wrong with it.
        detail: String,
        /// Whether it holds characters that XML cannot, so that it cannot be read however often it is asked for like this.
        unspeakable: bool,
    },
    /// The bucket is elsewhere.
    #[error(
        "bucket {bucket} is in another region ({code}): set filemanagement.provider.region_name to the bucket's own"
    )]
    WrongRegion {
        /// The bucket.
        bucket: String,
        /// S3's word.
        code: String,
    },
}

impl ListError {
    /// A word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "denied",
            Self::NoSuchBucket { .. } => "no_such_bucket",
            Self::Throttled { .. } => "throttled",
            Self::Unreachable { .. } => "unreachable",
            Self::Unreadable { .. } => "unreadable",
            Self::WrongRegion { .. } => "wrong_region",
        }
    }
}

/// Lists buckets with one instance's credentials.
///
/// XML 1.0 cannot hold most control characters, and a key may, so Amazon is asked to encode keys. Other stores are asked so only for a
/// page that holds such characters: LocalStack compares start-after with the encoded keys and leaves out what it should list. A page
/// that is broken in any other way is asked for again later, as it was.
///
/// Ceph repeats markers as they are even in an encoded page, so that one which ends with such a key cannot be read either: it is asked
/// for with other ends. Nor can one that begins after such a key; see [`is_speakable`].
#[derive(Debug)]
pub struct Lister {
    client: aws_sdk_s3::Client,
    encoded: bool,
}

impl Aws {
    /// Who lists buckets at `s3`. Credentials are looked for once more, so that those which appear later are found.
    pub async fn lister(&self, s3: &S3Config) -> Lister {
        Lister { client: self.s3(s3).await, encoded: s3.endpoint.is_none() }
    }
}

impl Lister {
    /// The page of at most `size` keys of `bucket` that begin with `prefix`, from `from` on.
    ///
    /// # Errors
    /// [`ListError`]; then nothing is known of the bucket.
    pub async fn page(&self, bucket: &str, prefix: &str, from: &From, size: u16) -> Result<Page, ListError> {
        let mut answer = self.ask(bucket, prefix, from, size, self.encoded).await;
        let same = (!self.encoded).then_some(size);
        for size in same.into_iter().chain(other_sizes(size)) {
            if !matches!(answer, Err(ListError::Unreadable { unspeakable: true, .. })) {
                break;
            }
            answer = self.ask(bucket, prefix, from, size, true).await;
        }
        answer
    }

    async fn ask(&self, bucket: &str, prefix: &str, from: &From, size: u16, encoded: bool) -> Result<Page, ListError> {
        let mut call = self
            .client
            .list_objects_v2()
            .bucket(bucket)
            .max_keys(i32::from(size))
            .set_encoding_type(encoded.then_some(EncodingType::Url))
            .set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()));
        call = match from {
            From::After(key) if key.is_empty() => call,
            From::After(key) => call.start_after(key),
            From::Token(token) => call.continuation_token(token),
        };
        let call = call.customize().interceptor(Bound(MAX_PAGE_BYTES)).interceptor(WholeAnswer);
        let answer = call.send().await.map_err(|error| judge(&error, bucket))?;
        page(answer).map_err(|detail| ListError::Unreadable { bucket: bucket.to_owned(), detail, unspeakable: false })
    }
}

/// Sizes by which a page that should have `size` keys ends elsewhere: a little smaller, for keys that are rare; then a half, a quarter
/// and so on, and the most that S3 gives, for many such keys in a row. Thirteen at most.
fn other_sizes(size: u16) -> impl Iterator<Item = u16> {
    let smaller = [1, 2].into_iter().filter_map(move |less| size.checked_sub(less));
    let halves = std::iter::successors(Some(size / 2), |size| Some(size / 2)).take_while(|size| *size > 0);
    let larger = [size.saturating_mul(2).min(MOST), MOST].into_iter().filter(move |larger| *larger > size);
    let mut seen = Vec::new();
    smaller.chain(halves).chain(larger).filter(move |size| {
        let new = *size > 0 && !seen.contains(size);
        seen.push(*size);
        new
    })
}

/// The page in an answer, or what is wrong with it.
fn page(answer: ListObjectsV2Output) -> Result<Page, String> {
    // Stores that do not know the parameter leave the answer's member out.
    let coding = match answer.encoding_type {
        Some(EncodingType::Url) => KeyCoding::Form,
        _ => KeyCoding::Raw,
    };
    let truncated = answer.is_truncated.ok_or("it does not say whether it is the last page")?;
    let next = answer.next_continuation_token.filter(|_| truncated);
    if truncated && next.is_none() {
        return Err("it is not the last page and names no next one".to_owned());
    }
    let mut entries = Vec::with_capacity(answer.contents.as_ref().map_or(0, Vec::len));
    for object in answer.contents.unwrap_or_default() {
        let sent = object.key.filter(|key| !key.is_empty()).ok_or("an object has no key")?;
        let key = coding.decode(&sent).ok_or("a key is not encoded as the answer says")?.into_owned();
        entries.push(Entry {
            key,
            e_tag: object.e_tag.map(|tag| tag.trim_matches('"').to_owned()).unwrap_or_default(),
            size: object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            last_modified: object.last_modified.and_then(|time| time.to_millis().ok()).map(UnixMillis),
        });
    }
    Ok(Page { entries, next })
}

/// Refuses an answer that is not whole; see the module.
#[derive(Debug)]
struct WholeAnswer;

impl Intercept for WholeAnswer {
    fn name(&self) -> &'static str {
        "WholeAnswer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // What the SDK could not read is refused already; a second error would make it log the first one as an error of its own.
        if !context.response().status().is_success() || context.output_or_error().is_err() {
            return Ok(());
        }
        whole(context.response().body().bytes().unwrap_or_default())
    }
}

/// Whether `body` is a listing from its first byte to its last.
fn whole(body: &[u8]) -> Result<(), BoxError> {
    let text = std::str::from_utf8(body)?;
    let document = roxmltree::Document::parse(text).map_err(|error| NotWhole(error.to_string()))?;
    match document.root_element().tag_name().name() {
        "ListBucketResult" => Ok(()),
        other => Err(NotWhole(format!("its root is {other}")).into()),
    }
}

/// An answer is no whole listing.
#[derive(Debug, thiserror::Error)]
#[error("no whole listing: {0}")]
struct NotWhole(String);

/// Error codes that speak of credentials or permissions.
const DENIED: [&str; 10] = [
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthFailure",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

fn judge(error: &SdkError<ListObjectsV2Error>, bucket: &str) -> ListError {
    let bucket = bucket.to_owned();
    let text = |error: &dyn std::fmt::Display| -> String {
        error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
    };
    let status = error.raw_response().map(|response| response.status().as_u16());
    let Some(code) = error.as_service_error().and_then(|error| error.code()) else {
        let detail = text(&causes(error));
        return match (error, status) {
            // A success that is none, or a body that broke off.
            (_, Some(200..=299)) => {
                let body = error.raw_response().and_then(|response| response.body().bytes());
                ListError::Unreadable { bucket, detail, unspeakable: body.is_some_and(holds_unspeakable) }
            }
            (_, Some(403 | 401)) => ListError::Denied { bucket, code: "403".to_owned() },
            (_, Some(404)) => ListError::NoSuchBucket { bucket },
            (_, Some(status @ (429 | 500..=599))) => ListError::Throttled { bucket, code: status.to_string() },
            (_, Some(_)) => ListError::Unreadable { bucket, detail, unspeakable: false },
            (SdkError::ConstructionFailure(_), None) => ListError::Denied { bucket, code: detail },
            (_, None) => ListError::Unreachable { bucket, detail },
        };
    };
    let code = text(&code);
    match code.as_str() {
        known if DENIED.contains(&known) => ListError::Denied { bucket, code },
        "NoSuchBucket" => ListError::NoSuchBucket { bucket },
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => ListError::WrongRegion { bucket, code },
        _ if status.is_some_and(|status| status == 429 || status >= 500) => ListError::Throttled { bucket, code },
        _ if status.is_some_and(|status| status == 403 || status == 401) => ListError::Denied { bucket, code },
        _ => ListError::Unreadable { bucket, detail: code, unspeakable: false },
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::Object;

    use super::*;

    fn answer(encoding: Option<EncodingType>, keys: &[&str]) -> ListObjectsV2Output {
        let object = |key: &&str| Object::builder().key(*key).e_tag("\"e\"").size(7).build();
        ListObjectsV2Output::builder()
            .is_truncated(false)
            .set_encoding_type(encoding)
            .set_contents(Some(keys.iter().map(object).collect()))
            .build()
    }

    fn keys(answer: ListObjectsV2Output) -> Result<Vec<String>, String> {
        page(answer).map(|page| page.entries.into_iter().map(|entry| entry.key).collect())
    }

    #[test]
    fn keys_are_decoded_once_and_only_where_the_answer_says_that_they_are_encoded() {
        let sent = ["a+b%2Bc%2525", "%01%0A%EF%BF%BD", "100%25"];
        assert_eq!(
            keys(answer(Some(EncodingType::Url), &sent)).expect("keys"),
            ["a b+c%25", "\u{1}\n\u{fffd}", "100%"]
        );
        assert_eq!(keys(answer(None, &sent)).expect("keys"), sent);
        assert!(keys(answer(Some(EncodingType::Url), &["100%"])).is_err(), "not what it says it is");
    }

    #[test]
    fn a_page_that_may_not_end_where_it_does_is_asked_for_with_other_sizes_and_not_for_ever() {
        let sizes = |size| other_sizes(size).collect::<Vec<_>>();
        assert_eq!(sizes(1000), [999, 998, 500, 250, 125, 62, 31, 15, 7, 3, 1]);
        assert_eq!(sizes(3), [2, 1, 6, 1000]);
        assert_eq!(sizes(1), [2, 1000]);
        for size in 1..=MOST {
            let sizes = sizes(size);
            assert!(sizes.len() <= 13 && sizes.iter().all(|other| (1..=MOST).contains(other) && *other != size));
        }
    }

    #[test]
    fn an_answer_that_leaves_open_whether_there_is_more_is_no_page() {
        assert!(page(ListObjectsV2Output::builder().build()).is_err());
        assert!(page(ListObjectsV2Output::builder().is_truncated(true).build()).is_err());
    }

    #[test]
    fn a_listing_that_breaks_off_or_is_no_xml_from_some_key_on_is_not_whole() {
        let text = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>\
                    false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>\n";
        assert!(whole(text.as_bytes()).is_ok());
        for end in 1..text.trim_end().len() {
            assert!(whole(&text.as_bytes()[..end]).is_err(), "{end}");
        }
        assert!(whole(text.replace("<Key>a", "<Key>\u{1}").as_bytes()).is_err());
        assert!(whole(b"<html></html>").is_err());
        assert!(whole(b"").is_err());
    }
}
