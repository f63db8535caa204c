//! Approving a finding: the fleet's next baseline is the current one plus the smallest entry that allows what the
//! finding describes. It does not touch the finding. It may call the store and sensor-baseline.

use prost::Message;
use rusqlite::Connection;
use sensor_baseline::{Observation, Traits, UnixNs, Verdict};
use sensor_proto::v1;

use crate::collector::Collector;
use crate::fleet::{FleetError, Push, parse_stored, push};
use crate::grpc::wire;
use crate::http::finding_id::FindingId;
use crate::store::baselines::{self, BaselineRow};
use crate::store::findings;

/// Adds the entry as a new version and hands it to the fleet's agents.
pub async fn approve(
    collector: &Collector,
    fleet: &str,
    id: FindingId,
    author: &str,
) -> Result<BaselineRow, FleetError> {
    for _attempt in 0..ATTEMPTS_MAX {
        let (fleet, wanted) = (fleet.to_owned(), id.clone());
        let change = collector.store.read(move |connection| plan(connection, &fleet, &wanted)).await?;
        let change = Push { author: author.to_owned(), ..change };
        match push(collector, change).await {
            // Somebody pushed in this moment: what is to be added must be worked out again.
            Err(FleetError::Conflict { .. }) => {}
            done => return done,
        }
    }
    Err(FleetError::CannotApprove { reason: "the baseline keeps changing: try again".to_owned() })
}

/// The next baseline's text, from the finding and the baseline in force.
fn plan(connection: &Connection, fleet: &str, id: &FindingId) -> Result<Push, FleetError> {
    let stored = findings::find(connection, id.agent, &id.epoch_prefix, id.seq)?
        .filter(|stored| stored.fleet == fleet)
        .ok_or_else(|| FleetError::NoFinding { id: id.to_string() })?;
    let finding = v1::Finding::decode(stored.body.as_slice())
        .map_err(|error| FleetError::CannotApprove { reason: format!("finding {id} is damaged: {error}") })?;
    if finding.reason == i32::from(v1::Reason::Floor) {
        return Err(FleetError::CannotApprove { reason: floor_reason(&finding) });
    }
    let behaviour =
        finding.behaviour.as_ref().and_then(wire::behaviour).ok_or_else(|| FleetError::CannotApprove {
            reason: format!("finding {id} has no behaviour that a baseline can name"),
        })?;
    let current = baselines::current(connection, &stored.fleet)?
        .ok_or_else(|| FleetError::NoBaseline { fleet: stored.fleet.clone(), version: None })?;
    let next = parse_stored(&current)?.allow(&behaviour);
    let observation = Observation {
        behaviour,
        traits: Traits { object_from_caller: finding.object_from_caller, ..Traits::default() },
        time: UnixNs(finding.time_unix_ns),
    };
    match next.judge(&observation) {
        Verdict::Allowed => {}
        Verdict::Denied => {
            let reason =
                format!("the baseline denies {} by name: remove that entry first", observation.behaviour);
            return Err(FleetError::CannotApprove { reason });
        }
        verdict => {
            let reason = format!("{} would still be judged {verdict:?}", observation.behaviour);
            return Err(FleetError::CannotApprove { reason });
        }
    }
    Ok(Push {
        fleet: stored.fleet,
        yaml: next.to_yaml(),
        author: String::new(),
        note: format!("approved finding {id}"),
        base: Some(current.version),
    })
}

fn floor_reason(finding: &v1::Finding) -> String {
    match &finding.floor_rule {
        Some(rule) => {
            format!("floor rule {} ({}) is not silenced by any baseline entry", rule.id, rule.title)
        }
        None => "a floor rule is not silenced by any baseline entry".to_owned(),
    }
}

/// How often an approval is worked out again when pushes come between.
const ATTEMPTS_MAX: u32 = 5;
