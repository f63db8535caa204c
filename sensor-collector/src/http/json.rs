//! The JSON shapes of the API, as `docs/http-api.md` shows them. It reads no store and decides nothing.

mod who;

use std::collections::BTreeMap;

use prost::Message;
use sensor_proto::v1;
use serde::Serialize;

use crate::clock::UnixNs;
use crate::http::finding_id::FindingId;
use crate::identity::secret::hex;
use crate::store::findings::StoredFinding;
use crate::store::gaps::StoredGap;
use crate::store::heads::StoredHead;
use crate::store::prevalence::Prevalence;
use who::WhoJson;

/// One finding: what its worst piece of evidence tells, by the id of the first, and what all of it adds up to.
#[derive(Serialize)]
pub(super) struct FindingJson {
    #[serde(flatten)]
    told: ToldJson,
    cursor: String,
    behaviours: u64,
    count: u64,
    first_time: String,
    last_time: String,
    hosts: Option<u64>,
    fleet_hosts: Option<u64>,
    is_rare: bool,
}

/// One finding with its evidence.
#[derive(Serialize)]
pub(super) struct WholeFindingJson {
    #[serde(flatten)]
    pub(super) finding: FindingJson,
    pub(super) evidence: Vec<EvidenceJson>,
    pub(super) evidence_left_off: u64,
    pub(super) evidence_next: Option<String>,
}

/// One piece of evidence.
#[derive(Serialize)]
pub(super) struct EvidenceJson {
    #[serde(flatten)]
    told: ToldJson,
    count: u64,
    is_repeat: bool,
}

/// What one message tells.
#[derive(Serialize)]
struct ToldJson {
    id: String,
    agent: String,
    hostname: String,
    fleet: String,
    seq: u64,
    epoch: String,
    time: String,
    stored_at: String,
    latency_ms: f64,
    severity: &'static str,
    reason: &'static str,
    workload: String,
    subject: String,
    action: &'static str,
    object: String,
    process: Option<ProcessJson>,
    ancestors: Vec<ProcessJson>,
    floor_rule: Option<FloorRuleJson>,
    rules: Vec<SigmaRuleJson>,
    explanation: ExplanationJson,
    tier: String,
    object_from_caller: bool,
    baseline_version: u64,
    incident: String,
}

#[derive(Serialize)]
struct ProcessJson {
    pid: u32,
    start_time_ns: u64,
    exe: String,
    argv: Vec<String>,
    cwd: String,
    uid: u32,
    euid: u32,
    comm: String,
    cgroup: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<WhoJson>,
}

#[derive(Serialize)]
struct FloorRuleJson {
    id: String,
    title: String,
    techniques: Vec<String>,
    attack_version: String,
}

#[derive(Serialize)]
struct SigmaRuleJson {
    id: String,
    title: String,
    level: &'static str,
    techniques: Vec<String>,
}

#[derive(Serialize)]
struct ExplanationJson {
    summary: String,
    nearest: Vec<String>,
    edit: String,
}

/// A stored message that does not decode: an error of the store, not an empty finding.
#[derive(Debug, thiserror::Error)]
#[error("finding {id} is damaged: {error}")]
pub(super) struct Damaged {
    id: String,
    error: prost::DecodeError,
}

/// One gap.
#[derive(Serialize)]
pub(super) struct GapJson {
    agent: String,
    fleet: String,
    epoch: String,
    first_seq: u64,
    seq: u64,
    source: String,
    kind: String,
    count: u64,
    reason: String,
    from: Option<String>,
    to: Option<String>,
    stored_at: String,
}

impl FindingJson {
    pub(super) fn new(head: &StoredHead) -> Result<Self, Damaged> {
        let (worst, (epoch, seq), tally) = (&head.worst, head.first, head.tally);
        let mut told = ToldJson {
            id: FindingId::new(worst.agent, epoch, seq).to_string(),
            seq: seq.0,
            epoch: hex(&epoch.0),
            incident: head.incident.clone().unwrap_or_default(),
            ..ToldJson::new(worst)?
        };
        let is_rare = head.prevalence.is_some_and(Prevalence::is_rare);
        if is_rare && tally.severity == i32::from(v1::Severity::Low) {
            told.severity = severity(v1::Severity::Medium);
        }
        Ok(Self {
            told,
            hosts: head.prevalence.map(|prevalence| prevalence.hosts),
            fleet_hosts: head.prevalence.map(|prevalence| prevalence.of),
            is_rare,
            cursor: head.cursor.to_string(),
            // What was told again must have been told once, though that was lost.
            behaviours: tally.behaviours.max(1),
            count: tally.count,
            first_time: tally.first.rfc3339(),
            last_time: tally.last.rfc3339(),
        })
    }
}

impl EvidenceJson {
    pub(super) fn new(stored: &StoredFinding) -> Result<Self, Damaged> {
        Ok(Self { told: ToldJson::new(stored)?, count: stored.count, is_repeat: stored.is_repeat })
    }
}

impl ToldJson {
    fn new(stored: &StoredFinding) -> Result<Self, Damaged> {
        let id = FindingId::new(stored.agent, stored.epoch, stored.seq);
        let finding = v1::Finding::decode(stored.body.as_slice())
            .map_err(|error| Damaged { id: id.to_string(), error })?;
        let time = UnixNs::from_claimed(finding.time_unix_ns);
        let severity = severity(finding.severity());
        let reason = reason(finding.reason());
        let behaviour = finding.behaviour.unwrap_or_default();
        let explanation = finding.explanation.unwrap_or_default();
        Ok(Self {
            id: id.to_string(),
            agent: stored.agent.text(),
            hostname: finding.hostname,
            fleet: stored.fleet.clone(),
            seq: stored.seq.0,
            epoch: hex(&stored.epoch.0),
            time: time.rfc3339(),
            stored_at: stored.stored.rfc3339(),
            latency_ms: stored.stored.ms_since(time),
            severity,
            reason,
            action: action(behaviour.action()),
            workload: behaviour.workload,
            subject: behaviour.subject,
            object: behaviour.object,
            process: finding.process.map(ProcessJson::from),
            ancestors: finding.ancestors.into_iter().map(ProcessJson::from).collect(),
            floor_rule: finding.floor_rule.map(FloorRuleJson::from),
            rules: finding.sigma_rules.into_iter().map(SigmaRuleJson::from).collect(),
            explanation: ExplanationJson {
                summary: explanation.summary,
                nearest: explanation.nearest,
                edit: explanation.edit,
            },
            tier: finding.tier,
            object_from_caller: finding.object_from_caller,
            baseline_version: finding.baseline_version,
            incident: finding.incident,
        })
    }
}

impl From<v1::Process> for ProcessJson {
    fn from(process: v1::Process) -> Self {
        Self {
            pid: process.pid,
            start_time_ns: process.start_time_ns,
            exe: process.exe,
            argv: process.argv,
            cwd: process.cwd,
            uid: process.uid,
            euid: process.euid,
            comm: process.comm,
            cgroup: process.cgroup,
            who: process.who.map(WhoJson::from),
        }
    }
}

impl From<v1::FloorRule> for FloorRuleJson {
    fn from(rule: v1::FloorRule) -> Self {
        Self {
            id: rule.id,
            title: rule.title,
            techniques: rule.techniques,
            attack_version: rule.attack_version,
        }
    }
}

impl From<v1::SigmaRule> for SigmaRuleJson {
    fn from(rule: v1::SigmaRule) -> Self {
        let level = severity(rule.level());
        Self { id: rule.id, title: rule.title, level, techniques: rule.techniques }
    }
}

impl From<StoredGap> for GapJson {
    fn from(gap: StoredGap) -> Self {
        let known = |time: UnixNs| (time.column() > 0).then(|| time.rfc3339());
        Self {
            agent: gap.agent.text(),
            fleet: gap.fleet,
            epoch: hex(&gap.epoch.0),
            first_seq: gap.first.0,
            seq: gap.seq.0,
            source: gap.source,
            kind: gap.kind,
            count: gap.count,
            reason: gap.reason,
            from: known(gap.from),
            to: known(gap.to),
            stored_at: gap.stored.rfc3339(),
        }
    }
}

/// What an agent says about itself, from its last heartbeat.
#[derive(Default, Serialize)]
pub(super) struct HealthJson {
    boot_id: String,
    counters: BTreeMap<String, u64>,
    hooks: BTreeMap<String, String>,
    degraded: Vec<String>,
    spool_items: u64,
    spool_bytes: u64,
}

impl From<v1::Heartbeat> for HealthJson {
    fn from(heartbeat: v1::Heartbeat) -> Self {
        Self {
            boot_id: hex(&heartbeat.boot_id),
            counters: heartbeat.counters,
            hooks: heartbeat.hooks,
            degraded: heartbeat.degraded,
            spool_items: heartbeat.spool_items,
            spool_bytes: heartbeat.spool_bytes,
        }
    }
}

fn severity(severity: v1::Severity) -> &'static str {
    match severity {
        v1::Severity::Unspecified => "unknown",
        v1::Severity::Informational => "informational",
        v1::Severity::Low => "low",
        v1::Severity::Medium => "medium",
        v1::Severity::High => "high",
        v1::Severity::Critical => "critical",
    }
}

fn reason(reason: v1::Reason) -> &'static str {
    match reason {
        v1::Reason::Unspecified => "unknown",
        v1::Reason::Novel => "novel",
        v1::Reason::Floor => "floor",
        v1::Reason::Denied => "denied",
        v1::Reason::Sigma => "sigma",
    }
}

fn action(action: v1::Action) -> &'static str {
    match action {
        v1::Action::Unspecified => "unknown",
        v1::Action::Exec => "exec",
        v1::Action::Connect => "connect",
        v1::Action::Listen => "listen",
        v1::Action::Write => "write",
        v1::Action::Delete => "delete",
        v1::Action::Rename => "rename",
    }
}
