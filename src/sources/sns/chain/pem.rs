//! PEM, strictly: what is fetched must be one certificate and nothing else, what an operator gives may be several.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::MAX_CERTIFICATE_BYTES;
use crate::sources::sns::refusal::{Reason, Refusal};

/// All certificates of a PEM file; text between the blocks is allowed there, other blocks are not.
///
/// # Errors
/// What is wrong with the file, in words for the operator.
pub fn pem_certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let text = std::str::from_utf8(pem).map_err(|_| "it is not text")?;
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("-----BEGIN ") {
        let block = &rest[begin..];
        let end = block.find(END).ok_or("a PEM block is not a certificate, or has no end")? + END.len();
        let der = decode_pem(&block[..end]).ok_or("a PEM block is not a well-formed certificate")?;
        found.push(der);
        rest = &block[end..];
    }
    Ok(found)
}

pub(super) const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
pub(super) const END: &str = "-----END CERTIFICATE-----";

/// The one certificate that `pem` is, with nothing around it but white space.
pub(super) fn single_pem_certificate(pem: &[u8]) -> Result<Vec<u8>, Refusal> {
    let refuse = |why: &str| Refusal::new(Reason::CertFormat, why);
    if pem.len() > MAX_CERTIFICATE_BYTES {
        return Err(refuse("longer than 16 KiB"));
    }
    let text = std::str::from_utf8(pem).map_err(|_| refuse("not text"))?;
    decode_pem(text.trim_ascii()).ok_or_else(|| refuse("not exactly one PEM certificate"))
}

fn decode_pem(block: &str) -> Option<Vec<u8>> {
    let body = block.strip_prefix(BEGIN)?.strip_suffix(END)?;
    if !body.starts_with(['\n', '\r']) {
        return None;
    }
    // Base64 knows no dash, so a second block inside cannot pass.
    STANDARD.decode(body.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).collect::<Vec<_>>()).ok()
}
