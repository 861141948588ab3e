//! Pure: whether all that a bucket's notification configuration says is known here.
//!
//! At Amazon a configuration is read and written by the SDK's types. An element that they do not have would be gone after the PUT,
//! which replaces everything; so a document with such an element is not replaced.

use roxmltree::{Document, Node, ParsingOptions};

use super::xml::{MAX_NODES, MAX_XML};

/// An element and what stands in it; what has no children holds text.
struct Shape(&'static str, &'static [Self]);

const FILTER: Shape = Shape("Filter", &[Shape("S3Key", &[Shape("FilterRule", &[leaf("Name"), leaf("Value")])])]);
const ROOT: Shape = Shape(
    "NotificationConfiguration",
    &[
        Shape("TopicConfiguration", &[leaf("Id"), leaf("Topic"), leaf("Event"), FILTER]),
        Shape("QueueConfiguration", &[leaf("Id"), leaf("Queue"), leaf("Event"), FILTER]),
        Shape("CloudFunctionConfiguration", &[leaf("Id"), leaf("CloudFunction"), leaf("Event"), FILTER]),
        leaf("EventBridgeConfiguration"),
    ],
);

const fn leaf(name: &'static str) -> Shape {
    Shape(name, &[])
}

/// The first thing in `text` that is not known, by its path; `None` when all is, or when nothing was said at all.
pub(super) fn unknown(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return None;
    }
    if text.len() > MAX_XML {
        return Some(format!("more than {MAX_XML} bytes"));
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    match Document::parse_with_options(text, options) {
        Ok(document) => within(document.root_element(), &[ROOT], ""),
        Err(error) => Some(format!("what is not XML ({error})")),
    }
}

/// Whether `text` is one element without anything in it, whatever its name.
pub(super) fn is_void(text: &str) -> bool {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: 16, ..ParsingOptions::default() };
    Document::parse_with_options(text.trim(), options).is_ok_and(|document| {
        let root = document.root_element();
        root.tag_name().name().contains("Notification") && !root.descendants().skip(1).any(|node| !node.is_comment())
    })
}

/// No deeper than the shapes are.
fn within(node: Node<'_, '_>, shapes: &[Shape], path: &str) -> Option<String> {
    let name: String = node.tag_name().name().chars().take(80).collect();
    let path = format!("{path}/{name}");
    let Some(Shape(_, inner)) = shapes.iter().find(|Shape(known, _)| *known == node.tag_name().name()) else {
        return Some(path);
    };
    // Of attributes only namespaces are known, which are none to the parser.
    if let Some(attribute) = node.attributes().next() {
        return Some(format!("{path}/@{}", attribute.name().chars().take(80).collect::<String>()));
    }
    node.children().filter(Node::is_element).find_map(|child| within(child, inner, &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <NotificationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
          <TopicConfiguration><Id>a</Id><Topic>arn:t</Topic><Event>s3:Brand:New</Event><Filter><S3Key>
            <FilterRule><Name>prefix</Name><Value>images/</Value></FilterRule></S3Key></Filter></TopicConfiguration>
          <QueueConfiguration><Id>b</Id><Queue>arn:q</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration>
          <CloudFunctionConfiguration><Id>c</Id><CloudFunction>arn:f</CloudFunction><Event>s3:ObjectCreated:*</Event>
          </CloudFunctionConfiguration><EventBridgeConfiguration></EventBridgeConfiguration>
        </NotificationConfiguration>"#;

    #[test]
    fn what_s3_documents_is_known() {
        assert_eq!(unknown(KNOWN), None);
        assert_eq!(unknown(""), None, "a bucket that announces nothing");
        assert_eq!(unknown("<NotificationConfiguration/>"), None);
    }

    /// Moto calls its empty configuration otherwise than its others.
    #[test]
    fn an_element_with_nothing_in_it_announces_nothing_whatever_its_name() {
        assert!(is_void(
            "<?xml version=\"1.0\"?>\n<GetBucketNotificationResponse xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>"
        ));
        assert!(!is_void("<GetBucketNotificationResponse><TopicConfiguration/></GetBucketNotificationResponse>"));
        assert!(!is_void("<Error/>") && !is_void("") && !is_void("{}"));
    }

    #[test]
    fn what_would_be_lost_is_named() {
        let changed = |from: &str, to: &str| unknown(&KNOWN.replacen(from, to, 1)).unwrap_or_default();
        assert_eq!(
            changed("<EventBridgeConfiguration>", "<PipeConfiguration/><EventBridgeConfiguration>"),
            "/NotificationConfiguration/PipeConfiguration"
        );
        assert_eq!(
            changed("<Filter>", "<Filter><S3Tags/>"),
            "/NotificationConfiguration/TopicConfiguration/Filter/S3Tags"
        );
        assert_eq!(
            changed("<EventBridgeConfiguration>", "<EventBridgeConfiguration><Bus/>"),
            "/NotificationConfiguration/EventBridgeConfiguration/Bus"
        );
        assert_eq!(changed("<Id>a", "<Id kind=\"x\">a"), "/NotificationConfiguration/TopicConfiguration/Id/@kind");
        assert!(changed("</TopicConfiguration>", "").contains("not XML"));
        assert_eq!(unknown("<Error/>").as_deref(), Some("/Error"));
    }
}
