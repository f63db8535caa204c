//! What happens when the spool is full: the lowest rank goes first, and of that the oldest. Not when, and not how much:
//! the store calls it until there is room. It may call SQLite, inside the caller's transaction.
//!
//! Eviction takes the payload away and leaves the numbers: the row becomes a gap with reason `spool_full`, and merges
//! with evicted neighbours into one row `seq..=seq_last`. It reads back as one gap item that stands for all these
//! numbers, and its count is how many they are; an ack, or a reader, that is already past the first ones takes
//! them off. So the stream has no holes at any time, each evicted item is counted exactly once, and evicted rows
//! take no room: there is never more than one between two kept ones.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::item::ITEM_OVERHEAD_BYTES;
use super::store::{Holding, sql, unsql};

/// A row on its way to being an evicted range.
struct Range {
    first: i64,
    last: i64,
    from_ns: i64,
    to_ns: i64,
}

/// Evicts the lowest-ranked, then oldest row. Returns whether there was one.
pub(super) fn evict_one(tx: &Transaction<'_>, after: &mut Holding) -> rusqlite::Result<bool> {
    let victim = tx
        .prepare_cached(
            "SELECT seq, from_ns, to_ns, bytes, finding IS NOT NULL FROM items
             WHERE rank < ?1 ORDER BY rank, seq LIMIT 1",
        )?
        .query_row([RANK_EVICTED], |row| {
            let first = row.get(0)?;
            let range = Range { first, last: first, from_ns: row.get(1)?, to_ns: row.get(2)? };
            Ok((range, unsql(row.get(3)?), row.get::<_, bool>(4)?))
        })
        .optional()?;
    let Some((mut range, freed, is_finding)) = victim else { return Ok(false) };
    let kind = if is_finding { "finding" } else { "gap" };
    tx.prepare_cached("DELETE FROM items WHERE seq = ?1")?.execute([range.first])?;
    after.bytes = after.bytes.saturating_sub(freed);
    for neighbour in [below(tx, range.first)?, above(tx, range.last)?].into_iter().flatten() {
        let (other, other_kind) = neighbour;
        if other_kind == kind {
            tx.prepare_cached("DELETE FROM items WHERE seq = ?1")?.execute([other.first])?;
            after.bytes = after.bytes.saturating_sub(ITEM_OVERHEAD_BYTES);
            range = Range {
                first: range.first.min(other.first),
                last: range.last.max(other.last),
                from_ns: range.from_ns.min(other.from_ns),
                to_ns: range.to_ns.max(other.to_ns),
            };
        }
    }
    tx.prepare_cached(
        "INSERT INTO items (seq, seq_last, rank, from_ns, to_ns, bytes, finding, kind, count, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, ?7, 1, 'spool_full')",
    )?
    .execute(params![
        range.first,
        range.last,
        RANK_EVICTED,
        range.from_ns,
        range.to_ns,
        sql(ITEM_OVERHEAD_BYTES),
        kind
    ])?;
    after.bytes += ITEM_OVERHEAD_BYTES;
    after.evicted_count += 1;
    Ok(true)
}

type Neighbour = Option<(Range, String)>;

fn below(tx: &Transaction<'_>, seq: i64) -> rusqlite::Result<Neighbour> {
    evicted_row(
        tx,
        "SELECT seq, seq_last, from_ns, to_ns, kind, rank FROM items WHERE seq < ?1 ORDER BY seq DESC",
        seq,
    )
}

fn above(tx: &Transaction<'_>, seq: i64) -> rusqlite::Result<Neighbour> {
    evicted_row(
        tx,
        "SELECT seq, seq_last, from_ns, to_ns, kind, rank FROM items WHERE seq > ?1 ORDER BY seq",
        seq,
    )
}

fn evicted_row(tx: &Transaction<'_>, query: &str, seq: i64) -> rusqlite::Result<Neighbour> {
    let row = tx
        .prepare_cached(&format!("{query} LIMIT 1"))?
        .query_row([seq], |row| {
            let range =
                Range { first: row.get(0)?, last: row.get(1)?, from_ns: row.get(2)?, to_ns: row.get(3)? };
            Ok((range, row.get::<_, String>(4)?, row.get::<_, u8>(5)?))
        })
        .optional()?;
    Ok(row.and_then(|(range, kind, rank)| (rank == RANK_EVICTED).then_some((range, kind))))
}

/// Rank of evicted ranges: never evicted again, there is nothing left to take.
const RANK_EVICTED: u8 = 127;
