use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, SanType,
};

use super::pem::{BEGIN, END};
use super::*;
use crate::simulator::authority::{Authority, Leaf, SIGNING_KEY_PEM};

const NAME: &str = "sns.amazonaws.com";
const URL: &str = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-7506a1e35b36ef5a444dd1a8e7cc3ed8.pem";
/// 1024 bits, and signed with SHA-1; both made for this test and otherwise in order.
const WEAK_KEY: &str = include_str!("testdata/rsa-1024.pem");
const WEAK_SIGNATURE: &str = include_str!("testdata/signed-with-sha1.pem");

pub(in crate::sources::sns) fn now() -> UnixMillis {
    UnixMillis(1_790_000_000_000)
}

fn authority() -> Authority {
    Authority::new(&Leaf::named(NAME, now().to_utc())).expect("an authority")
}

fn judge_with(
    pem: &str,
    trust: &Trust,
    issuers: &[CertificateDer<'static>],
    chain: ChainPolicy,
) -> Result<Judged, Reason> {
    judge(pem.as_bytes(), URL, NAME, &Bench { trust, issuers, chain, now: now() }).map_err(|r| r.reason)
}

fn reason(pem: &str, trust: &Trust) -> &'static str {
    judge_with(pem, trust, &[], ChainPolicy::Enforce).map_or_else(Reason::as_str, |_| "ok")
}

fn trust(pem: &str) -> Trust {
    Trust::from_pem(pem.as_bytes()).expect("a trust anchor")
}

/// An RSA leaf as SNS has it, which `change` alters; `None` signs itself.
pub(in crate::sources::sns) fn leaf(
    issuer: Option<&Issuer<'static, KeyPair>>,
    change: impl FnOnce(&mut CertificateParams),
) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.subject_alt_names = vec![SanType::DnsName(NAME.try_into().expect("a name"))];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.not_before = now().minus(Duration::from_secs(86_400)).to_utc();
    params.not_after = now().plus(Duration::from_secs(86_400)).to_utc();
    change(&mut params);
    let key = KeyPair::from_pem_and_sign_algo(SIGNING_KEY_PEM, &PKCS_RSA_SHA256).expect("a key");
    match issuer {
        Some(issuer) => params.signed_by(&key, issuer).expect("signed").pem(),
        None => params.self_signed(&key).expect("signed").pem(),
    }
}

/// A CA called `name`, issued by `issuer` or by itself.
pub(in crate::sources::sns) fn ca(
    name: &str,
    issuer: Option<&Issuer<'static, KeyPair>>,
) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = now().minus(Duration::from_secs(86_400)).to_utc();
    params.not_after = now().plus(Duration::from_secs(86_400)).to_utc();
    let key = KeyPair::generate().expect("a key");
    let pem = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).expect("signed").pem(),
        None => params.self_signed(&key).expect("signed").pem(),
    };
    (pem, Issuer::new(params, key))
}

/// The extension that says where the issuer's certificate is.
pub(in crate::sources::sns) fn issued_at(url: &str) -> CustomExtension {
    let uri = [&[0x86, u8::try_from(url.len()).expect("short")], url.as_bytes()].concat();
    let method = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];
    let description = sequence(&[&method[..], &uri].concat());
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], sequence(&description))
}

pub(in crate::sources::sns) fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from(pem_certificates(pem.as_bytes()).expect("PEM").remove(0))
}

#[test]
fn a_leaf_of_a_trusted_root_may_sign() {
    let authority = authority();
    let judged =
        judge_with(authority.leaf_pem(), &trust(authority.root_pem()), &[], ChainPolicy::Enforce).expect("good");
    assert!(judged.problem.is_none() && judged.key.is_valid_at(now()));
    let text = b"text";
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    for version in [1, 2] {
        let signature = STANDARD.decode(authority.signer().sign(version, text)).expect("base64");
        assert!(judged.key.verify(version, text, &signature));
        assert!(!judged.key.verify(3 - version, text, &signature));
        assert!(!judged.key.verify(version, b"texts", &signature));
        assert!(!judged.key.verify(3, text, &signature));
    }
}

#[test]
fn the_bundled_roots_are_amazons_five() {
    let trust = Trust::amazon();
    assert!(trust.is_amazon());
    assert_eq!(trust.anchors.len(), 5);
}

#[test]
fn only_exactly_one_pem_certificate_is_read() {
    let authority = authority();
    let trust = trust(authority.root_pem());
    let pem = authority.leaf_pem();
    assert_eq!(reason(&format!("\r\n  {}\n\n", pem.replace('\n', "\r\n")), &trust), "ok");
    for text in [
        String::new(),
        "<html>".to_owned(),
        format!("{pem}{pem}"),
        format!("text\n{pem}"),
        format!("{pem}text"),
        pem.replace("CERTIFICATE", "PUBLIC KEY"),
        pem.replace("CERTIFICATE", "X509 CRL"),
        SIGNING_KEY_PEM.to_owned(),
        pem.replacen('\n', "", 1),
        pem.replace("MII", "MI*"),
        format!("{BEGIN}\nAAAA\n{END}"),
        format!("{pem}{}", "\n".repeat(MAX_CERTIFICATE_BYTES)),
    ] {
        assert_eq!(reason(&text, &trust), "cert_format", "{text:.80}");
    }
}

#[test]
fn a_certificate_that_signs_itself_or_leads_elsewhere_is_refused() {
    let authority = authority();
    let trust = trust(authority.root_pem());
    assert_eq!(reason(&leaf(None, |_| {}), &trust), "cert_chain");
    assert_eq!(
        reason(&leaf(None, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), &trust),
        "cert_is_ca"
    );
    // Another root of the same name: known by name, refused by signature.
    let other = Authority::new(&Leaf::named(NAME, now().to_utc())).expect("an authority");
    assert_eq!(reason(other.leaf_pem(), &trust), "cert_chain");
    // An issuer that we have, but that leads to a root that we do not trust.
    let (_, foreign_root) = ca("Foreign root", None);
    let (foreign, foreign_issuer) = ca("Foreign issuer", Some(&foreign_root));
    let pem = leaf(Some(&foreign_issuer), |_| {});
    let judged = judge_with(&pem, &trust, &[der(&foreign)], ChainPolicy::Enforce);
    assert_eq!(judged.map(|_| ()), Err(Reason::CertChain));
    // An issuer that we do not have at all is our own ignorance.
    assert_eq!(reason(&pem, &trust), "cert_issuer_unknown");
    assert_eq!(Reason::CertIssuerUnknown.status(), 503);
}

#[test]
fn intermediates_complete_a_chain_and_expired_ones_count_as_absent() {
    let (root_pem, root) = ca("Root", None);
    let (issuer_pem, issuer) = ca("Issuer", Some(&root));
    let pem = leaf(Some(&issuer), |params| params.not_after = now().plus(Duration::from_secs(10 * 86_400)).to_utc());
    let trust = trust(&root_pem);
    assert!(judge_with(&pem, &trust, &[der(&issuer_pem)], ChainPolicy::Enforce).is_ok());
    let later = now().plus(Duration::from_secs(2 * 86_400));
    let issuers = [der(&issuer_pem)];
    let bench = Bench { trust: &trust, issuers: &issuers, chain: ChainPolicy::Enforce, now: later };
    assert_eq!(
        judge(pem.as_bytes(), URL, NAME, &bench).map_err(|r| r.reason).map(|_| ()),
        Err(Reason::CertIssuerUnknown)
    );
    // The anchor may be the intermediate alone.
    assert_eq!(reason(&pem, &self::trust(&issuer_pem)), "ok");
}

#[test]
fn names_times_and_kinds_of_keys_are_checked() {
    let authority = authority();
    let trust = trust(authority.root_pem());
    let issuer = Some(authority.issuer());
    let renamed = |name: &str| {
        leaf(issuer, |params| params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("a name"))])
    };
    assert_eq!(reason(&renamed("sns-signing.af-south-1.amazonaws.com"), &trust), "cert_name");
    assert_eq!(reason(&renamed("sns.amazonaws.com.evil.example"), &trust), "cert_name");
    assert_eq!(
        reason(&leaf(issuer, |params| params.subject_alt_names.clear()), &trust),
        "cert_name",
        "common name alone"
    );
    let past = |params: &mut CertificateParams| params.not_after = now().minus(Duration::from_secs(2)).to_utc();
    let ahead = |params: &mut CertificateParams| params.not_before = now().plus(Duration::from_secs(2)).to_utc();
    assert_eq!(reason(&leaf(issuer, past), &trust), "cert_not_valid_now");
    assert_eq!(reason(&leaf(issuer, ahead), &trust), "cert_not_valid_now");
    assert_eq!(reason(WEAK_KEY, &self::trust(WEAK_KEY)), "cert_key");
    assert_eq!(reason(WEAK_SIGNATURE, &self::trust(WEAK_SIGNATURE)), "cert_key");
    let other_use = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    };
    assert_eq!(reason(&leaf(issuer, other_use), &trust), "cert_chain");

    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let params = CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
        let pem = params.signed_by(&key, authority.issuer()).expect("signed").pem();
        assert_eq!(reason(&pem, &trust), "cert_key");
    }
}

#[test]
fn a_leaf_that_is_the_anchor_itself_needs_no_name_or_chain_but_still_time_and_key() {
    let ca_leaf = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names.clear();
    };
    let pem = leaf(None, ca_leaf);
    assert_eq!(reason(&pem, &trust(&pem)), "ok");
    let plain = leaf(None, |params| params.subject_alt_names.clear());
    assert_eq!(reason(&plain, &trust(&plain)), "ok");
    // The same key and name in another certificate is not the anchor itself.
    let again = leaf(None, |params| {
        ca_leaf(params);
        params.not_after = now().plus(Duration::from_secs(100)).to_utc();
    });
    assert_eq!(reason(&again, &trust(&pem)), "cert_is_ca");
    let old = leaf(None, |params| params.not_after = now().minus(Duration::from_secs(2)).to_utc());
    assert_eq!(reason(&old, &trust(&old)), "cert_not_valid_now");
    // A leaf given as an anchor cannot issue others.
    let key = KeyPair::from_pem_and_sign_algo(SIGNING_KEY_PEM, &PKCS_RSA_SHA256).expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, NAME);
    let issued = leaf(Some(&Issuer::new(params, key)), |_| {});
    assert_ne!(reason(&issued, &trust(&plain)), "ok");
}

#[test]
fn warn_and_off_let_a_broken_chain_pass_but_nothing_else() {
    let authority = authority();
    let trust = trust(authority.root_pem());
    let (_, stranger) = ca("Stranger", None);
    let good = leaf(Some(&stranger), |_| {});
    let warned = judge_with(&good, &trust, &[], ChainPolicy::Warn).expect("passes");
    assert_eq!(warned.problem.map(|p| p.reason), Some(Reason::CertIssuerUnknown));
    assert!(judge_with(&good, &trust, &[], ChainPolicy::Off).expect("passes").problem.is_none());
    for chain in [ChainPolicy::Warn, ChainPolicy::Off] {
        let unnamed = leaf(Some(&stranger), |params| params.subject_alt_names.clear());
        assert_eq!(judge_with(&unnamed, &trust, &[], chain).map(|_| ()), Err(Reason::CertName));
        let old = leaf(Some(&stranger), |params| params.not_after = now().minus(Duration::from_secs(2)).to_utc());
        assert_eq!(judge_with(&old, &trust, &[], chain).map(|_| ()), Err(Reason::CertNotValidNow));
    }
}

#[test]
fn issuers_are_looked_for_only_at_amazon_trust() {
    let authority = authority();
    let at = |url: &str| {
        let pem = leaf(Some(authority.issuer()), |params| params.custom_extensions = vec![issued_at(url)]);
        issuer_url(pem.as_bytes()).map(String::from)
    };
    let good = "http://crt.r2m01.amazontrust.com/r2m01.cer";
    assert_eq!(at(good).as_deref(), Some(good));
    for url in [
        "http://crt.r2m01.amazontrust.com.evil.example/r2m01.cer",
        "http://crt.evil.example/amazontrust.com",
        "http://crt.r2m01.amazontrust.com:8080/r2m01.cer",
        "http://user@crt.r2m01.amazontrust.com/r2m01.cer",
        "http://crt.a.b.amazontrust.com/r2m01.cer",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
    ] {
        assert_eq!(at(url), None, "{url}");
    }
    assert_eq!(issuer_url(authority.leaf_pem().as_bytes()), None);
}

#[test]
fn a_fetched_issuer_is_kept_only_when_it_leads_to_a_root() {
    let (root_pem, root) = ca("Root", None);
    let (issuer_pem, issuer) = ca("Issuer", Some(&root));
    let (below_pem, _) = ca("Below", Some(&issuer));
    let (_, other_root) = ca("Root", None);
    let (forged_pem, _) = ca("Issuer", Some(&other_root));
    let trust = Trust::as_amazon(&root_pem);
    let accept = |bytes: &[u8], issuers: &[CertificateDer<'static>], now| {
        accept_issuer(bytes, &Bench { trust: &trust, issuers, chain: ChainPolicy::Enforce, now })
            .map_err(|r| r.status())
    };
    assert_eq!(accept(&der(&issuer_pem), &[], now()), Ok(der(&issuer_pem)), "DER");
    assert_eq!(accept(issuer_pem.as_bytes(), &[], now()), Ok(der(&issuer_pem)), "PEM");
    assert_eq!(accept(&der(&forged_pem), &[], now()), Err(503), "same names, other key");
    assert_eq!(accept(&der(&below_pem), &[], now()), Err(503));
    assert!(accept(&der(&below_pem), &[der(&issuer_pem)], now()).is_ok());
    assert_eq!(accept(&der(&issuer_pem), &[], now().plus(Duration::from_secs(2 * 86_400))), Err(503));
    assert_eq!(accept(&der(&leaf(Some(&root), |_| {})), &[], now()), Err(503), "no CA");
    assert_eq!(accept(b"", &[], now()), Err(503));
}

/// Amazon renews an issuer under its old name; with a new key that was taken for a forgery, and what its leafs signed was refused
/// for good.
#[test]
fn a_leaf_of_a_renewed_issuer_is_of_one_that_we_do_not_have() {
    let (root, issuer) = ca("root", None);
    let (old, _) = ca("M01", Some(&issuer));
    let (_, renewed) = ca("M01", Some(&issuer));
    let judged = |names_its_issuer: bool| {
        let pem = leaf(Some(&renewed), |params| params.use_authority_key_identifier_extension = names_its_issuer);
        judge_with(&pem, &trust(&root), &[der(&old)], ChainPolicy::Enforce).map_or_else(Reason::as_str, |_| "ok")
    };
    assert_eq!(judged(true), "cert_issuer_unknown");
    assert_eq!(judged(false), "cert_chain", "nothing says that another key signed");
}
