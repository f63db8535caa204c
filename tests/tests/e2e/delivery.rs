//! An accepted finding is stored exactly once, whatever crashes. The oracle reads both databases: what the agent's
//! spool ever numbered must be in the collector's store, each number once. Not the simulation: these are processes
//! ended by SIGKILL.

use crate::noise::Noise;
use crate::{require_live_kernel, scratch};
use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use sensor_tests::{Agent, Fleet, wait_for};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// Kills of each kind: agent, collector, both at once.
const KILLS_COUNT: usize = 50;
const LIMIT: Duration = Duration::from_secs(60);
/// How long the collector stays away in the test of the backlog.
const OUTAGE: Duration = Duration::from_secs(60);

#[test]
fn accepted_findings_survive_every_kill_exactly_once() -> Result<()> {
    require_live_kernel!();
    let scratch = scratch()?;
    let mut fleet = Fleet::start("storm", "127.0.0.1", scratch.path())?;
    let mut agent = fleet.agent("victim", fleet.first_token(), None)?;
    let noise = Noise::start("sensor-storm", scratch.path())?;
    fleet.push(&noise.baseline("storm"))?;
    let mut grown = 0;
    for _ in 0..KILLS_COUNT {
        agent.kill()?;
        agent.start()?;
        grown = await_growth(&agent, grown)?;
    }
    for _ in 0..KILLS_COUNT {
        fleet.kill_collector()?;
        fleet.start_collector()?;
        grown = await_growth(&agent, grown)?;
    }
    for _ in 0..KILLS_COUNT {
        agent.kill()?;
        fleet.kill_collector()?;
        fleet.start_collector()?;
        agent.start()?;
        grown = await_growth(&agent, grown)?;
    }
    drop(noise);
    let accepted = settle(&fleet, &agent)?;
    ensure!(
        accepted >= 3 * i64::try_from(KILLS_COUNT)?,
        "only {accepted} findings: the storm tested nothing"
    );
    println!("{accepted} accepted, {} kills", 3 * KILLS_COUNT);
    Ok(())
}

#[test]
fn a_backlog_arrives_in_order_after_an_outage() -> Result<()> {
    require_live_kernel!();
    let scratch = scratch()?;
    let mut fleet = Fleet::start("outage", "127.0.0.1", scratch.path())?;
    let agent = fleet.agent("patient", fleet.first_token(), None)?;
    let noise = Noise::start("sensor-outage", scratch.path())?;
    fleet.push(&noise.baseline("outage"))?;
    fleet.stop_collector();
    let before = last_sequence(&agent)?;
    let away_since = std::time::Instant::now();
    // The agent keeps judging all the while: the spool's numbers grow without the collector.
    let mut grown = before;
    while away_since.elapsed() < OUTAGE {
        grown = await_growth(&agent, grown)?;
    }
    ensure!(grown > before, "nothing was judged during the outage");
    fleet.start_collector()?;
    drop(noise);
    settle(&fleet, &agent)?;
    let findings = findings_in_insertion_order(&fleet)?;
    ensure!(findings.is_sorted(), "stored out of order: {findings:?}");
    println!(
        "{} findings made during {} s without a collector, stored in order",
        grown - before,
        OUTAGE.as_secs()
    );
    Ok(())
}

/// Waits until the agent has accepted findings beyond `before`.
fn await_growth(agent: &Agent, before: i64) -> Result<i64> {
    wait_for("new findings in the spool", LIMIT, || {
        let now = last_sequence(agent)?;
        Ok((now > before).then_some(now))
    })
}

/// Waits until the spool is empty, then checks that every number it gave is stored once. Returns how many.
fn settle(fleet: &Fleet, agent: &Agent) -> Result<i64> {
    let spool = agent.state().join("spool.db");
    let accepted = wait_for("the spool to be delivered", LIMIT, || {
        let connection = open(&spool)?;
        let waiting: i64 = connection.query_row("SELECT count(*) FROM items", [], |row| row.get(0))?;
        (waiting == 0).then(|| last_sequence(agent)).transpose()
    })?;
    let mut next = 1;
    let mut stored = stored(fleet)?;
    stored.sort_by_key(|(_, range)| *range.start());
    ensure!(stored.windows(2).all(|pair| pair[0].0 == pair[1].0), "a kill must not start a new epoch");
    for (_, range) in stored {
        ensure!(*range.start() == next, "expected sequence {next}, stored {range:?}");
        next = range.end() + 1;
    }
    ensure!(next == accepted + 1, "{accepted} accepted, stored up to {}", next - 1);
    let holes: i64 = open(&fleet.state().join("collector.db"))?.query_row(
        "SELECT count(*) FROM gaps WHERE source = 'collector'",
        [],
        |row| row.get(0),
    )?;
    ensure!(holes == 0, "{holes} holes that nobody declared");
    check_heads(fleet)?;
    Ok(accepted)
}

/// Whatever was killed when: findings add up to their evidence.
fn check_heads(fleet: &Fleet) -> Result<()> {
    let connection = open(&fleet.state().join("collector.db"))?;
    let sums = |table: &str, findings: &str, behaviours: &str, last: &str| -> Result<[i64; 4]> {
        let sql = format!("SELECT {findings}, {behaviours}, sum(count), max({last}) FROM {table}");
        Ok(connection.query_row(&sql, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?)
    };
    let heads = sums("heads", "count(*)", "sum(behaviours)", "last_row")?;
    let evidence = sums("findings", "count(DISTINCT coalesce(name, id))", "sum(NOT is_repeat)", "id")?;
    ensure!(
        heads == evidence,
        "findings, behaviours, count and last row are {heads:?}, of evidence {evidence:?}"
    );
    println!("{} findings, {} behaviours, done {} times", heads[0], heads[1], heads[2]);
    Ok(())
}

type Stored = (Vec<u8>, RangeInclusive<i64>);

/// Sequences of the findings of one epoch, in the order in which they were stored. Gaps, which a busy host may declare in
/// between, lie in a table of their own.
fn findings_in_insertion_order(fleet: &Fleet) -> Result<Vec<i64>> {
    let connection = open(&fleet.state().join("collector.db"))?;
    let mut statement = connection.prepare("SELECT seq FROM findings ORDER BY id")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect::<Result<Vec<i64>, _>>().context("reading the collector's store")
}

/// Epoch and covered sequences of everything stored: findings and declared gaps.
fn stored(fleet: &Fleet) -> Result<Vec<Stored>> {
    let connection = open(&fleet.state().join("collector.db"))?;
    let mut statement = connection.prepare(
        "SELECT epoch, seq, seq FROM findings
         UNION ALL SELECT epoch, first_seq, seq FROM gaps WHERE source = 'agent'",
    )?;
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?..=row.get::<_, i64>(2)?)))?;
    rows.collect::<Result<Vec<Stored>, _>>().context("reading the collector's store")
}

/// The highest number that the agent's spool ever gave.
fn last_sequence(agent: &Agent) -> Result<i64> {
    let connection = open(&agent.state().join("spool.db"))?;
    Ok(connection.query_row("SELECT last_seq FROM state", [], |row| row.get(0))?)
}

fn open(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(file, flags).with_context(|| format!("opening {}", file.display()))?;
    connection.busy_timeout(LIMIT)?;
    Ok(connection)
}
