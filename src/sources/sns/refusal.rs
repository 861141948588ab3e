//! Why a message is not accepted: the words of the attack table (`sns.md` 2.5) and the status each one has.

use std::fmt::{self, Write as _};

/// A refused message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The word of the attack table.
    pub reason: Reason,
    /// What exactly was wrong, for logs: bounded, control characters escaped, never a Token, Signature or UnsubscribeURL.
    pub detail: String,
}

/// Longest detail in bytes: it holds a topic ARN and a sentence about it.
const MAX_DETAIL: usize = 512;

impl Refusal {
    /// A refusal whose detail is `detail`, escaped and cut so that a log line stays one line.
    pub fn new(reason: Reason, detail: impl AsRef<str>) -> Self {
        Self { reason, detail: printable(detail.as_ref()) }
    }

    /// The HTTP status that is answered.
    pub fn status(&self) -> u16 {
        self.reason.status()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

impl std::error::Error for Refusal {}

/// `text` without control characters or characters that reorder a line, cut at 512 bytes.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_DETAIL));
    for c in text.chars() {
        if out.len() >= MAX_DETAIL {
            out.push('…');
            break;
        }
        if c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $word:literal $status:literal,)*) => {
        /// The words of the attack table (`sns.md` 2.5).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them, for tests and documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in logs and metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// 400 is malformed, 403 is forged, foreign or out of time, 503 is our own ignorance (hard case 9).
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                }
            }
        }
    };
}

reasons! {
    /// Not exactly one JSON object.
    BadJson "bad_json" 400,
    /// MessageId is not a lower-case UUID.
    BadMessageId "bad_message_id" 400,
    /// The signature does not verify under the certificate's key, or has another length than that key makes.
    BadSignature "bad_signature" 403,
    /// Signature is not canonical, padded, standard base64.
    BadSignatureEncoding "bad_signature_encoding" 400,
    /// SignatureVersion is neither "1" nor "2".
    BadSignatureVersion "bad_signature_version" 400,
    /// Subject is empty or holds a line break or another control character.
    BadSubject "bad_subject" 400,
    /// Timestamp is not of the form `2026-03-06T19:53:21.424Z`, or no such moment exists.
    BadTimestamp "bad_timestamp" 400,
    /// Token is not 32 to 1024 lower-case hexadecimal digits.
    BadToken "bad_token" 400,
    /// TopicArn is not the ARN of an SNS topic, or its region is not in its partition.
    BadTopicArn "bad_topic_arn" 400,
    /// Type is absent or none of the three.
    BadType "bad_type" 400,
    /// The certificate's chain leads elsewhere than to a trusted root.
    CertChain "cert_chain" 403,
    /// The certificate could not be fetched.
    CertFetch "cert_fetch" 503,
    /// What was fetched is not exactly one PEM certificate.
    CertFormat "cert_format" 403,
    /// The certificate is a CA's.
    CertIsCa "cert_is_ca" 403,
    /// We do not have the certificate that issued the leaf.
    CertIssuerUnknown "cert_issuer_unknown" 503,
    /// The certificate's key or signature algorithm is too weak or of another kind than RSA.
    CertKey "cert_key" 403,
    /// There is no certificate at that URL.
    CertMissing "cert_missing" 403,
    /// The certificate is not for the name under which SNS signs in the topic's region.
    CertName "cert_name" 403,
    /// The certificate's time is over, or has not begun.
    CertNotValidNow "cert_not_valid_now" 403,
    /// Too many certificate URLs that we have not seen before.
    CertRate "cert_rate" 503,
    /// SigningCertURL is not one of the topic's own region.
    CertUrlUntrusted "cert_url_untrusted" 403,
    /// A time refusal while our own clock is known to be off.
    ClockOff "clock_off" 503,
    /// A time refusal while our own clock could not be compared with anybody's.
    ClockUnknown "clock_unknown" 503,
    /// A member occurs twice, also after unescaping, or in both of its spellings.
    DuplicateKey "duplicate_key" 400,
    /// Timestamp is more than five minutes ahead.
    Future "future" 403,
    /// Message is absent.
    MissingMessage "missing_Message" 400,
    /// MessageId is absent.
    MissingMessageId "missing_MessageId" 400,
    /// Signature is absent.
    MissingSignature "missing_Signature" 400,
    /// SignatureVersion is absent.
    MissingSignatureVersion "missing_SignatureVersion" 400,
    /// SigningCertURL is absent.
    MissingSigningCertUrl "missing_SigningCertURL" 400,
    /// SubscribeURL is absent.
    MissingSubscribeUrl "missing_SubscribeURL" 400,
    /// Timestamp is absent.
    MissingTimestamp "missing_Timestamp" 400,
    /// Token is absent.
    MissingToken "missing_Token" 400,
    /// TopicArn is absent.
    MissingTopicArn "missing_TopicArn" 400,
    /// Message is not a string.
    NotStringMessage "not_string_Message" 400,
    /// MessageId is not a string.
    NotStringMessageId "not_string_MessageId" 400,
    /// Signature is not a string.
    NotStringSignature "not_string_Signature" 400,
    /// SignatureVersion is not a string.
    NotStringSignatureVersion "not_string_SignatureVersion" 400,
    /// SigningCertURL is not a string.
    NotStringSigningCertUrl "not_string_SigningCertURL" 400,
    /// Subject is neither a string nor null.
    NotStringSubject "not_string_Subject" 400,
    /// SubscribeURL is not a string.
    NotStringSubscribeUrl "not_string_SubscribeURL" 400,
    /// Timestamp is not a string.
    NotStringTimestamp "not_string_Timestamp" 400,
    /// Token is not a string.
    NotStringToken "not_string_Token" 400,
    /// TopicArn is not a string.
    NotStringTopicArn "not_string_TopicArn" 400,
    /// Type is not a string.
    NotStringType "not_string_Type" 400,
    /// The body is not UTF-8.
    NotUtf8 "not_utf8" 400,
    /// Raw delivery, which is not signed.
    RawDelivery "raw_delivery" 403,
    /// SignatureVersion is below the configured minimum.
    SignatureVersionTooLow "signature_version_too_low" 403,
    /// Timestamp is older than the replay window.
    Stale "stale" 403,
    /// SubscribeURL is not the one that TopicArn and Token make.
    SubscribeUrlUntrusted "subscribe_url_untrusted" 403,
    /// `x-amz-sns-topic-arn` names another topic than the body.
    TopicHeaderMismatch "topic_header_mismatch" 400,
    /// The topic is not one of those configured.
    TopicNotAllowed "topic_not_allowed" 403,
    /// `x-amz-sns-message-type` names another type than the body.
    TypeHeaderMismatch "type_header_mismatch" 400,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_distinct_and_only_our_own_trouble_is_503() {
        let words: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        let ours: Vec<_> = Reason::ALL.iter().filter(|r| r.status() == 503).map(|r| r.as_str()).collect();
        assert_eq!(ours, ["cert_fetch", "cert_issuer_unknown", "cert_rate", "clock_off", "clock_unknown"]);
    }

    #[test]
    fn a_detail_is_one_bounded_line_without_characters_that_reorder_it() {
        let refusal = Refusal::new(Reason::BadJson, format!("a\r\n\u{202e}\u{1b}[0m{}", "é".repeat(1000)));
        assert!(refusal.detail.starts_with("a\\u{d}\\u{a}\\u{202e}\\u{1b}[0m"));
        assert!(refusal.detail.len() <= MAX_DETAIL + 4);
    }
}
