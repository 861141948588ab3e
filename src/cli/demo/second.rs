//! The second system: MCS S3, which asks a URL to prove itself and then signs nothing (`s3-dialects.md` 1).
//!
//! It comes in through the same sidecar, by an instance document beside the instance of the environment.

use std::path::Path;
use std::sync::Arc;

use super::{PATIENCE, Stage, Story, word};
use crate::clock::{Clock as _, SystemClock};
use crate::simulator::dice::Dice;
use crate::simulator::mcs::Handshake;
use crate::simulator::process::{Running, Sidecar};
use crate::simulator::stores::{Change, Store};
use crate::simulator::wire::{Connection, Target};

const PROJECT: &str = "mcs2883541269";
const STRANGER: &str = "mcs0000000000";
const BUCKET: &str = "demo-webhooks";
const KEY: &str = "invoices/2026/first invoice+copy.pdf";
const EVENTS: &str = "s3:ObjectCreated:*,s3:ObjectRemoved:*";

/// MCS, and the URL of its webhook.
pub(super) struct Mcs {
    secret: String,
    order: u32,
}

/// What went through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Changes announced.
    pub(super) changes: u32,
    /// Of those, answered with 200.
    pub(super) accepted: usize,
    /// Forgeries that the app never heard of.
    pub(super) dropped: usize,
}

impl Mcs {
    /// The sidecar with an instance more, whose callback and key are those of the environment.
    pub(super) fn beside(sidecar: Sidecar, folder: &Path, dice: &mut Dice) -> Result<(Self, Sidecar), String> {
        let document = folder.join("mcs.json");
        let json = serde_json::json!({
            "name": BUCKET,
            "element": {"key": "mcss3"},
            "configuration": {
                "event.notification.enabled": "true",
                "POSTERN_MCS_TOPICS": format!("{PROJECT}|{BUCKET}"),
            },
        });
        std::fs::write(&document, json.to_string())
            .map_err(|error| format!("cannot write {}: {error}", document.display()))?;
        let secret = dice.hex(48);
        let public_url = sidecar.url("").to_string();
        let sidecar = sidecar
            .with("POSTERN_INSTANCES", document)
            .with("POSTERN_PUBLIC_URL", public_url)
            .with("POSTERN_MCS_SECRET", secret.as_str());
        Ok((Self { secret, order: 0 }, sidecar))
    }

    /// Tells the second story.
    pub(super) async fn tell(
        mut self,
        stage: &mut Stage,
        story: &mut Story,
        sidecar: &Sidecar,
        running: &mut Running,
    ) -> Result<Told, String> {
        let url = sidecar.url(&format!("/mcs/{}", self.secret));
        let target = Target::new(&url, None).map_err(|error| error.to_string())?;
        let mut connection = Connection::new(Arc::new(target));
        story.step("The second system: MCS S3 (VK Cloud) asks the webhook's URL to prove itself");
        let shown = url.as_str().replace(&self.secret, &format!("{}…", &self.secret[..8]));
        story.line(&format!("Webhook  {shown}  the same sidecar; the rest of the path is the secret"));
        self.handshake(stage, story, &mut connection, url.as_str()).await;

        story.step("MCS announces a change; the app hears of it in the same form, signed");
        let before = stage.app.ledger(|app| app.events.len());
        let mut told = Told::default();
        let genuine = self.notification(stage, PROJECT, KEY);
        let status = post(&mut connection, genuine.clone()).await;
        told.changes += 1;
        told.accepted += usize::from(status == Some(200));
        story.check(status == Some(200), &format!("the notification was answered with {}", word(status)));
        let heard = stage.app.wait_until(PATIENCE, |app| app.events.len() == before + 1).await;
        let callback = stage.app.ledger(|app| app.last.back().cloned());
        let checked = callback.as_ref().and_then(|callback| callback.checked).unwrap_or_default();
        story.check(heard, "one callback reached the app");
        story.check(checked.elements == Some(true), "its Elements-Webhook-Signature is the HMAC of exactly its body");
        let named = callback.and_then(|callback| serde_json::from_slice::<serde_json::Value>(&callback.body).ok());
        let key = named.as_ref().and_then(|body| body.pointer("/message/elementKey")?.as_str().map(str::to_owned));
        story.check(key.as_deref() == Some("mcss3"), "its elementKey is mcss3");
        let decoded = stage.app.ledger(|app| app.objects.contains_key(KEY));
        story.check(decoded, &format!("its object is {KEY:?}, which MCS wrote in another coding"));

        story.step("MCS signs nothing: a change of somebody else's project comes to the same URL, and a repetition");
        let forged = self.notification(stage, STRANGER, "forged");
        let status = post(&mut connection, forged).await;
        story.check(status == Some(200), &format!("a change of project {STRANGER}: answered with {}", word(status)));
        let again = post(&mut connection, genuine).await;
        story.check(again == Some(200), &format!("the first notification once more: answered with {}", word(again)));
        // What the sidecar counts is final before it answers: nothing has to be waited for.
        let scrape = running.ask("/metrics").await.map(|(_, text)| text).unwrap_or_default();
        let counts = |outcome: &str| {
            let sample = format!("postern_events_total{{instance=\"{BUCKET}\",outcome=\"{outcome}\"}} 1");
            scrape.lines().any(|line| line == sample)
        };
        told.dropped += usize::from(counts("foreign_project"));
        story.check(counts("foreign_project"), "the stranger's change was dropped and counted");
        story.check(counts("duplicate"), "the repetition was recognised");
        story.check(
            stage.app.ledger(|app| app.events.len() == before + 1 && !app.objects.contains_key("forged")),
            "the app heard of neither",
        );
        Ok(told)
    }

    async fn handshake(&self, stage: &mut Stage, story: &mut Story, connection: &mut Connection, url: &str) {
        let asked = Handshake::new(PROJECT, BUCKET, EVENTS, SystemClock.now(), &mut stage.dice);
        let reply = connection.post(Default::default(), asked.body().into()).await.ok();
        let status = reply.as_ref().map(|reply| reply.status.as_u16());
        let checked = match &reply {
            Some(reply) => asked.check(url, &reply.body),
            None => Err("there was no answer".to_owned()),
        };
        story.check(status == Some(200), &format!("the handshake was answered with {}", word(status)));
        if let Err(why) = &checked {
            // The URL in it ends in the secret, which is this run's alone and worth nothing after it.
            story.line(why);
        }
        story.check(checked.is_ok(), "the signature over this very URL is right: MCS would save the webhook");
        let stranger = Handshake::new(STRANGER, BUCKET, EVENTS, SystemClock.now(), &mut stage.dice);
        let reply = connection.post(Default::default(), stranger.body().into()).await.ok();
        let status = reply.map(|reply| reply.status.as_u16());
        story.check(status == Some(403), &format!("for project {STRANGER} it is refused with {}", word(status)));
    }

    fn notification(&mut self, stage: &mut Stage, project: &str, key: &str) -> String {
        self.order += 1;
        let change = Change {
            event: "ObjectCreated:Put",
            owner: project,
            bucket: BUCKET,
            key,
            time: SystemClock.now(),
            order: self.order,
            opaque_data: None,
        };
        let record = Store::Mcs.record(&change, &mut stage.dice);
        Store::Mcs.body(&[record], key)
    }
}

async fn post(connection: &mut Connection, body: String) -> Option<u16> {
    let reply = connection.post(Store::Mcs.headers(), body.into()).await;
    reply.ok().map(|reply| reply.status.as_u16())
}
