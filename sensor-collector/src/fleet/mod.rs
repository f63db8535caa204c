//! Fleet baselines: the candidate that agents' learned behaviours add up to, and the versions that operators push or
//! approve. It does not judge findings and sends nothing: `offers` tells the control streams. It may call the store
//! and sensor-baseline.

pub mod approve;
pub mod candidate;
pub mod maturity;
pub mod offers;
#[cfg(test)]
mod tests;

use rusqlite::Connection;
use sensor_baseline::Baseline;

use crate::clock::{self, UnixNs};
use crate::collector::Collector;
use crate::identity::secret::Sha256Hash;
use crate::store::baselines::{self, BaselineRow};
use crate::store::{StoreError, tokens};

/// Why a baseline did not change, or cannot be shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FleetError {
    /// No such fleet.
    #[error("fleet {fleet:?} does not exist")]
    NoFleet {
        /// Its name.
        fleet: String,
    },
    /// The fleet has no baseline, or not this version.
    #[error("fleet {fleet:?} has no baseline{}", version.map_or(String::new(), |version| format!(" of version {version}")))]
    NoBaseline {
        /// Its name.
        fleet: String,
        /// The version asked for.
        version: Option<u64>,
    },
    /// The text is not a baseline.
    #[error("line {line}, column {column}: {message}")]
    Invalid {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What was expected and what was found.
        message: String,
    },
    /// The text is too long.
    #[error("baseline of {bytes} bytes: at most {BASELINE_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Somebody else made a version meanwhile.
    #[error(
        "the baseline was made from version {base}, but version {current} is current: pull it and try again"
    )]
    Conflict {
        /// What the change was based on.
        base: u64,
        /// What is there.
        current: u64,
    },
    /// No such finding.
    #[error("finding {id:?} does not exist")]
    NoFinding {
        /// As asked for.
        id: String,
    },
    /// Nothing that a baseline says would silence the finding.
    #[error("{reason}")]
    CannotApprove {
        /// Why.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A change that an operator wants.
#[derive(Clone, Debug)]
pub struct Push {
    /// Whose baseline.
    pub fleet: String,
    /// baseline.yaml.
    pub yaml: String,
    /// Name of the API token.
    pub author: String,
    /// How it came about.
    pub note: String,
    /// The version that it was made from, when its maker says so: then no other version may have come between.
    pub base: Option<u64>,
}

/// Checks a baseline, stores it as the fleet's next version, and hands it to the fleet's agents. Changes nothing
/// when it fails.
pub async fn push(collector: &Collector, push: Push) -> Result<BaselineRow, FleetError> {
    check_text(&push)?;
    let fleet = push.fleet.clone();
    let row = collector.store.write(move |connection| insert_next(connection, push, clock::now())).await?;
    collector.offers.publish(&fleet, row.clone().into());
    Ok(row)
}

/// A version of a fleet's baseline; the newest when none is named.
pub fn find(connection: &Connection, fleet: &str, version: Option<u64>) -> Result<BaselineRow, FleetError> {
    require_fleet(connection, fleet)?;
    let found = match version {
        Some(version) => baselines::find(connection, fleet, version)?,
        None => baselines::current(connection, fleet)?,
    };
    found.ok_or_else(|| FleetError::NoBaseline { fleet: fleet.to_owned(), version })
}

/// An error unless the fleet exists.
pub fn require_fleet(connection: &Connection, fleet: &str) -> Result<(), FleetError> {
    if tokens::fleet_exists(connection, fleet)? {
        Ok(())
    } else {
        Err(FleetError::NoFleet { fleet: fleet.to_owned() })
    }
}

/// Reads a stored baseline, which was checked when it was stored.
fn parse_stored(row: &BaselineRow) -> Result<Baseline, FleetError> {
    parse(&row.yaml)
}

fn parse(yaml: &str) -> Result<Baseline, FleetError> {
    Baseline::parse(yaml).map_err(|error| FleetError::Invalid {
        line: error.line,
        column: error.column,
        message: error.message(),
    })
}

fn check_text(push: &Push) -> Result<(), FleetError> {
    if push.yaml.len() > BASELINE_BYTES_MAX {
        return Err(FleetError::TooLarge { bytes: push.yaml.len() });
    }
    let baseline = parse(&push.yaml)?;
    if baseline.fleet == push.fleet {
        return Ok(());
    }
    let (line, column) = position_of_key(&push.yaml, "fleet");
    let message = format!("expected fleet {:?}, found {:?}", push.fleet, baseline.fleet);
    Err(FleetError::Invalid { line, column, message })
}

fn insert_next(connection: &Connection, push: Push, now: UnixNs) -> Result<BaselineRow, FleetError> {
    require_fleet(connection, &push.fleet)?;
    let current = baselines::current(connection, &push.fleet)?.map_or(0, |row| row.version);
    if let Some(base) = push.base
        && base != current
    {
        return Err(FleetError::Conflict { base, current });
    }
    let version = current + 1;
    let yaml = as_version(&push.yaml, version)?;
    let row = BaselineRow {
        fleet: push.fleet,
        version,
        sha256: Sha256Hash::of(yaml.as_bytes()),
        yaml,
        author: push.author,
        note: push.note,
        created: now,
    };
    baselines::insert(connection, &row)?;
    Ok(row)
}

/// The text that is stored as `version`: the operator's own where its form allows to change the version alone, else
/// the canonical one. What is stored can always be read.
fn as_version(yaml: &str, version: u64) -> Result<String, FleetError> {
    let mut wanted = parse(yaml)?;
    wanted.version = Some(version);
    let text = with_version(yaml, version);
    let is_wanted = Baseline::parse(&text).is_ok_and(|read| read == wanted);
    Ok(if is_wanted { text } else { wanted.to_yaml() })
}

/// The text with the version it is stored as, in place of the one it names (a file that was pulled and edited names
/// the version before) or below `fleet:`. Everything else, comments too, stays as the operator wrote it.
fn with_version(yaml: &str, version: u64) -> String {
    let key_line = |key: &str| yaml.split_inclusive('\n').position(|line| is_key_line(line, key));
    let (replaced, fleet) = (key_line("version"), key_line("fleet"));
    let mut text = String::with_capacity(yaml.len() + 32);
    for (index, line) in yaml.split_inclusive('\n').enumerate() {
        if replaced == Some(index) {
            let comment = line.find(" #").map_or("", |at| line[at..].trim_end());
            text.push_str(&format!("version: {version}{comment}\n"));
            continue;
        }
        text.push_str(line);
        if replaced.is_none() && fleet == Some(index) {
            let newline = if line.ends_with('\n') { "" } else { "\n" };
            text.push_str(&format!("{newline}version: {version}\n"));
        }
    }
    text
}

/// Whether a top-level mapping entry with that key begins on this line.
fn is_key_line(line: &str, key: &str) -> bool {
    line.strip_prefix(key)
        .and_then(|rest| rest.strip_prefix(':'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Where a top-level key is; the start of the text when it is written in some other way.
fn position_of_key(yaml: &str, key: &str) -> (usize, usize) {
    let found =
        yaml.lines().position(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')));
    (found.map_or(1, |index| index + 1), 1)
}

/// Longest baseline: it must fit a gRPC message, with room.
pub const BASELINE_BYTES_MAX: usize = 1 << 20;
