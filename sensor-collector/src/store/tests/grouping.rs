//! What the store makes of evidence: findings as a person counts them, which move to the end of the list when they grow,
//! and which a store of an earlier version has as well.

use prost::Message as _;
use rusqlite::{Connection, params};
use sensor_proto::v1;

use super::{BYTES_MAX, EPOCH, at, commit, database, evidence, once, row, store_with_agent, write_commit};
use crate::identity::AgentId;
use crate::intake::{Commit, Epoch, FindingRow, Row, Seq};
use crate::store::agents::Claims;
use crate::store::heads::{HeadQuery, StoredHead, Tally};
use crate::store::{Store, StoreError, agents, findings, heads, schema, tokens};

/// Evidence of the finding `name`, done once.
fn of(name: &str) -> FindingRow {
    FindingRow { name: Some(name.to_owned()), severity: 2, ..once() }
}

fn batch(epoch: Epoch, rows: Vec<FindingRow>) -> Commit {
    let rows: Vec<Row> = rows.into_iter().zip(1..).map(|(finding, seq)| evidence(seq, finding)).collect();
    let upto = Seq(rows.len() as u64);
    Commit { epoch, after: None, hole: None, rows, upto }
}

async fn listed(store: &Store, query: HeadQuery) -> Vec<StoredHead> {
    let query = HeadQuery { limit: 1000, ..query };
    let page: Result<_, StoreError> = store.read(move |connection| heads::list(connection, &query)).await;
    page.unwrap().0
}

async fn all(store: &Store) -> Vec<StoredHead> {
    listed(store, HeadQuery::default()).await
}

fn names(heads: &[StoredHead]) -> Vec<&str> {
    heads.iter().map(|head| head.name.as_deref().unwrap_or("-")).collect()
}

/// The sequences of up to `limit` pieces of evidence behind `after`, and how many are left off.
async fn evidence_of(store: &Store, head: &StoredHead, after: i64, limit: u32) -> (Vec<u64>, u64) {
    let head = head.clone();
    let read: Result<_, StoreError> =
        store.read(move |connection| findings::evidence(connection, &head, after, limit)).await;
    let (rows, left_off) = read.unwrap();
    (rows.iter().map(|row| row.seq.0).collect(), left_off)
}

#[tokio::test]
async fn evidence_with_one_name_is_one_finding() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    let rows = vec![
        FindingRow { time: at(30), ..of("a") },
        once(),
        FindingRow { time: at(10), severity: 4, count: 5, ..of("a") },
        FindingRow { time: at(20), severity: 3, count: 2, is_repeat: true, ..of("a") },
        once(),
        FindingRow { time: at(15), severity: 4, ..of("a") },
    ];
    assert_eq!(write_commit(&store, agent, batch(EPOCH, rows)).await.unwrap(), 6);
    let found = all(&store).await;
    assert_eq!(names(&found), ["-", "-", "a"], "what has no name is a finding by itself");
    let head = &found[2];
    assert_eq!((head.first, head.worst.seq), ((EPOCH, Seq(1)), Seq(3)), "the first of the most severe");
    let tally = Tally { severity: 4, behaviours: 3, count: 9, first: at(10), last: at(30) };
    assert_eq!(head.tally, tally);
    assert_eq!(evidence_of(&store, head, 0, 10).await, (vec![1, 3, 4, 6], 0));
    assert_eq!(evidence_of(&store, head, 0, 2).await, (vec![1, 3], 2));
    assert_eq!(evidence_of(&store, head, head.worst.cursor, 2).await, (vec![4, 6], 0));
    assert_eq!(evidence_of(&store, &found[1], 0, 10).await, (vec![5], 0));
    let found_by_each: Result<Vec<_>, StoreError> = store
        .read(move |connection| {
            let of_row = |seq: u64| {
                let row = findings::find(connection, agent, "01010101", Seq(seq))?.expect("it is stored");
                Ok(heads::of(connection, &row)?.expect("every row has a head").first.1.0)
            };
            (1..=6).map(of_row).collect()
        })
        .await;
    assert_eq!(found_by_each.unwrap(), [1, 2, 1, 1, 5, 1]);
}

#[tokio::test]
async fn a_finding_that_grows_moves_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    write_commit(&store, agent, batch(EPOCH, vec![of("a"), of("b"), of("c")])).await.unwrap();
    let before = all(&store).await;
    assert_eq!(names(&before), ["a", "b", "c"]);
    let after = before.last().map(|head| head.cursor);
    let follow = || listed(&store, HeadQuery { after, ..HeadQuery::default() });
    assert!(follow().await.is_empty());
    write_commit(&store, agent, batch(Epoch([2; 16]), vec![of("a")])).await.unwrap();
    let news = follow().await;
    assert_eq!((names(&news), news[0].tally.count), (vec!["a"], 2));
    assert_eq!(names(&all(&store).await), ["b", "c", "a"]);
    let newest = listed(&store, HeadQuery { newest_first: true, ..HeadQuery::default() }).await;
    assert_eq!(names(&newest), ["a", "c", "b"]);
}

#[tokio::test]
async fn evidence_that_comes_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    let rows = vec![of("a"), once(), FindingRow { count: 3, is_repeat: true, ..of("a") }];
    write_commit(&store, agent, batch(EPOCH, rows.clone())).await.unwrap();
    let before = all(&store).await;
    assert_eq!(write_commit(&store, agent, batch(EPOCH, rows.clone())).await.unwrap(), 0);
    assert_eq!(all(&store).await, before);
    // With one that is new: that alone counts.
    let more = [rows, vec![of("a")]].concat();
    assert_eq!(write_commit(&store, agent, batch(EPOCH, more)).await.unwrap(), 1);
    let counts: Vec<_> = all(&store).await.iter().map(|head| head.tally.count).collect();
    assert_eq!(counts, [1, 5]);
}

#[tokio::test]
async fn a_finding_goes_on_in_another_epoch_of_its_agent() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    let other = Epoch([2; 16]);
    write_commit(&store, agent, batch(EPOCH, vec![of("a"), of("b")])).await.unwrap();
    write_commit(&store, agent, batch(other, vec![of("b"), of("a")])).await.unwrap();
    // The older stream of the two comes again.
    write_commit(&store, agent, batch(EPOCH, vec![of("a"), of("b")])).await.unwrap();
    let found = all(&store).await;
    let told: Vec<_> = found.iter().map(|head| (head.first, head.tally.count)).collect();
    assert_eq!(told, [((EPOCH, Seq(2)), 2), ((EPOCH, Seq(1)), 2)]);
    assert_eq!(evidence_of(&store, &found[1], 0, 10).await, (vec![1, 2], 0));
}

#[tokio::test]
async fn an_agent_spoils_its_own_findings_only() {
    let dir = tempfile::tempdir().unwrap();
    let (store, honest) = store_with_agent(&database(&dir), BYTES_MAX).await;
    let liar = AgentId::random();
    let joined: Result<(), StoreError> =
        store.write(move |c| agents::insert(c, liar, "web", &Claims::default(), at(1), at(2))).await;
    joined.unwrap();
    write_commit(&store, honest, batch(EPOCH, vec![of("a")])).await.unwrap();
    let huge = FindingRow { count: u64::MAX, time: at(u64::MAX), severity: 5, ..of("a") };
    write_commit(&store, liar, batch(EPOCH, vec![huge.clone(), huge])).await.unwrap();
    let of_agent = |agent| listed(&store, HeadQuery { agent: Some(agent), ..HeadQuery::default() });
    let (one, other) = (of_agent(honest).await, of_agent(liar).await);
    assert_eq!((one.len(), one[0].tally.count, one[0].tally.severity), (1, 1, 2));
    assert_eq!((other.len(), other[0].tally.count), (1, i64::MAX.cast_unsigned()), "it counts no further");
}

#[tokio::test]
async fn findings_of_a_fleet_and_an_incident_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    let in_incident = |name, incident: &str| FindingRow { incident: Some(incident.to_owned()), ..of(name) };
    let rows = vec![in_incident("a", "x"), in_incident("b", "y"), in_incident("c", "x"), of("d")];
    write_commit(&store, agent, batch(EPOCH, rows)).await.unwrap();
    let agent = Some(agent);
    let of_incident =
        |incident: &str| HeadQuery { agent, incident: Some(incident.to_owned()), ..HeadQuery::default() };
    assert_eq!(names(&listed(&store, of_incident("x")).await), ["a", "c"]);
    assert!(listed(&store, of_incident("z")).await.is_empty());
    let of_fleet = |fleet: &str| HeadQuery { fleet: Some(fleet.to_owned()), agent, ..HeadQuery::default() };
    assert_eq!(listed(&store, of_fleet("web")).await.len(), 4);
    assert!(listed(&store, of_fleet("db")).await.is_empty());
}

#[tokio::test]
async fn what_is_told_again_is_not_novel_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, agent) = store_with_agent(&database(&dir), BYTES_MAX).await;
    let novel = |body: u8, is_repeat| FindingRow {
        reason: v1::Reason::Novel.into(),
        body: vec![body],
        is_repeat,
        ..of("a")
    };
    let floor = FindingRow { reason: v1::Reason::Floor.into(), ..novel(3, false) };
    let rows = vec![novel(1, false), novel(2, true), floor, novel(4, false)];
    write_commit(&store, agent, batch(EPOCH, rows)).await.unwrap();
    let bodies: Result<_, StoreError> = store.read(|c| findings::novel_since(c, "web", at(0))).await;
    assert_eq!(bodies.unwrap(), [vec![4], vec![1]]);
}

/// A file as the version before heads left it: an agent with findings in incidents x, y, none and one that is damaged.
fn old_store(path: &std::path::Path, body_bytes: usize) -> AgentId {
    let mut connection = Connection::open(path).unwrap();
    schema::migrate_to(&mut connection, path, 2).unwrap();
    let agent = AgentId::random();
    tokens::ensure_fleet(&connection, "web", at(1)).unwrap();
    agents::insert(&connection, agent, "web", &Claims::default(), at(1), at(2)).unwrap();
    let body = |incident: &str| {
        let (incident, tier) = (incident.to_owned(), "x".repeat(body_bytes));
        v1::Finding { incident, tier, ..v1::Finding::default() }.encode_to_vec()
    };
    let bodies = [body("x"), body("y"), body("x"), body(""), vec![0xff; 3]];
    for (seq, body) in (1_i64..).zip(bodies) {
        let insert =
            "INSERT INTO findings (agent, epoch, seq, fleet, time_ns, stored_ns, severity, reason, body)
                      VALUES (?1, ?2, ?3, 'web', ?4, 99, ?5, 1, ?6)";
        let values = params![agent.text(), EPOCH.0, seq, seq * 10, 6 - seq, body];
        connection.execute(insert, values).unwrap();
    }
    let mark = "INSERT INTO streams (agent, epoch, upto) VALUES (?1, ?2, 5)";
    connection.execute(mark, params![agent.text(), EPOCH.0]).unwrap();
    agent
}

#[tokio::test]
async fn findings_of_an_older_store_are_findings_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let agent = old_store(&database(&dir), 0);
    let store = Store::open(&database(&dir), BYTES_MAX).unwrap();
    let found = all(&store).await;
    let told: Vec<_> = found.iter().map(|head| (head.cursor, head.first.1.0, head.worst.seq.0)).collect();
    assert_eq!(told, [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4), (5, 5, 5)]);
    let tally = Tally { severity: 4, behaviours: 1, count: 1, first: at(20), last: at(20) };
    assert_eq!((found[1].tally, found[1].worst.count, found[1].worst.is_repeat), (tally, 1, false));
    assert_eq!(evidence_of(&store, &found[1], 0, 10).await, (vec![2], 0));
    let of_x = HeadQuery { agent: Some(agent), incident: Some("x".to_owned()), ..HeadQuery::default() };
    let seqs: Vec<_> = listed(&store, of_x).await.iter().map(|head| head.worst.seq.0).collect();
    assert_eq!(seqs, [1, 3]);
    // What the agent sends again is known, and what follows is a finding of its own.
    assert_eq!(write_commit(&store, agent, commit(None, 4..=6)).await.unwrap(), 1);
    let counts: Vec<_> = all(&store).await.iter().map(|head| head.tally.count).collect();
    assert_eq!(counts, [1; 6]);
    drop(store);
    assert_eq!(all(&Store::open(&database(&dir), BYTES_MAX).unwrap()).await.len(), 6, "it is done once");
}

#[tokio::test]
async fn an_older_store_that_is_full_is_brought_up_to_date_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let agent = old_store(&database(&dir), 100_000);
    let store = Store::open(&database(&dir), 100_000).unwrap();
    assert_eq!(all(&store).await.len(), 5);
    let huge = Commit { rows: vec![row(6, 100_000)], ..commit(None, 6..=6) };
    let refused = write_commit(&store, agent, huge).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full(_) | StoreError::RolledBack), "{refused}");
}
