//! The demo with the signing SNS stand-in, and after it MCS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;

use super::second::{Mcs, Told};
use super::{Args, PATIENCE, Stage, Story, word};
use crate::clock::{Clock as _, SystemClock};
use crate::simulator::process::{Running, Sidecar};
use crate::simulator::receiver::Behaviour;
use crate::simulator::sns::envelope::Envelope;
use crate::simulator::sns::forge::Forgery;
use crate::simulator::sns::{self, Simulator, records};
use crate::simulator::wire::{Connection, Target};

const BUCKET: &str = "demo-bucket";

/// Events handed over while the app is away, each time.
const OWED: usize = 20;

/// Everything on stage, and the count of what went through.
struct Play {
    stage: Stage,
    simulator: Simulator,
    sidecar: Sidecar,
    connection: Connection,
    changes: u32,
    accepted: usize,
    refused: usize,
}

pub(super) async fn tell(args: &Args, story: &mut Story) -> Result<(), String> {
    let mut stage = Stage::set(args).await?;
    let simulator = Simulator::start(sns::Options::default()).await.map_err(|error| error.to_string())?;
    let sidecar = Sidecar::between(&stage.binary, stage.scratch.path(), &simulator, &stage.app.url(), &stage.key)
        .map_err(|error| error.to_string())?;
    let (mcs, sidecar) = Mcs::beside(sidecar, stage.scratch.path(), &mut stage.dice)?;
    let target = Target::new(&sidecar.url("/sns"), None).map_err(|error| error.to_string())?;
    let connection = Connection::new(Arc::new(target));
    let mut play = Play { stage, simulator, sidecar, connection, changes: 0, accepted: 0, refused: 0 };

    let running = play.opening(story).await?;
    play.subscription(story).await;
    play.changes(story).await;
    play.duplicates(story).await;
    play.forgeries(story).await;
    play.outage(story).await;
    let mut running = play.kill(story, running).await?;
    let told = mcs.tell(&mut play.stage, story, &play.sidecar, &mut running).await?;
    play.ledger(story, told);
    drop(running);
    Ok(())
}

impl Play {
    async fn opening(&self, story: &mut Story) -> Result<Running, String> {
        story.step("Three programs on this machine");
        let (running, took) = self.sidecar.start(PATIENCE).await.map_err(|error| error.to_string())?;
        story.line(&format!(
            "SNS      {}  a stand-in for Amazon SNS with its own certificate",
            self.simulator.endpoint_url()
        ));
        story.line(&format!("Postern  {}  the sidecar, ready after {} ms", self.sidecar.url("/sns"), took.as_millis()));
        story.line(&format!("App      {}  takes events and checks their signatures", self.stage.app.url()));
        Ok(running)
    }

    async fn subscription(&mut self, story: &mut Story) {
        story.step("SNS asks whether the subscription is wanted; Postern checks the signature and confirms");
        let asked = self.simulator.subscription_confirmation(&mut self.stage.dice);
        let status = self.send(&asked).await;
        story.check(status == Some(200), &format!("the signed request was answered with {}", word(status)));
        let confirmed = self.simulator.wait_confirmed(PATIENCE).await;
        story.check(confirmed, "Postern fetched the ConfirmSubscription URL that it built itself");
    }

    async fn changes(&mut self, story: &mut Story) {
        story.step("An object is created, tagged and deleted; S3 says so through SNS; the app hears of it, signed");
        let key = "orders/2026/first order.txt";
        for event in ["ObjectCreated:Put", "ObjectTagging:Put", "ObjectRemoved:Delete"] {
            let status = self.change(event, key).await.1;
            story.check(status == Some(200), &format!("{event:<21} accepted with {}", word(status)));
        }
        let app = &self.stage.app;
        let all = app.wait_until(PATIENCE, |app| app.events.len() == 3).await;
        story.check(all, "three callbacks reached the app, in this order");
        self.stage.show_callback(story);
    }

    async fn duplicates(&mut self, story: &mut Story) {
        story.step("SNS delivers at least once: the same message again, and the same change in a new message");
        let (first, _) = self.change("ObjectCreated:Put", "orders/2026/second order.txt").await;
        let mut republished = first.clone();
        republished.message_id = self.stage.dice.uuid();
        republished.sign(self.simulator.authority().signer());
        for (what, again) in [("the same message", first), ("a new message with the same change", republished)] {
            let status = self.send(&again).await;
            story.check(status == Some(200), &format!("{what}: answered with {}", word(status)));
        }
        let one = self.stage.app.wait_until(PATIENCE, |app| app.events.len() == 4).await;
        // Long enough for a second callback to arrive, if there were one.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let repeated = self.stage.app.ledger(|app| app.repeated);
        let exact = self.stage.app.ledger(|app| app.events.len()) == 4;
        story.check(one && exact && repeated == 0, "the app heard of that change once");
    }

    async fn forgeries(&mut self, story: &mut Story) {
        story.step("Forged messages");
        let (genuine, _) = self.change("ObjectCreated:Put", "orders/2026/third order.txt").await;
        for forgery in Forgery::ALL {
            let (headers, body) = self.simulator.forge(forgery, &genuine, &mut self.stage.dice);
            let reply = self.connection.post(headers, Bytes::from(body)).await;
            let status = reply.ok().map(|reply| reply.status.as_u16());
            let refused = status.is_some_and(|status| (400..500).contains(&status));
            self.refused += usize::from(refused);
            story.check(refused, &format!("{:<28} answered with {}", forgery.as_str(), word(status)));
        }
    }

    async fn outage(&mut self, story: &mut Story) {
        story.step("The app is away for a moment");
        self.stage.app.always(Behaviour::Reset);
        let before = self.stage.app.ledger(|app| app.events.len());
        self.hand_over(story, "outage").await;
        self.stage.app.always(Behaviour::Status(200));
        let begun = Instant::now();
        // One more than was handed over: the change that the forgeries were made from may still have been on its way.
        let wanted = self.accepted;
        let all = self.stage.app.wait_until(PATIENCE, |app| app.events.len() >= wanted).await;
        let got = self.stage.app.ledger(|app| app.events.len()) - before;
        let took = begun.elapsed().as_secs_f64();
        story.check(all, &format!("the app came back and had all {got} of them {took:.1} s later"));
    }

    async fn kill(&mut self, story: &mut Story, running: Running) -> Result<Running, String> {
        story.step("The app is away, and the sidecar is killed");
        self.stage.app.always(Behaviour::Status(503));
        self.hand_over(story, "kill").await;
        self.stage.owed_over_a_kill(story, &self.sidecar, running, OWED).await
    }

    async fn hand_over(&mut self, story: &mut Story, name: &str) {
        let mut accepted = 0;
        for number in 0..OWED {
            let (_, status) = self.change("ObjectCreated:Put", &format!("{name}/object {number:02}.txt")).await;
            accepted += usize::from(status == Some(200));
        }
        story.check(
            accepted == OWED,
            &format!("{accepted} of {OWED} events were accepted all the same, each on disk before its 200"),
        );
    }

    fn ledger(&self, story: &mut Story, mcs: Told) {
        story.step("The ledger, of both systems");
        let (accepted, changes) = (self.accepted + mcs.accepted, self.changes + mcs.changes);
        let seen = self.stage.app.ledger(|app| {
            BTreeMap::from([
                ("1 delivered, distinct", app.events.len() as u64),
                ("2 delivered again", app.repeated),
                ("3 wrong signatures", app.bad_signatures + app.unsigned),
                ("4 out of order", app.out_of_order),
                ("5 unreadable", app.malformed),
            ])
        });
        story.line(&format!("{:>5}  changes announced and accepted", accepted));
        story.line(&format!("{:>5}  forged messages refused", self.refused));
        story.line(&format!("{:>5}  changes of a stranger's project dropped", mcs.dropped));
        for (what, count) in &seen {
            story.line(&format!("{count:>5}  {}", &what[2..]));
        }
        let delivered = seen.values().next().copied().unwrap_or_default();
        story.check(delivered == accepted as u64, "every accepted change was delivered, and nothing else");
        story.check(accepted == changes as usize, "every genuine change was accepted");
        story.check(self.refused == Forgery::ALL.len(), "every forgery was refused");
        story.check(
            seen.values().skip(1).all(|count| *count == 0),
            "nothing came twice, out of order or wrongly signed",
        );
        story.end();
    }

    /// Announces a change of `key`.
    async fn change(&mut self, event: &str, key: &str) -> (Envelope, Option<u16>) {
        self.changes += 1;
        let change = records::Change {
            event,
            bucket: BUCKET,
            key,
            region: "us-east-1",
            time: SystemClock.now(),
            order: self.changes,
        };
        let record = records::record(&change, &mut self.stage.dice);
        let envelope = self.simulator.s3_notification(&[record], &mut self.stage.dice);
        let status = self.send(&envelope).await;
        self.accepted += usize::from(status == Some(200));
        (envelope, status)
    }

    async fn send(&mut self, envelope: &Envelope) -> Option<u16> {
        let sent = self.simulator.deliver(&mut self.connection, envelope).await;
        sent.reply.ok().map(|reply| reply.status.as_u16())
    }
}
