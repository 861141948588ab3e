//! Rows and the statements that read and write them.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement};
use serde_json::value::RawValue;

use crate::clock::UnixMillis;
use crate::event::{Event, EventId, EventType, ObjectType, Origin};
use crate::queue::state::{Item, LaneKey};
use crate::queue::{Attempt, Owed, memory_key};

/// Attempts that a row remembers: the first, which tells how it began, and the latest.
const LOG: usize = 32;

/// The event name of what stands for a row that could not be read.
const DAMAGED: &str = "Damaged";

/// The columns of `owed` in the order that [`item`] reads.
pub(super) const ITEM: &str =
    "seq, lane, accepted_at, paused_ms, size, attempts, first_failed_at, next_at, batch, replayed, event";

/// When the delivery that is owed longest to an instance was accepted.
pub(super) const OLDEST: &str = "SELECT min(accepted_at) FROM owed WHERE instance = ?1";

/// A row that cannot be read: a bit flipped on its way to the disk, or somebody else wrote to the file.
pub(super) struct Damaged {
    /// What stands for it among the dead: nothing but the text that was there.
    pub(super) item: Item,
    /// What is wrong with it.
    pub(super) why: String,
}

/// Reads an owed row. A row that cannot be read is no error of the store: it must not keep the others from their way.
pub(super) fn item(row: &Row<'_>) -> rusqlite::Result<Result<Item, Damaged>> {
    let seq = row.get::<_, i64>(0)?.cast_unsigned();
    Ok(sound(row).map_err(|error| Damaged { item: remains(row, seq), why: error.to_string() }))
}

/// Reads a lane; `None` where the column does not hold one.
pub(super) fn lane(row: &Row<'_>, column: usize) -> Option<LaneKey> {
    row.get(column).ok().map(LaneKey)
}

/// Reads a log of attempts. One that cannot be read is worth no failed settlement.
pub(super) fn log(row: &Row<'_>, column: usize) -> Option<String> {
    row.get(column).unwrap_or_default()
}

fn remains(row: &Row<'_>, seq: u64) -> Item {
    let text = match row.get_ref(10) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    let accepted_at = UnixMillis(row.get(2).unwrap_or_default());
    let key = memory_key(&[b"damaged", &seq.to_be_bytes()]);
    let mut id = [0; 15];
    id.copy_from_slice(&key[..15]);
    let event = Event {
        id: EventId(id),
        event_type: EventType::Unknown,
        object_type: ObjectType::File,
        bucket: String::new(),
        key: String::new(),
        raw_key: None,
        event_name: DAMAGED.to_owned(),
        version_id: None,
        e_tag: None,
        size: None,
        sequencer: None,
        time: accepted_at,
        poll_date: None,
        origin: Origin::Sns,
        topic: None,
        region: None,
        message_id: None,
        notification: None,
        // A string always has a JSON form.
        raw: serde_json::value::to_raw_value(&text).unwrap_or_else(|_| RawValue::NULL.to_owned()),
    };
    Item {
        owed: Arc::new(Owed { seq, accepted_at, paused_at_accept: Duration::ZERO, event }),
        lane: LaneKey(key),
        size: row.get::<_, i64>(4).unwrap_or_default().max(0).cast_unsigned(),
        attempts: row.get(5).unwrap_or_default(),
        first_failed_at: None,
        next_at: None,
        batch: None,
        replayed: false,
    }
}

fn sound(row: &Row<'_>) -> rusqlite::Result<Item> {
    let text = row.get_ref(10)?.as_str()?;
    let event: Event = serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(10, rusqlite::types::Type::Text, Box::new(error)))?;
    Ok(Item {
        owed: Arc::new(Owed {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            accepted_at: UnixMillis(row.get(2)?),
            paused_at_accept: Duration::from_millis(row.get::<_, i64>(3)?.cast_unsigned()),
            event,
        }),
        lane: LaneKey(row.get(1)?),
        size: row.get::<_, i64>(4)?.cast_unsigned(),
        attempts: row.get(5)?,
        first_failed_at: row.get::<_, Option<i64>>(6)?.map(UnixMillis),
        next_at: row.get::<_, Option<i64>>(7)?.map(UnixMillis),
        batch: row.get::<_, Option<i64>>(8)?.map(i64::cast_unsigned),
        replayed: row.get(9)?,
    })
}

/// Adds an attempt to a log, which is a JSON array; a log that cannot be read begins anew.
pub(super) fn add_attempt(log: Option<&str>, attempt: Option<&Attempt>) -> Option<String> {
    let Some(attempt) = attempt else { return log.map(str::to_owned) };
    let mut attempts = log.map(attempts).unwrap_or_default();
    if attempts.len() >= LOG {
        attempts.remove(1);
    }
    attempts.push(attempt.clone());
    serde_json::to_string(&attempts).ok()
}

/// Reads a log.
pub(super) fn attempts(log: &str) -> Vec<Attempt> {
    serde_json::from_str(log).unwrap_or_default()
}

/// The prepared statements of the writer.
pub(super) struct Sql<'c> {
    pub(super) begin: Statement<'c>,
    pub(super) commit: Statement<'c>,
    pub(super) insert_owed: Statement<'c>,
    pub(super) remove_owed: Statement<'c>,
    pub(super) insert_ended: Statement<'c>,
    pub(super) to_dead: Statement<'c>,
    pub(super) insert_dead: Statement<'c>,
    pub(super) mend_dead: Statement<'c>,
    pub(super) log: Statement<'c>,
    pub(super) set_log: Statement<'c>,
    pub(super) retry: Statement<'c>,
    pub(super) compose: Statement<'c>,
    pub(super) counts: Statement<'c>,
    pub(super) is_owed: Statement<'c>,
    pub(super) lane_before: Statement<'c>,
    pub(super) lane: Statement<'c>,
    pub(super) batch: Statement<'c>,
    pub(super) log_frames: Statement<'c>,
    pub(super) oldest: Statement<'c>,
    pub(super) fresh: Statement<'c>,
    pub(super) row: Statement<'c>,
    pub(super) due: Statement<'c>,
}

impl<'c> Sql<'c> {
    pub(super) fn prepare(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            commit: conn.prepare("COMMIT")?,
            insert_owed: conn.prepare(
                "INSERT INTO owed (seq, instance, lane, accepted_at, paused_ms, size, event) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
            remove_owed: conn.prepare("DELETE FROM owed WHERE seq = ?1 RETURNING log")?,
            insert_ended: conn.prepare(
                "INSERT OR REPLACE INTO ended (seq, instance, state, accepted_at, ended_at, attempts, reason, log, event_id,
                 bucket, key, event_name, origin) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?,
            to_dead: conn.prepare(
                "INSERT OR REPLACE INTO dead (seq, instance, lane, accepted_at, paused_ms, size, state, ended_at, attempts,
                 reason, log, event) SELECT seq, instance, lane, accepted_at, paused_ms, size, ?2, ?3, ?4, ?5, ?6, event
                 FROM owed WHERE seq = ?1",
            )?,
            insert_dead: conn.prepare(
                "INSERT INTO dead (seq, instance, lane, accepted_at, paused_ms, size, state, ended_at, attempts, reason, event)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?9, ?4, 0, ?7, ?8)",
            )?,
            mend_dead: conn.prepare("UPDATE dead SET lane = ?2, event = ?3, accepted_at = ?4, paused_ms = 0, size = ?5 WHERE seq = ?1")?,
            log: conn.prepare("SELECT log FROM owed WHERE seq = ?1")?,
            set_log: conn.prepare("UPDATE owed SET log = ?2 WHERE seq = ?1")?,
            retry: conn.prepare(
                "UPDATE owed SET attempts = ?2, first_failed_at = ?3, next_at = ?4, log = ?5, batch = ifnull(?6, batch)
                 WHERE seq = ?1",
            )?,
            compose: conn.prepare("UPDATE owed SET batch = ?2 WHERE seq = ?1")?,
            counts: conn.prepare(
                "UPDATE instances SET owed = ?2, owed_bytes = ?3, dead = ?4, dead_bytes = ?5 WHERE id = ?1",
            )?,
            is_owed: conn.prepare("SELECT 1 FROM owed WHERE seq = ?1")?,
            lane_before: conn.prepare("SELECT 1 FROM owed WHERE lane = ?1 AND seq < ?2 LIMIT 1")?,
            lane: conn.prepare(&format!("SELECT {ITEM} FROM owed WHERE lane = ?1 ORDER BY seq LIMIT ?2"))?,
            batch: conn.prepare(&format!("SELECT {ITEM} FROM owed WHERE batch = ?1 ORDER BY seq"))?,
            // What is in the log and how much of it is in the database, and nothing is done about it.
            log_frames: conn.prepare("PRAGMA wal_checkpoint(NOOP)")?,
            oldest: conn.prepare(OLDEST)?,
            fresh: conn.prepare(
                "SELECT seq, lane FROM owed WHERE instance = ?1 AND next_at IS NULL AND seq > ?2 ORDER BY seq LIMIT ?3",
            )?,
            row: conn.prepare(&format!("SELECT {ITEM} FROM owed WHERE seq = ?1"))?,
            due: conn.prepare("SELECT seq, lane, next_at FROM owed WHERE instance = ?1 AND next_at NOTNULL ORDER BY next_at")?,
        })
    }
}
