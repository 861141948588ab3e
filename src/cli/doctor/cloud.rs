//! AWS, or what stands in for it: credentials, buckets, topics, subscriptions and queues of each instance.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{AT_ONCE, Context, Sink, identity, mcs};
use crate::aws::{Aws, Finding, Identity, Pushed, Unidentified};
use crate::config::{self, Instance, sns_url};
use crate::health::Checked;

pub(super) async fn run(context: &Arc<Context>, sink: &Sink) {
    let extra = authorities(context);
    let endpoint = context.config.sns.endpoint.as_ref().map(|endpoint| &endpoint.url);
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for instance in &context.config.instances {
        let aws = match Aws::new(instance, endpoint, &extra) {
            Ok(aws) => aws,
            Err(error) => return sink.add(Checked::fail("credentials", error.to_string(), "correct the file")),
        };
        let (context, instance, sink, gate) =
            (Arc::clone(context), Arc::clone(instance), sink.clone(), Arc::clone(&gate));
        tasks.spawn(async move {
            // This semaphore is never closed.
            let _place = gate.acquire_owned().await;
            look(&context, &instance, &aws, &sink).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// What is trusted besides the system's authorities. What cannot be read or used is said among the files.
pub(super) fn authorities(context: &Context) -> Vec<Vec<u8>> {
    let read = |path| std::fs::read(path).ok().filter(|pem| config::bad_authorities(pem).is_none());
    config::egress_files(&*context.environment).into_iter().flatten().filter_map(read).collect()
}

async fn look(context: &Context, instance: &Instance, aws: &Aws, sink: &Sink) {
    // At once and not at the end: who does not answer takes nothing with him that others said.
    let add = |checked: Checked| sink.add_for(&instance.name, checked);
    if !aws.has_credentials().await {
        add(without(instance));
        // That says so by itself.
        return mcs::run(context, instance, aws, &add).await;
    }
    let s3 = &context.config.s3;
    let foreign = instance.element_key == "mcss3" && s3.endpoint.is_none();
    if foreign {
        add(Checked::warn(
            "bucket",
            "the bucket is at MCS S3 and POSTERN_S3_ENDPOINT_URL does not say where that is, so it is not looked at",
            "set it, such as https://hb.ru-msk.vkcloud-storage.ru",
        ));
    } else if instance.bucket.is_none() {
        add(Checked::skip("bucket", "filemanagement.provider.bucket_name is not set"));
    }
    let bucket = async {
        let bucket = instance.bucket.as_ref().filter(|_| !foreign)?;
        let finding = aws.check_bucket(bucket, s3).await;
        add(finding.clone().checked("bucket"));
        Some(finding)
    };
    let topics = async {
        let mut all = Vec::new();
        for topic in &instance.topics {
            let finding = aws.check_topic(topic).await;
            add(finding.clone().checked("topic"));
            all.push(finding);
        }
        all
    };
    let url = context.config.public_url.as_ref().map(sns_url);
    let user = context.config.sns.basic.as_ref().map(|basic| basic.username.as_str());
    let push = async {
        if !foreign {
            aws.check_push(Pushed { instance, s3, url: url.as_ref(), user }).await.into_iter().for_each(add);
        }
    };
    let queues = async {
        let Some(sqs) = &instance.sqs else { return };
        let dead_letters = aws.dead_letter_targets(&instance.topics, url.as_ref()).await;
        for queue in &sqs.queues {
            aws.check_queue(queue, &dead_letters).await.into_iter().for_each(add);
        }
    };
    let listings = async {
        let others: BTreeSet<&String> =
            instance.listing.iter().flat_map(|listing| &listing.buckets).filter(|_| !foreign).collect();
        for bucket in others {
            add(aws.check_bucket(bucket, s3).await.checked("listing"));
        }
    };
    let who = async {
        let who = identity::ask(context, instance, aws).await;
        if let Some(checked) = who.as_ref().and_then(|who| identity::judge(who, &whose(context, instance))) {
            add(checked);
            return None;
        }
        Some(who)
    };
    let (who, bucket, topics, ..) =
        tokio::join!(who, bucket, topics, push, queues, listings, mcs::run(context, instance, aws, &add));
    if let Some(who) = who {
        add(credentials(&whose(context, instance), who, bucket.iter().chain(&topics)));
    }
}

/// What is said of an instance without credentials: some need none.
fn without(instance: &Instance) -> Checked {
    const NAME: &str = "credentials";
    let advice = "set filemanagement.provider.access_key and .secret_key, or give the pod a role (IRSA, pod identity)";
    if instance.sqs.is_some() || instance.listing.is_some() || instance.validate {
        return Checked::fail(
            NAME,
            "there are no AWS credentials, and SQS, listings or validate.instance need them",
            advice,
        );
    }
    if instance.topics.is_empty() {
        return Checked::skip(NAME, "there are no AWS credentials, and nothing needs them");
    }
    Checked::warn(
        NAME,
        "there are no AWS credentials: bucket, topic and subscription cannot be looked at, and anybody who sees the UnsubscribeURL can unsubscribe",
        advice,
    )
}

/// Where the credentials come from.
fn whose(context: &Context, instance: &Instance) -> String {
    if instance.credentials.is_some() {
        return "the instance's own (filemanagement.provider.access_key)".to_owned();
    }
    provider(|name| context.environment.vars().iter().any(|(known, value)| known == name && !value.is_empty()))
}

/// What is said of credentials of which STS said nothing: whether what was asked with them refused them.
fn credentials<'a>(
    whose: &str,
    who: Option<Result<Identity, Unidentified>>,
    mut answers: impl Iterator<Item = &'a Finding>,
) -> Checked {
    const NAME: &str = "credentials";
    let refused = answers.find_map(|answer| match answer {
        Finding::Wrong(what) if what.contains("credentials are refused") => Some(what.clone()),
        _ => None,
    });
    if let Some(what) = refused {
        return Checked::fail(
            NAME,
            format!("{whose}: {what}"),
            "use credentials that are valid now, and look at the clock",
        );
    }
    let why = match who {
        Some(Err(Unidentified::Unknown(why))) => format!("; STS does not say whose they are ({why})"),
        _ => String::new(),
    };
    Checked::ok(NAME, format!("there are credentials: {whose}{why}"))
}

/// The link of the default chain that answers first, by the variables that it goes by.
fn provider(is_set: impl Fn(&str) -> bool) -> String {
    let link = if is_set("AWS_ACCESS_KEY_ID") {
        "environment variables (AWS_ACCESS_KEY_ID)"
    } else if is_set("AWS_WEB_IDENTITY_TOKEN_FILE") {
        "web identity (IRSA, AWS_WEB_IDENTITY_TOKEN_FILE)"
    } else if is_set("AWS_CONTAINER_CREDENTIALS_FULL_URI") || is_set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        "pod identity or container role"
    } else if is_set("AWS_PROFILE") || is_set("AWS_SHARED_CREDENTIALS_FILE") || is_set("AWS_CONFIG_FILE") {
        "a profile"
    } else {
        "a profile or the machine's role"
    };
    format!("the default chain, {link}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_of_the_default_chain_is_named() {
        assert!(provider(|name| name == "AWS_WEB_IDENTITY_TOKEN_FILE").contains("IRSA"));
        assert!(provider(|_| true).contains("AWS_ACCESS_KEY_ID"), "it wins");
        assert!(provider(|_| false).contains("machine's role"));
    }
}
