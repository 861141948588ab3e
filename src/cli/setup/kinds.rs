//! Which stores are to be set up, for which instances.

use std::io::Write;
use std::process::ExitCode;

use url::Url;

use super::report::{Failed, Report};
use super::{Args, Kind, amazon, ceph, mcs, unmake};
use crate::aws::Aws;
use crate::cli::{EXIT_USAGE, doctor};
use crate::config::{self, Environment, SetupConfig, SetupInstance};
use crate::egress::{Client, Options, ProxySettings};

/// What every kind works with.
pub(super) struct Context<'a> {
    pub(super) args: &'a Args,
    pub(super) config: &'a SetupConfig,
    pub(super) extra_ca_pem: &'a [Vec<u8>],
    pub(super) client: Client,
    /// STS, where it is not Amazon's of the region.
    pub(super) sts: Option<Url>,
}

impl Context<'_> {
    /// The account of the credentials of `aws`, where STS tells it.
    pub(super) async fn account_of(&self, aws: &Aws) -> Option<String> {
        Some(aws.identity(&self.client, self.sts.as_ref()).await.ok()?.account)
    }
}

/// Runs the command; gives the exit code.
pub(super) async fn run(args: &Args, env: &dyn Environment, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let usage = |err: &mut dyn Write, lines: &[String]| {
        for line in lines {
            // Nobody is left to tell when standard error is gone too.
            let _ = writeln!(err, "postern setup: {line}");
        }
        ExitCode::from(EXIT_USAGE)
    };
    let config = match config::setup(env) {
        Ok(config) => config,
        Err(problems) => return usage(err, &problems.iter().map(ToString::to_string).collect::<Vec<_>>()),
    };
    let extra_ca_pem = match config::extra_authorities(config::egress_files(env)) {
        Ok(pem) => pem,
        Err(what) => return usage(err, &[what]),
    };
    let options = Options { extra_ca_pem: extra_ca_pem.clone(), idle_per_host: 1, proxy: ProxySettings::from_env() };
    let client = match Client::new(options) {
        Ok(client) => client,
        Err(error) => return usage(err, &[error.to_string()]),
    };
    let work = match plan(args, &config) {
        Ok(work) => work,
        Err(what) => return usage(err, &[what]),
    };
    let sts = doctor::identity::endpoint(config.sns_endpoint.as_ref(), env);
    let context = Context { args, config: &config, extra_ca_pem: &extra_ca_pem, client, sts };
    let mut report = Report::new(out, args.json, args.dry_run);
    if !args.show_secrets {
        hide_secrets(&mut report, &config);
    }
    for (kind, instance) in work {
        report.heading(name_of(kind), &instance.name);
        if let Err(failed) = one(&context, kind, instance, &mut report).await {
            report.failure(&failed);
        }
    }
    if report.end() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn one(
    context: &Context<'_>,
    kind: Kind,
    instance: &SetupInstance,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    match (kind, context.args.remove) {
        (Kind::Aws, false) => amazon::set_up(context, instance, report).await,
        (Kind::Aws, true) => unmake::remove(context, instance, report).await,
        (Kind::Mcs, _) => mcs::run(context, instance, report).await,
        (Kind::Ceph, _) => ceph::run(context, instance, report).await,
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Aws => "Amazon S3 and SNS",
        Kind::Mcs => "MCS S3",
        Kind::Ceph => "Ceph RGW",
    }
}

/// The kinds of each instance: what was asked for, or what its settings name.
fn plan<'a>(args: &Args, config: &'a SetupConfig) -> Result<Vec<(Kind, &'a SetupInstance)>, String> {
    let mut work = Vec::new();
    let chosen = |instance: &&SetupInstance| args.instance.as_ref().is_none_or(|name| *name == instance.name);
    for instance in config.instances.iter().filter(chosen) {
        let applies = |kind| match kind {
            Kind::Aws => !instance.topics.is_empty() || instance.topic_name.is_some(),
            Kind::Mcs => !instance.mcs_topics.is_empty(),
            Kind::Ceph => instance.s3http.as_ref().is_some_and(|s3http| s3http.preset == "ceph"),
        };
        let kinds = [Kind::Aws, Kind::Mcs, Kind::Ceph].into_iter();
        work.extend(
            kinds
                .filter(|kind| args.kind.is_none_or(|asked| asked == *kind) && applies(*kind))
                .map(|kind| (kind, instance)),
        );
    }
    if !work.is_empty() {
        return Ok(work);
    }
    Err(match (args.kind, &args.instance) {
        (_, Some(name)) if !config.instances.iter().any(|instance| instance.name == *name) => {
            format!("there is no instance called {name:?}; leave --instance out to see all")
        }
        (Some(Kind::Aws) | None, _) => "the settings name nothing to set up: set event.sns.topic.arn or event.sns.topic.name (Amazon), POSTERN_MCS_TOPICS with POSTERN_MCS_SECRET (MCS S3), or POSTERN_S3HTTP_PRESET=ceph with POSTERN_S3HTTP_SECRET (Ceph)".to_owned(),
        (Some(Kind::Mcs), _) => "the settings name no MCS bucket: set POSTERN_MCS_TOPICS and POSTERN_MCS_SECRET".to_owned(),
        (Some(Kind::Ceph), _) => "the settings name no Ceph: set POSTERN_S3HTTP_PRESET=ceph and POSTERN_S3HTTP_SECRET".to_owned(),
    })
}

fn hide_secrets(report: &mut Report<'_>, config: &SetupConfig) {
    use crate::config::S3HttpAuth;
    if let Some(basic) = &config.sns_basic {
        report.hide(basic.password.expose());
        // As it stands in the URL, which encodes less than everything.
        if let Some(public) = &config.public_url
            && let Ok(url) = super::door::sns_endpoint(public, Some(basic))
            && let Ok(url) = Url::parse(&url)
        {
            let password = url.password().unwrap_or_default();
            report.hide(password);
            report.hide_at(&format!("//{}:", url.username()), password);
        }
    }
    for endpoint in &config.mcs {
        // The last part is the secret; the host before it is no secret and says what is registered.
        let url = endpoint.url.expose();
        let (place, secret) = url.split_at(url.rfind('/').map_or(0, |at| at + 1));
        report.hide(secret);
        report.hide_at(place, secret);
    }
    for instance in &config.instances {
        if let Some(credentials) = &instance.credentials {
            report.hide(credentials.secret_key.expose());
        }
        if let Some(s3http) = &instance.s3http {
            for secret in &s3http.secrets {
                report.hide(secret.expose());
                report.hide_at("/s3/", secret.expose());
            }
            // Ceph sends it as an attribute of its topic.
            if let Some(S3HttpAuth::OpaqueData(secret)) = &s3http.auth {
                report.hide_at(".value=", secret.expose());
            }
            s3http.auth_secrets().for_each(|secret| report.hide(secret.expose()));
        }
    }
}
