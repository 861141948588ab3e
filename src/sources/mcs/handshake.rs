//! Pure: the proof that a webhook's URL is ours, by which MCS S3 answers the question "may notifications go there?".
//!
//! `hmac_sha256_hex(URL, hmac_sha256(TopicArn, hmac_sha256(Timestamp, Token)))` in the provider's words, where the first argument is
//! the message and the second the key, and the inner results are raw digests (`s3-dialects.md` 1.4). The token comes in the same
//! request: the answer proves that we know our URL and nothing of the caller.

use ring::hmac;

use super::message::Handshake;

/// The 64 lower-case hexadecimal digits that answer `handshake`. `url` is the URL byte for byte as in the bucket's configuration,
/// which need not be the one that the request was made for (hard case 14).
pub fn signature(handshake: &Handshake<'_>, url: &str) -> String {
    let by_timestamp = mac(handshake.token.as_bytes(), &handshake.timestamp);
    let by_topic = mac(by_timestamp.as_ref(), &handshake.topic.arn);
    let proof = mac(by_topic.as_ref(), url);
    proof.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        for digit in [byte >> 4, byte & 15] {
            hex.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
        hex
    })
}

fn mac(key: &[u8], message: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::mcs::message::Topic;

    const TOKEN: &str = "RPE5UuG94rGgBH6kHXN9FUPugFxj1hs2aUQc99btJp3E49tA";
    const TIMESTAMP: &str = "2019-12-26T19:29:12+03:00";
    const ARN: &str = "mcs2883541269|bucketA|s3:ObjectCreated:Put";

    fn of(token: &str, timestamp: &str, arn: &str, url: &str) -> String {
        let topic = Topic::parse(arn.into()).expect("a topic");
        signature(&Handshake { token: token.into(), timestamp: timestamp.into(), topic }, url)
    }

    #[test]
    fn the_documented_signature_and_those_computed_beside_it_come_out() {
        for (url, expected) in [
            ("http://test.com", "ea3fce4bb15c6de4fec365d36bcebbc34ccddf54616d5ca12e1972f82b6d37af"),
            ("http://test.com/", "8af7165b23eae47d21a601fbb6dd7d9258a3319aeb29956bdc0c09cfc4243767"),
            ("https://test.com", "adee145c03d5f892069a7485357f9eae756c945a9f612f338a33441f0443f490"),
            (
                "https://hooks.example.com/mcs/s3?src=a",
                "410b4cc54426c3b10ea12a5ee2e33d315d446442f60a5d9995f1cbd6acfa43a6",
            ),
        ] {
            assert_eq!(of(TOKEN, TIMESTAMP, ARN, url), expected, "{url}");
        }
        let live = of(
            "LfaTdS1ZRSf7thpdQQKTw3GywfjheZ2XCa2njUN1v9UsnuSd",
            "2020-06-05T11:11:47+03:00",
            "mcs5259999770|myfiles-ash|s3:ObjectCreated:*,s3:ObjectRemoved:*",
            "http://89.208.199.220/webhook",
        );
        assert_eq!(live, "49f8df134f4aabbeed36e83efd38b466af32b2cd32cc9ade3fa7dde7c8677c2c");
    }

    #[test]
    fn what_others_have_computed_wrongly_does_not() {
        let right = of(TOKEN, TIMESTAMP, ARN, "http://test.com");
        for wrong in [
            "ef42c31305fc443f1c6d1d84b7ff8b98ffd764866197393d478369d5439a54f8",
            "6754bacc04a6026e8130f125a25539c1833a6db588ad7068fc5ecc9d18ca7c26",
            "f21dc96aed7ef191b1f0c715586fd0a6cbb35c0ed232dce60be69d4977631804",
        ] {
            assert_ne!(right, wrong);
        }
        // The last of them is what comes out of a timestamp that was read and written again.
        let rewritten = of(TOKEN, "2019-12-26T16:29:12Z", ARN, "http://test.com");
        assert_eq!(rewritten, "f21dc96aed7ef191b1f0c715586fd0a6cbb35c0ed232dce60be69d4977631804");
    }
}
