//! The notification of a bucket at Amazon: ours, beside those of others.

use super::amazon::{STEPS, Site, failed};
use super::kinds::Context;
use super::report::{Failed, Report, Verdict};
use crate::aws::setup::overlap;
use crate::aws::setup::{Announcements, Trouble, Wanted};

const STEP: &str = STEPS[4];

/// A bucket, and what it announces now.
pub(super) struct Bucket<'a> {
    pub(super) name: &'a str,
    pub(super) found: Announcements,
}

impl Bucket<'_> {
    /// Ours without what others announce to the same topic already, and who they are.
    fn rest(&self, wanted: &Wanted) -> (Wanted, Vec<String>) {
        let others = self.found.entries_of_others(&wanted.id);
        let (by, events) = overlap::covered(&others, &wanted.topic, &wanted.events, &wanted.keys);
        (Wanted { events, ..wanted.clone() }, by.into_iter().map(overlap::Entry::shown).collect())
    }

    /// Why S3 would refuse ours beside what there is, with what to do.
    pub(super) fn refusal(&self, wanted: &Wanted) -> Result<(), String> {
        let (rest, _) = self.rest(wanted);
        if self.found.has(&rest) {
            return Ok(());
        }
        let others = self.found.entries_of_others(&wanted.id);
        let Some((other, event)) = overlap::clash(&others, &rest.events, &rest.keys) else { return Ok(()) };
        let advice = if other.target == wanted.topic {
            "it leads to our topic: remove it, for ours announces all that it does"
        } else {
            "let that one listen to our topic instead, narrow the keys of the one or event.objects of the other, or use EventBridge for one of them"
        };
        Err(format!(
            "configuration {} of bucket {} announces {event} too, for some of the same keys, which S3 allows only once; {advice}",
            other.shown(),
            self.name
        ))
    }
}

/// Has `bucket` announce what is wanted.
pub(super) async fn announce(
    context: &Context<'_>,
    site: &Site,
    bucket: Bucket<'_>,
    account: &str,
    wanted: &Wanted,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    let no = |trouble: Trouble| failed(STEP, trouble);
    let (wanted, by) = bucket.rest(wanted);
    let Bucket { name, found } = bucket;
    let others = match found.others(&wanted.id) {
        0 => String::new(),
        count => format!("; {count} other configurations of this bucket stay as they are"),
    };
    if !by.is_empty() {
        let text = format!("{name} announces to the topic by {} already, which is not of this instance", by.join(", "));
        report.step(Verdict::Note, STEP, &text);
    }
    if wanted.events.is_empty() {
        report.step(Verdict::Ok, STEP, &format!("{name} announces all that is wanted; nothing of ours is needed"));
        return Ok(());
    }
    let text = format!("{name} announces {} to the topic{others}", wanted.events.join(", "));
    if found.has(&wanted) {
        report.step(Verdict::Ok, STEP, &text);
        return Ok(());
    }
    let verdict = if found.has_id(&wanted.id) { Verdict::Change } else { Verdict::Create };
    found.replaceable().map_err(no)?;
    let merged = found.with(&wanted);
    report.exact(&format!("s3:PutBucketNotificationConfiguration of {name}"), &format!("{:#}", merged.json()));
    if !context.args.dry_run {
        replace(site, name, account, &found, merged).await?;
    }
    report.step(verdict, STEP, &text);
    Ok(())
}

/// A PUT replaces everything: what somebody else changed meanwhile must not be undone.
pub(super) async fn replace(
    site: &Site,
    bucket: &str,
    account: &str,
    found: &Announcements,
    by: Announcements,
) -> Result<(), Failed> {
    let no = |trouble: Trouble| failed(STEP, trouble);
    if site.amazon.announcements(bucket, account).await.map_err(no)? != *found {
        return Err(failed(
            STEP,
            format!("the notifications of {bucket} were changed by somebody else at this moment; run this again"),
        ));
    }
    site.amazon.announce(bucket, account, by).await.map_err(no)
}
