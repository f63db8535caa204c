//! Rows of baselines and fleets. It parses no YAML. It may call rusqlite.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::clock::UnixNs;
use crate::identity::secret::Sha256Hash;
use crate::store::StoreError;

/// A fleet's baseline, one version of it.
#[derive(Clone, Debug)]
pub struct BaselineRow {
    /// Whose.
    pub fleet: String,
    /// From 1, without holes.
    pub version: u64,
    /// Of the text.
    pub sha256: Sha256Hash,
    /// baseline.yaml.
    pub yaml: String,
    /// Name of the API token that made it.
    pub author: String,
    /// How it came about.
    pub note: String,
    /// When.
    pub created: UnixNs,
}

/// A fleet and how it stands.
#[derive(Clone, Debug)]
pub struct FleetRow {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: UnixNs,
    /// Its agents, without the revoked.
    pub agents: u64,
    /// The newest baseline's version; 0 when there is none.
    pub baseline_version: u64,
    /// Findings stored for it.
    pub findings: u64,
}

/// The newest baseline of a fleet.
pub fn current(connection: &Connection, fleet: &str) -> Result<Option<BaselineRow>, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("{SELECT} WHERE fleet = ?1 ORDER BY version DESC LIMIT 1"))?;
    Ok(statement.query_row([fleet], baseline_row).optional()?)
}

/// One version of a fleet's baseline.
pub fn find(connection: &Connection, fleet: &str, version: u64) -> Result<Option<BaselineRow>, StoreError> {
    let Ok(version) = i64::try_from(version) else { return Ok(None) };
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE fleet = ?1 AND version = ?2"))?;
    Ok(statement.query_row(params![fleet, version], baseline_row).optional()?)
}

/// The newest baseline of every fleet that has one.
pub fn all_current(connection: &Connection) -> Result<Vec<BaselineRow>, StoreError> {
    let mut statement = connection.prepare(&format!(
        "{SELECT} AS b WHERE version = (SELECT max(version) FROM baselines WHERE fleet = b.fleet)"
    ))?;
    let rows = statement.query_map([], baseline_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a version. The caller has made it the next one in the same transaction.
pub fn insert(connection: &Connection, baseline: &BaselineRow) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO baselines (fleet, version, sha256, yaml, author, note, created_ns)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            baseline.fleet,
            baseline.version.cast_signed(),
            baseline.sha256.0,
            baseline.yaml,
            baseline.author,
            baseline.note,
            baseline.created.column(),
        ],
    )?;
    Ok(())
}

/// Every fleet.
pub fn fleets(connection: &Connection) -> Result<Vec<FleetRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT name, created_ns,
                (SELECT count(*) FROM agents WHERE fleet = fleets.name AND revoked_ns IS NULL),
                (SELECT coalesce(max(version), 0) FROM baselines WHERE fleet = fleets.name),
                (SELECT count(*) FROM heads WHERE fleet = fleets.name)
         FROM fleets ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(FleetRow {
            name: row.get(0)?,
            created: UnixNs::from_column(row.get(1)?),
            agents: row.get::<_, i64>(2)?.cast_unsigned(),
            baseline_version: row.get::<_, i64>(3)?.cast_unsigned(),
            findings: row.get::<_, i64>(4)?.cast_unsigned(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn baseline_row(row: &Row<'_>) -> Result<BaselineRow, rusqlite::Error> {
    Ok(BaselineRow {
        fleet: row.get(0)?,
        version: row.get::<_, i64>(1)?.cast_unsigned(),
        sha256: Sha256Hash(row.get(2)?),
        yaml: row.get(3)?,
        author: row.get(4)?,
        note: row.get(5)?,
        created: UnixNs::from_column(row.get(6)?),
    })
}

const SELECT: &str = "SELECT fleet, version, sha256, yaml, author, note, created_ns FROM baselines";
