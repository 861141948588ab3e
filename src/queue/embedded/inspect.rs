//! Looking: listings and notes, on connections of their own.

use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::files::OpenError;
use super::{files, rows, schema};
use crate::clock::UnixMillis;
use crate::event::Origin;
use crate::queue::{Filter, InstanceStats, QueueError, Row, State, Stats};

/// The store of another process, or of none, for looking only.
#[derive(Debug)]
pub struct ReadOnly {
    dir: PathBuf,
}

impl ReadOnly {
    /// Rows that fit `filter`, newest first, as [`Queue::list`](crate::queue::Queue::list).
    ///
    /// # Errors
    /// [`QueueError`] when the store cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Row>, QueueError> {
        list(&schema::open_reader(&self.dir).map_err(failed)?, filter).map_err(failed)
    }

    /// The numbers of the last commit: those that are kept beside the rows, so that no row is counted. What a store owes to
    /// instances that are no longer configured is among them; whether a running owner refuses work is not.
    ///
    /// # Errors
    /// [`QueueError`] when the store cannot be read.
    pub fn stats(&self) -> Result<Stats, QueueError> {
        let conn = schema::open_reader(&self.dir).map_err(failed)?;
        let instances = instances(&conn).map_err(failed)?;
        Ok(Stats {
            owed_bytes: instances.iter().map(|one| one.owed_bytes).sum(),
            dead_bytes: instances.iter().map(|one| one.dead_bytes).sum(),
            instances,
            store_bytes: files::size(&self.dir),
            refusing: None,
        })
    }
}

pub(super) fn open(dir: &Path) -> Result<ReadOnly, OpenError> {
    if !dir.join(schema::FILE).exists() {
        return Err(OpenError::Missing { dir: dir.to_owned() });
    }
    let store = |e: rusqlite::Error| OpenError::Store { dir: dir.to_owned(), message: e.to_string() };
    let conn = schema::open_reader(dir).map_err(store)?;
    let found = schema::version(&conn).map_err(store)?;
    if found > schema::VERSION {
        return Err(OpenError::Newer { dir: dir.to_owned(), found, known: schema::VERSION });
    }
    Ok(ReadOnly { dir: dir.to_owned() })
}

pub(super) fn failed(error: rusqlite::Error) -> QueueError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => QueueError::DiskFull,
        _ => QueueError::Failed(error.to_string()),
    }
}

/// Runs a read where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, QueueError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(failed),
        Err(error) => Err(QueueError::Failed(error.to_string())),
    }
}

fn instances(conn: &Connection) -> rusqlite::Result<Vec<InstanceStats>> {
    let oldest = rows::OLDEST.replace("?1", "instances.id");
    let sql = format!("SELECT name, owed, owed_bytes, dead, dead_bytes, ({oldest}) FROM instances ORDER BY name");
    let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    conn.prepare(&sql)?
        .query_map([], |row| {
            Ok(InstanceStats {
                name: row.get(0)?,
                owed: number(row, 1)?,
                owed_bytes: number(row, 2)?,
                dead: number(row, 3)?,
                dead_bytes: number(row, 4)?,
                oldest_owed: row.get::<_, Option<i64>>(5)?.map(UnixMillis),
            })
        })?
        .collect()
}

pub(super) fn notes(conn: &Connection, space: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let mut found = conn.prepare("SELECT key, value FROM notes WHERE space = ?1 ORDER BY key")?;
    found.query_map([space], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// A filter as SQL over one table.
pub(super) struct Where {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

impl Where {
    /// `slim` is the table whose payload is gone and whose fields are columns.
    pub(super) fn of(filter: &Filter, before: Option<u64>, slim: bool) -> Self {
        let field = |column: &str, path: &str| match slim {
            true => column.to_owned(),
            false => field_of(path),
        };
        let mut this = Self { sql: "1".to_owned(), values: Vec::new() };
        let mut and = |condition: String, value: Value| {
            this.sql = format!("{} AND {condition}", this.sql);
            this.values.push(value);
        };
        if let Some(name) = &filter.instance {
            and("instance = (SELECT id FROM instances WHERE name = ?)".to_owned(), Value::Text(name.clone()));
        }
        if let Some(bucket) = &filter.bucket {
            and(format!("{} = ?", field("bucket", "bucket")), Value::Text(bucket.clone()));
        }
        if let Some(id) = &filter.id {
            and(format!("{} = ?", field("event_id", "id")), Value::Text(id.clone()));
        }
        if let Some(key) = &filter.key {
            let column = field("key", "key");
            match key.strip_suffix('*') {
                Some(prefix) => {
                    let length = prefix.chars().count();
                    and(format!("substr({column}, 1, {length}) = ?"), Value::Text(prefix.to_owned()));
                }
                None => and(format!("{column} = ?"), Value::Text(key.clone())),
            }
        }
        let times = [(filter.since, "accepted_at >= ?"), (filter.until, "accepted_at < ?")];
        for (time, condition) in times {
            if let Some(time) = time {
                and(condition.to_owned(), Value::Integer(time.0));
            }
        }
        if let Some(before) = before {
            and("seq < ?".to_owned(), Value::Integer(i64::try_from(before).unwrap_or(i64::MAX)));
        }
        this
    }

    /// Narrows to the states that were asked for, of those that the table holds.
    pub(super) fn states(&mut self, asked: &[State], held: &[State]) -> bool {
        let names: Vec<_> = held
            .iter()
            .filter(|s| asked.is_empty() || asked.contains(s))
            .map(|s| format!("'{}'", s.as_str()))
            .collect();
        self.sql = format!("{} AND state IN ({})", self.sql, names.join(", "));
        !names.is_empty()
    }
}

/// A member of the event as SQL: empty in a row that cannot be read, which must not hide the others.
fn field_of(path: &str) -> String {
    format!("ifnull(CASE WHEN json_valid(event) THEN json_extract(event, '$.{path}') END, '')")
}

/// The members of the event that a listing and the slim history hold.
pub(super) fn payload() -> String {
    ["id", "bucket", "key", "event_name", "origin"].map(field_of).join(", ")
}

pub(super) fn list(conn: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Row>> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit.min(10_000) };
    let mut found = Vec::new();
    // All tables as of one moment: a delivery that ends between two of the reads would be listed twice, and one that is replayed not
    // at all. Dropped at the end, which rolls nothing back.
    let snapshot = conn.unchecked_transaction()?;
    let conn: &Connection = &snapshot;
    let payload = payload();
    let name = "(SELECT name FROM instances WHERE id = instance)";
    if filter.states.is_empty() || filter.states.contains(&State::Owed) {
        let narrowed = Where::of(filter, filter.before_seq, false);
        let columns = format!("seq, 'owed', {name}, {payload}, accepted_at, NULL, next_at, attempts, NULL, log");
        select(conn, &columns, "owed", narrowed, limit, &mut found)?;
    }
    let mut narrowed = Where::of(filter, filter.before_seq, false);
    if narrowed.states(&filter.states, &[State::Dead, State::Superseded]) {
        let columns = format!("seq, state, {name}, {payload}, accepted_at, ended_at, NULL, attempts, reason, log");
        select(conn, &columns, "dead", narrowed, limit, &mut found)?;
    }
    let mut narrowed = Where::of(filter, filter.before_seq, true);
    if narrowed.states(&filter.states, &[State::Delivered, State::Discarded]) {
        // A store of version 1 is listed as it is: only its owner takes it over.
        let origin = if schema::version(conn)? < 2 { "NULL" } else { "origin" };
        let columns = format!(
            "seq, state, {name}, event_id, bucket, key, event_name, {origin}, accepted_at, ended_at, NULL, attempts, reason, log"
        );
        select(conn, &columns, "ended", narrowed, limit, &mut found)?;
    }
    found.sort_by_key(|row: &Row| std::cmp::Reverse(row.seq));
    found.truncate(limit);
    Ok(found)
}

fn select(
    conn: &Connection,
    columns: &str,
    table: &str,
    narrowed: Where,
    limit: usize,
    found: &mut Vec<Row>,
) -> rusqlite::Result<()> {
    let sql = format!("SELECT {columns} FROM {table} WHERE {} ORDER BY seq DESC LIMIT {limit}", narrowed.sql);
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(narrowed.values), |row| {
        let state: String = row.get(1)?;
        let state = [State::Dead, State::Delivered, State::Discarded, State::Owed, State::Superseded]
            .into_iter()
            .find(|known| known.as_str() == state)
            .unwrap_or(State::Dead);
        Ok(Row {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            state,
            instance: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
            event_id: row.get(3)?,
            bucket: row.get(4)?,
            key: row.get(5)?,
            event_name: row.get(6)?,
            // Of a damaged row at least the rest is shown.
            origin: row.get::<_, Option<String>>(7)?.as_deref().and_then(Origin::parse),
            accepted_at: UnixMillis(row.get(8).unwrap_or_default()),
            ended_at: row.get::<_, Option<i64>>(9)?.map(UnixMillis),
            next_at: row.get::<_, Option<i64>>(10).unwrap_or_default().map(UnixMillis),
            attempts: row.get(11).unwrap_or_default(),
            reason: row.get(12)?,
            log: rows::log(row, 13).map(|log| rows::attempts(&log)).unwrap_or_default(),
        })
    })?;
    for row in rows {
        found.push(row?);
    }
    Ok(())
}
