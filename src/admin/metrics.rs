//! A scrape: the queue's numbers into their gauges, then everything as OpenMetrics, or as the older text of Prometheus for those
//! who do not ask for it: other scrapers and `promtool check metrics` know only that.

use std::sync::PoisonError;

use prometheus_client::encoding::text::encode;

use super::State;
use crate::telemetry::metrics::OfInstance;

pub(super) fn scrape(state: &State) -> String {
    let _alone = state.scrape.lock().unwrap_or_else(PoisonError::into_inner);
    refresh(state);
    let mut text = String::new();
    // Writing to a string does not fail; should an encoder, a scrape without its end mark is one that the scraper rejects.
    if encode(&mut text, &state.admin.registry).is_err() {
        tracing::error!("metrics cannot be encoded");
    }
    text
}

/// Prometheus' text format 0.0.4. It differs from OpenMetrics in what we use of it: counters and infos are declared by the
/// names of their samples, it has neither units nor the type `info`, and no end mark.
pub(super) fn as_text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + 512);
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            // It comes before the type, on which its name depends.
            help = described.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|declared| declared.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            text.push_str(&format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn refresh(state: &State) {
    let m = &state.admin.metrics;
    let stats = state.admin.queue.stats();
    // Instances that are neither configured nor owe anything leave.
    for family in [&m.owed, &m.owed_bytes, &m.oldest_owed_seconds, &m.dead, &m.dead_bytes] {
        family.clear();
    }
    let now = state.admin.clock.now();
    for instance in &stats.instances {
        let labels = OfInstance { instance: instance.name.clone() };
        let age = instance.oldest_owed.map_or(0, |oldest| now.since(oldest).as_secs());
        for (family, value) in [
            (&m.owed, instance.owed),
            (&m.owed_bytes, instance.owed_bytes),
            (&m.oldest_owed_seconds, age),
            (&m.dead, instance.dead),
            (&m.dead_bytes, instance.dead_bytes),
        ] {
            family.get_or_create(&labels).set(signed(value));
        }
    }
    m.store_bytes.set(signed(stats.store_bytes));
    m.store_refusing.set(i64::from(stats.refusing.is_some()));
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
