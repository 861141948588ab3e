//! MCS S3 as it saves a webhook: it asks the URL to prove itself and checks the proof (`s3-dialects.md` 1.2 to 1.4).
//!
//! The chain is computed here once more, in the provider's words and with another construction than the sidecar's: HMAC written out
//! over SHA-256. A misreading of the one would not be the misreading of the other.

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::clock::UnixMillis;
use crate::simulator::dice::Dice;

/// One request to prove a URL.
#[derive(Clone, Debug)]
pub struct Handshake {
    token: String,
    timestamp: String,
    topic_arn: String,
}

impl Handshake {
    /// The request that is made when a webhook for `events` (comma-separated) of `bucket` is saved at `now`.
    pub fn new(project: &str, bucket: &str, events: &str, now: UnixMillis, dice: &mut Dice) -> Self {
        // Moscow's clock is three hours ahead of UTC all year, and so are the stamps of MCS.
        let local = now.plus(std::time::Duration::from_hours(3)).to_iso_seconds();
        Self {
            token: dice.hex(48),
            timestamp: format!("{}+03:00", local.trim_end_matches('Z')),
            topic_arn: format!("{project}|{bucket}|{events}"),
        }
    }

    /// Its body.
    pub fn body(&self) -> String {
        json!({
            "Timestamp": self.timestamp,
            "Type": "SubscriptionConfirmation",
            "Message": "You have chosen to subscribe to the topic $topic. To confirm the subscription you need to response with calculated signature",
            "TopicArn": self.topic_arn,
            "SignatureVersion": 1,
            "Token": self.token,
        })
        .to_string()
    }

    /// The signature that proves `url`: `hmac_sha256_hex(url, hmac_sha256(TopicArn, hmac_sha256(Timestamp, Token)))`, message
    /// first and key second.
    pub fn signature(&self, url: &str) -> String {
        let inner = hmac_sha256(self.timestamp.as_bytes(), self.token.as_bytes());
        let middle = hmac_sha256(self.topic_arn.as_bytes(), &inner);
        hmac_sha256(url.as_bytes(), &middle).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Checks the answer's `body` for `url`.
    ///
    /// # Errors
    /// What is wrong with it, and what that usually comes from.
    pub fn check(&self, url: &str, body: &[u8]) -> Result<(), String> {
        let answer: Value =
            serde_json::from_slice(body).map_err(|_| "the answer to the handshake is no JSON".to_owned())?;
        let signature = answer.get("signature").and_then(Value::as_str).ok_or("the answer holds no signature")?;
        if signature == self.signature(url) {
            return Ok(());
        }
        let signed = lookalikes(url).into_iter().find(|other| signature == self.signature(other));
        Err(match signed {
            Some(other) => format!(
                "the signature is one over {other} and not over {url}: POSTERN_MCS_URL must be the URL of the webhook byte for byte"
            ),
            None => format!(
                "the signature is wrong for {url}: set POSTERN_MCS_URL to that URL byte for byte (scheme, host, port, path, query, slash at the end)"
            ),
        })
    }
}

/// URLs that are often taken for `url`.
fn lookalikes(url: &str) -> Vec<String> {
    let slash = url.strip_suffix('/').map_or_else(|| format!("{url}/"), str::to_owned);
    let mut all = vec![slash];
    for text in [url.to_owned(), all[0].clone()] {
        if let Some(rest) = text.strip_prefix("http://") {
            all.push(format!("https://{rest}"));
        } else if let Some(rest) = text.strip_prefix("https://") {
            all.push(format!("http://{rest}"));
        }
    }
    all.extend(url.split_once('?').map(|(before, _)| before.to_owned()));
    all
}

/// RFC 2104 over SHA-256.
pub(super) fn hmac_sha256(message: &[u8], key: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(digest(&SHA256, key).as_ref());
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let hash = |pad: u8, tail: &[u8]| digest(&SHA256, &[&block.map(|byte| byte ^ pad)[..], tail].concat());
    let mut out = [0; 32];
    out.copy_from_slice(hash(0x5c, hash(0x36, message).as_ref()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documented() -> Handshake {
        Handshake {
            token: "RPE5UuG94rGgBH6kHXN9FUPugFxj1hs2aUQc99btJp3E49tA".to_owned(),
            timestamp: "2019-12-26T19:29:12+03:00".to_owned(),
            topic_arn: "mcs2883541269|bucketA|s3:ObjectCreated:Put".to_owned(),
        }
    }

    #[test]
    fn the_documented_signature_proves_its_url_and_no_other() {
        let body = br#"{"signature":"ea3fce4bb15c6de4fec365d36bcebbc34ccddf54616d5ca12e1972f82b6d37af"}"#;
        assert_eq!(documented().check("http://test.com", body), Ok(()));
        for (url, names) in [("http://test.com/", "over http://test.com and"), ("http://other", "byte for byte")] {
            let why = documented().check(url, body).expect_err("wrong");
            assert!(why.contains(names), "{why}");
        }
        for wrong in ["", "{}", r#"{"signature":1}"#] {
            assert!(documented().check("http://test.com", wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_new_handshake_has_the_documented_form() {
        let now = UnixMillis::parse_rfc3339("2019-12-26T16:29:12Z").expect("a time");
        let made = Handshake::new("mcs1", "b", "s3:ObjectCreated:*", now, &mut Dice::seeded(1));
        let body: Value = serde_json::from_str(&made.body()).expect("JSON");
        assert_eq!(body["Timestamp"], "2019-12-26T19:29:12+03:00");
        assert_eq!(body["TopicArn"], "mcs1|b|s3:ObjectCreated:*");
        assert_eq!(body["Token"].as_str().map(str::len), Some(48));
    }
}
