//! Statements.

use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, Row as SqlRow, TransactionBehavior, params};

use super::super::merge::{Row, Write};
use super::{Range, STRETCH};
use crate::aws::listing::Entry;
use crate::clock::UnixMillis;

/// Rows that one step forgets of ranges that are no longer listed.
const FORGOTTEN_AT_ONCE: i64 = 2000;

/// Free pages that stay in the file, and how many one step gives back: 4 MiB.
const FREE: i64 = 256;
const GIVEN_BACK: i64 = 1024;

pub(super) fn ranges(
    conn: &mut Connection,
    epoch: u64,
    instance: &str,
    wanted: &[(String, String)],
) -> rusqlite::Result<Vec<Range>> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (id, bucket, prefix) in known(&tx, instance)? {
        if !wanted.iter().any(|(b, p)| *b == bucket && *p == prefix) {
            // Numbers are never given twice, so its objects are nobody's from now on; see `tidy`.
            tx.execute("DELETE FROM ranges WHERE id = ?1", [id])?;
        }
    }
    let mut ranges = Vec::with_capacity(wanted.len());
    for (bucket, prefix) in wanted {
        tx.execute(
            "INSERT OR IGNORE INTO ranges (instance, bucket, prefix) VALUES (?1, ?2, ?3)",
            params![instance, bucket, prefix.as_bytes()],
        )?;
        ranges.push(tx.query_row(
            "SELECT id, baselined, began, position FROM ranges WHERE instance = ?1 AND bucket = ?2 AND prefix = ?3",
            params![instance, bucket, prefix.as_bytes()],
            |row| {
                let began = row.get::<_, Option<i64>>(2)?.map(UnixMillis);
                Ok(Range {
                    id: row.get(0)?,
                    epoch,
                    bucket: bucket.clone(),
                    prefix: prefix.clone(),
                    baselined: row.get(1)?,
                    began,
                    noted: began.is_some(),
                    listed: false,
                    emptied: false,
                    position: text(row, 3)?,
                })
            },
        )?);
    }
    tx.commit()?;
    Ok(ranges)
}

fn known(conn: &Connection, instance: &str) -> rusqlite::Result<Vec<(i64, String, String)>> {
    let mut statement = conn.prepare("SELECT id, bucket, prefix FROM ranges WHERE instance = ?1")?;
    let rows = statement.query_map([instance], |row| Ok((row.get(0)?, row.get(1)?, text(row, 2)?)))?;
    rows.collect()
}

/// Forgets the ranges of all other instances.
pub(super) fn keep(conn: &mut Connection, instances: &[Arc<str>]) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let known: Vec<String> = tx
        .prepare("SELECT DISTINCT instance FROM ranges")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for instance in known.iter().filter(|known| !instances.iter().any(|kept| **kept == ***known)) {
        tx.execute("DELETE FROM ranges WHERE instance = ?1", [instance])?;
        tracing::info!(
            instance,
            "nobody lists for this instance any more; what was remembered of its buckets is forgotten"
        );
    }
    tx.commit()
}

/// One step of forgetting objects whose range is not there any more, or of giving free pages back; whether there is more to do.
pub(super) fn tidy(conn: &Connection) -> rusqlite::Result<bool> {
    let mut after = i64::MIN;
    // One step down the key for each range, whatever it holds.
    while let Some(range) =
        conn.query_row("SELECT min(range) FROM objects WHERE range > ?1", [after], |row| row.get::<_, Option<i64>>(0))?
    {
        if !conn.prepare("SELECT 1 FROM ranges WHERE id = ?1")?.exists([range])? {
            conn.execute(
                "DELETE FROM objects WHERE range = ?1 AND key IN (SELECT key FROM objects WHERE range = ?1 LIMIT ?2)",
                params![range, FORGOTTEN_AT_ONCE],
            )?;
            return Ok(true);
        }
        after = range;
    }
    let pages = |name| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (free, all) = (pages("freelist_count")?, pages("page_count")?);
    // A file of a version that could not give back is left as it is.
    if free <= FREE || free <= all / 4 || pages("auto_vacuum")? != 2 {
        return Ok(false);
    }
    let mut vacuum = conn.prepare(&format!("PRAGMA incremental_vacuum({GIVEN_BACK})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}

pub(super) fn stretch(conn: &Connection, range: i64, after: &str, end: Option<&str>) -> rusqlite::Result<Vec<Row>> {
    let limit = STRETCH as i64;
    let after = after.as_bytes();
    match end {
        Some(end) => {
            let mut statement = conn.prepare(
                "SELECT key, e_tag, size, modified, missing_since FROM objects
                 WHERE range = ?1 AND key > ?2 AND key <= ?3 ORDER BY key LIMIT ?4",
            )?;
            statement.query_map(params![range, after, end.as_bytes(), limit], object)?.collect()
        }
        None => {
            let mut statement = conn.prepare(
                "SELECT key, e_tag, size, modified, missing_since FROM objects
                 WHERE range = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
            )?;
            statement.query_map(params![range, after, limit], object)?.collect()
        }
    }
}

pub(super) fn commit(
    conn: &mut Connection,
    range: i64,
    began: Option<UnixMillis>,
    position: &str,
    writes: &[Write],
) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut put = tx.prepare(
            "INSERT INTO objects (range, key, e_tag, size, modified) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET e_tag = ?3, size = ?4, modified = ?5, missing_since = NULL",
        )?;
        let mut miss = tx.prepare("UPDATE objects SET missing_since = ?3 WHERE range = ?1 AND key = ?2")?;
        for write in writes {
            match write {
                Write::Put(entry) => put.execute(params![
                    range,
                    entry.key.as_bytes(),
                    entry.e_tag,
                    i64::try_from(entry.size).unwrap_or(i64::MAX),
                    entry.last_modified.map(|time| time.0),
                ])?,
                Write::Missing(key, since) => miss.execute(params![range, key.as_bytes(), since.map(|time| time.0)])?,
            };
        }
        tx.prepare("UPDATE ranges SET began = ?2, position = ?3 WHERE id = ?1")?.execute(params![
            range,
            began.map(|time| time.0),
            position.as_bytes()
        ])?;
    }
    tx.commit()
}

pub(super) fn missing(conn: &Connection, range: i64, until: UnixMillis) -> rusqlite::Result<Vec<Row>> {
    let mut statement = conn.prepare(
        "SELECT key, e_tag, size, modified, missing_since FROM objects
         WHERE range = ?1 AND missing_since IS NOT NULL AND missing_since <= ?2 ORDER BY missing_since, key LIMIT ?3",
    )?;
    statement.query_map(params![range, until.0, STRETCH as i64], object)?.collect()
}

pub(super) fn forget(conn: &mut Connection, range: i64, keys: &[String]) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut forget = tx.prepare("DELETE FROM objects WHERE range = ?1 AND key = ?2")?;
        for key in keys {
            forget.execute(params![range, key.as_bytes()])?;
        }
    }
    tx.commit()
}

pub(super) fn finish(conn: &Connection, range: i64) -> rusqlite::Result<()> {
    conn.prepare("UPDATE ranges SET baselined = 1, began = NULL, position = x'' WHERE id = ?1")?
        .execute([range])
        .map(|_| ())
}

fn object(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        entry: Entry {
            key: text(row, 0)?,
            e_tag: row.get(1)?,
            size: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
            last_modified: row.get::<_, Option<i64>>(3)?.map(UnixMillis),
        },
        missing_since: row.get::<_, Option<i64>>(4)?.map(UnixMillis),
    })
}

/// A key: a blob, so that SQLite compares bytes, and UTF-8, because keys are.
fn text(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<String> {
    let bytes: Vec<u8> = row.get(column)?;
    String::from_utf8(bytes)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error)))
}
