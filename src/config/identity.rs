//! What tells instances apart: their names, numbers, secrets and queues.

use std::collections::BTreeMap;

use super::Instance;
use super::problem::{Problem, quote};
use super::text::{Wrong, wrong};
use super::values::Values;

/// An instance, and what stands before its keys in messages: empty for the environment's own, file and colon for a document's.
pub(super) type Found = (String, Instance);

/// The largest id: 31 bits wide, as positive integers of Java are.
pub(super) const MAX_ID: u32 = i32::MAX as u32;

/// An instance's number where none is chosen: 31 bits of the SHA-256 of its name, and never 0 (hard case 11).
pub(super) fn stable_id(name: &str) -> u32 {
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    let leading = digest.as_ref().iter().take(4).fold(0_u32, |id, byte| (id << 8) | u32::from(*byte));
    (leading & MAX_ID).max(1)
}

/// The setting that names the instance of that place.
pub(super) fn name_setting(values: &Values) -> &'static str {
    setting_at(&values.place)
}

fn setting_at(place: &str) -> &'static str {
    if place.is_empty() { "POSTERN_INSTANCE_NAME" } else { "name" }
}

pub(super) fn check_name(name: &str) -> Result<(), Wrong> {
    if name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
        return wrong("is not 1 to 200 characters without control characters", "use a shorter one");
    }
    Ok(())
}

/// Names and ids must tell instances apart: the store knows them by the one, consumers by the other. A secret path leads to one
/// instance (hard case 15), and of two that drain one queue each would get what the other needs.
pub(super) fn distinct(found: &[Found], problems: &mut Vec<Problem>) {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut ids: BTreeMap<u32, &str> = BTreeMap::new();
    let mut secrets: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queues: BTreeMap<&str, &str> = BTreeMap::new();
    for (place, instance) in found {
        let label = format!("{place}{}", setting_at(place));
        if let Some(first) = names.insert(&instance.name, label.clone()) {
            problems.push(Problem::new(
                &label,
                format!("the name {} is also that of {first}", quote(&instance.name)),
                "give each instance a name of its own",
            ));
        } else if let Some(first) = ids.insert(instance.id, &instance.name) {
            problems.push(Problem::new(
                &label,
                format!("the id {} is also that of the instance {}", instance.id, quote(first)),
                "rename one of them, or set POSTERN_INSTANCE_ID for the environment's",
            ));
        }
        for secret in instance.s3http.iter().flat_map(|s3http| &s3http.secrets) {
            if let Some(first) = secrets.insert(secret.expose(), &instance.name) {
                problems.push(Problem::new(
                    &format!("{place}POSTERN_S3HTTP_SECRET"),
                    format!(
                        "the secret is also that of the instance {}, so that a request could be for either",
                        quote(first)
                    ),
                    "give each instance a secret of its own",
                ));
            }
        }
        for queue in instance.sqs.iter().flat_map(|sqs| &sqs.queues) {
            if let Some(first) = queues.insert(queue.as_str(), &instance.name) {
                problems.push(Problem::new(
                    &format!("{place}POSTERN_SQS_QUEUE_URL"),
                    format!(
                        "the queue {} is also drained by the instance {}, and each message reaches only one of them",
                        quote(queue.as_str()),
                        quote(first)
                    ),
                    "give each instance a queue of its own, such as two that subscribe to one SNS topic",
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_stable_and_positive_in_31_bits() {
        // The first four bytes of the SHA-256, as sha256sum prints them. Consumers store these numbers: they never change.
        assert_eq!(stable_id("uploads"), 0x9ba8_8c41 & 0x7fff_ffff);
        assert_eq!(stable_id(""), 0xe3b0_c442 & 0x7fff_ffff);
    }
}
