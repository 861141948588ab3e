//! Judging a signing certificate: its form, key, time, name, and the chain from it to a root that we trust.
//!
//! SNS serves one leaf without its chain (`sns.md` 1.4), so the certificates between it and a root come from elsewhere: `certs`
//! fetches them, and this file says whether they lead anywhere. Pure: bytes and a time in, a [`SigningKey`] or a refusal out.

mod pem;

use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use url::Url;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry as oid;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

pub use self::pem::pem_certificates;
use self::pem::single_pem_certificate;
use super::refusal::{Reason, Refusal};
use crate::clock::UnixMillis;
use crate::config::ChainPolicy;

/// Longest certificate that is read, in bytes of PEM or DER. Amazon's leafs have about 2 KiB.
pub const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

/// A public key that may sign SNS messages, from a certificate that was judged.
#[derive(Clone, Debug)]
pub struct SigningKey {
    public: Vec<u8>,
    url: String,
    not_before: UnixMillis,
    not_after: UnixMillis,
}

impl SigningKey {
    /// Whether `signature` is this key's of `text`: RSA PKCS #1 v1.5 with SHA-1 (version 1) or SHA-256 (version 2).
    pub fn verify(&self, version: u8, text: &[u8], signature: &[u8]) -> bool {
        let algorithm: &RsaParameters = match version {
            1 => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            2 => &RSA_PKCS1_2048_8192_SHA256,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, &self.public).verify(text, signature).is_ok()
    }

    /// Where the certificate came from, for logs.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the certificate's time includes `now`.
    pub fn is_valid_at(&self, now: UnixMillis) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// The end of the certificate's time.
    pub fn not_after(&self) -> UnixMillis {
        self.not_after
    }
}

/// Which certificates end a chain.
#[derive(Clone, Debug)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// Certificates given as they are: a leaf that is one of them needs no chain (hard case 8).
    given: Vec<Vec<u8>>,
    amazon: bool,
}

impl Trust {
    /// The bundled roots of Amazon: those of the Mozilla set whose subject is Amazon's or Starfield Services'.
    pub fn amazon() -> Self {
        let ours = |anchor: &&TrustAnchor<'static>| {
            let has = |text: &str| anchor.subject.as_ref().windows(text.len()).any(|window| window == text.as_bytes());
            has("Amazon Root CA ") || has("Starfield Services Root Certificate Authority")
        };
        let anchors = webpki_roots::TLS_SERVER_ROOTS.iter().filter(ours).cloned().collect();
        Self { anchors, given: Vec::new(), amazon: true }
    }

    /// The certificates of `POSTERN_SNS_TRUST_ANCHOR_FILE`, instead of Amazon's: roots, intermediates, or the leaf itself.
    ///
    /// # Errors
    /// What is wrong with the file, in words for the operator.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let (mut anchors, mut given) = (Vec::new(), Vec::new());
        for der in pem_certificates(pem)? {
            let certificate = parse(&der).ok_or("a PEM block is not an X.509 certificate")?;
            // A certificate that is no CA must not come to issue others by being an anchor; it can still be the leaf itself.
            if is_ca(&certificate) {
                let held = CertificateDer::from(der.as_slice());
                let anchor = webpki::anchor_from_trusted_cert(&held)
                    .map_err(|error| format!("a certificate cannot be a trust anchor: {error}"))?;
                anchors.push(anchor.to_owned());
            }
            given.push(der);
        }
        if given.is_empty() {
            return Err("it holds no PEM certificate".to_owned());
        }
        Ok(Self { anchors, given, amazon: false })
    }

    /// Roots that are treated as Amazon's, so that fetching issuers can be tested.
    #[cfg(test)]
    pub(super) fn as_amazon(pem: &str) -> Self {
        let trust = Self::from_pem(pem.as_bytes()).expect("a root");
        Self { given: Vec::new(), amazon: true, ..trust }
    }

    /// Whether these are Amazon's bundled roots, whose issuers can be fetched.
    pub fn is_amazon(&self) -> bool {
        self.amazon
    }
}

/// What a certificate is judged against.
#[derive(Clone, Copy, Debug)]
pub struct Bench<'a> {
    /// Where chains must end.
    pub trust: &'a Trust,
    /// Known certificates between leafs and roots.
    pub issuers: &'a [CertificateDer<'static>],
    /// Whether a broken chain is a refusal.
    pub chain: ChainPolicy,
    /// The time at which everything must be valid.
    pub now: UnixMillis,
}

/// A certificate that may sign.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its key.
    pub key: SigningKey,
    /// What is wrong with its chain, where `POSTERN_SNS_CHAIN=warn` lets that pass.
    pub problem: Option<Refusal>,
}

/// Judges the certificate in `pem`, fetched from `url`, as a signer under `name`.
///
/// # Errors
/// `cert_format`, `cert_key`, `cert_is_ca`, `cert_not_valid_now`, `cert_name`, `cert_chain`, or `cert_issuer_unknown` when nothing is
/// wrong but that we lack the issuer (hard case 9).
pub fn judge(pem: &[u8], url: &str, name: &str, bench: &Bench<'_>) -> Result<Judged, Refusal> {
    let der = single_pem_certificate(pem)?;
    let format = |why: &str| Refusal::new(Reason::CertFormat, format!("{url}: {why}"));
    let certificate = parse(&der).ok_or_else(|| format("not an X.509 certificate"))?;
    let public = rsa_key(&certificate, url)?;
    let given = bench.trust.given.contains(&der);
    if !given && is_ca(&certificate) {
        return Err(Refusal::new(Reason::CertIsCa, format!("{url}: the certificate is a CA's")));
    }
    let (not_before, not_after) = validity(&certificate);
    let key = SigningKey { public, url: url.to_owned(), not_before, not_after };
    if !key.is_valid_at(bench.now) {
        let detail = format!("{url}: valid from {not_before} to {not_after}, our clock says {}", bench.now);
        return Err(Refusal::new(Reason::CertNotValidNow, detail));
    }
    if given {
        return Ok(Judged { key, problem: None });
    }
    let held = CertificateDer::from(der.as_slice());
    let leaf = EndEntityCert::try_from(&held).map_err(|error| format(&format!("unusable: {error}")))?;
    let named = ServerName::try_from(name).is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok());
    if !named {
        return Err(Refusal::new(Reason::CertName, format!("{url}: the certificate is not for {name}")));
    }
    let problem = match bench.chain {
        ChainPolicy::Off => None,
        ChainPolicy::Enforce | ChainPolicy::Warn => check_chain(&leaf, &certificate, url, bench).err(),
    };
    match problem {
        Some(refusal) if bench.chain == ChainPolicy::Enforce => Err(refusal),
        problem => Ok(Judged { key, problem }),
    }
}

fn check_chain(
    leaf: &EndEntityCert<'_>,
    certificate: &X509Certificate<'_>,
    url: &str,
    bench: &Bench<'_>,
) -> Result<(), Refusal> {
    // An issuer whose time is over is one we do not have: Amazon renews them under the same name.
    let issuers: Vec<_> = bench.issuers.iter().filter(|der| is_valid_at(der, bench.now)).cloned().collect();
    let verified = leaf.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &bench.trust.anchors,
        &issuers,
        unix_time(bench.now),
        KeyUsage::server_auth(),
        None,
        None,
    );
    let Err(error) = verified else { return Ok(()) };
    let issuer = certificate.issuer();
    let known = issuer == certificate.subject()
        || bench.trust.anchors.iter().any(|anchor| anchor.subject.as_ref() == contents(issuer.as_raw()))
        || issuers.iter().any(|der| {
            parse(der).is_some_and(|known| known.subject() == issuer && may_have_signed(&known, certificate))
        });
    let (reason, why) = if known {
        (Reason::CertChain, format!("does not lead to a trusted root: {error}"))
    } else {
        (Reason::CertIssuerUnknown, "the certificate of this issuer is not known here".to_owned())
    };
    Err(Refusal::new(reason, format!("{url}: issued by {issuer}: {why}")))
}

/// Whether nothing in the two says that another key signed: an issuer that was renewed with a new key keeps its name, and is one that
/// we do not have.
fn may_have_signed(issuer: &X509Certificate<'_>, leaf: &X509Certificate<'_>) -> bool {
    let wanted = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
        _ => None,
    });
    let has = issuer.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id),
        _ => None,
    });
    wanted.zip(has).is_none_or(|(wanted, has)| wanted.0 == has.0)
}

/// Where the issuer of the certificate in `pem` can be fetched, if that is at `crt.*.amazontrust.com`.
pub fn issuer_url(pem: &[u8]) -> Option<Url> {
    let der = single_pem_certificate(pem).ok()?;
    let certificate = parse(&der)?;
    certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => Some(&access.accessdescs),
            _ => None,
        })
        .flatten()
        .filter(|description| description.access_method == oid::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS)
        .find_map(|description| match &description.access_location {
            GeneralName::URI(uri) => Url::parse(uri).ok().filter(is_amazon_trust),
            _ => None,
        })
}

fn is_amazon_trust(url: &Url) -> bool {
    let label = url.host_str().and_then(|host| host.strip_prefix("crt.")?.strip_suffix(".amazontrust.com"));
    matches!(url.scheme(), "http" | "https")
        && label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

/// Reads a fetched issuer, DER or PEM, and accepts it only when its signature leads to a trusted root.
///
/// What is fetched comes over plain HTTP; an issuer that was not checked here could shadow a genuine one of the same name and turn our
/// ignorance into a refusal.
///
/// # Errors
/// `cert_issuer_unknown`, with the reason in words: a fetched thing that is no issuer of ours leaves us as ignorant as before.
pub fn accept_issuer(bytes: &[u8], bench: &Bench<'_>) -> Result<CertificateDer<'static>, Refusal> {
    let refuse = |why: &str| Refusal::new(Reason::CertIssuerUnknown, format!("the fetched issuer {why}"));
    let der = if bytes.trim_ascii_start().starts_with(b"-----") {
        single_pem_certificate(bytes).map_err(|_| refuse("is not one PEM certificate"))?
    } else {
        bytes.to_vec()
    };
    let certificate = parse(&der).ok_or_else(|| refuse("is not a certificate"))?;
    if !is_ca(&certificate) {
        return Err(refuse("is not a CA"));
    }
    if !is_valid_at(&der, bench.now) {
        return Err(refuse("is not valid now"));
    }
    if !is_strong(&certificate) {
        return Err(refuse("is signed with a weak algorithm"));
    }
    let issuer = certificate.issuer();
    let by_anchor = bench.trust.anchors.iter().any(|anchor| {
        let key = sequence(anchor.subject_public_key_info.as_ref());
        anchor.subject.as_ref() == contents(issuer.as_raw())
            && SubjectPublicKeyInfo::from_der(&key)
                .is_ok_and(|(_, key)| certificate.verify_signature(Some(&key)).is_ok())
    });
    let by_known =
        || {
            bench.issuers.iter().filter_map(|der| parse(der)).any(|known| {
                known.subject() == issuer && certificate.verify_signature(Some(known.public_key())).is_ok()
            })
        };
    if by_anchor || by_known() {
        drop(certificate);
        return Ok(CertificateDer::from(der));
    }
    Err(refuse("does not lead to a trusted root"))
}

/// The common name of a certificate's subject.
pub fn common_name(der: &[u8]) -> Option<String> {
    let certificate = parse(der)?;
    certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
}

/// Whether the time of the certificate in `der` includes `now`.
pub fn is_valid_at(der: &[u8], now: UnixMillis) -> bool {
    parse(der).is_some_and(|certificate| {
        let (from, to) = validity(&certificate);
        from <= now && now <= to
    })
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, certificate)| certificate)
}

fn is_ca(certificate: &X509Certificate<'_>) -> bool {
    // An extension that cannot be read is taken for the worse.
    certificate.basic_constraints().map_or(true, |found| found.is_some_and(|constraints| constraints.value.ca))
}

fn validity(certificate: &X509Certificate<'_>) -> (UnixMillis, UnixMillis) {
    let validity = certificate.validity();
    let millis = |seconds: i64| seconds.saturating_mul(1000);
    (
        UnixMillis(millis(validity.not_before.timestamp())),
        UnixMillis(millis(validity.not_after.timestamp()).saturating_add(999)),
    )
}

/// RSA of 2048 to 8192 bits, in a certificate that was not signed with MD5 or SHA-1.
fn rsa_key(certificate: &X509Certificate<'_>, url: &str) -> Result<Vec<u8>, Refusal> {
    let refuse = |why: String| Err(Refusal::new(Reason::CertKey, format!("{url}: {why}")));
    let key = certificate.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if key.algorithm.algorithm == oid::OID_PKCS1_RSAENCRYPTION => {
            let bits = rsa.key_size();
            if !(2048..=8192).contains(&bits) {
                return refuse(format!("an RSA key of {bits} bits"));
            }
        }
        _ => return refuse("not an RSA key".to_owned()),
    }
    if !is_strong(certificate) {
        return refuse(format!("signed with {}", certificate.signature_algorithm.algorithm));
    }
    Ok(key.subject_public_key.data.to_vec())
}

fn is_strong(certificate: &X509Certificate<'_>) -> bool {
    [
        oid::OID_PKCS1_SHA256WITHRSA,
        oid::OID_PKCS1_SHA384WITHRSA,
        oid::OID_PKCS1_SHA512WITHRSA,
        oid::OID_SIG_ECDSA_WITH_SHA256,
        oid::OID_SIG_ECDSA_WITH_SHA384,
        oid::OID_SIG_ECDSA_WITH_SHA512,
    ]
    .contains(&certificate.signature_algorithm.algorithm)
}

fn unix_time(now: UnixMillis) -> UnixTime {
    UnixTime::since_unix_epoch(now.since(UnixMillis(0)))
}

/// What is inside a DER SEQUENCE; webpki keeps names and keys without their outer header.
fn contents(der: &[u8]) -> &[u8] {
    let header = match der.get(1) {
        Some(length @ 0x80..) => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    der.get(header..).unwrap_or_default()
}

/// Puts the header back that [`contents`] takes off.
fn sequence(contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let digits = &length[length.iter().position(|b| *b != 0).unwrap_or(length.len() - 1)..];
    let mut der = vec![0x30];
    if contents.len() < 0x80 {
        der.extend(digits);
    } else {
        // A length of memory has at most 8 bytes, so the count fits beside the high bit.
        der.push(0x80 | digits.len() as u8);
        der.extend(digits);
    }
    der.extend(contents);
    der
}

#[cfg(test)]
pub(in crate::sources::sns) mod tests;
