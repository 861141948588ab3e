//! Topic ARNs: the grammar of `sns.md` 1.1 with the partitions of 1.4.

use super::problem::quote;
use super::text::{Wrong, list, wrong};

const ADVICE: &str = "use arn:PARTITION:sns:REGION:ACCOUNT:NAME as the SNS console shows it";

/// The topics of `event.sns.topic.arn`, one or several, comma-separated.
pub(super) fn topics(text: &str) -> Result<Vec<String>, Vec<Wrong>> {
    let arns = list(text);
    let problems: Vec<Wrong> = arns.iter().filter_map(|arn| check(arn).err()).collect();
    if problems.is_empty() { Ok(arns) } else { Err(problems) }
}

/// Whether `names` fits `arns`: one name is that of one of the topics; several are those of all topics, in their order.
pub(super) fn check_names(names: &str, arns: &[String]) -> Result<(), Wrong> {
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    let fits = if names.len() == 1 {
        arns.iter().any(|arn| name_of(arn) == names[0])
    } else {
        names.len() == arns.len() && names.iter().zip(arns).all(|(name, arn)| *name == name_of(arn))
    };
    if fits {
        return Ok(());
    }
    let expected: Vec<&str> = arns.iter().map(|arn| name_of(arn)).collect();
    wrong(
        format!("{} does not match the topic ARN", quote(&names.join(","))),
        format!("use {}, the last part of the ARN, or leave the name out", quote(&expected.join(","))),
    )
}

/// The last part of an ARN.
pub(super) fn name_of(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or(arn)
}

/// The region of a topic ARN; `None` where there is no such part. `Instance::topics` have been checked and always have one.
pub fn region_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(3)
}

/// A partition: how its regions are called and where its services are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// The second part of an ARN.
    pub(crate) name: &'static str,
    /// What a region's name begins with, up to and with the dash before its direction.
    prefixes: &'static [&'static str],
    /// The domain that its services' hosts end with.
    pub(crate) suffix: &'static str,
}

/// Botocore's partitions. A region is `<prefix><letters>-<digits>`.
static PARTITIONS: [Partition; 8] = [
    Partition {
        name: "aws",
        prefixes: &["us-", "eu-", "ap-", "sa-", "ca-", "me-", "af-", "il-", "mx-"],
        suffix: "amazonaws.com",
    },
    Partition { name: "aws-cn", prefixes: &["cn-"], suffix: "amazonaws.com.cn" },
    Partition { name: "aws-us-gov", prefixes: &["us-gov-"], suffix: "amazonaws.com" },
    Partition { name: "aws-eusc", prefixes: &["eusc-de-"], suffix: "amazonaws.eu" },
    Partition { name: "aws-iso", prefixes: &["us-iso-"], suffix: "c2s.ic.gov" },
    Partition { name: "aws-iso-b", prefixes: &["us-isob-"], suffix: "sc2s.sgov.gov" },
    Partition { name: "aws-iso-e", prefixes: &["eu-isoe-"], suffix: "cloud.adc-e.uk" },
    Partition { name: "aws-iso-f", prefixes: &["us-isof-"], suffix: "csp.hci.ic.gov" },
];

impl Partition {
    /// Whether `region` has the form that this partition's regions have.
    fn has(&self, region: &str) -> bool {
        self.prefixes.iter().filter_map(|prefix| region.strip_prefix(prefix)).any(|rest| {
            rest.split_once('-').is_some_and(|(direction, number)| {
                (1..=20).contains(&direction.len())
                    && direction.bytes().all(|b| b.is_ascii_lowercase())
                    && (1..=2).contains(&number.len())
                    && number.bytes().all(|b| b.is_ascii_digit())
            })
        })
    }
}

/// The partition of a region; that of most regions where the region's form is not known.
#[cfg(feature = "aws")]
pub(crate) fn partition_of(region: &str) -> &'static Partition {
    PARTITIONS.iter().find(|partition| partition.has(region)).unwrap_or(&PARTITIONS[0])
}

/// What is not so in a text that should be a topic's ARN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It has not six parts, or does not begin with `arn`.
    Form,
    /// Its service is another than SNS.
    Service,
    /// Its region is not one of its partition.
    Region,
    /// Its account is not 12 digits.
    Account,
    /// Its name is not 1 to 256 letters, digits, hyphens and underscores, with or without `.fifo`.
    Name,
}

/// The parts of a topic's ARN: `arn:<partition>:sns:<region>:<12 digits>:<name>`, exactly. The one place where this is decided, for what is
/// configured and for what is received.
///
/// # Errors
/// The first [`Flaw`].
pub(crate) fn parts(arn: &str) -> Result<(&'static Partition, &str), Flaw> {
    let parts: Vec<&str> = arn.splitn(7, ':').collect();
    let &[prefix, partition, service, region, account, name] = parts.as_slice() else { return Err(Flaw::Form) };
    if prefix != "arn" {
        return Err(Flaw::Form);
    }
    if service != "sns" {
        return Err(Flaw::Service);
    }
    let partition = PARTITIONS.iter().find(|p| p.name == partition && p.has(region)).ok_or(Flaw::Region)?;
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Flaw::Account);
    }
    let plain = name.strip_suffix(".fifo").unwrap_or(name);
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !(1..=256).contains(&plain.len()) || !plain.bytes().all(letter) {
        return Err(Flaw::Name);
    }
    Ok((partition, region))
}

fn check(arn: &str) -> Result<(), Wrong> {
    let shown = quote(arn);
    let what = match parts(arn) {
        Ok(_) if arn.ends_with(".fifo") => {
            return wrong(
                format!("{shown} is a FIFO topic, to which HTTP endpoints cannot subscribe"),
                "use a standard topic; ordering is kept per key here",
            );
        }
        Ok(_) => return Ok(()),
        Err(Flaw::Form) => format!("{shown} is not a topic ARN"),
        Err(Flaw::Service) => format!("{shown} is not the ARN of an SNS topic"),
        Err(Flaw::Region) => format!("{shown}: there is no such region in that partition"),
        Err(Flaw::Account) => format!("{shown}: the account is not 12 digits"),
        Err(Flaw::Name) => {
            format!("{shown}: the topic's name is not 1 to 256 letters, digits, hyphens and underscores")
        }
    };
    wrong(what, ADVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_every_partition_are_read() {
        for arn in [
            "arn:aws:sns:us-east-1:123456789012:uploads",
            "arn:aws:sns:ap-southeast-3:123456789012:A_b-9",
            "arn:aws-cn:sns:cn-north-1:123456789012:t",
            "arn:aws-us-gov:sns:us-gov-west-1:123456789012:t",
            "arn:aws-iso:sns:us-iso-east-1:123456789012:t",
            "arn:aws-iso-b:sns:us-isob-east-1:123456789012:t",
            "arn:aws-iso-e:sns:eu-isoe-west-1:123456789012:t",
            "arn:aws-iso-f:sns:us-isof-south-1:123456789012:t",
            "arn:aws-eusc:sns:eusc-de-east-1:123456789012:t",
        ] {
            assert_eq!(topics(arn), Ok(vec![arn.to_owned()]));
        }
    }

    #[test]
    fn what_is_no_arn_of_a_standard_topic_is_refused() {
        for bad in [
            "xxxxxxxxxx",
            "arn:aws:sqs:us-east-1:123456789012:q",
            "arn:aws-cn:sns:us-east-1:123456789012:t",
            "arn:aws:sns:cn-north-1:123456789012:t",
            "arn:aws:sns:us-gov-west-1:123456789012:t",
            "arn:aws:sns:us-east-1:12345678901:t",
            "arn:aws:sns:us-east-1:123456789012:",
            "arn:aws:sns:us-east-1:123456789012:a.b",
            "arn:aws:sns:us-east-1:123456789012:t:sub",
            "ARN:aws:sns:us-east-1:123456789012:t",
            "arn:aws:sns:us-east-1\n:123456789012:t",
        ] {
            assert!(topics(bad).is_err(), "{bad}");
        }
        let fifo = topics("arn:aws:sns:us-east-1:123456789012:t.fifo").expect_err("FIFO");
        assert!(fifo[0].0.contains("FIFO"));
    }

    #[test]
    fn each_bad_topic_of_a_list_is_named() {
        let problems = topics("one, arn:aws:sns:us-east-1:123456789012:t ,two").expect_err("two are bad");
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn names_match_the_last_parts_of_the_arns() {
        let arns = topics("arn:aws:sns:us-east-1:123456789012:a,arn:aws:sns:us-east-1:123456789012:b").expect("topics");
        assert!(check_names("b", &arns).is_ok());
        assert!(check_names("a, b", &arns).is_ok());
        assert!(check_names("b,a", &arns).is_err());
        assert!(check_names("A", &arns).is_err());
        assert!(check_names("a,b,c", &arns).is_err());
        assert!(check_names("c", &arns[..1]).is_err());
    }
}
