//! `postern simulate`: an SNS that signs with its own authority, or another store in its own dialect, and the load it sends, with
//! duplicates, late messages and forgeries.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use hyper::body::Bytes;
use tokio::sync::mpsc;

use crate::simulator::dice::Dice;
use crate::simulator::load::{self, Load, Retry};
use crate::simulator::sns::{self, Simulator, records};
use crate::simulator::wire::{Connection, Target};

mod plan;
mod settings;
mod store;
mod tally;

use plan::{Plan, Speaker};
pub use store::TargetUrl;
use tally::Tally;

/// What the options of only some dialects are without a word. They are not defaults of clap's, so that one which was given can be told from one which
/// was not, and is refused where nobody would look at it.
const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:postern-demo";
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9911);
const ANCHOR: &str = "postern-simulator-anchor.pem";
const SIGNATURE_VERSION: u8 = 2;
const PROJECT: &str = "mcs2883541269";

/// Send notifications of S3 changes to a sidecar: signed ones as SNS does, or those of another store in its own dialect.
///
/// The sidecar must be told to believe this simulator, which prints the settings that do it and waits for the sidecar. For SNS stay on
/// one --listen address to keep them valid; the trust anchor is new on every run, so start the sidecar after the simulator.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The sidecar's route, such as http://127.0.0.1:8443/sns; with mcs the webhook's URL exactly as in the bucket's configuration
    #[arg(long, value_name = "URL")]
    pub target: TargetUrl,

    /// The topic that is published to, with sns and sns-raw; the sidecar must accept it
    /// [default: arn:aws:sns:us-east-1:123456789012:postern-demo]
    #[arg(long, value_name = "ARN")]
    pub topic: Option<String>,

    /// Messages per second, such as 500/s; without it as fast as answers come
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    pub rate: Option<f64>,

    /// Genuine messages to send
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub count: u64,

    /// Distinct object keys
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,

    /// Messages of 100 that are sent a second time
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub duplicates: u8,

    /// Messages of 100 that are held back behind later ones
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub reorder: u8,

    /// Forged messages sent in addition, for every 100 genuine ones
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub forge: u8,

    /// With sns: 1 signs with SHA-1, 2 with SHA-256 [default: 2]
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub signature_version: Option<u8>,

    /// The S3 event, such as ObjectCreated:Put; mix sends every type there is
    #[arg(long, value_name = "NAME", default_value = "ObjectCreated:Put")]
    pub event: String,

    /// S3 records in each message
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub records: u16,

    /// Bucket of the changes
    #[arg(long, value_name = "NAME", default_value = "postern-demo")]
    pub bucket: String,

    /// With sns: where certificate and subscription confirmations are served [default: 127.0.0.1:9911]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,

    /// With sns: where the trust anchor is written [default: postern-simulator-anchor.pem]
    #[arg(long, value_name = "FILE")]
    pub anchor_out: Option<PathBuf>,

    /// With sns: another RSA key to sign with (PKCS #8 PEM) than the simulator's own
    #[arg(long, value_name = "FILE")]
    pub signing_key: Option<PathBuf>,

    /// With sns: first ask the sidecar to confirm its subscription, and wait for that
    #[arg(long)]
    pub confirm: bool,

    /// Connections to the sidecar
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,

    /// PEM authorities for an https target
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// How long to wait for the sidecar to answer
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub wait: Duration,

    /// Allow a target that is not on this machine
    #[arg(long)]
    pub allow_remote: bool,

    /// Who speaks; mcs begins with its handshake and checks the answer
    #[arg(long, default_value = "sns", value_parser = ["sns", "mcs", "minio", "rustfs", "ceph", "noobaa", "versitygw", "b2", "eventbridge", "sns-raw"])]
    pub dialect: String,

    /// What a store that is not sns or mcs sends to be believed, as in POSTERN_S3HTTP_AUTH; with b2 the signing secret
    #[arg(long, value_name = "VALUE")]
    pub auth: Option<String>,

    /// With any but sns: owner of the bucket; with mcs the project, the first part of a pair in POSTERN_MCS_TOPICS
    /// [default: mcs2883541269]
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
}

impl Args {
    fn topic(&self) -> &str {
        self.topic.as_deref().unwrap_or(TOPIC)
    }

    fn project(&self) -> &str {
        self.project.as_deref().unwrap_or(PROJECT)
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("a rate is a number above zero with /s behind it, such as 500/s".to_owned()),
    }
}

/// Runs the command: 0 when all went as it should, 1 when a forgery was accepted or a genuine message was not, 2 when it could
/// not begin.
pub async fn run(args: Args) -> ExitCode {
    match simulate(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "postern simulate: {why}");
            ExitCode::from(2)
        }
    }
}

async fn simulate(args: Args) -> Result<bool, String> {
    let ca = args.ca.as_ref().map(read).transpose()?;
    let target = Target::new(&args.target.url, ca.as_deref()).map_err(|error| error.to_string())?;
    if !target.is_loopback() && !args.allow_remote {
        return Err(format!(
            "{} is not on this machine; load and forgeries go elsewhere only with --allow-remote",
            args.target
        ));
    }
    let target = Arc::new(target);
    let (speaker, retry) = match store::Speaker::new(&args)? {
        Some(store) => {
            say(&store.settings(&args));
            wait_for(&target, &args).await?;
            store.greet(&args, &mut Connection::new(Arc::clone(&target))).await?;
            let retry = store.retry();
            (Speaker::Store(store), retry)
        }
        None => (Speaker::Sns(sns(&args, &target).await?), Retry::NEVER),
    };
    let tally = Arc::new(Tally::default());
    let load = Load { target, connections: usize::from(args.connections), rate: args.rate };
    let (sender, shots) = mpsc::channel(1024);
    let plan = Arc::new(Plan::new(&args, speaker));
    // Signing is the dear part. With one connection there is one signer, so that what is sent keeps its order.
    let signers = std::thread::available_parallelism().map_or(1, usize::from).min(load.connections);
    for _ in 0..signers {
        let (plan, sender) = (Arc::clone(&plan), sender.clone());
        tokio::task::spawn_blocking(move || plan.produce(&sender));
    }
    drop(sender);
    let noted = Arc::clone(&tally);
    let took = load::drive_with(&load, retry, shots, move |tag, reply, latency| noted.note(tag, &reply, latency)).await;
    say(&tally.report(took));
    Ok(tally.is_well())
}

/// An SNS whose subscription is confirmed where that was asked for.
async fn sns(args: &Args, target: &Arc<Target>) -> Result<Arc<Simulator>, String> {
    if args.auth.is_some() {
        return Err("SNS is believed by its signature: leave --auth out".to_owned());
    }
    if args.project.is_some() {
        return Err("--project is for the stores that name a bucket's owner: leave it out with sns".to_owned());
    }
    if args.event != "mix" && !records::EVENT_NAMES.contains(&args.event.as_str()) {
        return Err(format!(
            "no S3 event is called {}; there are mix, {}",
            args.event,
            records::EVENT_NAMES.join(", ")
        ));
    }
    let signing_key_pem = match &args.signing_key {
        Some(path) => Some(String::from_utf8(read(path)?).map_err(|_| format!("{} is no PEM", path.display()))?),
        None => None,
    };
    let options = sns::Options {
        listen: args.listen.unwrap_or(LISTEN),
        topic_arn: args.topic().to_owned(),
        signature_version: args.signature_version.unwrap_or(SIGNATURE_VERSION),
        signing_key_pem,
        ..sns::Options::default()
    };
    let simulator = Arc::new(Simulator::start(options).await.map_err(|error| error.to_string())?);
    let anchor = args.anchor_out.as_deref().unwrap_or_else(|| Path::new(ANCHOR));
    std::fs::write(anchor, simulator.anchor_pem())
        .map_err(|error| format!("cannot write {}: {error}", anchor.display()))?;
    let anchor = std::path::absolute(anchor).unwrap_or_else(|_| anchor.to_owned());
    say(&settings::shown(&[
        ("POSTERN_SNS_ENDPOINT_URL", simulator.endpoint_url().as_str().trim_end_matches('/')),
        ("POSTERN_SNS_TRUST_ANCHOR_FILE", &anchor.to_string_lossy()),
        ("EVENT_SNS_TOPIC_ARN", args.topic()),
    ]));
    wait_for(target, args).await?;
    if args.confirm {
        confirm(&simulator, target).await?;
    }
    Ok(simulator)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The path that is probed, with its query: the secret may stand there.
fn probed(args: &Args) -> &str {
    &args.target.url[url::Position::BeforePath..url::Position::AfterQuery]
}

fn say(text: &str) {
    // Whoever closes our output does not want to hear the rest; the exit code still says it.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Waits until the target answers a probe.
async fn wait_for(target: &Arc<Target>, args: &Args) -> Result<(), String> {
    let begun = Instant::now();
    let mut connection = Connection::new(Arc::clone(target)).with_timeout(Duration::from_secs(5));
    let mut said = false;
    loop {
        let answer = connection.send(Method::GET, probed(args), Default::default(), Bytes::new()).await;
        let Err(error) = answer else { return Ok(()) };
        if begun.elapsed() >= args.wait {
            return Err(format!("{} does not answer: {error}", args.target));
        }
        if !said {
            said = true;
            say(&format!("Waiting for {} to answer ...", args.target));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn confirm(simulator: &Simulator, target: &Arc<Target>) -> Result<(), String> {
    let envelope = simulator.subscription_confirmation(&mut Dice::new());
    let sent = simulator.deliver(&mut Connection::new(Arc::clone(target)), &envelope).await;
    let reply = sent.reply.map_err(|error| format!("the subscription confirmation had no answer: {error}"))?;
    if !reply.status.is_success() {
        return Err(format!(
            "the subscription confirmation was answered with {}; does the sidecar have the settings above?",
            reply.status
        ));
    }
    if !simulator.wait_confirmed(Duration::from_secs(15)).await {
        return Err("the sidecar took the subscription confirmation and did not confirm within 15 s".to_owned());
    }
    say("The subscription is confirmed.");
    Ok(())
}

#[cfg(test)]
mod tests;
