//! An SNS that runs here: it signs with an authority of its own, serves its certificate, confirms subscriptions and retries.
//!
//! A sidecar accepts it when told so: `POSTERN_SNS_ENDPOINT_URL` = [`Simulator::endpoint_url`] and
//! `POSTERN_SNS_TRUST_ANCHOR_FILE` = a file that holds [`Simulator::anchor_pem`].

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

use crate::clock::{Clock as _, SystemClock, UnixMillis};
use crate::simulator::authority::{Authority, AuthorityError, Leaf, SIGNING_KEY_PEM};
use crate::simulator::dice::Dice;
use crate::simulator::wire::{Connection, Reply, WireError};

pub mod envelope;
pub mod forge;
pub mod records;
mod serve;

use envelope::{Envelope, Kind};

/// How the stand-in behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where certificate and confirmations are served.
    pub listen: SocketAddr,
    /// The topic it publishes to.
    pub topic_arn: String,
    /// `1` (SHA-1) or `2` (SHA-256).
    pub signature_version: u8,
    /// Another RSA key than the compiled-in one, PKCS #8 PEM.
    pub signing_key_pem: Option<String>,
    /// Whether certificate and confirmations are served over TLS, with a certificate of the same root.
    pub tls: bool,
    /// How often a message is sent at most: SNS sends once and retries 3 times (`sns.md` 1.6).
    pub tries: u32,
    /// Wait between tries; 20 s at SNS.
    pub retry_delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            topic_arn: "arn:aws:sns:us-east-1:123456789012:postern-demo".to_owned(),
            signature_version: 2,
            signing_key_pem: None,
            tls: false,
            tries: 1,
            retry_delay: Duration::from_secs(20),
        }
    }
}

/// Why the stand-in cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No certificate could be made, or the signing key is unusable.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// TLS could not be set up.
    #[error("cannot serve TLS: {0}")]
    Tls(String),
}

/// A running stand-in. Serves until it is dropped.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    options: Options,
    _server: JoinSet<()>,
}

/// What the served pages and the sender share.
#[derive(Debug)]
struct Shared {
    authority: Authority,
    endpoint: Url,
    certificate_path: String,
    book: Mutex<Book>,
    confirmed: watch::Sender<u64>,
}

/// What is remembered of confirmations and fetches.
#[derive(Debug, Default)]
struct Book {
    /// Token to topic, for tokens that were handed out.
    tokens: HashMap<String, String>,
    /// Subscriptions that were confirmed.
    subscriptions: Vec<String>,
    certificate_fetches: u64,
    refused_confirmations: u64,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a message fared.
#[derive(Debug)]
pub struct Delivered {
    /// The last answer, or why there was none.
    pub reply: Result<Reply, WireError>,
    /// How often it was sent.
    pub tries: u32,
}

impl Simulator {
    /// Makes an authority, binds and serves.
    ///
    /// # Errors
    /// [`StartError`] when the address cannot be bound or no certificate can be made.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let address = options.listen;
        let listen = |error| StartError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let now = SystemClock.now().to_utc();
        let leaf = Leaf::named(&signing_name(&options.topic_arn), now);
        let authority = Authority::with_key(&leaf, options.signing_key_pem.as_deref().unwrap_or(SIGNING_KEY_PEM))?;
        let tls = if options.tls { Some(serve::acceptor(&authority, bound, now)?) } else { None };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint =
            Url::parse(&format!("{scheme}://{bound}/")).map_err(|error| StartError::Tls(error.to_string()))?;
        let shared = Arc::new(Shared {
            authority,
            endpoint,
            certificate_path: format!("/SimpleNotificationService-{}.pem", Dice::new().hex(32)),
            book: Mutex::default(),
            confirmed: watch::channel(0).0,
        });
        let mut server = JoinSet::new();
        server.spawn(serve::run(listener, tls, Arc::clone(&shared)));
        Ok(Self { shared, options, _server: server })
    }

    /// Its origin, for `POSTERN_SNS_ENDPOINT_URL`.
    pub fn endpoint_url(&self) -> &Url {
        &self.shared.endpoint
    }

    /// The root of its certificate, for `POSTERN_SNS_TRUST_ANCHOR_FILE`.
    pub fn anchor_pem(&self) -> &str {
        self.shared.authority.root_pem()
    }

    /// The authority behind it.
    pub fn authority(&self) -> &Authority {
        &self.shared.authority
    }

    /// The topic it publishes to.
    pub fn topic_arn(&self) -> &str {
        &self.options.topic_arn
    }

    /// A signed notification of `message`, now.
    pub fn notification(&self, subject: Option<&str>, message: String, dice: &mut Dice) -> Envelope {
        let mut envelope = self.unsigned(Kind::Notification, message, SystemClock.now(), dice);
        envelope.subject = subject.map(str::to_owned);
        envelope.sign(self.shared.authority.signer());
        envelope
    }

    /// A signed notification of S3 records, as S3 publishes them.
    pub fn s3_notification(&self, records: &[Value], dice: &mut Dice) -> Envelope {
        self.notification(Some(records::SUBJECT), records::message(records), dice)
    }

    /// The headers of a notification, with an id that is to be replaced by the message's own.
    pub fn headers_of_a_notification(&self) -> hyper::HeaderMap {
        self.unsigned(Kind::Notification, String::new(), UnixMillis(0), &mut Dice::seeded(0)).headers()
    }

    /// A signed request to confirm the subscription, with a new token that the endpoint will honour.
    pub fn subscription_confirmation(&self, dice: &mut Dice) -> Envelope {
        let topic = &self.options.topic_arn;
        let message = format!(
            "You have chosen to subscribe to the topic {topic}.\n\
             To confirm the subscription, visit the SubscribeURL included in this message."
        );
        self.confirmation(Kind::SubscriptionConfirmation, message, dice)
    }

    /// The signed message that follows a deleted subscription; its token would restore it.
    pub fn unsubscribe_confirmation(&self, dice: &mut Dice) -> Envelope {
        let message = format!(
            "You have chosen to deactivate subscription {}.\n\
             To cancel this operation and restore the subscription, visit the SubscribeURL included in this message.",
            self.subscription_arn()
        );
        self.confirmation(Kind::UnsubscribeConfirmation, message, dice)
    }

    fn confirmation(&self, kind: Kind, message: String, dice: &mut Dice) -> Envelope {
        let topic = &self.options.topic_arn;
        let token = dice.hex(256);
        self.shared.book().tokens.insert(token.clone(), topic.clone());
        let mut envelope = self.unsigned(kind, message, SystemClock.now(), dice);
        envelope.subscribe_url =
            Some(format!("{}?Action=ConfirmSubscription&TopicArn={topic}&Token={token}", self.shared.endpoint));
        envelope.token = Some(token);
        envelope.sign(self.shared.authority.signer());
        envelope
    }

    /// Forgets every token that was handed out: visiting them is answered as SNS answers an expired one.
    pub fn expire_tokens(&self) {
        self.shared.book().tokens.clear();
    }

    fn unsigned(&self, kind: Kind, message: String, at: UnixMillis, dice: &mut Dice) -> Envelope {
        let endpoint = self.shared.endpoint.as_str().trim_end_matches('/');
        let subscription = self.subscription_arn();
        let notification = kind == Kind::Notification;
        Envelope {
            kind,
            message_id: dice.uuid(),
            topic_arn: self.options.topic_arn.clone(),
            subject: None,
            message,
            timestamp: at.to_iso_millis(),
            token: None,
            subscribe_url: None,
            signature_version: self.options.signature_version,
            signature: String::new(),
            signing_cert_url: format!("{endpoint}{}", self.shared.certificate_path),
            unsubscribe_url: notification
                .then(|| format!("{endpoint}/?Action=Unsubscribe&SubscriptionArn={subscription}")),
            attributes: Vec::new(),
            subscription_arn: (kind != Kind::SubscriptionConfirmation).then_some(subscription),
        }
    }

    fn subscription_arn(&self) -> String {
        serve::subscription_arn(&self.options.topic_arn)
    }

    /// Sends `envelope` as SNS does: again after 5xx, 429, a timeout or a broken connection, as often as the options say.
    pub async fn deliver(&self, connection: &mut Connection, envelope: &Envelope) -> Delivered {
        let body = hyper::body::Bytes::from(envelope.to_body());
        let mut tries = 0;
        loop {
            tries += 1;
            let reply = connection.post(envelope.headers(), body.clone()).await;
            let again = match &reply {
                Ok(reply) => reply.status.is_server_error() || reply.status.as_u16() == 429,
                Err(_) => true,
            };
            if !again || tries >= self.options.tries {
                return Delivered { reply, tries };
            }
            tokio::time::sleep(self.options.retry_delay).await;
        }
    }

    /// Subscriptions that were confirmed so far.
    pub fn confirmed(&self) -> Vec<String> {
        self.shared.book().subscriptions.clone()
    }

    /// Waits until a subscription was confirmed; false when that did not happen within `patience`.
    pub async fn wait_confirmed(&self, patience: Duration) -> bool {
        let mut confirmed = self.shared.confirmed.subscribe();
        tokio::time::timeout(patience, confirmed.wait_for(|count| *count > 0)).await.is_ok_and(|seen| seen.is_ok())
    }

    /// How often the certificate was fetched.
    pub fn certificate_fetches(&self) -> u64 {
        self.shared.book().certificate_fetches
    }

    /// How many confirmations with a wrong or expired token were refused.
    pub fn refused_confirmations(&self) -> u64 {
        self.shared.book().refused_confirmations
    }
}

/// The name that a receiver expects in the signing certificate for `topic_arn` (`sns.md` 1.4).
fn signing_name(topic_arn: &str) -> String {
    /// Regions that are off until an account opts in; the others sign as `sns.amazonaws.com`.
    const OPT_IN: [&str; 17] = [
        "af-south-1",
        "ap-east-1",
        "ap-east-2",
        "ap-south-2",
        "ap-southeast-3",
        "ap-southeast-4",
        "ap-southeast-5",
        "ap-southeast-6",
        "ap-southeast-7",
        "ca-west-1",
        "eu-central-2",
        "eu-south-1",
        "eu-south-2",
        "il-central-1",
        "me-central-1",
        "me-south-1",
        "mx-central-1",
    ];
    let region = topic_arn.split(':').nth(3).unwrap_or_default();
    if region.starts_with("cn-") {
        format!("sns-{region}.amazonaws.com.cn")
    } else if region.starts_with("us-gov-") {
        "sns-us-gov-west-1.amazonaws.com".to_owned()
    } else if OPT_IN.contains(&region) {
        format!("sns-signing.{region}.amazonaws.com")
    } else {
        "sns.amazonaws.com".to_owned()
    }
}

#[cfg(test)]
mod tests;
