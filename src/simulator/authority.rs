//! A signing authority for tests: a root made at start and a leaf that signs SNS messages.
//!
//! The leaf's RSA key is compiled in and public, because the crypto provider makes no RSA keys; what makes a simulator's messages
//! acceptable is the root, which is new each time and must be trusted explicitly (`POSTERN_SNS_TRUST_ANCHOR_FILE`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use num_bigint::BigUint;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, SanType,
};
use time::OffsetDateTime;

/// The leaf's key. Public on purpose; see the module's words.
pub const SIGNING_KEY_PEM: &str = include_str!("signing-key.pem");

/// What the leaf says of itself.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// DNS name and common name; Amazon's classic regions use `sns.amazonaws.com`.
    pub name: String,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// Whether it claims to be a CA.
    pub is_ca: bool,
}

impl Leaf {
    /// A leaf for `name`, valid from a day before `now` for a year.
    pub fn named(name: &str, now: OffsetDateTime) -> Self {
        Self {
            name: name.to_owned(),
            not_before: now - time::Duration::days(1),
            not_after: now + time::Duration::days(365),
            is_ca: false,
        }
    }
}

/// A root, and a leaf it issued for the signing key.
pub struct Authority {
    root_pem: String,
    issuer: Issuer<'static, KeyPair>,
    leaf_pem: String,
    signer: Signer,
    key_pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// Why an authority could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate library refused.
    #[error("cannot make a test certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The signing key is not an RSA private key of PKCS #8.
    #[error("the signing key is not an RSA key of at least 2048 bits in PKCS #8 PEM")]
    Key,
}

impl Authority {
    /// A new root and a leaf as described, with the compiled-in signing key.
    ///
    /// # Errors
    /// [`AuthorityError`] when the library refuses the parameters.
    pub fn new(leaf: &Leaf) -> Result<Self, AuthorityError> {
        Self::with_key(leaf, SIGNING_KEY_PEM)
    }

    /// A new root and a leaf as described for the RSA key in `key_pem`.
    ///
    /// # Errors
    /// [`AuthorityError`] when the library refuses the parameters or the key is not RSA in PKCS #8 PEM.
    pub fn with_key(leaf: &Leaf, key_pem: &str) -> Result<Self, AuthorityError> {
        let mut root = CertificateParams::default();
        root.distinguished_name = common_name("Postern test root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        root.not_before = leaf.not_before - time::Duration::days(3650);
        root.not_after = leaf.not_after + time::Duration::days(3650);
        let root_key = KeyPair::generate()?;
        let root_pem = root.self_signed(&root_key)?.pem();
        let issuer = Issuer::new(root, root_key);
        let signer = Signer::from_pem(key_pem)?;
        let leaf_pem = issue(leaf, key_pem, &issuer)?;
        Ok(Self { root_pem, issuer, leaf_pem, signer, key_pem: key_pem.to_owned() })
    }

    /// The root, for `POSTERN_SNS_TRUST_ANCHOR_FILE`.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The leaf, as served at the SigningCertURL.
    pub fn leaf_pem(&self) -> &str {
        &self.leaf_pem
    }

    /// Another leaf of the same root and the same key.
    ///
    /// # Errors
    /// [`AuthorityError`] when the library refuses the parameters.
    pub fn reissue(&self, leaf: &Leaf) -> Result<String, AuthorityError> {
        issue(leaf, &self.key_pem, &self.issuer)
    }

    /// Certificate and key, both PEM, for a TLS server that is reached as `names` (DNS names or addresses); issued by the root.
    ///
    /// # Errors
    /// [`AuthorityError`] when the library refuses the names.
    pub fn server_certificate(&self, names: &[&str], now: OffsetDateTime) -> Result<(String, String), AuthorityError> {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name = common_name("Postern test server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = now - time::Duration::days(1);
        params.not_after = now + time::Duration::days(365);
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// The root as an issuer, for certificates this file does not foresee.
    pub fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The signer with the leaf's key.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

fn issue(leaf: &Leaf, key_pem: &str, issuer: &Issuer<'static, KeyPair>) -> Result<String, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&leaf.name);
    params.subject_alt_names = vec![SanType::DnsName(leaf.name.as_str().try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.is_ca = if leaf.is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params.not_before = leaf.not_before;
    params.not_after = leaf.not_after;
    let key = KeyPair::from_pem_and_sign_algo(key_pem, &PKCS_RSA_SHA256)?;
    Ok(params.signed_by(&key, issuer)?.pem())
}

/// Signs strings as SNS does, both versions.
pub struct Signer {
    sha256: ring::rsa::KeyPair,
    modulus: BigUint,
    exponent: BigUint,
    length: usize,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// DER of `DigestInfo` for SHA-1 up to the digest (RFC 8017, 9.2 note 1).
const SHA1_INFO: [u8; 15] = [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14];

impl Signer {
    /// Reads an RSA private key of PKCS #8 PEM.
    ///
    /// # Errors
    /// [`AuthorityError::Key`] when it is anything else.
    pub fn from_pem(pem: &str) -> Result<Self, AuthorityError> {
        let key = || AuthorityError::Key;
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let pkcs8 = STANDARD.decode(body.trim()).map_err(|_| key())?;
        let sha256 = ring::rsa::KeyPair::from_pkcs8(&pkcs8).map_err(|_| key())?;
        // PrivateKeyInfo ::= SEQUENCE { version, algorithm, OCTET STRING { RSAPrivateKey ::= SEQUENCE { version, n, e, d, ... } } }
        let (_, info) = x509_parser::der_parser::parse_der(&pkcs8).map_err(|_| key())?;
        let octets =
            info.as_sequence().map_err(|_| key())?.get(2).ok_or_else(key)?.as_slice().map_err(|_| key())?.to_vec();
        let (_, rsa) = x509_parser::der_parser::parse_der(&octets).map_err(|_| key())?;
        let number = |at: usize| {
            let item = rsa.as_sequence().ok()?.get(at)?;
            Some(BigUint::from_bytes_be(item.as_slice().ok()?))
        };
        let (modulus, exponent) = (number(1).ok_or_else(key)?, number(3).ok_or_else(key)?);
        let length = sha256.public().modulus_len();
        Ok(Self { sha256, modulus, exponent, length })
    }

    /// The base64 signature of `text`, version 1 (SHA-1) or 2 (SHA-256); RSA PKCS #1 v1.5.
    ///
    /// Version 1 is computed here because the crypto provider rightly makes no new SHA-1 signatures; nothing secret hangs
    /// on its timing.
    pub fn sign(&self, version: u8, text: &[u8]) -> String {
        if version == 1 {
            let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text);
            let mut block = vec![0xff; self.length];
            block[0] = 0;
            block[1] = 1;
            let tail = self.length - digest.as_ref().len();
            block[tail..].copy_from_slice(digest.as_ref());
            block[tail - SHA1_INFO.len()..tail].copy_from_slice(&SHA1_INFO);
            block[tail - SHA1_INFO.len() - 1] = 0;
            let signed = BigUint::from_bytes_be(&block).modpow(&self.exponent, &self.modulus).to_bytes_be();
            let mut padded = vec![0; self.length - signed.len()];
            padded.extend(signed);
            return STANDARD.encode(padded);
        }
        let mut signature = vec![0; self.length];
        let random = ring::rand::SystemRandom::new();
        // PKCS #1 v1.5 uses no randomness and the buffer has the key's length, so this cannot fail.
        if self.sha256.sign(&ring::signature::RSA_PKCS1_SHA256, &random, text, &mut signature).is_err() {
            signature.fill(0);
        }
        STANDARD.encode(signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature;

    #[test]
    fn both_signature_versions_verify_under_the_certificates_key() {
        let now = OffsetDateTime::from_unix_timestamp(1_790_000_000).expect("a valid time");
        let authority = Authority::new(&Leaf::named("sns.amazonaws.com", now)).expect("an authority");
        let (_, pem) = x509_parser::pem::parse_x509_pem(authority.leaf_pem().as_bytes()).expect("PEM");
        let certificate = pem.parse_x509().expect("a certificate");
        let public = certificate.public_key().subject_public_key.data.to_vec();
        for (version, algorithm) in
            [(1, &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY), (2, &signature::RSA_PKCS1_2048_8192_SHA256)]
        {
            let signed = STANDARD.decode(authority.signer().sign(version, b"text")).expect("base64");
            signature::UnparsedPublicKey::new(algorithm, &public)
                .verify(b"text", &signed)
                .expect("a genuine signature");
        }
    }
}
