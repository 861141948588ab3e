//! Pure: what a body at `/s3/<secret>` is. The shape is fixed by configuration; a body of another one is refused and never read
//! as what it might be: a signed dialect has its own route, and this one checks no signature of SNS (`s3-dialects.md` 0.1).

use crate::record::wire::{Object, Scalar};
use crate::record::{self, Malformed, Shape};
use crate::secret::Secret;

/// What to do with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `Records` is there and empty: nothing happened.
    Empty,
    /// Not kept: nothing but the path's secret speaks for it, and it is no notification of the configured producer.
    Refused(Refused),
    /// Of the configured shape, if perhaps with records that cannot be understood: the desk takes it.
    Shaped,
}

/// Why a body is refused. The variant is the word for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No JSON object, or too deep: 400.
    BadJson,
    /// A member stands twice or is of another type, so that two readers could understand two things: 400.
    BadShape,
    /// SNS asks to confirm a subscription or tells of its end, signed as at `/sns`, whose source may judge it: a raw delivery
    /// begins so. 403 where nobody does.
    Confirmation,
    /// A message of Amazon SNS, whose signature `/sns` checks: 403.
    Envelope,
    /// A handshake of MCS S3, which has its own route: 403.
    Handshake,
    /// JSON that the configured producer does not send: 400.
    NotS3,
}

impl Refused {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadShape => "bad_shape",
            Self::Confirmation | Self::Envelope => "envelope",
            Self::Handshake => "handshake",
            Self::NotS3 => "not_s3",
        }
    }

    /// The answer's status.
    pub fn status(self) -> u16 {
        match self {
            Self::Confirmation | Self::Envelope | Self::Handshake => 403,
            Self::BadJson | Self::BadShape | Self::NotS3 => 400,
        }
    }

    /// What the operator should do, where that is plain.
    pub fn advice(self) -> Option<&'static str> {
        match self {
            Self::Confirmation | Self::Envelope => Some(
                "an SNS message came to /s3: subscribe the topic to /sns, where its signature is checked; or, for raw delivery, set \
                 POSTERN_S3HTTP_PRESET=sns-raw, name the topic in event.sns.topic.arn so that its confirmation is answered, and \
                 switch raw message delivery on for this subscription",
            ),
            Self::Handshake => {
                Some("an MCS S3 handshake came to /s3: use the URL /mcs/<POSTERN_MCS_SECRET> in the bucket's webhook")
            }
            Self::BadJson | Self::BadShape | Self::NotS3 => None,
        }
    }
}

/// Judges a body by the producer's shape.
pub fn judge(shape: Shape, text: &str) -> Verdict {
    Verdict::Refused(match record::parse_as(shape, text) {
        Ok(_) => return Verdict::Shaped,
        Err(Malformed::BadRecord { .. } | Malformed::TooManyRecords | Malformed::UnsupportedVersion { .. }) => {
            return Verdict::Shaped;
        }
        Err(Malformed::NoRecords) => return Verdict::Empty,
        Err(Malformed::NotJson(_) | Malformed::TooDeep) => Refused::BadJson,
        Err(Malformed::BadShape(_)) => Refused::BadShape,
        Err(Malformed::NotS3(_)) => foreign(text),
    })
}

/// The members that tell a message of another way in.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Foreign<'a> {
    #[serde(borrow, default)]
    r#type: Scalar<'a>,
    #[serde(borrow, default)]
    topic_arn: Scalar<'a>,
    #[serde(borrow, default)]
    signature: Scalar<'a>,
    #[serde(borrow, default, rename = "SigningCertURL")]
    signing_cert_url: Scalar<'a>,
    #[serde(borrow, default, rename = "SubscribeURL")]
    subscribe_url: Scalar<'a>,
}

fn foreign(text: &str) -> Refused {
    let Ok(Object(members)) = serde_json::from_str::<Object<Foreign<'_>>>(text) else { return Refused::NotS3 };
    let signed = [members.signature, members.signing_cert_url, members.subscribe_url];
    let is_signed = signed.into_iter().any(|member| member.text().is_some());
    let is_mcs = members.topic_arn.text().is_some_and(|topic| topic.contains('|'));
    match members.r#type.text().as_deref() {
        Some("SubscriptionConfirmation") if is_mcs && !is_signed => Refused::Handshake,
        Some("SubscriptionConfirmation" | "UnsubscribeConfirmation") => Refused::Confirmation,
        Some("Notification") => Refused::Envelope,
        _ if is_signed => Refused::Envelope,
        _ => Refused::NotS3,
    }
}

/// Whether every entry of `Records` carries one of `secrets` as its `opaqueData`, and there is at least one: what Ceph RGW adds to
/// each record of a topic (`s3-dialects.md` 2.2). Also what is no record must carry it; one that does not speaks for nobody.
pub fn carries(text: &str, secrets: &[Secret]) -> bool {
    let is_known = |data: &[u8]| secrets.iter().fold(false, |known, secret| known | secret.matches(data));
    record::opaque_data(text).is_some_and(|found| {
        let all = found.iter().fold(true, |all, data| all & data.as_deref().is_some_and(|d| is_known(d.as_bytes())));
        all && !found.is_empty()
    })
}

#[cfg(test)]
mod tests;
