//! Pure: a bucket's `NotificationConfiguration` as MCS S3 and Ceph RGW give and take it (`s3-dialects.md` 1.1, 2.2).
//!
//! A PUT replaces everything, other people's webhooks too. So a document is not written anew but spliced: every byte that is not of
//! our own element stays.

use std::ops::Range;

use roxmltree::{Document, Node, ParsingOptions};

use super::wanted::KeyFilter;

/// Bytes and nodes of a document at most.
pub const MAX_XML: usize = 1 << 20;
pub(super) const MAX_NODES: u32 = 100_000;
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// What an announcement's element and that of its target are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    element: &'static str,
    target: &'static str,
}

/// MCS: `<SimpleTopicConfiguration>` with a `<Url>`.
pub const MCS: Form = Form { element: "SimpleTopicConfiguration", target: "Url" };
/// Ceph: `<TopicConfiguration>` with a `<Topic>`.
pub const CEPH: Form = Form { element: "TopicConfiguration", target: "Topic" };

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its Id, unique in its bucket.
    pub id: String,
    /// Events, with `s3:`, sorted.
    pub events: Vec<String>,
    /// Where to: a URL (MCS) or a topic's ARN (Ceph).
    pub target: String,
    /// How keys begin and end.
    pub keys: KeyFilter,
}

/// A document that was understood.
#[derive(Clone, Debug)]
pub struct Configuration {
    text: String,
    root: Range<usize>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    element: String,
    range: Range<usize>,
    hook: Hook,
}

impl Configuration {
    /// Reads a document; targets are looked for under the name that `form` gives them.
    ///
    /// # Errors
    /// Why it is not understood, and so must not be replaced.
    pub fn read(text: &str, form: Form) -> Result<Self, String> {
        if text.len() > MAX_XML {
            return Err(format!("it is longer than {MAX_XML} bytes"));
        }
        // No DTD: nothing of S3 has one, and entities are how a small document becomes a large one.
        let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document =
            Document::parse_with_options(text, options).map_err(|error| format!("it is not XML ({error})"))?;
        let root = document.root_element();
        if root.tag_name().name() != "NotificationConfiguration" {
            return Err("it is no NotificationConfiguration".to_owned());
        }
        let entries = root
            .children()
            .filter(Node::is_element)
            .map(|node| Entry {
                element: node.tag_name().name().to_owned(),
                range: node.range(),
                hook: hook(node, form),
            })
            .collect();
        Ok(Self { text: text.to_owned(), root: root.range(), entries })
    }

    /// Its text, byte for byte.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `wanted` is there, once and exactly.
    pub fn has(&self, wanted: &Hook, form: Form) -> bool {
        let mut ours = self.entries.iter().filter(|entry| entry.hook.id == wanted.id);
        let first = ours.next().is_some_and(|entry| entry.element == form.element && entry.hook == *wanted);
        first && ours.next().is_none()
    }

    /// Whether there is one with this Id.
    pub fn has_id(&self, id: &str) -> bool {
        self.entries.iter().any(|entry| entry.hook.id == id)
    }

    /// All announcements that `form` has, in the order of the text.
    pub fn hooks(&self, form: Form) -> impl Iterator<Item = &Hook> {
        self.entries.iter().filter(move |entry| entry.element == form.element).map(|entry| &entry.hook)
    }

    /// The others, as they stand in the text.
    pub fn others<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a str> {
        self.entries.iter().filter(move |entry| entry.hook.id != id).map(|entry| &self.text[entry.range.clone()])
    }

    /// Targets of the others, which may hold secrets of other people.
    pub fn targets_of_others<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a str> {
        self.entries.iter().filter(move |entry| entry.hook.id != id).map(|entry| entry.hook.target.as_str())
    }

    /// The document with `wanted` in the place of what has its Id, or behind everything else.
    ///
    /// # Errors
    /// When its Id is of something that setup does not make, or the result would not be what it should.
    pub fn with(&self, wanted: &Hook, form: Form) -> Result<String, String> {
        if self.entries.iter().any(|entry| entry.hook.id == wanted.id && entry.element != form.element) {
            return Err(format!("the Id {} is of another kind of configuration; rename that one", wanted.id));
        }
        let mut ours = render(wanted, form, self.prefix());
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.hook.id == wanted.id) {
            edits.push((entry.range.clone(), std::mem::take(&mut ours)));
        }
        let root = &self.text[self.root.clone()];
        if root.ends_with("/>") {
            let name = root[1..].split(|c: char| c.is_whitespace() || c == '/' || c == '>').next().unwrap_or_default();
            edits.push((self.root.end - 2..self.root.end, format!(">{ours}</{name}>")));
        } else if !ours.is_empty() {
            // The end tag is the last thing of the root.
            let end = root.rfind("</").map(|at| self.root.start + at).ok_or("its root has no end")?;
            edits.push((end..end, ours));
        }
        self.spliced(edits, |after| after.has(wanted, form), &wanted.id, form)
    }

    /// The document without what has this Id.
    ///
    /// # Errors
    /// As [`Configuration::with`].
    pub fn without(&self, id: &str, form: Form) -> Result<String, String> {
        let ours = self.entries.iter().filter(|entry| entry.hook.id == id);
        let edits = ours.map(|entry| (entry.range.clone(), String::new())).collect();
        self.spliced(edits, |after| !after.has_id(id), id, form)
    }

    fn spliced(
        &self,
        mut edits: Vec<(Range<usize>, String)>,
        holds: impl FnOnce(&Self) -> bool,
        id: &str,
        form: Form,
    ) -> Result<String, String> {
        edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let mut text = self.text.clone();
        for (range, by) in edits {
            text.replace_range(range, &by);
        }
        // What is about to replace everything is read once more, as its receiver will.
        let after = Self::read(&text, form)?;
        let whole = holds(&after) && self.others(id).eq(after.others(id));
        if whole { Ok(text) } else { Err("a change of it would not be what it should".to_owned()) }
    }

    /// The prefix of the root's name, with its colon; empty where it has none.
    fn prefix(&self) -> &str {
        let name = self.text[self.root.start + 1..].split(|c: char| c.is_whitespace() || c == '/' || c == '>').next();
        name.and_then(|name| name.find(':').map(|at| &name[..=at])).unwrap_or("")
    }
}

/// A document that holds nothing.
pub fn empty() -> String {
    format!("<NotificationConfiguration xmlns=\"{NAMESPACE}\"></NotificationConfiguration>")
}

fn child<'a>(node: Node<'a, 'a>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The text of the first child of that name; comments within it do not count.
fn text(node: Node<'_, '_>, name: &str) -> String {
    let child = node.children().find(|child| child.is_element() && child.tag_name().name() == name);
    let text =
        child.map(|child| child.children().filter_map(|part| part.is_text().then(|| part.text())?).collect::<String>());
    text.unwrap_or_default().trim().to_owned()
}

fn hook<'a>(node: Node<'a, 'a>, form: Form) -> Hook {
    let mut events: Vec<String> = child(node, "Event")
        .map(|event| event.children().filter_map(|part| part.text()).collect::<String>().trim().to_owned())
        .collect();
    events.sort();
    let mut keys = KeyFilter::default();
    let rules =
        child(node, "Filter").flat_map(|filter| child(filter, "S3Key")).flat_map(|key| child(key, "FilterRule"));
    for rule in rules {
        let value = text(rule, "Value");
        match text(rule, "Name").to_lowercase().as_str() {
            "prefix" => keys.prefix = value,
            "suffix" => keys.suffix = value,
            _ => {}
        }
    }
    Hook { id: text(node, "Id"), events, target: text(node, form.target), keys }
}

fn render(hook: &Hook, form: Form, prefix: &str) -> String {
    let element = |name: &str, text: &str| format!("<{prefix}{name}>{text}</{prefix}{name}>");
    let rule = |name: &str, value: &str| match value {
        "" => String::new(),
        value => element("FilterRule", &(element("Name", name) + &element("Value", &escaped(value)))),
    };
    let rules = rule("Prefix", &hook.keys.prefix) + &rule("Suffix", &hook.keys.suffix);
    let filter = if rules.is_empty() { rules } else { element("Filter", &element("S3Key", &rules)) };
    let events: String = hook.events.iter().map(|event| element("Event", &escaped(event))).collect();
    let target = element(form.target, &escaped(&hook.target));
    // The order of the documented samples: MCS has events first, Ceph the topic.
    let middle = if form == MCS { events + &target } else { target + &events };
    element(form.element, &(element("Id", &escaped(&hook.id)) + &middle + &filter))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
