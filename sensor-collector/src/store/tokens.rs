//! Rows of fleets, enrollment tokens and API tokens. It makes no token. It may call rusqlite.

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::UnixNs;
use crate::identity::secret::Sha256Hash;
use crate::store::StoreError;

/// Why an enrollment token buys nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Never issued here.
    #[error("enrollment token is unknown")]
    Unknown,
    /// Somebody enrolled with it.
    #[error("enrollment token was used at {at} by agent {by}")]
    Used {
        /// RFC 3339.
        at: String,
        /// Who.
        by: String,
    },
    /// Too late.
    #[error("enrollment token expired at {at}")]
    Expired {
        /// RFC 3339.
        at: String,
    },
}

/// An API token's hash and name.
#[derive(Clone, Debug)]
pub struct ApiToken {
    /// Of its text.
    pub hash: Sha256Hash,
    /// Who acts, in audit columns.
    pub name: String,
}

/// Makes sure that the fleet exists.
pub fn ensure_fleet(connection: &Connection, fleet: &str, now: UnixNs) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO fleets (name, created_ns) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
        params![fleet, now.column()],
    )?;
    Ok(())
}

/// Whether the fleet exists.
pub fn fleet_exists(connection: &Connection, fleet: &str) -> Result<bool, StoreError> {
    let found =
        connection.query_row("SELECT 1 FROM fleets WHERE name = ?1", [fleet], |_| Ok(())).optional()?;
    Ok(found.is_some())
}

/// Stores a new enrollment token of an existing fleet.
pub fn insert_enrollment(
    connection: &Connection,
    hash: Sha256Hash,
    fleet: &str,
    created_by: &str,
    now: UnixNs,
    expires: UnixNs,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO enrollment_tokens (hash, fleet, created_by, created_ns, expires_ns) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![hash.0, fleet, created_by, now.column(), expires.column()],
    )?;
    Ok(())
}

/// The fleet of a token that is good now. Consumes nothing.
pub fn check_enrollment(
    connection: &Connection,
    hash: Sha256Hash,
    now: UnixNs,
) -> Result<Result<String, TokenError>, StoreError> {
    let found = connection
        .query_row(
            "SELECT fleet, expires_ns, used_ns, used_by FROM enrollment_tokens WHERE hash = ?1",
            [hash.0],
            |row| {
                let used: Option<i64> = row.get(2)?;
                let by: Option<String> = row.get(3)?;
                Ok((row.get::<_, String>(0)?, UnixNs::from_column(row.get(1)?), used, by))
            },
        )
        .optional()?;
    Ok(match found {
        None => Err(TokenError::Unknown),
        Some((_, _, Some(used), by)) => Err(TokenError::Used {
            at: UnixNs::from_column(used).rfc3339(),
            by: by.unwrap_or_else(|| "unknown".to_owned()),
        }),
        Some((_, expires, None, _)) if expires <= now => Err(TokenError::Expired { at: expires.rfc3339() }),
        Some((fleet, ..)) => Ok(fleet),
    })
}

/// Marks a token used. The caller has checked it in the same transaction.
pub fn consume_enrollment(
    connection: &Connection,
    hash: Sha256Hash,
    agent: &str,
    now: UnixNs,
) -> Result<(), StoreError> {
    let changed = connection.execute(
        "UPDATE enrollment_tokens SET used_ns = ?2, used_by = ?3 WHERE hash = ?1 AND used_ns IS NULL",
        params![hash.0, now.column(), agent],
    )?;
    assert!(changed == 1, "a token checked in this transaction is unused until it is consumed here");
    Ok(())
}

/// Stores an API token.
pub fn insert_api(
    connection: &Connection,
    hash: Sha256Hash,
    name: &str,
    now: UnixNs,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO api_tokens (hash, name, created_ns) VALUES (?1, ?2, ?3)",
        params![hash.0, name, now.column()],
    )?;
    Ok(())
}

/// Every API token.
pub fn list_api(connection: &Connection) -> Result<Vec<ApiToken>, StoreError> {
    let mut statement = connection.prepare("SELECT hash, name FROM api_tokens")?;
    let rows =
        statement.query_map([], |row| Ok(ApiToken { hash: Sha256Hash(row.get(0)?), name: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
