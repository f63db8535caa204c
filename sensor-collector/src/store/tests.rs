//! The store's promises: committed means durable, a failed job undoes only itself, a full disk stores nothing, a newer
//! schema is refused.

mod grouping;

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::clock::UnixNs;
use crate::identity::AgentId;
use crate::identity::secret::Sha256Hash;
use crate::intake::{Commit, Content, Epoch, FindingRow, Hole, Row, Seq};
use crate::store::agents::Claims;
use crate::store::learned::LearnedRow;
use crate::store::tokens::TokenError;
use crate::store::{Store, StoreError, agents, findings, gaps, learned, schema, tokens};

const EPOCH: Epoch = Epoch([1; 16]);
const BYTES_MAX: u64 = 1 << 30;

fn at(ns: u64) -> UnixNs {
    UnixNs::from_claimed(ns)
}

fn database(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("collector.db")
}

fn commit(after: Option<u64>, seqs: std::ops::RangeInclusive<u64>) -> Commit {
    let upto = Seq(*seqs.end());
    let rows = seqs.map(|seq| row(seq, 16)).collect();
    Commit { epoch: EPOCH, after: after.map(Seq), hole: None, rows, upto }
}

fn row(seq: u64, bytes: usize) -> Row {
    evidence(seq, FindingRow { time: at(seq), severity: 3, reason: 1, body: vec![0; bytes], ..once() })
}

fn evidence(seq: u64, finding: FindingRow) -> Row {
    Row { first: Seq(seq), seq: Seq(seq), content: Content::Finding(finding) }
}

/// Something done once.
fn once() -> FindingRow {
    FindingRow { count: 1, ..FindingRow::default() }
}

/// A store with one agent in fleet `web`.
async fn store_with_agent(path: &Path, bytes_max: u64) -> (Store, AgentId) {
    let store = Store::open(path, bytes_max).unwrap();
    let agent = AgentId::random();
    store
        .write(move |connection| -> Result<(), StoreError> {
            tokens::ensure_fleet(connection, "web", at(1))?;
            agents::insert(connection, agent, "web", &Claims::default(), at(1), at(2))
        })
        .await
        .unwrap();
    (store, agent)
}

async fn write_commit(store: &Store, agent: AgentId, commit: Commit) -> Result<u64, StoreError> {
    store.write(move |connection| findings::commit(connection, agent, "web", &commit, at(9))).await
}

async fn stored_seqs(store: &Store) -> Vec<u64> {
    let seqs: Result<Vec<i64>, StoreError> = store
        .read(|connection| {
            let mut statement = connection.prepare("SELECT seq FROM findings ORDER BY id")?;
            Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })
        .await;
    seqs.unwrap().into_iter().map(i64::cast_unsigned).collect()
}

async fn high_water(store: &Store, agent: AgentId) -> Option<Seq> {
    let read: Result<_, StoreError> =
        store.read(move |connection| findings::high_water(connection, agent, EPOCH)).await;
    read.unwrap()
}

#[tokio::test]
async fn findings_and_high_water_mark_are_committed_together() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    assert_eq!(write_commit(&store, agent, commit(None, 1..=3)).await.unwrap(), 3);
    assert_eq!((stored_seqs(&store).await, high_water(&store, agent).await), (vec![1, 2, 3], Some(Seq(3))));
}

#[tokio::test]
async fn an_overlapping_batch_stores_what_is_new_only() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    write_commit(&store, agent, commit(None, 1..=3)).await.unwrap();
    assert_eq!(write_commit(&store, agent, commit(None, 2..=5)).await.unwrap(), 2);
    assert_eq!(stored_seqs(&store).await, vec![1, 2, 3, 4, 5]);
    assert_eq!(write_commit(&store, agent, commit(None, 1..=2)).await.unwrap(), 0);
    assert_eq!(high_water(&store, agent).await, Some(Seq(5)), "the mark never moves backwards");
}

#[tokio::test]
async fn a_batch_behind_one_that_failed_fails_too() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    write_commit(&store, agent, commit(None, 1..=3)).await.unwrap();
    let error = write_commit(&store, agent, commit(Some(5), 6..=7)).await.unwrap_err();
    assert!(matches!(error, StoreError::OutOfOrder { stored: 3, needed: 5 }), "{error}");
    assert_eq!((stored_seqs(&store).await, high_water(&store, agent).await), (vec![1, 2, 3], Some(Seq(3))));
}

#[tokio::test]
async fn a_hole_becomes_a_gap_of_the_collectors_own() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    let hole = Some(Hole { first: Seq(1), last: Seq(4) });
    write_commit(&store, agent, Commit { hole, ..commit(None, 5..=5) }).await.unwrap();
    let listed: Result<_, StoreError> =
        store.read(|connection| gaps::list(connection, Some("web"), None, 0, 10)).await;
    let gap = listed.unwrap().pop().unwrap();
    assert_eq!((gap.first, gap.seq, gap.count), (Seq(1), Seq(4), 4));
    assert_eq!((gap.source.as_str(), gap.reason.as_str()), ("collector", gaps::SEQUENCE_HOLE));
}

#[tokio::test]
async fn a_failed_job_undoes_only_itself_though_it_shares_a_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    // The first job holds the writer, so that the next three share a group.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let blocker = store
        .submit(move |_| {
            held.recv().expect("the test lets the writer go");
            Ok::<(), StoreError>(())
        })
        .await
        .unwrap();
    let (one, two) = (commit(None, 1..=1), commit(Some(1), 2..=2));
    let first = store.submit(move |c| findings::commit(c, agent, "web", &one, at(9))).await.unwrap();
    let failing = store
        .submit(move |c| {
            tokens::ensure_fleet(c, "half", at(9))?;
            Err::<(), _>(StoreError::RolledBack)
        })
        .await
        .unwrap();
    let second = store.submit(move |c| findings::commit(c, agent, "web", &two, at(9))).await.unwrap();
    hold.send(()).unwrap();
    blocker.await.unwrap().unwrap();
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert!(failing.await.unwrap().is_err());
    assert_eq!(second.await.unwrap().unwrap(), 1);
    let half: Result<_, StoreError> = store.read(|c| tokens::fleet_exists(c, "half")).await;
    assert!(!half.unwrap());
}

#[tokio::test]
async fn a_full_store_stores_nothing_of_the_batch_and_keeps_working() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), 1 << 20).await;
    let huge = Commit { rows: (1..=64).map(|seq| row(seq, 64 << 10)).collect(), ..commit(None, 1..=64) };
    let error = write_commit(&store, agent, huge).await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_) | StoreError::RolledBack), "{error}");
    assert_eq!((stored_seqs(&store).await, high_water(&store, agent).await), (vec![], None));
    assert_eq!(write_commit(&store, agent, commit(None, 1..=2)).await.unwrap(), 2, "a small one still fits");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(&database(&dir), BYTES_MAX).unwrap());
    let connection = Connection::open(database(&dir)).unwrap();
    connection.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    let error = Store::open(&database(&dir), BYTES_MAX).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("is newer than"), "{error}");
    let left: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(left, schema::VERSION + 1);
}

#[tokio::test]
async fn the_store_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let _store = Store::open(&database(&dir), BYTES_MAX).unwrap();
    let mode = std::fs::metadata(database(&dir)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn unknown_used_and_expired_tokens_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&database(&dir), BYTES_MAX).unwrap();
    let (good, late) = (Sha256Hash::of(b"good"), Sha256Hash::of(b"late"));
    let checked: Result<_, StoreError> = store
        .write(move |c| {
            tokens::ensure_fleet(c, "web", at(1))?;
            tokens::insert_enrollment(c, good, "web", "test", at(1), at(100))?;
            tokens::insert_enrollment(c, late, "web", "test", at(1), at(100))?;
            let fresh = tokens::check_enrollment(c, good, at(99))?;
            tokens::consume_enrollment(c, good, "agent-1", at(99))?;
            Ok([
                fresh,
                tokens::check_enrollment(c, good, at(99))?,
                tokens::check_enrollment(c, late, at(100))?,
                tokens::check_enrollment(c, Sha256Hash::of(b"?"), at(1))?,
            ])
        })
        .await;
    let [fresh, used, expired, unknown] = checked.unwrap();
    assert_eq!(fresh, Ok("web".to_owned()));
    assert!(matches!(used, Err(TokenError::Used { ref by, .. }) if by == "agent-1"), "{used:?}");
    assert!(matches!(expired, Err(TokenError::Expired { .. })), "{expired:?}");
    assert_eq!(unknown, Err(TokenError::Unknown));
}

fn learned_row(object: &str, count: u64) -> LearnedRow {
    LearnedRow {
        workload: "unit:a.service".to_owned(),
        subject: "/a".to_owned(),
        action: 1,
        object: object.to_owned(),
        count,
        first: at(1),
        last: at(2),
        withheld_by: None,
    }
}

#[tokio::test]
async fn learned_rows_repeat_without_effect_and_a_new_epoch_replaces_them() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    let rows = move |c: &Connection| -> Result<Vec<LearnedRow>, StoreError> {
        Ok(learned::of_fleet(c, "web")?.into_iter().flat_map(|(_, rows)| rows).collect())
    };
    let apply = move |epoch: Epoch, revision: u64, row: LearnedRow| {
        move |c: &Connection| learned::apply(c, agent, epoch, revision, &[row], 0)
    };
    for _ in 0..2 {
        store.write(apply(EPOCH, 5, learned_row("/x", 3))).await.unwrap();
    }
    store.write(apply(EPOCH, 6, learned_row("/y", 1))).await.unwrap();
    assert_eq!(store.read(rows).await.unwrap(), vec![learned_row("/x", 3), learned_row("/y", 1)]);
    let withheld = LearnedRow { withheld_by: Some("fresh-exec".to_owned()), ..learned_row("/y", 2) };
    store.write(apply(EPOCH, 7, withheld.clone())).await.unwrap();
    assert_eq!(store.read(rows).await.unwrap(), vec![learned_row("/x", 3), withheld]);
    let other = Epoch([2; 16]);
    store.write(apply(other, 1, learned_row("/z", 1))).await.unwrap();
    assert_eq!(store.read(rows).await.unwrap(), vec![learned_row("/z", 1)]);
    let found: Result<_, StoreError> = store.read(move |c| agents::find(c, agent)).await;
    assert_eq!(found.unwrap().unwrap().learned, Some((other, 1)));
}

#[tokio::test]
async fn one_agents_learned_text_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), 1 << 30).await;
    let rows: Vec<_> = (0..1_100).map(|n| learned_row(&format!("/{n}{}", "x".repeat(32_000)), 1)).collect();
    let apply =
        move |c: &Connection| -> Result<u64, StoreError> { learned::apply(c, agent, EPOCH, 1, &rows, 0) };
    let refused = store.write(apply).await.unwrap();
    assert!((1..200).contains(&refused), "{refused}");
    let kept: Result<u64, StoreError> = store.read(move |c| learned::count(c, agent)).await;
    assert_eq!(kept.unwrap() + refused, 1_100);
}
