//! The public URL as it is seen from here. Producers look from elsewhere: within a cluster the way through the front door may not
//! exist (hairpin NAT), so what cannot be reached is a warning, and what answers wrongly is a failure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::net::TcpStream;
use url::Url;

use super::{ASK_TIMEOUT, Context, Sink, certificate, handshake};
use crate::config::sns_url;
use crate::egress::ProxySettings;
use crate::health::Checked;

/// Of a probe's answer, which has no body, this much is read.
const MAX_BODY: usize = 4096;
const HAIRPIN: &str = "look at DNS, load balancer and firewall; from inside a cluster its own public address may be out of reach although producers reach it: then try from outside";

pub(super) async fn run(context: &Arc<Context>, sink: &Sink) {
    let config = &context.config;
    let Some(public) = &config.public_url else {
        sink.add(Checked::skip("public_url", "POSTERN_PUBLIC_URL is not set"));
        return mcs(context, sink, running(context).await).await;
    };
    let running = running(context).await;
    let topics = config.instances.iter().any(|instance| !instance.topics.is_empty());
    let probe = if topics { sns_url(public) } else { public.clone() };
    let what = shown(&probe);
    let asked = ask(context, &probe, "public_url", &what, running);
    let (answer, ()) = tokio::join!(asked, shape(context, public, sink));
    sink.add(answer);
    mcs(context, sink, running).await;
    let mut secret = public.clone();
    for instance in &config.instances {
        let Some(s3http) = &instance.s3http else { continue };
        for part in &s3http.secrets {
            secret.set_path(&format!("{}/s3/{}", public.path().trim_end_matches('/'), part.expose()));
            let what = format!("{}/s3/<secret>", shown(public).trim_end_matches('/'));
            sink.add_for(&instance.name, ask(context, &secret, "s3http_url", &what, running).await);
        }
    }
}

/// The MCS URLs, whose path is secret.
async fn mcs(context: &Arc<Context>, sink: &Sink, running: bool) {
    const NAME: &str = "mcs_url";
    for endpoint in &context.config.mcs {
        let Ok(url) = Url::parse(endpoint.url.expose()) else {
            sink.add(Checked::fail(NAME, "POSTERN_MCS_URL is no URL", "set the URL of the bucket's webhook"));
            continue;
        };
        let what = format!("{}/<secret>", url.origin().ascii_serialization());
        let elsewhere = context.config.public_url.as_ref().filter(|public| public.origin() != url.origin());
        if let Some(public) = elsewhere {
            sink.add(Checked::warn(
                NAME,
                format!(
                    "the URL of the MCS webhook is at {} and POSTERN_PUBLIC_URL at {}",
                    url.origin().ascii_serialization(),
                    public.origin().ascii_serialization()
                ),
                "POSTERN_MCS_URL must be byte for byte what the bucket's configuration holds: the handshake signs it",
            ));
        }
        sink.add(ask(context, &url, NAME, &what, running).await);
    }
    let listens = context.config.instances.iter().any(|instance| !instance.mcs_topics.is_empty());
    if listens && context.config.mcs.is_empty() {
        sink.add(Checked::fail(
            NAME,
            "POSTERN_MCS_TOPICS is set and no webhook can arrive: there is neither POSTERN_MCS_SECRET nor POSTERN_MCS_URL",
            "set POSTERN_MCS_SECRET, and POSTERN_PUBLIC_URL or POSTERN_MCS_URL",
        ));
    } else if !listens && !context.config.mcs.is_empty() {
        sink.add(Checked::warn(
            NAME,
            "POSTERN_MCS_TOPICS names no project|bucket: every MCS webhook is refused",
            "set it to the first two parts of the MCS TopicArn",
        ));
    }
}

/// GETs `url`, which is called `what` here: a postern answers 200 without a body.
async fn ask(context: &Context, url: &Url, name: &'static str, what: &str, running: bool) -> Checked {
    let fetch = match &context.fetch {
        Ok(fetch) => fetch,
        Err(why) => {
            return Checked::fail(name, format!("outgoing HTTP cannot be set up: {why}"), "correct the setting");
        }
    };
    match fetch.get(url, MAX_BODY, ASK_TIMEOUT).await {
        Ok(answer) => judge(name, what, answer.status, answer.body.is_empty(), running),
        Err(error) => Checked::warn(name, format!("{what} cannot be reached from here: {error}"), HAIRPIN),
    }
}

/// What an answer's status means; `running` is whether a sidecar listens on this machine.
fn judge(name: &'static str, what: &str, status: u16, empty: bool, running: bool) -> Checked {
    match status {
        200 if empty => Checked::ok(name, format!("{what} answers as a postern does")),
        200 => Checked::warn(
            name,
            format!("{what} answers 200 with a page, which a postern does not"),
            "somebody else answers there: route this path to the sidecar's POSTERN_LISTEN",
        ),
        300..400 => Checked::fail(
            name,
            format!("{what} redirects (status {status}), and producers follow no redirect"),
            "use the final address as POSTERN_PUBLIC_URL, and let the ingress not redirect this path",
        ),
        _ if !running => Checked::warn(
            name,
            format!("{what} answers with status {status}; no sidecar listens here, so perhaps none is behind it"),
            "run this again while the sidecar runs",
        ),
        _ => Checked::fail(
            name,
            format!("{what} answers with status {status}, while the sidecar listens here"),
            "what stands between (ingress, load balancer) does not lead this path to the sidecar's POSTERN_LISTEN",
        ),
    }
}

/// Scheme of the public URL, and the certificate that stands before it.
async fn shape(context: &Context, public: &Url, sink: &Sink) {
    const NAME: &str = "public_certificate";
    if public.scheme() != "https" {
        return sink.add(Checked::warn(
            NAME,
            "POSTERN_PUBLIC_URL is plain HTTP: anybody between reads the events",
            "use https",
        ));
    }
    if ProxySettings::from_env().covers(public) {
        return sink.add(Checked::skip(NAME, "from here it is only seen through a proxy"));
    }
    let chain = match handshake::connect(public).await {
        Ok(chain) => chain,
        Err(why) => return sink.add(Checked::warn(NAME, why, HAIRPIN)),
    };
    let all = [
        certificate::expiry(NAME, &chain, context.now()),
        certificate::names(NAME, &chain, Some(public)),
        certificate::public(NAME, &chain, context.now(), webpki_roots::TLS_SERVER_ROOTS),
    ];
    all.into_iter().for_each(|checked| sink.add(checked));
}

/// Whether somebody listens where the sidecar is told to.
async fn running(context: &Context) -> bool {
    let mut address = context.config.listen;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    tokio::time::timeout(ASK_TIMEOUT, TcpStream::connect(address)).await.is_ok_and(|connected| connected.is_ok())
}

/// A URL without user information and query.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    #[test]
    fn an_answer_is_judged_by_its_status_and_by_who_listens_here() {
        for (status, empty, running, expected) in [
            (200, true, true, Status::Ok),
            (200, true, false, Status::Ok),
            (200, false, true, Status::Warn),
            (301, true, true, Status::Fail),
            (404, true, true, Status::Fail),
            (503, true, false, Status::Warn),
        ] {
            assert_eq!(
                judge("public_url", "it", status, empty, running).status,
                expected,
                "{status} {empty} {running}"
            );
        }
    }
}
