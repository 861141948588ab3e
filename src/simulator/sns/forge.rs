//! Messages that must be refused: what somebody without the key, or with a key of another topic, can send.

use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::Simulator;
use super::envelope::Envelope;
use crate::clock::{Clock as _, SystemClock};
use crate::simulator::dice::Dice;
use std::time::Duration;

/// A way to forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forgery {
    /// A genuine message whose payload was changed afterwards.
    AlteredMessage,
    /// A certificate from a host that is not the endpoint.
    ForeignCertificate,
    /// A genuinely signed message of somebody else's topic.
    ForeignTopic,
    /// A genuine message, recorded three hours ago and sent again.
    Replay,
    /// No envelope at all, in the manner of raw delivery.
    Unsigned,
}

impl Forgery {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::AlteredMessage, Self::ForeignCertificate, Self::ForeignTopic, Self::Replay, Self::Unsigned];

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlteredMessage => "altered after signing",
            Self::ForeignCertificate => "certificate of another host",
            Self::ForeignTopic => "signed, but of another topic",
            Self::Replay => "replayed after three hours",
            Self::Unsigned => "unsigned (raw)",
        }
    }
}

impl Simulator {
    /// Headers and body of a forgery that is made from `genuine`.
    pub fn forge(&self, forgery: Forgery, genuine: &Envelope, dice: &mut Dice) -> (HeaderMap, String) {
        let mut forged = genuine.clone();
        // A new id, so that nothing can pass for a duplicate of the genuine message.
        forged.message_id = dice.uuid();
        let signer = self.shared.authority.signer();
        match forgery {
            Forgery::AlteredMessage => {
                forged.sign(signer);
                forged.message.push(' ');
            }
            Forgery::ForeignCertificate => {
                forged.sign(signer);
                forged.signing_cert_url = forged
                    .signing_cert_url
                    .replace(self.shared.endpoint.as_str(), "https://sns.us-east-1.amazonaws.com.example.net/");
            }
            Forgery::ForeignTopic => {
                forged.topic_arn = forged.topic_arn.replacen(":123456789012:", ":999999999999:", 1) + "-2";
                forged.sign(signer);
            }
            Forgery::Replay => {
                forged.timestamp = SystemClock.now().minus(Duration::from_secs(3 * 3600)).to_iso_millis();
                forged.sign(signer);
            }
            Forgery::Unsigned => {
                let mut headers = genuine.headers();
                headers.insert(HeaderName::from_static("x-amz-sns-rawdelivery"), HeaderValue::from_static("true"));
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
                return (headers, genuine.message.clone());
            }
        }
        (forged.headers(), forged.to_body())
    }
}
