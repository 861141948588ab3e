//! Rows and the statements that read and write them.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row, Statement};

use crate::clock::UnixMillis;
use crate::event::Event;
use crate::queue::state::{Item, LaneKey};
use crate::queue::{Attempt, Owed};

/// Attempts that a row remembers: the first, which tells how it began, and the latest.
const LOG: usize = 32;

/// The columns of `owed` in the order that [`item`] reads.
pub(super) const ITEM: &str =
    "seq, lane, accepted_at, paused_ms, size, attempts, first_failed_at, next_at, batch, replayed, event";

/// When the delivery that is owed longest to an instance was accepted.
pub(super) const OLDEST: &str = "SELECT min(accepted_at) FROM owed WHERE instance = ?1";

/// Reads an owed row. A payload that does not parse is an error of the store, as only the store wrote it.
pub(super) fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
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
                 bucket, key, event_name) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
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
