//! The files of authorities that outgoing TLS trusts besides the system's.

use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The settings that name such a file, in the order of [`egress_files`](super::egress_files).
pub const AUTHORITY_FILES: [&str; 2] = ["POSTERN_EGRESS_CA_FILE", "POSTERN_SNS_TRUST_ANCHOR_FILE"];

/// What keeps `pem` from being a list of authorities, with what to do; `None` when it is one.
pub fn bad_authorities(pem: &[u8]) -> Option<&'static str> {
    let Ok(certificates) = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() else {
        return Some("is not PEM; use PEM with one or more CA certificates");
    };
    if certificates.is_empty() {
        return Some("holds no certificate; use PEM with one or more CA certificates");
    }
    let mut roots = RootCertStore::empty();
    let unreadable = certificates.into_iter().any(|certificate| roots.add(certificate).is_err());
    unreadable.then_some("holds a certificate that cannot be read; use PEM with one or more CA certificates")
}

/// Files of authorities as [`egress_files`](super::egress_files) names them, read and looked into.
///
/// # Errors
/// The setting whose file is of no use, and why.
pub fn extra_authorities(files: [Option<PathBuf>; 2]) -> Result<Vec<Vec<u8>>, String> {
    let read = |(setting, path): (&str, PathBuf)| {
        let shown = path.display();
        let pem = std::fs::read(&path).map_err(|error| {
            format!("{setting}: the file {shown} cannot be read ({error}); check the path and its permissions")
        })?;
        match bad_authorities(&pem) {
            Some(problem) => Err(format!("{setting}: the file {shown} {problem}")),
            None => Ok(pem),
        }
    };
    AUTHORITY_FILES.into_iter().zip(files).filter_map(|(setting, path)| Some((setting, path?))).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_of_no_use_is_named_by_its_own_setting() {
        let folder = tempfile::tempdir().expect("a folder");
        let bad = folder.path().join("bad.pem");
        std::fs::write(&bad, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("a file");
        let anchor = extra_authorities([None, Some(bad.clone())]).expect_err("no certificate");
        assert!(anchor.starts_with("POSTERN_SNS_TRUST_ANCHOR_FILE: ") && anchor.contains("cannot be read"), "{anchor}");
        let egress = extra_authorities([Some(bad), None]).expect_err("no certificate");
        assert!(egress.starts_with("POSTERN_EGRESS_CA_FILE: "), "{egress}");
        let missing = extra_authorities([None, Some(folder.path().join("none"))]).expect_err("no file");
        assert!(missing.starts_with("POSTERN_SNS_TRUST_ANCHOR_FILE: "), "{missing}");
        assert!(bad_authorities(b"words").is_some_and(|what| what.contains("no certificate")));
    }
}
