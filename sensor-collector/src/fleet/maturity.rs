//! How far a fleet's workloads have been learned, action by action. It changes nothing and arms nothing. It may call the
//! store, `candidate` and sensor-baseline.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use rusqlite::Connection;
use sensor_baseline::{Action, Candidate, Circumstances, Criteria, Dimension, UnixNs, Workload};
use sensor_proto::v1;

use crate::clock;
use crate::fleet::candidate::merged;
use crate::fleet::{FleetError, require_fleet};
use crate::grpc::wire;
use crate::store::{findings, gaps};

/// Where each dimension is at `now`, in the order of workloads and actions.
pub fn dimensions(
    connection: &Connection,
    fleet: &str,
    now: clock::UnixNs,
) -> Result<Vec<Dimension>, FleetError> {
    require_fleet(connection, fleet)?;
    dimensions_of(connection, fleet, &merged(connection, fleet)?, now)
}

/// Where each dimension of the fleet's candidate is at `now`.
pub(super) fn dimensions_of(
    connection: &Connection,
    fleet: &str,
    candidate: &Candidate,
    now: clock::UnixNs,
) -> Result<Vec<Dimension>, FleetError> {
    let firsts = candidate.entries().map(|(_, support)| support.seen.first.0);
    let since = clock::UnixNs::from_column(firsts.min().map_or(0, u64::cast_signed));
    let circumstances = Circumstances {
        lost: lost(connection, fleet, since)?,
        novel: novel(connection, fleet, now.minus_seconds(SECONDS_PER_DAY))?,
    };
    let now = UnixNs(now.column().cast_unsigned());
    Ok(candidate.dimensions(now, &Criteria::default(), &circumstances))
}

/// Records that the fleet's hosts lost since then.
fn lost(
    connection: &Connection,
    fleet: &str,
    since: clock::UnixNs,
) -> Result<BTreeMap<Action, u64>, FleetError> {
    let mut lost = BTreeMap::new();
    for (kind, count) in gaps::count_by_kind(connection, fleet, since)? {
        if let Some(action) = told_of(&kind) {
            let lost: &mut u64 = lost.entry(action).or_default();
            *lost = lost.saturating_add(count);
        }
    }
    Ok(lost)
}

/// What a baseline would have learned from a kind of event.
fn told_of(kind: &str) -> Option<Action> {
    match kind {
        // Without its fork a process is nobody's, and what it starts goes unlearned.
        "exec" | "fork" => Some(Action::Exec),
        "connect" | "send" => Some(Action::Connect),
        "listen" => Some(Action::Listen),
        "file_open" | "file_truncate" | "file_mkdir" | "file_link" | "file_symlink" => Some(Action::Write),
        "file_unlink" => Some(Action::Delete),
        "file_rename" => Some(Action::Rename),
        _ => None,
    }
}

/// Distinct novel behaviours since then.
fn novel(
    connection: &Connection,
    fleet: &str,
    since: clock::UnixNs,
) -> Result<BTreeMap<(Workload, Action), u64>, FleetError> {
    let mut behaviours = BTreeSet::new();
    for body in findings::novel_since(connection, fleet, since)? {
        // One that cannot be read was checked when it was stored, by a version that is not this one.
        let Some(behaviour) = v1::Finding::decode(body.as_slice()).ok().and_then(|found| found.behaviour)
        else {
            continue;
        };
        if let Some(action) = wire::action(behaviour.action) {
            behaviours.insert((Workload(behaviour.workload), action, behaviour.subject, behaviour.object));
        }
    }
    let mut counts = BTreeMap::new();
    for (workload, action, ..) in behaviours {
        *counts.entry((workload, action)).or_insert(0) += 1;
    }
    Ok(counts)
}

const SECONDS_PER_DAY: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::told_of;

    #[test]
    fn kinds_are_called_as_the_manual_calls_them() {
        let manual = include_str!("../../../docs/events.md");
        let named: Vec<&str> = manual.split('`').filter(|word| told_of(word).is_some()).collect();
        for kind in ["exec", "fork", "connect", "send", "listen", "file_open", "file_unlink", "file_rename"] {
            assert!(named.contains(&kind) && told_of(kind).is_some(), "{kind}");
        }
    }
}
