//! Approving a finding: the fleet's next baseline is the current one plus the smallest entry that allows what the
//! finding describes. It does not touch the finding. It may call the store and sensor-baseline.

use prost::Message;
use rusqlite::Connection;
use sensor_baseline::{Floor, FloorRule};
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
    Err(cannot("the baseline keeps changing: try again".to_owned()))
}

/// The next baseline's text, from the finding and the baseline in force.
fn plan(connection: &Connection, fleet: &str, id: &FindingId) -> Result<Push, FleetError> {
    let stored = findings::find(connection, id.agent, &id.epoch_prefix, id.seq)?
        .filter(|stored| stored.fleet == fleet)
        .ok_or_else(|| FleetError::NoFinding { id: id.to_string() })?;
    let finding = v1::Finding::decode(stored.body.as_slice())
        .map_err(|error| cannot(format!("finding {id} is damaged: {error}")))?;
    let rule = finding_rule(&finding)?;
    let behaviour = finding
        .behaviour
        .as_ref()
        .and_then(wire::behaviour)
        .ok_or_else(|| cannot(format!("finding {id} has no behaviour that a baseline can name")))?;
    let current = baselines::current(connection, &stored.fleet)?
        .ok_or_else(|| FleetError::NoBaseline { fleet: stored.fleet.clone(), version: None })?;
    let next =
        parse_stored(&current)?.approve(&behaviour, rule).map_err(|error| cannot(error.to_string()))?;
    Ok(Push {
        fleet: stored.fleet,
        yaml: next.to_yaml(),
        author: String::new(),
        note: format!("approved finding {id}"),
        base: Some(current.version),
    })
}

/// The floor rule behind a finding: whether it yields to an entry is the rule's own property.
fn finding_rule(finding: &v1::Finding) -> Result<Option<&'static FloorRule>, FleetError> {
    if finding.reason == i32::from(v1::Reason::Sigma) {
        let id = finding.sigma_rules.first().map_or("without a name", |rule| rule.id.as_str());
        return Err(cannot(format!("Sigma rule {id} holds whatever a baseline allows")));
    }
    if finding.reason != i32::from(v1::Reason::Floor) {
        return Ok(None);
    }
    let id = finding.floor_rule.as_ref().map_or("without a name", |rule| rule.id.as_str());
    match Floor::built_in().rule(id) {
        Some(rule) => Ok(Some(rule)),
        // Of an agent's own file: what it says about itself is not to be trusted.
        None => Err(cannot(format!(
            "floor rule {id} is not one that this collector knows: push a baseline that has the entry instead"
        ))),
    }
}

fn cannot(reason: String) -> FleetError {
    FleetError::CannotApprove { reason }
}

/// How often an approval is worked out again when pushes come between.
const ATTEMPTS_MAX: u32 = 5;
