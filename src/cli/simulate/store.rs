//! Stores that are not Amazon's SNS: MCS with its handshake, and those that push bare records.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::HeaderValue;
use serde_json::json;
use url::Url;

use super::settings::shown;
use super::{Args, say};
use crate::clock::{Clock as _, SystemClock};
use crate::simulator::dice::Dice;
use crate::simulator::load::Retry;
use crate::simulator::mcs::Handshake;
use crate::simulator::proof::Proof;
use crate::simulator::stores::{Change, EVENT_NAMES, Store};
use crate::simulator::wire::Connection;

/// A store with what it needs to be believed.
#[derive(Clone, Debug)]
pub(super) struct Speaker {
    pub(super) store: Store,
    proof: Proof,
    /// What a raw delivery of SNS says it was published to.
    topic: HeaderValue,
}

/// What somebody can send who knows the URL and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Forgery {
    AmazonConfirmation,
    ForeignBucket,
    ForeignHandshake,
    ForeignProject,
    WrongProof,
}

impl Forgery {
    pub(super) const ALL: [Self; 5] =
        [Self::AmazonConfirmation, Self::ForeignBucket, Self::ForeignHandshake, Self::ForeignProject, Self::WrongProof];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::AmazonConfirmation => "confirmation in Amazon's form",
            Self::ForeignBucket => "of another bucket",
            Self::ForeignHandshake => "handshake of another project",
            Self::ForeignProject => "of another project",
            Self::WrongProof => "with a wrong secret",
        }
    }

    /// Whether a 2xx is right: what is well-formed and of somebody else is dropped, not refused (hard case 10).
    pub(super) fn is_dropped(self) -> bool {
        matches!(self, Self::ForeignBucket | Self::ForeignProject)
    }
}

impl Speaker {
    /// `None` for SNS, which has its own.
    pub(super) fn new(args: &Args) -> Result<Option<Self>, String> {
        let store = match args.dialect.as_str() {
            "b2" => Store::B2,
            "ceph" => Store::Ceph,
            "eventbridge" => Store::EventBridge,
            "mcs" => Store::Mcs,
            "minio" => Store::Minio,
            "noobaa" => Store::Noobaa,
            "rustfs" => Store::Rustfs,
            "sns-raw" => Store::SnsRaw,
            "versitygw" => Store::Versitygw,
            _ => return Ok(None),
        };
        if args.event != "mix" && !EVENT_NAMES.contains(&args.event.as_str()) {
            return Err(format!(
                "{} announces no {}; there are mix, {}",
                args.dialect,
                args.event,
                EVENT_NAMES.join(", ")
            ));
        }
        if args.records > 1 && !store.batches() {
            return Err("EventBridge puts one event into a request: leave --records out".to_owned());
        }
        refuse_options_of_sns(args, store)?;
        let proof = match (&args.auth, store) {
            (Some(_), Store::Mcs) => return Err("MCS proves nothing by headers: leave --auth out".to_owned()),
            (None, Store::B2) => return Err("b2 signs its bodies: give the signing secret with --auth".to_owned()),
            (Some(text), _) => Proof::parse(text, store)?,
            (None, _) => Proof::None,
        };
        let topic = HeaderValue::from_str(args.topic()).map_err(|_| "--topic: no header can carry it".to_owned())?;
        Ok(Some(Self { store, proof, topic }))
    }

    /// What the sidecar must be told.
    pub(super) fn settings(&self, args: &Args) -> String {
        if self.store == Store::Mcs {
            let pair = format!("{}|{}", args.project(), args.bucket);
            return shown(&[("POSTERN_MCS_URL", &args.target.text), ("POSTERN_MCS_TOPICS", &pair)]);
        }
        let secret = args.target.url.path().strip_prefix("/s3/").unwrap_or("<the last part of the target's path>");
        let mut settings = vec![("POSTERN_S3HTTP_SECRET", secret), ("POSTERN_S3HTTP_PRESET", &args.dialect)];
        if self.proof != Proof::None {
            settings.push(("POSTERN_S3HTTP_AUTH", "<as --auth>"));
        }
        settings.push(("POSTERN_BUCKETS", &args.bucket));
        // An instance is called after its topic; without one it is given a name.
        settings.push(match self.store {
            Store::SnsRaw => ("EVENT_SNS_TOPIC_ARN", args.topic()),
            _ => ("POSTERN_INSTANCE_NAME", &args.bucket),
        });
        shown(&settings)
    }

    /// When this store sends again. MCS documents "at least once" and no schedule; a short one shows it.
    pub(super) fn retry(&self) -> Retry {
        let trouble: fn(Option<u16>) -> bool = |status| status.is_none_or(|status| status >= 500 || status == 429);
        match self.store {
            Store::B2 | Store::EventBridge | Store::Mcs => {
                Retry { after: trouble, delay: Duration::from_secs(1), tries: 5 }
            }
            // With a queue of their own they try every three seconds, for ever and after any refusal. Here it ends, and a refusal
            // is an answer: otherwise each forgery would hold up a connection.
            Store::Minio | Store::Rustfs | Store::Ceph => {
                Retry { after: trouble, delay: Duration::from_secs(3), tries: 10 }
            }
            // Any answer will do (`s3-dialects.md` 2.4).
            Store::Noobaa => Retry { after: |status| status.is_none(), delay: Duration::from_secs(1), tries: 5 },
            // SNS waits twenty seconds, three times.
            Store::SnsRaw | Store::Versitygw => Retry::NEVER,
        }
    }

    /// Asks the target to prove itself, as MCS does when a webhook is saved. Other stores ask nothing.
    pub(super) async fn greet(&self, args: &Args, connection: &mut Connection) -> Result<(), String> {
        if self.store != Store::Mcs {
            return Ok(());
        }
        let events = if args.event == "mix" {
            "s3:ObjectCreated:*,s3:ObjectRemoved:*".to_owned()
        } else {
            format!("s3:{}", args.event)
        };
        let asked = Handshake::new(args.project(), &args.bucket, &events, SystemClock.now(), &mut Dice::new());
        let mut headers = self.store.headers();
        headers.remove("x-amz-sns-message-type");
        let reply = connection.post(headers, asked.body().into()).await;
        let reply = reply.map_err(|error| format!("the handshake had no answer: {error}"))?;
        let why = match reply.status.as_u16() {
            200 => None,
            403 => Some("is the pair above in POSTERN_MCS_TOPICS, and its instance enabled?"),
            404 => Some("is the target POSTERN_MCS_URL, with its secret?"),
            429 => Some("too many handshakes in a short time: try again later"),
            _ => Some("its log says why"),
        };
        if let Some(why) = why {
            return Err(format!("the handshake was answered with {}: {why}", reply.status));
        }
        asked.check(&args.target.text, &reply.body)?;
        say("The handshake is answered, and the signature is right: MCS would save this webhook.");
        Ok(())
    }

    /// Headers and body of a message of as many records as `changes` has.
    pub(super) fn message(&self, changes: &[Change<'_>], dice: &mut Dice) -> (HeaderMap, String) {
        self.message_with(&self.proof, changes, dice)
    }

    fn message_with(&self, proof: &Proof, changes: &[Change<'_>], dice: &mut Dice) -> (HeaderMap, String) {
        let records: Vec<_> = changes
            .iter()
            .map(|change| self.store.record(&Change { opaque_data: proof.opaque_data(), ..*change }, dice))
            .collect();
        let body = self.store.body(&records, changes.first().map_or("", |change| change.key));
        let mut headers = self.store.headers();
        if self.store == Store::SnsRaw {
            headers.insert("x-amz-sns-topic-arn", self.topic.clone());
            if let Ok(id) = HeaderValue::from_str(&dice.uuid()) {
                headers.insert("x-amz-sns-message-id", id);
            }
        }
        proof.put(&mut headers, &body);
        (headers, body)
    }

    /// One of the forgeries that this store's messages allow.
    pub(super) fn forge(&self, changes: &[Change<'_>], dice: &mut Dice) -> (Forgery, HeaderMap, String) {
        let kinds: &[Forgery] = match (self.store, &self.proof) {
            (Store::Mcs, _) => &[
                Forgery::AmazonConfirmation,
                Forgery::ForeignBucket,
                Forgery::ForeignHandshake,
                Forgery::ForeignProject,
            ],
            (_, Proof::None) => &[Forgery::AmazonConfirmation, Forgery::ForeignBucket],
            (_, _) => &[Forgery::AmazonConfirmation, Forgery::ForeignBucket, Forgery::WrongProof],
        };
        let kind = kinds[dice.below(kinds.len() as u64) as usize];
        let key = format!("forged/{}", dice.hex(16));
        let of = |bucket, owner| changes.iter().map(|change| Change { key: &key, bucket, owner, ..*change }).collect();
        let mut forged: Vec<Change<'_>> = changes.to_vec();
        let (bucket, owner) = forged.first().map_or(("", ""), |change| (change.bucket, change.owner));
        let (headers, body) = match kind {
            Forgery::AmazonConfirmation => {
                let body = json!({"Type": "SubscriptionConfirmation", "MessageId": dice.uuid(), "Token": dice.hex(256),
                    "TopicArn": "arn:aws:sns:us-east-1:123456789012:stranger", "SignatureVersion": "1", "Signature": "AAAA",
                    "SubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription",
                    "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem"});
                let mut headers = self.store.headers();
                // A confirmation is never raw.
                headers.remove("x-amz-sns-rawdelivery");
                let body = body.to_string();
                self.proof.put(&mut headers, &body);
                (headers, body)
            }
            Forgery::ForeignBucket => {
                forged = of("postern-stranger", owner);
                self.message(&forged, dice)
            }
            Forgery::ForeignHandshake => {
                let asked = Handshake::new("mcs0000000000", bucket, "s3:ObjectCreated:*", SystemClock.now(), dice);
                (self.store.headers(), asked.body())
            }
            Forgery::ForeignProject => {
                forged = of(bucket, "mcs0000000000");
                self.message(&forged, dice)
            }
            Forgery::WrongProof => {
                forged = of(bucket, owner);
                self.message_with(&self.proof.wrong(), &forged, dice)
            }
        };
        (kind, headers, body)
    }
}

/// Names an option that only SNS would look at.
fn refuse_options_of_sns(args: &Args, store: Store) -> Result<(), String> {
    let given = [
        ("--confirm", args.confirm),
        ("--topic", args.topic.is_some() && store != Store::SnsRaw),
        ("--listen", args.listen.is_some()),
        ("--anchor-out", args.anchor_out.is_some()),
        ("--signing-key", args.signing_key.is_some()),
        ("--signature-version", args.signature_version.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) if store == Store::Mcs => {
            Err(format!("{option} is for sns: leave it out; mcs signs nothing, and always begins with its handshake"))
        }
        Some((option, _)) => Err(format!("{option} is for sns: leave it out with {}", args.dialect)),
        None => Ok(()),
    }
}

/// A URL, and how it was written: `http://test.com` and `http://test.com/` are one URL and two texts to sign.
#[derive(Clone, Debug)]
pub struct TargetUrl {
    /// As it was written.
    pub text: String,
    /// As it is understood.
    pub url: Url,
}

impl std::str::FromStr for TargetUrl {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { text: text.to_owned(), url: Url::parse(text)? })
    }
}

impl std::fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
