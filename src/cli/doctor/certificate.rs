//! The listener's certificate: whether the files are a pair, lead to a public authority in the right order, are in their time and
//! hold the name by which producers reach us.

use std::fs;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use url::Url;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Context, Sink};
use crate::clock::UnixMillis;
use crate::health::Checked;
use crate::listener::tls;

/// A renewal that works happens before this.
const SOON: Duration = Duration::from_hours(30 * 24);

pub(super) fn run(context: &Context, sink: &Sink) {
    let Some(files) = &context.config.tls else {
        let refused =
            ["POSTERN_TLS", "POSTERN_TLS_CERT_FILE", "POSTERN_TLS_KEY_FILE"].iter().any(|name| context.refused(name));
        return sink.add(Checked::skip(
            "tls_files",
            if refused { "the settings of TLS are not complete" } else { "POSTERN_TLS is off: an ingress ends TLS" },
        ));
    };
    match tls::load(files) {
        Ok(_) => sink.add(Checked::ok("tls_files", "certificate and key are a pair and can be used")),
        Err(error) => sink.add(Checked::fail(
            "tls_files",
            error.to_string(),
            "the sidecar does not start with these; correct the files",
        )),
    }
    let chain: Vec<CertificateDer<'static>> = fs::read(&files.certificate)
        .map(|pem| CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).take(20).collect())
        .unwrap_or_default();
    if chain.is_empty() {
        return;
    }
    let url = context.config.public_url.as_ref();
    sink.add(expiry("tls_expiry", &chain, context.now()));
    sink.add(names("tls_names", &chain, url));
    sink.add(public("tls_chain", &chain, context.now(), webpki_roots::TLS_SERVER_ROOTS));
}

fn parse(der: &CertificateDer<'_>) -> Option<(UnixMillis, UnixMillis, Vec<u8>, Vec<u8>)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let millis = |seconds: i64| UnixMillis(seconds.saturating_mul(1000));
    Some((
        millis(certificate.validity().not_before.timestamp()),
        millis(certificate.validity().not_after.timestamp()),
        certificate.subject().as_raw().to_vec(),
        certificate.issuer().as_raw().to_vec(),
    ))
}

/// That every certificate of the chain is in its time, and for how long the first to end is.
pub(super) fn expiry(name: &'static str, chain: &[CertificateDer<'_>], now: UnixMillis) -> Checked {
    let advice = "renew it; the sidecar takes new files over by itself within seconds";
    let times: Option<Vec<_>> = chain.iter().map(parse).collect();
    let Some(times) = times.filter(|times| !times.is_empty()) else {
        return Checked::fail(name, "a certificate of the chain cannot be read", "replace it");
    };
    // The end of one that is ours decides; that of a root in the file means nothing to clients.
    let own = times.iter().filter(|(_, _, subject, issuer)| subject != issuer || times.len() == 1);
    let (begin, end) =
        own.clone().fold((UnixMillis(i64::MIN), UnixMillis(i64::MAX)), |(begin, end), (from, to, ..)| {
            (begin.max(*from), end.min(*to))
        });
    if begin > now {
        return Checked::fail(
            name,
            format!("the certificate is valid only from {} on", begin.to_iso_seconds()),
            "check the clock, or use one that is valid now",
        );
    }
    if end <= now {
        return Checked::fail(name, format!("the certificate expired at {}", end.to_iso_seconds()), advice);
    }
    let days = end.since(now).as_secs() / 86_400;
    let found = format!("the certificate is valid until {}, for {days} days", end.to_iso_seconds());
    if end < now.plus(SOON) {
        return Checked::warn(name, found, advice);
    }
    Checked::ok(name, found)
}

/// That the leaf is for the host of `url`.
pub(super) fn names(name: &'static str, chain: &[CertificateDer<'_>], url: Option<&Url>) -> Checked {
    let Some(host) = url.and_then(Url::host_str) else {
        return Checked::skip(name, "POSTERN_PUBLIC_URL is not set, so the name that producers use is not known");
    };
    let leaf = chain.first().and_then(|der| EndEntityCert::try_from(der).ok());
    let fits = leaf.is_some_and(|leaf| {
        ServerName::try_from(host.trim_matches(['[', ']']))
            .is_ok_and(|host| leaf.verify_is_valid_for_subject_name(&host).is_ok())
    });
    if fits {
        return Checked::ok(name, format!("the certificate is for {host}"));
    }
    Checked::fail(
        name,
        format!("the certificate is not for {host}, the host of POSTERN_PUBLIC_URL"),
        "use a certificate whose subjectAltName holds it: producers refuse any other",
    )
}

/// That the chain leads, in its order, to an authority that everybody knows: SNS and MCS know no private one (`sns.md` 1.7).
pub(super) fn public(
    name: &'static str,
    chain: &[CertificateDer<'_>],
    now: UnixMillis,
    roots: &[TrustAnchor<'_>],
) -> Checked {
    let own = "SNS takes only certificates of public authorities: use one (ACME), unless everything that delivers here trusts this one";
    let Some(leaf) = chain.first() else {
        return Checked::fail(name, "there is no certificate", "replace it");
    };
    let issuers: Vec<(Vec<u8>, Vec<u8>)> =
        chain.iter().filter_map(parse).map(|(_, _, subject, issuer)| (subject, issuer)).collect();
    if issuers.first().is_some_and(|(subject, issuer)| subject == issuer) {
        return Checked::warn(name, "the certificate is self-signed", own);
    }
    if issuers.windows(2).any(|pair| pair[0].1 != pair[1].0) {
        return Checked::fail(
            name,
            "the chain is out of order: a certificate is not issued by the one after it",
            "put the leaf first and after it, one by one, its issuers up to the root, which may be left out",
        );
    }
    // Time is judged elsewhere; an expired chain is to be called expired and not unknown.
    let within =
        chain.iter().filter_map(parse).fold(now, |at, (from, to, ..)| UnixMillis(at.0.clamp(from.0, to.0.max(from.0))));
    let at = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(within.0).unwrap_or(0)));
    let verified = EndEntityCert::try_from(leaf).is_ok_and(|leaf| {
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, roots, &chain[1..], at, KeyUsage::server_auth(), None, None)
            .is_ok()
    });
    if verified {
        return Checked::ok(name, "the chain leads to a public authority");
    }
    if chain.len() == 1 {
        return Checked::warn(
            name,
            "the certificate stands alone and leads to no public authority",
            "add the issuer's certificates after it (the full chain); if the issuer is private: SNS takes only public ones",
        );
    }
    Checked::warn(name, "the chain leads to no public authority", own)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use time::OffsetDateTime;

    use super::*;
    use crate::health::Status;

    const NOW: i64 = 1_790_000_000;

    fn now() -> UnixMillis {
        UnixMillis(NOW * 1000)
    }

    fn params(name: &str, days: i64) -> CertificateParams {
        let at = OffsetDateTime::from_unix_timestamp(NOW).expect("a time");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_before = at - time::Duration::days(100);
        params.not_after = at + time::Duration::days(days);
        params
    }

    /// Leaf, intermediate, root.
    fn chain(days: i64) -> Vec<CertificateDer<'static>> {
        let ca = |name: &str| {
            let mut params = params(name, 3650);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (params, KeyPair::generate().expect("a key"))
        };
        let ((root, root_key), (middle, middle_key)) = (ca("root.test"), ca("middle.test"));
        let root_der = root.self_signed(&root_key).expect("a root").der().clone();
        let root = Issuer::new(root, root_key);
        let middle_der = middle.signed_by(&middle_key, &root).expect("a certificate").der().clone();
        let middle = Issuer::new(middle, middle_key);
        let key = KeyPair::generate().expect("a key");
        let leaf = params("events.example.com", days).signed_by(&key, &middle).expect("a leaf").der().clone();
        vec![leaf, middle_der, root_der]
    }

    #[test]
    fn the_time_that_is_left_is_judged() {
        assert_eq!(expiry("x", &chain(90), now()).status, Status::Ok);
        let soon = expiry("x", &chain(29), now());
        assert_eq!(soon.status, Status::Warn);
        assert!(soon.found.ends_with("for 29 days"), "{soon:?}");
        assert!(expiry("x", &chain(-1), now()).found.contains("expired at"));
        assert!(expiry("x", &chain(9), now().minus(Duration::from_hours(24 * 200))).found.contains("only from"));
        assert_eq!(expiry("x", &[CertificateDer::from(vec![1, 2])], now()).status, Status::Fail);
    }

    #[test]
    fn the_name_must_be_the_public_urls() {
        let chain = chain(90);
        let url = |text: &str| Url::parse(text).expect("a URL");
        assert_eq!(names("x", &chain, Some(&url("https://events.example.com/in"))).status, Status::Ok);
        assert_eq!(names("x", &chain, Some(&url("https://other.example.com/"))).status, Status::Fail);
        assert_eq!(names("x", &chain, Some(&url("https://[::1]/"))).status, Status::Fail);
        assert_eq!(names("x", &chain, None).status, Status::Skip);
    }

    #[test]
    fn the_chain_must_lead_in_its_order_to_a_public_authority() {
        let chain = chain(90);
        let root = webpki::anchor_from_trusted_cert(&chain[2]).expect("an anchor").to_owned();
        let roots = [root];
        assert_eq!(public("x", &chain, now(), &roots).status, Status::Ok);
        assert_eq!(public("x", &chain[..2], now(), &roots).status, Status::Ok, "the root may be left out");
        assert!(public("x", &chain[..1], now(), &roots).found.contains("stands alone"));
        assert!(public("x", &chain, now(), &[]).found.contains("no public authority"));
        assert!(public("x", &chain[2..], now(), &roots).found.contains("self-signed"));
        let swapped = [chain[0].clone(), chain[2].clone(), chain[1].clone()];
        assert!(public("x", &swapped, now(), &roots).found.contains("out of order"));
        let later = now().plus(Duration::from_hours(24 * 200));
        assert_eq!(public("x", &chain, later, &roots).status, Status::Ok, "that it has expired is said elsewhere");
    }
}
