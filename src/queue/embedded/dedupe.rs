//! What was seen, what was delivered last of each lane, and what was told of each object's state, in tables by span of time
//! that are dropped as a whole.
//!
//! Keys are hashes and so go to random pages; a table that covers a quarter of the memory's span stays small enough for that,
//! and forgetting costs one `DROP TABLE` where a delete by age would touch every page again.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::schema;
use crate::clock::UnixMillis;
use crate::event::Sequencer;
use crate::queue::state::LaneKey;
use crate::queue::state::change::{Known, Listed};

/// Tables that together cover the span.
const PARTS: u32 = 4;

/// The memory, on one connection.
pub(super) struct Memory<'c> {
    conn: &'c Connection,
    part_ms: i64,
    /// Newest first.
    parts: Vec<Part<'c>>,
}

struct Part<'c> {
    n: i64,
    seen: Statement<'c>,
    remember: Statement<'c>,
    last: Statement<'c>,
    delivered: Statement<'c>,
    known: Statement<'c>,
    tell: Statement<'c>,
}

impl<'c> Memory<'c> {
    /// Finds the tables that there are.
    pub(super) fn open(conn: &'c Connection, span: Duration) -> rusqlite::Result<Self> {
        let part_ms = i64::try_from(span.as_millis() / u128::from(PARTS)).unwrap_or(i64::MAX).max(1);
        let mut starts = schema::memory_parts(conn)?;
        starts.sort_unstable_by_key(|n| std::cmp::Reverse(*n));
        let parts = starts.into_iter().map(|n| Part::open(conn, n)).collect::<Result<_, _>>()?;
        Ok(Self { conn, part_ms, parts })
    }

    /// Makes the table of `now` where it is missing, and drops those that are wholly out of the span. A table is named by the
    /// time of its beginning. A clock that went back writes to the newest there is. Must run inside a transaction.
    pub(super) fn rotate(&mut self, now: UnixMillis) -> rusqlite::Result<()> {
        let start = (now.0 / self.part_ms) * self.part_ms;
        let start = start.max(0);
        if self.parts.first().is_none_or(|part| part.n < start) {
            self.conn.execute_batch(&format!(
                "CREATE TABLE seen_{start} (key BLOB PRIMARY KEY) WITHOUT ROWID;
                 CREATE TABLE lane_{start} (lane BLOB PRIMARY KEY, sequencer TEXT NOT NULL) WITHOUT ROWID;
                 {}",
                schema::object_table(start)
            ))?;
            self.parts.insert(0, Part::open(self.conn, start)?);
        }
        while let Some(oldest) = self.parts.last()
            && self.parts.len() > 1
            // What was written at the end of a part is kept for the whole span after it.
            && oldest.n.saturating_add(self.part_ms * i64::from(PARTS + 1)) <= now.0
        {
            let n = oldest.n;
            self.parts.pop();
            self.conn.execute_batch(&format!("DROP TABLE seen_{n}; DROP TABLE lane_{n}; DROP TABLE object_{n};"))?;
        }
        Ok(())
    }

    /// Whether the tables have to be rotated.
    pub(super) fn is_stale(&self, now: UnixMillis) -> bool {
        self.parts.first().is_none_or(|part| part.n.saturating_add(self.part_ms) <= now.0)
    }

    pub(super) fn seen(&mut self, key: &[u8; 16]) -> rusqlite::Result<bool> {
        for part in &mut self.parts {
            if part.seen.exists([&key[..]])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Remembers a key that was not seen.
    pub(super) fn remember(&mut self, key: &[u8; 16]) -> rusqlite::Result<()> {
        match self.parts.first_mut() {
            Some(part) => part.remember.execute([&key[..]]).map(drop),
            None => Ok(()),
        }
    }

    /// What was delivered last of a lane.
    pub(super) fn last(&mut self, lane: &LaneKey) -> rusqlite::Result<Option<Sequencer>> {
        for part in &mut self.parts {
            let text: Option<String> = part.last.query_row([&lane.0[..]], |row| row.get(0)).optional()?;
            if let Some(text) = text {
                return Ok(serde_json::from_str(&text).ok());
            }
        }
        Ok(None)
    }

    /// Notes what was delivered last of a lane.
    pub(super) fn delivered(&mut self, lane: &LaneKey, sequencer: &Sequencer) -> rusqlite::Result<()> {
        let Ok(text) = serde_json::to_string(sequencer) else { return Ok(()) };
        match self.parts.first_mut() {
            Some(part) => part.delivered.execute(params![&lane.0[..], text]).map(drop),
            None => Ok(()),
        }
    }

    /// What was told of an object's state, wherever it was noted last.
    pub(super) fn known(&mut self, object: &[u8; 16]) -> rusqlite::Result<Option<Known>> {
        for part in &mut self.parts {
            if let Some(known) = part.known.query_row([&object[..]], known).optional()? {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// Notes what was told of an object's state.
    pub(super) fn tell(&mut self, object: &[u8; 16], known: &Known) -> rusqlite::Result<()> {
        let Some(part) = self.parts.first_mut() else { return Ok(()) };
        let listed = known.listed.as_ref();
        part.tell
            .execute(params![
                &object[..],
                &known.state[..],
                known.at.map(|at| at.0),
                known.by_listing,
                listed.map(|listed| listed.state),
                listed.and_then(|listed| listed.at).map(|at| at.0),
                listed.map(|listed| listed.listed_at.0),
            ])
            .map(drop)
    }
}

fn known(row: &Row<'_>) -> rusqlite::Result<Known> {
    let listed = match (row.get(3)?, row.get::<_, Option<i64>>(5)?) {
        (Some(state), Some(listed_at)) => {
            let at = row.get::<_, Option<i64>>(4)?.map(UnixMillis);
            Some(Listed { state, at, listed_at: UnixMillis(listed_at) })
        }
        _ => None,
    };
    let at = row.get::<_, Option<i64>>(1)?.map(UnixMillis);
    Ok(Known { state: row.get(0)?, at, by_listing: row.get(2)?, listed })
}

impl<'c> Part<'c> {
    fn open(conn: &'c Connection, n: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            n,
            seen: conn.prepare(&format!("SELECT 1 FROM seen_{n} WHERE key = ?1"))?,
            remember: conn.prepare(&format!("INSERT OR IGNORE INTO seen_{n} (key) VALUES (?1)"))?,
            last: conn.prepare(&format!("SELECT sequencer FROM lane_{n} WHERE lane = ?1"))?,
            delivered: conn.prepare(&format!("INSERT OR REPLACE INTO lane_{n} (lane, sequencer) VALUES (?1, ?2)"))?,
            known: conn.prepare(&format!(
                "SELECT state, at, by_listing, listed_state, modified_at, listed_at FROM object_{n} WHERE object = ?1"
            ))?,
            tell: conn.prepare(&format!(
                "INSERT OR REPLACE INTO object_{n} (object, state, at, by_listing, listed_state, modified_at, listed_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
            ))?,
        })
    }
}
