//! Approving a finding: the fleet's next baseline is the current one plus the smallest entries that allow what its
//! evidence describes. It does not touch the finding. It may call the store and sensor-baseline.

use prost::Message;
use rusqlite::Connection;
use sensor_baseline::{ApprovalError, Baseline, Floor, FloorRule};
use sensor_proto::v1;

use crate::collector::Collector;
use crate::fleet::{FleetError, Push, parse_stored, push};
use crate::grpc::wire;
use crate::http::finding_id::FindingId;
use crate::store::baselines::{self, BaselineRow};
use crate::store::findings::{self, StoredFinding};
use crate::store::heads::{self, StoredHead};

/// What an operator approves.
#[derive(Clone, Debug)]
pub struct Approval {
    /// Whose baseline is to grow.
    pub fleet: String,
    /// A piece of evidence; the first names the finding as well.
    pub id: FindingId,
    /// How much of the finding.
    pub scope: Scope,
}

/// How much of a finding an approval is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The behaviour of the piece of evidence that is named. Refused where the id names a finding of several behaviours:
    /// what it was shown as is the worst of them, not the first.
    Only,
    /// The behaviour of the piece of evidence that is named, also when it is the first of several.
    One,
    /// Every behaviour of the finding, which must not have grown beyond this cursor: what came later nobody has seen.
    All {
        /// The finding's cursor when it was looked at.
        upto: i64,
    },
}

/// Adds the entries as a new version and hands it to the fleet's agents.
pub async fn approve(
    collector: &Collector,
    approval: &Approval,
    author: &str,
) -> Result<BaselineRow, FleetError> {
    for _attempt in 0..ATTEMPTS_MAX {
        let wanted = approval.clone();
        let change = collector.store.read(move |connection| plan(connection, &wanted)).await?;
        let change = Push { author: author.to_owned(), ..change };
        match push(collector, change).await {
            // Somebody pushed in this moment: what is to be added must be worked out again.
            Err(FleetError::Conflict { .. }) => {}
            done => return done,
        }
    }
    Err(cannot("the baseline keeps changing: try again".to_owned()))
}

/// The next baseline's text, from the evidence and the baseline in force.
fn plan(connection: &Connection, approval: &Approval) -> Result<Push, FleetError> {
    let id = &approval.id;
    let stored = findings::find(connection, id.agent, &id.epoch_prefix, id.seq)?
        .filter(|stored| stored.fleet == approval.fleet)
        .ok_or_else(|| FleetError::NoFinding { id: id.to_string() })?;
    let fleet = stored.fleet.clone();
    let evidence = approved(connection, stored, approval)?;
    let current = baselines::current(connection, &fleet)?
        .ok_or_else(|| FleetError::NoBaseline { fleet: fleet.clone(), version: None })?;
    let next = allow(&parse_stored(&current)?, &evidence)?;
    Ok(Push {
        fleet,
        yaml: next.to_yaml(),
        author: String::new(),
        note: format!("approved finding {id}"),
        base: Some(current.version),
    })
}

/// The evidence whose behaviours are to be allowed.
fn approved(
    connection: &Connection,
    named: StoredFinding,
    approval: &Approval,
) -> Result<Vec<StoredFinding>, FleetError> {
    let Some(head) = heads::of(connection, &named)? else { return Ok(vec![named]) };
    let is_first = head.first == (named.epoch, named.seq);
    match approval.scope {
        Scope::All { upto } if head.cursor > upto => {
            Err(cannot(format!("finding {} has grown: look at it again", approval.id)))
        }
        Scope::All { .. } => {
            let (evidence, left_off) = findings::evidence(connection, &head, 0, EVIDENCE_MAX)?;
            if left_off == 0 {
                return Ok(evidence);
            }
            let count = evidence.len() as u64 + left_off;
            Err(cannot(format!(
                "finding {} has {count} pieces of evidence: push a baseline that has the entries instead",
                approval.id
            )))
        }
        Scope::Only if is_first && is_several(&head, &named) => Err(cannot(format!(
            "finding {} has {} behaviours or claims: say whether all are meant or the one of its first evidence, or name other \
             evidence by its id",
            approval.id, head.tally.behaviours
        ))),
        Scope::Only | Scope::One => Ok(vec![named]),
    }
}

/// Whether the finding is shown as something else than its first piece of evidence, which may be a repetition.
fn is_several(head: &StoredHead, first: &StoredFinding) -> bool {
    head.tally.behaviours > 1 || head.worst.cursor != first.cursor
}

/// The baseline with an entry for each of these, as far as it does not allow them yet. Refused as a whole.
fn allow(baseline: &Baseline, evidence: &[StoredFinding]) -> Result<Baseline, FleetError> {
    let mut next: Option<Baseline> = None;
    let mut already = None;
    for stored in evidence {
        let id = FindingId::new(stored.agent, stored.epoch, stored.seq);
        let of_several = |reason: String| {
            cannot(if evidence.len() > 1 { format!("evidence {id}: {reason}") } else { reason })
        };
        let finding = v1::Finding::decode(stored.body.as_slice())
            .map_err(|error| cannot(format!("finding {id} is damaged: {error}")))?;
        let rule = finding_rule(&finding).map_err(&of_several)?;
        let behaviour = finding
            .behaviour
            .as_ref()
            .and_then(wire::behaviour)
            .ok_or_else(|| cannot(format!("finding {id} has no behaviour that a baseline can name")))?;
        match next.as_ref().unwrap_or(baseline).approve(&behaviour, rule) {
            Ok(grown) => next = Some(grown),
            Err(error @ ApprovalError::AlreadyAllowed { .. }) => already = Some(error),
            Err(error) => return Err(of_several(error.to_string())),
        }
    }
    next.ok_or_else(|| cannot(already.map_or_else(String::new, |error| error.to_string())))
}

/// The floor rule behind a finding: whether it yields to an entry is the rule's own property.
fn finding_rule(finding: &v1::Finding) -> Result<Option<&'static FloorRule>, String> {
    if finding.reason == i32::from(v1::Reason::Sigma) {
        let id = finding.sigma_rules.first().map_or("without a name", |rule| rule.id.as_str());
        return Err(format!("Sigma rule {id} holds whatever a baseline allows"));
    }
    if finding.reason != i32::from(v1::Reason::Floor) {
        return Ok(None);
    }
    let id = finding.floor_rule.as_ref().map_or("without a name", |rule| rule.id.as_str());
    match Floor::built_in().rule(id) {
        Some(rule) => Ok(Some(rule)),
        // Of an agent's own file: what it says about itself is not to be trusted.
        None => Err(format!(
            "floor rule {id} is not one that this collector knows: push a baseline that has the entry instead"
        )),
    }
}

fn cannot(reason: String) -> FleetError {
    FleetError::CannotApprove { reason }
}

/// How often an approval is worked out again when pushes come between.
const ATTEMPTS_MAX: u32 = 5;
/// Pieces of evidence that one approval may be of: each makes the baseline anew.
const EVIDENCE_MAX: u32 = 200;
