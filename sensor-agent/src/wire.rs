//! Between the agent's types and `sensor.v1`: the only place that knows both. Not a connection. It may call the proto
//! and baseline crates.

mod who;

use prost::Message as _;
use sensor_baseline::{Action, Behaviour, Severity};
use sensor_proto::v1;

use crate::finding::{Finding, ProcessFacts, Reason};
use crate::sigma::Rule;
use crate::spool::{Content, Gap, NewItem, Rank, StoredItem};
use crate::uplink::control::{Chunk, Status};
use crate::uplink::session::ITEM_BYTES_MAX;

/// A finding as the spool keeps it: encoded, and never larger than [`ITEM_BYTES_MAX`]. Text that does not fit is cut
/// with a mark, the ancestors' first.
#[must_use]
pub fn spool_item(finding: &Finding, hostname: &str) -> NewItem {
    let mut message = finding_message(finding, hostname);
    for text_bytes_max in TEXT_BYTES_MAX {
        if message.encoded_len() as u64 <= ITEM_BYTES_MAX {
            break;
        }
        shorten(&mut message, text_bytes_max);
    }
    NewItem {
        rank: Rank(severity_number(finding.severity)),
        time_ns: finding.time.0,
        content: Content::Finding(message.encode_to_vec()),
    }
}

/// A stored item as it goes out. One that cannot be decoded any more becomes a gap that says so.
#[must_use]
pub fn item_message(item: StoredItem) -> v1::Item {
    let first_seq = if item.first == item.seq { 0 } else { item.first.0 };
    let content = match item.content {
        Content::Finding(bytes) => match v1::Finding::decode(bytes.as_slice()) {
            Ok(finding) => v1::item::Content::Finding(finding),
            Err(_) => v1::item::Content::Gap(v1::Gap {
                kind: "finding".to_owned(),
                count: 1,
                reason: "undecodable".to_owned(),
                ..v1::Gap::default()
            }),
        },
        Content::Gap(gap) => v1::item::Content::Gap(gap_message(gap)),
    };
    v1::Item { seq: item.seq.0, first_seq, content: Some(content) }
}

fn gap_message(gap: Gap) -> v1::Gap {
    v1::Gap {
        from_unix_ns: gap.from_ns,
        to_unix_ns: gap.to_ns,
        kind: gap.kind,
        count: gap.count,
        reason: gap.reason,
    }
}

/// A behaviour as it goes out.
#[must_use]
pub fn behaviour_message(behaviour: &Behaviour) -> v1::Behaviour {
    v1::Behaviour {
        workload: behaviour.workload.0.clone(),
        subject: behaviour.subject.0.clone(),
        action: i32::from(action_message(behaviour.action)),
        object: behaviour.object.to_string(),
    }
}

/// A part of the learned state as it goes out.
#[must_use]
pub fn learned_message(chunk: &Chunk) -> v1::Learned {
    let mut learned = v1::Learned {
        epoch: chunk.mark.epoch.0.to_vec(),
        revision: chunk.mark.revision.0,
        ..v1::Learned::default()
    };
    for row in &chunk.rows {
        let seen = v1::LearnedBehaviour {
            behaviour: Some(behaviour_message(&row.behaviour)),
            count: row.count,
            first_seen_unix_ns: row.first_ns,
            last_seen_unix_ns: row.last_ns,
        };
        match &row.withheld_by {
            None => learned.behaviours.push(seen),
            Some(rule) => {
                learned.withheld.push(v1::WithheldBehaviour { seen: Some(seen), rule: rule.to_string() });
            }
        }
    }
    learned
}

/// What became of a baseline, as it goes out.
#[must_use]
pub fn status_message(status: Status) -> v1::BaselineStatus {
    let (state, reason) = match status.outcome {
        Ok(()) => (v1::baseline_status::State::Applied, String::new()),
        Err(reason) => (v1::baseline_status::State::Failed, reason),
    };
    v1::BaselineStatus { version: status.version, sha256: status.sha256, state: i32::from(state), reason }
}

/// The number of an action on the wire.
#[must_use]
pub const fn action_message(action: Action) -> v1::Action {
    match action {
        Action::Exec => v1::Action::Exec,
        Action::Connect => v1::Action::Connect,
        Action::Listen => v1::Action::Listen,
        Action::Write => v1::Action::Write,
        Action::Delete => v1::Action::Delete,
        Action::Rename => v1::Action::Rename,
    }
}

const fn severity_number(severity: Severity) -> u8 {
    match severity {
        Severity::Informational => 1,
        Severity::Low => 2,
        Severity::Medium => 3,
        Severity::High => 4,
        Severity::Critical => 5,
    }
}

fn finding_message(finding: &Finding, hostname: &str) -> v1::Finding {
    let (reason, floor_rule) = match &finding.reason {
        Reason::Novel => (v1::Reason::Novel, None),
        Reason::Denied => (v1::Reason::Denied, None),
        Reason::Sigma => (v1::Reason::Sigma, None),
        Reason::Floor(rule) => {
            let rule = v1::FloorRule {
                id: rule.id.clone(),
                title: rule.title.clone(),
                techniques: rule.technique_ids().map(str::to_owned).collect(),
                attack_version: rule.attack_version.clone(),
            };
            (v1::Reason::Floor, Some(rule))
        }
    };
    v1::Finding {
        time_unix_ns: finding.time.0,
        severity: i32::from(severity_number(finding.severity)),
        reason: i32::from(reason),
        behaviour: Some(behaviour_message(&finding.behaviour)),
        process: Some(process_message(&finding.process)),
        ancestors: finding.ancestors.iter().map(process_message).collect(),
        floor_rule,
        explanation: Some(v1::Explanation {
            summary: finding.explanation.summary.clone(),
            nearest: finding.explanation.nearest.clone(),
            edit: finding.explanation.edit.clone(),
        }),
        tier: finding.tier.to_owned(),
        object_from_caller: finding.object_from_caller,
        baseline_version: finding.baseline_version,
        hostname: hostname.to_owned(),
        incident: finding.incident.clone(),
        sigma_rules: finding.rules.iter().map(|rule| rule_message(rule)).collect(),
        finding: finding.name.clone(),
        count: finding.count,
        is_repeat: finding.is_repeat,
    }
}

fn rule_message(rule: &Rule) -> v1::SigmaRule {
    v1::SigmaRule {
        id: rule.id.to_string(),
        title: rule.title.clone(),
        level: i32::from(severity_number(rule.level)),
        techniques: rule.techniques.clone(),
    }
}

fn process_message(process: &ProcessFacts) -> v1::Process {
    v1::Process {
        pid: process.pid,
        start_time_ns: process.start_time_ns,
        exe: process.exe.clone(),
        argv: process.argv.iter().map(str::to_owned).collect(),
        cwd: process.cwd.clone(),
        uid: process.uid,
        euid: process.euid,
        comm: process.comm.clone(),
        cgroup: process.cgroup.clone(),
        who: Some(who::who_message(process)),
    }
}

/// Cuts the texts that a process chooses freely, so that none is longer than `bytes_max`.
fn shorten(message: &mut v1::Finding, bytes_max: usize) {
    for ancestor in &mut message.ancestors {
        shorten_process(ancestor, bytes_max / 4);
    }
    if let Some(process) = &mut message.process {
        shorten_process(process, bytes_max);
    }
    if let Some(explanation) = &mut message.explanation {
        cut(&mut explanation.summary, bytes_max);
        cut(&mut explanation.edit, bytes_max);
        explanation.nearest.iter_mut().for_each(|nearest| cut(nearest, bytes_max / 4));
    }
}

fn shorten_process(process: &mut v1::Process, bytes_max: usize) {
    let mut room = bytes_max;
    let mut kept = 0;
    for argument in &mut process.argv {
        if room == 0 {
            break;
        }
        cut(argument, room);
        room = room.saturating_sub(argument.len() + 8);
        kept += 1;
    }
    if kept < process.argv.len() {
        process.argv.truncate(kept);
        process.argv.push(CUT_MARK.to_owned());
    }
    cut(&mut process.cwd, bytes_max);
    cut(&mut process.exe, bytes_max);
    if let Some(who) = &mut process.who {
        who::shorten_who(who, bytes_max);
    }
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(CUT_MARK);
    }
}

/// Bounds tried one after the other, in bytes of one process's arguments.
const TEXT_BYTES_MAX: [usize; 3] = [16 * 1024, 4 * 1024, 1024];
const CUT_MARK: &str = "…";

#[cfg(test)]
mod tests {
    use super::*;
    use sensor_baseline::{Explanation, Object, Subject, UnixNs, Workload};

    use crate::spool::Seq;
    use std::sync::Arc;

    fn process(argument_bytes: usize) -> ProcessFacts {
        ProcessFacts {
            pid: 7,
            argv: vec!["é".repeat(argument_bytes / 2); 4].iter().collect(),
            ..ProcessFacts::default()
        }
    }

    fn finding(argument_bytes: usize) -> Finding {
        Finding {
            time: UnixNs(5),
            severity: Severity::High,
            reason: Reason::Novel,
            behaviour: Behaviour {
                workload: Workload("unit:a.service".to_owned()),
                subject: Subject("/usr/bin/a".to_owned()),
                action: Action::Write,
                object: Object::path("/etc/passwd"),
            },
            process: process(argument_bytes),
            ancestors: vec![process(argument_bytes); 8],
            explanation: Explanation {
                summary: "x".repeat(argument_bytes),
                nearest: Vec::new(),
                edit: String::new(),
            },
            tier: "tracepoint",
            object_from_caller: false,
            baseline_version: 3,
            incident: "7-5-1".to_owned(),
            name: "7-5-1/2".to_owned(),
            count: 3,
            is_repeat: true,
            rules: vec![Arc::new(Rule {
                id: "r-1".into(),
                title: "a rule".to_owned(),
                level: Severity::Low,
                techniques: vec!["T1105".to_owned()],
            })],
        }
    }

    fn round_trip(finding: &Finding) -> v1::Finding {
        let item = spool_item(finding, "web-1");
        assert_eq!(item.rank, Rank::URGENT);
        let stored = StoredItem { first: Seq(1), seq: Seq(1), content: item.content };
        match item_message(stored).content {
            Some(v1::item::Content::Finding(finding)) => finding,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_finding_survives_the_spool() {
        let sent = round_trip(&finding(10));
        assert_eq!(sent.hostname, "web-1");
        assert_eq!(sent.behaviour.unwrap().object, "/etc/passwd");
        assert_eq!(sent.process.unwrap().argv, finding(10).process.argv.iter().collect::<Vec<_>>());
        assert_eq!(sent.ancestors.len(), 8);
        assert_eq!((sent.finding.as_str(), sent.count, sent.is_repeat), ("7-5-1/2", 3, true));
        let rule = v1::SigmaRule {
            id: "r-1".to_owned(),
            title: "a rule".to_owned(),
            level: 2,
            techniques: vec!["T1105".to_owned()],
        };
        assert_eq!(sent.sigma_rules, [rule]);
    }

    #[test]
    fn a_huge_finding_is_cut_with_a_mark_and_never_dropped() {
        let sent = round_trip(&finding(200_000));
        assert!(sent.encoded_len() as u64 <= ITEM_BYTES_MAX, "{}", sent.encoded_len());
        assert!(sent.process.unwrap().argv.last().unwrap().ends_with(CUT_MARK));
        assert_eq!(sent.behaviour.unwrap().object, "/etc/passwd");
    }

    #[test]
    fn bytes_that_are_no_finding_become_a_gap() {
        let stored = StoredItem { first: Seq(9), seq: Seq(9), content: Content::Finding(vec![0xff; 3]) };
        match item_message(stored).content {
            Some(v1::item::Content::Gap(gap)) => {
                assert_eq!((gap.count, gap.reason.as_str()), (1, "undecodable"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_evicted_range_says_what_it_stands_for() {
        let gap = Gap {
            from_ns: 1,
            to_ns: 2,
            kind: "finding".to_owned(),
            count: 4,
            reason: "spool_full".to_owned(),
        };
        let sent = item_message(StoredItem { first: Seq(3), seq: Seq(6), content: Content::Gap(gap) });
        assert_eq!((sent.first_seq, sent.seq), (3, 6));
    }
}
