//! Outgoing TLS: whom we trust, loaded when it is first needed.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::OptionsError;
use super::connector::Io;
use super::failure::Failure;

/// Makes TLS connections. The system's authorities take memory and time to parse, so a sidecar that only speaks plain HTTP to
/// the app beside it never loads them.
pub(super) struct Tls {
    extra: Vec<CertificateDer<'static>>,
    connector: OnceCell<TlsConnector>,
}

impl Tls {
    pub(super) fn new(extra_ca_pem: &[Vec<u8>]) -> Result<Self, OptionsError> {
        let mut extra = Vec::new();
        let mut probe = RootCertStore::empty();
        for (at, pem) in extra_ca_pem.iter().enumerate() {
            let bad = |problem: String| OptionsError::ExtraCa { index: at + 1, problem };
            let before = extra.len();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| bad(format!("it is not PEM: {error}")))?;
                probe.add(certificate.clone()).map_err(|error| bad(format!("no usable certificate: {error}")))?;
                extra.push(certificate);
            }
            if extra.len() == before {
                return Err(bad("it holds no certificate".to_owned()));
            }
        }
        Ok(Self { extra, connector: OnceCell::new() })
    }

    pub(super) async fn connect(&self, host: &str, io: Box<dyn Io>) -> Result<TlsStream<Box<dyn Io>>, Failure> {
        let connector = self
            .connector
            .get_or_try_init(|| async {
                let extra = self.extra.clone();
                let config = tokio::task::spawn_blocking(move || configure(extra)).await;
                config.map_err(|error| Failure::Tls(error.to_string()))?
            })
            .await?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| Failure::Tls(format!("`{host}` cannot be the name in a certificate")))?;
        connector.connect(name, io).await.map_err(|error| Failure::Tls(error.to_string()))
    }
}

fn configure(extra: Vec<CertificateDer<'static>>) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    // What the system cannot read is the system's: the rest of its authorities still counts.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        tracing::debug!("the system has no authorities; those bundled are used for outgoing TLS");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots.add_parsable_certificates(extra);
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
