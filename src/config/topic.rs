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

fn check(arn: &str) -> Result<(), Wrong> {
    let parts: Vec<&str> = arn.split(':').collect();
    let &[prefix, partition, service, region, account, name] = parts.as_slice() else {
        return wrong(format!("{} is not a topic ARN", quote(arn)), ADVICE);
    };
    if prefix != "arn" || service != "sns" {
        return wrong(format!("{} is not the ARN of an SNS topic", quote(arn)), ADVICE);
    }
    if name.ends_with(".fifo") {
        return wrong(
            format!("{} is a FIFO topic, to which HTTP endpoints cannot subscribe", quote(arn)),
            "use a standard topic; ordering is kept per key here",
        );
    }
    if !region_fits(partition, region) {
        return wrong(
            format!("{}: the region {} is not in the partition {}", quote(arn), quote(region), quote(partition)),
            ADVICE,
        );
    }
    if account.len() != 12 || !account.bytes().all(|c| c.is_ascii_digit()) {
        return wrong(format!("{}: the account is not 12 digits", quote(arn)), ADVICE);
    }
    let letter = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if name.is_empty() || name.len() > 256 || !name.bytes().all(letter) {
        return wrong(
            format!("{}: the topic's name is not 1 to 256 letters, digits, hyphens and underscores", quote(arn)),
            ADVICE,
        );
    }
    Ok(())
}

/// Whether a region name has the form that its partition's regions have.
fn region_fits(partition: &str, region: &str) -> bool {
    let parts: Vec<&str> = region.split('-').collect();
    let place = |part: &str| !part.is_empty() && part.len() <= 20 && part.bytes().all(|c| c.is_ascii_lowercase());
    let count = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_digit());
    match (partition, parts.as_slice()) {
        ("aws", [area, rest, n]) => {
            ["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"].contains(area) && place(rest) && count(n)
        }
        ("aws-cn", ["cn", rest, n])
        | ("aws-us-gov", ["us", "gov", rest, n])
        | ("aws-iso", ["us", "iso", rest, n])
        | ("aws-iso-b", ["us", "isob", rest, n])
        | ("aws-iso-e", ["eu", "isoe", rest, n])
        | ("aws-iso-f", ["us", "isof", rest, n])
        | ("aws-eusc", ["eusc", "de", rest, n]) => place(rest) && count(n),
        _ => false,
    }
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
