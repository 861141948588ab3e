//! Bare S3 records over HTTP: who sends them, and what a request proves itself by (`s3-dialects.md` 2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::{CODINGS, is_short, secrets};
use crate::config::callback::is_framing;
use crate::config::problem::quote;
use crate::config::text::{Wrong, choice, wrong};
use crate::config::values::Reader;
use crate::record::{Dialect, SequencerKind, Shape};
use crate::secret::Secret;

/// How bare S3 records reach an instance, and what they prove themselves by.
#[derive(Clone, Debug)]
pub struct S3HttpConfig {
    /// Secret path parts (`POSTERN_S3HTTP_SECRET`): one, or two during a rotation.
    pub secrets: Vec<Secret>,
    /// What else a request must carry (`POSTERN_S3HTTP_AUTH`).
    pub auth: Option<S3HttpAuth>,
    /// What it may carry instead, during a rotation: some stores take one refusal for the end of an event (`s3-dialects.md` 3.5),
    /// and none changes its token in the moment in which we do.
    pub old_auth: Option<S3HttpAuth>,
    /// How the producer writes: the preset's, with what was set besides.
    pub dialect: Dialect,
    /// The producer's word (`POSTERN_S3HTTP_PRESET`), for logs; empty where none is named.
    pub preset: &'static str,
}

impl S3HttpConfig {
    /// Whether nothing but a secret that can be guessed speaks for the sender.
    pub fn is_weak(&self) -> bool {
        self.auth.is_none() && self.secrets.iter().any(is_short)
    }

    /// What is secret in what a request must or may carry.
    pub fn auth_secrets(&self) -> impl Iterator<Item = &Secret> {
        self.auth.iter().chain(&self.old_auth).map(S3HttpAuth::secret)
    }
}

/// `POSTERN_S3HTTP_AUTH`.
#[derive(Clone, Debug)]
pub enum S3HttpAuth {
    /// The whole value of the Authorization header: Bearer, Basic, or any other scheme verbatim.
    Authorization(Secret),
    /// A header of the operator's choice, with its value.
    Header(HeaderName, Secret),
    /// Key of Backblaze B2's HMAC over the body (`s3-dialects.md` 2.7).
    B2Signature(Secret),
    /// The `opaqueData` that every record of a Ceph topic carries (`s3-dialects.md` 2.2).
    OpaqueData(Secret),
}

impl S3HttpAuth {
    /// What is secret in it.
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Authorization(secret)
            | Self::Header(_, secret)
            | Self::B2Signature(secret)
            | Self::OpaqueData(secret) => secret,
        }
    }
}

const SECRET: &str = "POSTERN_S3HTTP_SECRET";
const PRESET: &str = "POSTERN_S3HTTP_PRESET";
const AUTH: &str = "POSTERN_S3HTTP_AUTH";
const KEY_CODING: &str = "POSTERN_S3HTTP_KEY_CODING";
const SEQUENCER: &str = "POSTERN_S3HTTP_SEQUENCER";

/// A store without a name: it writes as Amazon does, but nothing is known of its sequencers.
const GENERIC: Dialect = Dialect { sequencer: SequencerKind::None, ..Dialect::AWS };

/// The stores whose way of writing has a name.
const PRESETS: [(&str, Dialect); 11] = [
    ("aws", Dialect::AWS),
    ("b2", Dialect::B2),
    ("ceph", Dialect::CEPH),
    ("eventbridge", Dialect::EVENTBRIDGE),
    ("generic", GENERIC),
    ("localstack", Dialect::LOCALSTACK),
    ("minio", Dialect::MINIO),
    ("noobaa", Dialect::NOOBAA),
    ("rustfs", Dialect::RUSTFS),
    ("sns-raw", Dialect::AWS),
    ("versitygw", Dialect::VERSITYGW),
];

const SEQUENCERS: [(&str, SequencerKind); 4] = [
    ("aws", SequencerKind::Aws),
    ("ceph-le", SequencerKind::CephLe),
    ("integer", SequencerKind::Integer),
    ("none", SequencerKind::None),
];

/// Everything of `POSTERN_S3HTTP_…`; `None` where there is no secret.
pub(in crate::config) fn s3http(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Option<S3HttpConfig> {
    let secrets = secrets(reader, SECRET, warnings);
    let preset = reader.read(PRESET, |text| choice(text, &PRESETS.map(|(name, _)| (name, name))));
    let preset_refused = preset.is_none() && reader.values.is_set(PRESET);
    let preset = preset.unwrap_or_default();
    let mut dialect = PRESETS.iter().find(|(name, _)| *name == preset).map_or(GENERIC, |(_, dialect)| *dialect);
    if let Some(coding) = reader.read(KEY_CODING, |text| choice(text, &CODINGS)) {
        dialect.key_coding = coding;
    }
    if let Some(kind) = reader.read(SEQUENCER, |text| choice(text, &SEQUENCERS)) {
        dialect.sequencer = kind;
    }
    // How AUTH reads depends on the preset: one that was refused would make a second, wrong problem.
    let (auth, old_auth) = if preset_refused { (None, None) } else { auths(reader, dialect.shape) };
    if !reader.values.is_set(SECRET) {
        if let Some(set) = [AUTH, PRESET, KEY_CODING, SEQUENCER].into_iter().find(|name| reader.values.is_set(name)) {
            let label = reader.values.label(set);
            reader.refuse(
                SECRET,
                format!("is not set, but {label} is"),
                "set a secret of at least 16 letters and digits: the store then sends to /s3/SECRET",
            );
        }
        return None;
    }
    if preset == "b2" && !reader.values.is_set(AUTH) {
        reader.refuse(AUTH, "is not set, but the preset is b2, whose HMAC is checked", "set the rule's signing secret");
    } else if !reader.values.is_set(AUTH) {
        warnings.push(format!(
            "{} is not set: nothing but the secret in the URL speaks for who sends S3 records to {}",
            reader.values.label(AUTH),
            reader.values.label(SECRET)
        ));
    }
    let is_opaque = |auth: &Option<S3HttpAuth>| matches!(auth, Some(S3HttpAuth::OpaqueData(_)));
    if preset != "ceph" && (is_opaque(&auth) || is_opaque(&old_auth)) {
        warnings.push(format!(
            "{} is opaqueData, which only Ceph sends, and {} is not ceph: what another store sends is refused with 403",
            reader.values.label(AUTH),
            reader.values.label(PRESET)
        ));
    }
    (!secrets.is_empty()).then_some(S3HttpConfig { secrets, auth, old_auth, dialect, preset })
}

/// `POSTERN_S3HTTP_AUTH`: one, or two lines in a file (two in a document's list) while it is rotated, the new one first.
fn auths(reader: &mut Reader<'_>, shape: Shape) -> (Option<S3HttpAuth>, Option<S3HttpAuth>) {
    let Some(given) = reader.values.get(AUTH) else { return (None, None) };
    let all: Vec<&str> = if given.lines { given.text.lines().collect() } else { vec![given.text.as_str()] };
    let all: Vec<&str> = all.into_iter().map(str::trim).filter(|line| !line.is_empty()).collect();
    if all.len() > 2 {
        let what = format!("there are {} values", all.len());
        reader.refuse(AUTH, what, "keep the new one and, during a rotation, the old one, one a line");
        return (None, None);
    }
    let mut read = all.into_iter().map(|text| {
        let read = auth(text, shape);
        read.map_err(|(what, advice)| reader.refuse(AUTH, what, advice)).ok()
    });
    let (new, old) = (read.next().flatten(), read.next().flatten());
    (new, old)
}

/// What a request must carry besides the path. No part of the text is in a failure, save the name of a header.
fn auth(text: &str, shape: Shape) -> Result<S3HttpAuth, Wrong> {
    const ADVICE: &str = "use Bearer TOKEN, Basic USER:PASSWORD, SCHEME VALUE, Header-Name: value or opaqueData=VALUE";
    let text = text.trim();
    if HeaderValue::from_str(text).is_err() || !text.is_ascii() {
        return wrong(
            "the value holds a line break or characters that are not ASCII, which no header can carry",
            ADVICE,
        );
    }
    if shape == Shape::B2 {
        if text.contains(' ') {
            return wrong("the value holds a blank", "with the preset b2 set the rule's signing secret alone");
        }
        return Ok(S3HttpAuth::B2Signature(Secret::new(text)));
    }
    // What a template leaves of `Bearer $TOKEN` without a token: taken as a token, the first guess would open.
    let is_header = text.ends_with(':') && !text.contains(' ');
    if is_header || ["bearer", "basic"].iter().any(|scheme| text.eq_ignore_ascii_case(scheme)) {
        return wrong("names a scheme or a header, and no value follows", ADVICE);
    }
    if let Some(value) = text.strip_prefix("opaqueData=") {
        return match (shape, value) {
            (Shape::EventBridge, _) => wrong("is opaqueData, which EventBridge does not send", ADVICE),
            (_, "") => wrong("opaqueData is empty", "write opaqueData=VALUE as in the topic's attributes"),
            _ => Ok(S3HttpAuth::OpaqueData(Secret::new(value))),
        };
    }
    let Some((first, rest)) = text.split_once(' ') else {
        // `X-Api-Key:value` is a header whose blank was forgotten rather than a token.
        if text
            .split_once(':')
            .is_some_and(|(name, _)| name.contains('-') && HeaderName::from_bytes(name.as_bytes()).is_ok())
        {
            return wrong(
                "could be a header or a token with a colon",
                "write a blank behind the colon of a header, or Bearer before a token",
            );
        }
        // MinIO's own rule for one word (`s3-dialects.md` 2.1).
        return Ok(S3HttpAuth::Authorization(Secret::new(format!("Bearer {text}"))));
    };
    let rest = rest.trim();
    if let Some(name) = first.strip_suffix(':') {
        return header(name, rest);
    }
    if first.eq_ignore_ascii_case("bearer") {
        return Ok(S3HttpAuth::Authorization(Secret::new(format!("Bearer {rest}"))));
    }
    if first.eq_ignore_ascii_case("basic") {
        return basic(rest);
    }
    Ok(S3HttpAuth::Authorization(Secret::new(text)))
}

fn header(name: &str, value: &str) -> Result<S3HttpAuth, Wrong> {
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        // What stands before the colon is perhaps no name but a secret.
        return wrong("what stands before the colon is not a header's name", "use letters, digits and hyphens");
    };
    if parsed == AUTHORIZATION {
        return Ok(S3HttpAuth::Authorization(Secret::new(value)));
    }
    if is_framing(parsed.as_str()) {
        return wrong(
            format!("the header {} frames the request and proves nothing", quote(parsed.as_str())),
            "use a header of your own, such as X-Postern-Token: VALUE",
        );
    }
    Ok(S3HttpAuth::Header(parsed, Secret::new(value)))
}

/// `USER:PASSWORD`, or the same in base64 already.
fn basic(rest: &str) -> Result<S3HttpAuth, Wrong> {
    let is_coded = STANDARD.decode(rest).is_ok_and(|bytes| bytes.contains(&b':'));
    if !is_coded && (!rest.contains(':') || rest == ":") {
        return wrong(
            "what follows Basic is neither USER:PASSWORD nor the base64 of it",
            "write Basic USER:PASSWORD; it is encoded here",
        );
    }
    let value = if is_coded { rest.to_owned() } else { STANDARD.encode(rest) };
    Ok(S3HttpAuth::Authorization(Secret::new(format!("Basic {value}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, shape: Shape) -> String {
        match auth(text, shape).expect(text) {
            S3HttpAuth::Authorization(secret) => format!("authorization={}", secret.expose()),
            S3HttpAuth::Header(name, secret) => format!("{name}={}", secret.expose()),
            S3HttpAuth::B2Signature(secret) => format!("b2={}", secret.expose()),
            S3HttpAuth::OpaqueData(secret) => format!("opaque={}", secret.expose()),
        }
    }

    #[test]
    fn what_a_request_carries_is_read_in_each_of_its_forms() {
        for (text, expected) in [
            ("token", "authorization=Bearer token"),
            ("Bearer token", "authorization=Bearer token"),
            ("bearer  token", "authorization=Bearer token"),
            ("Splunk xyz", "authorization=Splunk xyz"),
            ("Digest a=1, b=2", "authorization=Digest a=1, b=2"),
            ("Basic user:pass word", "authorization=Basic dXNlcjpwYXNzIHdvcmQ="),
            ("Basic dXNlcjpwYXNz", "authorization=Basic dXNlcjpwYXNz"),
            ("Basic user:", "authorization=Basic dXNlcjo="),
            ("Basic user:a:b", "authorization=Basic dXNlcjphOmI="),
            ("X-Api-Key: a b", "x-api-key=a b"),
            ("Authorization: Token x", "authorization=Token x"),
            ("opaqueData=iam opaque", "opaque=iam opaque"),
            ("a:b", "authorization=Bearer a:b"),
        ] {
            assert_eq!(read(text, Shape::Records), expected);
        }
        assert_eq!(read("opaqueData=x", Shape::B2), "b2=opaqueData=x", "with b2 it is the key, whatever it looks like");
        assert_eq!(read("X-Api-Key: k", Shape::EventBridge), "x-api-key=k");
    }

    #[test]
    fn what_no_request_could_carry_is_refused_without_showing_it() {
        for (text, shape) in [
            ("Basic hunter2", Shape::Records),
            ("Basic aHVudGVyMg==", Shape::Records),
            ("Host: hunter2", Shape::Records),
            ("Content-Length: hunter2", Shape::EventBridge),
            ("hunter2@: x", Shape::Records),
            ("hunter2\nx", Shape::Records),
            ("hunter2 é", Shape::Records),
            ("hunter2 x", Shape::B2),
            ("X-Api-Key:hunter2", Shape::Records),
            ("opaqueData=hunter2", Shape::EventBridge),
            ("opaqueData=", Shape::Records),
            ("Bearer ", Shape::Records),
            ("basic", Shape::EventBridge),
            ("Basic :", Shape::Records),
            ("Authorization: ", Shape::Records),
            ("X-Api-Key: ", Shape::Records),
        ] {
            let (what, advice) = auth(text, shape).expect_err(text);
            assert!(!format!("{what}{advice}").contains("hunter2"), "{what}");
        }
    }
}
