//! The bars of the relay, measured on the real binary as a process of its own, over loopback, with the store on a real disk.
//!
//! `cargo bench --bench relay`. One record in each notification, one event in each callback, distinct keys, a real RSA check for each,
//! synced before each 200. Load generator and app run in this process, on the same cores, and are part of what is measured.
//! `POSTERN_BENCH_EVENTS` (20000), `POSTERN_BENCH_CONNECTIONS` (64) and `POSTERN_BENCH_BINARY` change what is run.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::body::Bytes;
use tokio::sync::mpsc;

use postern::clock::{Clock as _, SystemClock};
use postern::simulator::dice::Dice;
use postern::simulator::load::{self, Latencies, Load, Shot};
use postern::simulator::process::{Running, Sidecar};
use postern::simulator::receiver::{self, Receiver};
use postern::simulator::sns::{self, Simulator, records};
use postern::simulator::wire::Target;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const KEY: &str = "the key of the bench";
const RATE: f64 = 500.0;
const RATED_EVENTS: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// Stands in the prepared messages for the simulator's origin, whose port is new on each run; no signed member holds it.
const ORIGIN: &str = "http://origin.invalid";

/// One run's figures.
struct Figures {
    tls: bool,
    ready: Duration,
    idle: Option<u64>,
    delivered_per_second: f64,
    acknowledged_per_second: f64,
    cpu_per_thousand: Option<f64>,
    peak: Option<u64>,
    p50: Option<Duration>,
    p99: Option<Duration>,
    failed: u64,
}

fn main() -> Outcome<()> {
    // `cargo test --benches` asks only whether it runs.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bench())
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn bench() -> Outcome<()> {
    let events = setting("POSTERN_BENCH_EVENTS", 20_000).clamp(1, 500_000);
    let simulator = Arc::new(Simulator::start(sns::Options::default()).await?);
    let messages = Arc::new(prepared(&simulator, events + RATED_EVENTS).await?);
    let mut all = Vec::new();
    for tls in [false, true] {
        all.push(measure(&simulator, &messages, events, tls).await?);
    }
    print!("{}", table(&all, events));
    std::io::stdout().flush()?;
    if all.iter().any(|figures| figures.failed > 0) {
        return Err("some genuine messages were not accepted".into());
    }
    Ok(())
}

async fn measure(simulator: &Simulator, messages: &Arc<Vec<Shot>>, events: usize, tls: bool) -> Outcome<Figures> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let options = receiver::Options { keys: vec![KEY.to_owned()], look_at_one_in: 97, ..receiver::Options::default() };
    let app = Receiver::start(options).await?;
    let binary =
        std::env::var_os("POSTERN_BENCH_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_postern").into(), PathBuf::from);
    let mut sidecar = Sidecar::between(&binary, folder.path(), simulator, &app.url(), KEY)?
        // Prepared messages are kept for a day; the check itself costs the same.
        .with("POSTERN_SNS_MAX_AGE", "24h")
        .with("POSTERN_LOG", "warn");
    let mut ca = None;
    if tls {
        let (chain, key) = simulator.authority().server_certificate(&["127.0.0.1"], SystemClock.now().to_utc())?;
        let files = (folder.path().join("tls.pem"), folder.path().join("tls.key"));
        std::fs::write(&files.0, chain)?;
        std::fs::write(&files.1, key)?;
        sidecar = sidecar.with_tls(&files.0, &files.1);
        ca = Some(simulator.anchor_pem().as_bytes());
    }
    let target = Arc::new(Target::new(&sidecar.url("/sns"), ca)?);
    let (running, ready) = sidecar.start(PATIENCE).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle = running.memory("VmRSS");

    let connections = setting("POSTERN_BENCH_CONNECTIONS", 64);
    let full = Load { target: Arc::clone(&target), connections, rate: None };
    let before = running.cpu();
    let begun = Instant::now();
    let (acknowledging, mut failed, _) = send(&full, messages, 0..events).await;
    wait_taken(&app, &sidecar, &running, events - usize::try_from(failed)?).await?;
    let took = begun.elapsed();
    let cpu = before.zip(running.cpu()).map(|(before, after)| after.saturating_sub(before).as_secs_f64());

    let rated = Load { target, connections, rate: Some(RATE) };
    let (_, failed_rated, latencies) = send(&rated, messages, events..messages.len()).await;
    failed += failed_rated;
    let clean = app.ledger(receiver::Ledger::is_clean);
    if !clean {
        return Err("a callback was signed wrongly".into());
    }
    Ok(Figures {
        tls,
        ready,
        idle,
        delivered_per_second: events as f64 / took.as_secs_f64(),
        acknowledged_per_second: events as f64 / acknowledging.as_secs_f64(),
        cpu_per_thousand: cpu.map(|seconds| seconds * 1000.0 / events as f64),
        peak: running.memory("VmHWM"),
        p50: latencies.quantile(0.5),
        p99: latencies.quantile(0.99),
        failed,
    })
}

/// Sends a part of the messages; how long that took, how many had no 200, and how long answers took.
async fn send(load: &Load, messages: &Arc<Vec<Shot>>, part: std::ops::Range<usize>) -> (Duration, u64, Arc<Latencies>) {
    let (sender, shots) = mpsc::channel(1024);
    let source = Arc::clone(messages);
    tokio::spawn(async move {
        for shot in &source[part] {
            if sender.send(shot.clone()).await.is_err() {
                return;
            }
        }
    });
    let (failed, latencies) = (Arc::new(AtomicU64::new(0)), Arc::new(Latencies::default()));
    let (counted, noted) = (Arc::clone(&failed), Arc::clone(&latencies));
    let took = load::drive(load, shots, move |_, reply, latency| {
        noted.note(latency);
        if !reply.is_ok_and(|reply| reply.status == 200) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    (took, failed.load(Ordering::Relaxed), latencies)
}

async fn wait_taken(app: &Receiver, sidecar: &Sidecar, running: &Running, wanted: usize) -> Outcome<()> {
    let begun = Instant::now();
    while app.ledger(|ledger| ledger.taken) < wanted as u64 {
        if begun.elapsed() > PATIENCE {
            let taken = app.ledger(|ledger| ledger.taken);
            return Err(
                format!("{taken} of {wanted} were delivered by {}: {}", running.id(), sidecar.log_tail()).into()
            );
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Signed messages: of an earlier run if that was less than half a day ago, else made now on all cores.
async fn prepared(simulator: &Arc<Simulator>, count: usize) -> Outcome<Vec<Shot>> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("signed-{count}.txt"));
    let fresh = std::fs::metadata(&cache)
        .and_then(|file| file.modified())
        .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < Duration::from_secs(12 * 3600)));
    if !fresh {
        println!("Signing {count} messages, which takes a while and is kept for the next runs ...");
        let text = sign_all(simulator, count).await?;
        let partial = cache.with_extension("part");
        std::fs::write(&partial, text)?;
        std::fs::rename(&partial, &cache)?;
    }
    let origin = simulator.endpoint_url().as_str().trim_end_matches('/').to_owned();
    let certificate = certificate_path(simulator);
    // The headers are the same but for the id, which the sidecar compares with the body's.
    let text = std::fs::read_to_string(&cache)?;
    let shots = text.lines().enumerate().filter_map(|(at, line)| {
        let (id, quoted) = line.split_once(' ')?;
        let body: String = serde_json::from_str(quoted).ok()?;
        let body = body.replace("/certificate.pem", &certificate).replace(ORIGIN, &origin);
        let mut headers: HeaderMap = simulator.headers_of_a_notification();
        headers.insert("x-amz-sns-message-id", id.parse().ok()?);
        Some(Shot { tag: at as u64, headers, body: Bytes::from(body) })
    });
    let shots: Vec<Shot> = shots.collect();
    if shots.len() == count { Ok(shots) } else { Err(format!("{} is damaged: remove it", cache.display()).into()) }
}

fn certificate_path(simulator: &Simulator) -> String {
    let envelope = simulator.notification(None, String::new(), &mut Dice::seeded(0));
    envelope.signing_cert_url.rsplit_once('/').map_or_else(String::new, |(_, name)| format!("/{name}"))
}

async fn sign_all(simulator: &Arc<Simulator>, count: usize) -> Outcome<String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parts = Vec::new();
    for part in 0..threads {
        let simulator = Arc::clone(simulator);
        parts.push(tokio::task::spawn_blocking(move || {
            let (mut dice, mut text) = (Dice::new(), String::new());
            let (origin, certificate) =
                (simulator.endpoint_url().as_str().trim_end_matches('/').to_owned(), certificate_path(&simulator));
            for number in (part..count).step_by(threads) {
                let change = records::Change {
                    event: "ObjectCreated:Put",
                    bucket: "bench",
                    key: &format!("bench/object {number:07}.txt"),
                    region: "us-east-1",
                    time: SystemClock.now(),
                    order: number as u32,
                };
                let envelope = simulator.s3_notification(&[records::record(&change, &mut dice)], &mut dice);
                let body = envelope.to_body().replace(&origin, ORIGIN).replace(&certificate, "/certificate.pem");
                // Writing to a string does not fail.
                let _ = writeln!(text, "{} {}", envelope.message_id, serde_json::Value::from(body));
            }
            text
        }));
    }
    let mut text = String::new();
    for part in parts {
        text.push_str(&part.await?);
    }
    Ok(text)
}

fn table(all: &[Figures], events: usize) -> String {
    let mb = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6));
    let ms = |time: Option<Duration>| {
        time.map_or_else(|| "?".to_owned(), |time| format!("{:.2} ms", time.as_secs_f64() * 1e3))
    };
    let row = |name: &str, bar: &str, cell: &dyn Fn(&Figures) -> String| {
        let cells: Vec<String> = all.iter().map(|figures| format!("{:>14}", cell(figures))).collect();
        format!("{name:<40}{bar:>12}{}\n", cells.concat())
    };
    let heads = row(&format!("{events} events"), "bar", &|f| (if f.tls { "TLS on" } else { "TLS off" }).to_owned());
    [
        heads,
        row("delivered at full load", ">= 5000/s", &|f| format!("{:.0}/s", f.delivered_per_second)),
        row("acknowledged at full load", "", &|f| format!("{:.0}/s", f.acknowledged_per_second)),
        row("CPU per 1,000 events", "<= 0.15 s", &|f| {
            f.cpu_per_thousand.map_or_else(|| "?".to_owned(), |seconds| format!("{seconds:.3} s"))
        }),
        row("ack p50 at 500/s", "", &|f| ms(f.p50)),
        row("ack p99 at 500/s", "< 10 ms", &|f| ms(f.p99)),
        row("resident, idle", "<= 20 MB", &|f| mb(f.idle)),
        row("resident, peak", "", &|f| mb(f.peak)),
        row("ready after", "<= 200 ms", &|f| ms(Some(f.ready))),
        row("genuine messages not accepted", "0", &|f| f.failed.to_string()),
    ]
    .concat()
}
