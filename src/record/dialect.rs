//! What differs between producers and cannot be told from a record: how keys are coded and what a sequencer means. Fixed per
//! source by configuration, never guessed from the body.

use std::borrow::Cow;

use super::SentSequencer;
use crate::event::Sequencer;

/// How one producer writes what others write differently (`s3-dialects.md` 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// What a body looks like.
    pub shape: Shape,
    /// How `s3.object.key` is coded.
    pub key_coding: KeyCoding,
    /// What `s3.object.sequencer` means.
    pub sequencer: SequencerKind,
}

impl Dialect {
    /// Amazon S3.
    pub const AWS: Self = Self { shape: Shape::Records, key_coding: KeyCoding::Form, sequencer: SequencerKind::Aws };
    /// Ceph RGW: keys are not encoded at all.
    pub const CEPH: Self = Self { shape: Shape::Records, key_coding: KeyCoding::Raw, sequencer: SequencerKind::CephLe };
    /// LocalStack, and any other SNS than Amazon's (hard case 1): its sequencer is a constant. It writes `%20` for a space and
    /// `%2B` for a plus, which the form coding reads as well as the plain one, and so do the emulators that write `+`.
    pub const LOCALSTACK: Self =
        Self { shape: Shape::Records, key_coding: KeyCoding::Form, sequencer: SequencerKind::None };
    /// MCS S3. Its key coding is documented nowhere; as it imitates Amazon S3 in everything else, so here.
    pub const MCS: Self =
        Self { shape: Shape::Records, key_coding: KeyCoding::Form, sequencer: SequencerKind::Integer };
    /// MinIO: sixteen hexadecimal digits of nanoseconds, which compare as Amazon's do.
    pub const MINIO: Self = Self { shape: Shape::Records, key_coding: KeyCoding::Form, sequencer: SequencerKind::Aws };
    /// NooBaa: its sequencer is sometimes a time and sometimes a number of its database.
    pub const NOOBAA: Self = Self { shape: Shape::Records, key_coding: KeyCoding::Raw, sequencer: SequencerKind::None };
    /// RustFS, as MinIO.
    pub const RUSTFS: Self = Self::MINIO;
    /// Amazon EventBridge's own JSON. Whether its keys are encoded is told differently everywhere (`s3-dialects.md` 3.5); raw by default.
    pub const EVENTBRIDGE: Self =
        Self { shape: Shape::EventBridge, key_coding: KeyCoding::Raw, sequencer: SequencerKind::Aws };
    /// Backblaze B2's own JSON: `objectName` is plain, and there is no sequencer.
    pub const B2: Self = Self { shape: Shape::B2, key_coding: KeyCoding::Raw, sequencer: SequencerKind::None };
    /// versitygw: a counter that begins anew with each process orders nothing.
    pub const VERSITYGW: Self =
        Self { shape: Shape::Records, key_coding: KeyCoding::Raw, sequencer: SequencerKind::None };
}

/// What a body looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"events":[…]}` of Backblaze B2 (`s3-dialects.md` 2.7).
    B2,
    /// One EventBridge event with `detail` (`s3-dialects.md` 3.5).
    EventBridge,
    /// `{"Records":[…]}`.
    Records,
}

/// How a key is written in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCoding {
    /// `application/x-www-form-urlencoded`: `%XX`, and `+` is a space.
    Form,
    /// `%XX` alone.
    Percent,
    /// As it is.
    Raw,
}

impl KeyCoding {
    /// The word of the setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Percent => "percent",
            Self::Raw => "raw",
        }
    }

    /// The key itself, decoded exactly once; `None` where it is not of this coding: a `%` without two hexadecimal digits, or
    /// bytes that are no UTF-8.
    pub fn decode(self, key: &str) -> Option<Cow<'_, str>> {
        let plus_is_space = self == Self::Form;
        if self == Self::Raw || !key.bytes().any(|c| c == b'%' || (plus_is_space && c == b'+')) {
            return Some(Cow::Borrowed(key));
        }
        let mut decoded = Vec::with_capacity(key.len());
        let mut bytes = key.bytes();
        while let Some(byte) = bytes.next() {
            decoded.push(match byte {
                b'%' => (hex(bytes.next()?)? << 4) | hex(bytes.next()?)?,
                b'+' if plus_is_space => b' ',
                other => other,
            });
        }
        String::from_utf8(decoded).ok().map(Cow::Owned)
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// What a producer's sequencer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequencerKind {
    /// Hexadecimal text that compares within a key; also tells one change from the next (hard case 1).
    Aws,
    /// Hexadecimal text of a little-endian time (`s3-dialects.md` 2.2).
    CephLe,
    /// A whole number.
    Integer,
    /// Nothing that could be relied on.
    None,
}

impl SequencerKind {
    /// The word of the setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::CephLe => "ceph-le",
            Self::Integer => "integer",
            Self::None => "none",
        }
    }

    /// The sequencer as this kind; `None` where it came in another JSON type, so that a source with the wrong kind set orders
    /// nothing instead of ordering wrongly.
    pub fn read(self, sent: &SentSequencer<'_>) -> Option<Sequencer> {
        match (self, sent) {
            (Self::Aws, SentSequencer::Text(text)) => Some(Sequencer::Aws(text.as_ref().to_owned())),
            (Self::CephLe, SentSequencer::Text(text)) => Some(Sequencer::CephLe(text.as_ref().to_owned())),
            (Self::Integer, SentSequencer::Integer(number)) => Some(Sequencer::Integer(*number)),
            (Self::Integer, SentSequencer::Text(text)) => text.parse().ok().map(Sequencer::Integer),
            (Self::Aws | Self::CephLe, SentSequencer::Integer(_)) | (Self::None, _) => None,
        }
    }
}
