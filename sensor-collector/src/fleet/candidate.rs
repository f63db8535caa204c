//! The candidate baseline of a fleet: what its agents have learned, merged, on top of the baseline in force. It
//! changes nothing. It may call the store and sensor-baseline.

use rusqlite::Connection;
use sensor_baseline::{Behaviour, Candidate, HostId, Object, Remembered, Seen, Subject, UnixNs, Workload};

use crate::clock;
use crate::fleet::maturity::dimensions_of;
use crate::fleet::{FleetError, parse_stored, require_fleet};
use crate::grpc::wire;
use crate::store::baselines;
use crate::store::learned::{self, LearnedRow};

/// The candidate as YAML, with the number of hosts behind each entry.
pub fn candidate(connection: &Connection, fleet: &str) -> Result<String, FleetError> {
    require_fleet(connection, fleet)?;
    let candidate = merged(connection, fleet)?;
    let dimensions = dimensions_of(connection, fleet, &candidate, clock::now())?;
    Ok(candidate.without_unstable(&dimensions).to_yaml())
}

/// What the fleet's hosts learned, over the baseline in force.
pub(super) fn merged(connection: &Connection, fleet: &str) -> Result<Candidate, FleetError> {
    let hosts: Vec<_> = learned::of_fleet(connection, fleet)?
        .into_iter()
        .map(|(agent, rows)| (HostId(agent.text()), rows.iter().filter_map(behaviour).collect()))
        .collect();
    let merged = sensor_baseline::merge(fleet, &hosts);
    let current = baselines::current(connection, fleet)?.map(|row| parse_stored(&row)).transpose()?;
    Ok(match current {
        Some(current) => merged.over(&current),
        None => merged,
    })
}

/// Rows were checked when they were stored; one that a later version no longer reads is left out.
fn behaviour(row: &LearnedRow) -> Option<(Behaviour, Remembered)> {
    let action = wire::action(row.action)?;
    let behaviour = Behaviour {
        workload: Workload(row.workload.clone()),
        subject: Subject(row.subject.clone()),
        action,
        object: Object::parse(action, &row.object).ok()?,
    };
    let time = |time: crate::clock::UnixNs| UnixNs(time.column().cast_unsigned());
    let seen = Seen { count: row.count, first: time(row.first), last: time(row.last) };
    let withheld_by = row.withheld_by.as_deref().map(Into::into);
    Some((behaviour, Remembered { seen, withheld_by }))
}
