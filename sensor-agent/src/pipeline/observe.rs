//! An event in a baseline's terms, and what the baseline says. Not the tables it draws on. It may call `event`,
//! `enrich`, `finding` and the baseline crate.

use super::rules::{hold, of_rules};
use super::telling::{Act, Claim};
use super::{Output, Pipeline, RuleMatch};
use crate::enrich::{FreshFiles, Process};
use crate::event::{Body, Event, FileOpen, Identity, Socket, Tier};
use crate::finding::{Finding, RULES_MAX, Reason};
use crate::sigma::Rule;
use sensor_baseline::{
    Action, Behaviour, Endpoint, Layers, Object, Observation, PathText, Protocol, Severity, Subject, Traits,
    UnixNs, Verdict,
};
use sensor_event::Family;
use std::net::IpAddr;
use std::sync::Arc;

/// Who did what is judged.
#[derive(Clone, Copy)]
pub(super) struct Doer<'a> {
    /// The process; of an exec what it became, with its arguments.
    pub(super) process: &'a Process,
    /// Its program or its workload was a guess.
    pub(super) is_of_unknown: bool,
    /// Hook tier the facts come from.
    pub(super) tier: Tier,
}

/// The observation in an event, `None` when it is no behaviour: it failed, or it is part of how every program runs.
pub(super) fn observed(
    event: &Event,
    process: &Process,
    fresh_files: &mut FreshFiles,
    time: UnixNs,
) -> Option<Observation> {
    let (workload, now, own) = (&process.workload, event.time, process.identity);
    let mut traits = Traits {
        acting_is_shell: process.image.is_shell(),
        acting_is_transparent: process.image.is_transparent(),
        ..Traits::default()
    };
    let (action, object) = match &event.body {
        Body::Exec(exec) => {
            traits.fileless = exec.is_fileless();
            traits.executable_is_fresh = fresh_files.is_fresh(workload, exec, now);
            traits.object_deleted = exec.exe.is_deleted();
            let program = if exec.is_script() { &exec.filename_absolute } else { &exec.exe.text };
            (Action::Exec, path(program, own))
        }
        // A UDP socket that is connected and never used sends nothing: so `getaddrinfo` looks for a route.
        Body::Connect(socket) if socket.protocol == IPPROTO_UDP => return None,
        Body::Send(socket) if is_answer(socket) => return None,
        Body::Connect(socket) | Body::Send(socket) => {
            (Action::Connect, endpoint(socket, socket.destination, socket.destination_port)?)
        }
        Body::Listen(socket) if socket.protocol == IPPROTO_TCP => {
            (Action::Listen, endpoint(socket, socket.source, socket.source_port)?)
        }
        Body::FileOpen(file) => {
            if !is_kept(file) || !file.is_change() {
                return None;
            }
            traits.ephemeral = fresh_files.wrote(workload, file, &process.image, now);
            traits.object_deleted = file.path.is_deleted();
            (Action::Write, path(&file.path.text, own))
        }
        Body::Truncate(name) | Body::Mkdir(name) | Body::Symlink(name) if name.result == 0 => {
            traits.ephemeral = match &event.body {
                Body::Truncate(_) => fresh_files.truncated(workload, name, &process.image, now),
                Body::Mkdir(_) => fresh_files.made_folder(workload, name, now),
                _ => fresh_files.is_ephemeral(workload, &name.path.text, now),
            };
            traits.object_from_caller = name.path.is_from_caller();
            (Action::Write, path(&name.path.text, own))
        }
        Body::Link(link) if link.result == 0 => {
            traits.ephemeral = fresh_files.linked(workload, link, now);
            traits.object_from_caller = link.to.is_from_caller();
            (Action::Write, path(&link.to.text, own))
        }
        Body::Unlink(unlink) if unlink.result == 0 => {
            traits.ephemeral = fresh_files.is_ephemeral(workload, &unlink.path.text, now);
            traits.object_from_caller = unlink.path.is_from_caller();
            (Action::Delete, path(&unlink.path.text, own))
        }
        Body::Rename(rename) if rename.result == 0 => {
            traits.ephemeral = fresh_files.renamed(workload, rename, now);
            traits.object_from_caller = rename.from.is_from_caller() || rename.to.is_from_caller();
            let (from, to) = (literal(&rename.from.text, own), literal(&rename.to.text, own));
            (Action::Rename, Object::Rename { from, to })
        }
        _ => return None,
    };
    let mut folders_in = |path: &PathText| fresh_files.folders_in(workload, path.as_str(), now);
    (traits.folders_made, traits.target_folders_made) = match &object {
        Object::Path(path) if action != Action::Exec => (folders_in(path), 0),
        Object::Rename { from, to } => (folders_in(from), folders_in(to)),
        _ => (0, 0),
    };
    let (workload, subject) = (workload.clone(), Subject(process.lineage.subject.to_string()));
    Some(Observation { behaviour: Behaviour { workload, subject, action, object }, traits, time })
}

/// Whether an open says nothing about any program, whoever it is.
pub(super) fn is_never_observed(event: &Event) -> bool {
    matches!(&event.body, Body::FileOpen(file) if !is_kept(file))
}

impl Pipeline {
    /// Judges an observation. Returns whether nothing but the observation and its verdict has come of it.
    pub(super) fn judge(
        &mut self,
        observation: Observation,
        rules: Vec<Arc<Rule>>,
        doer: Doer<'_>,
        out: &mut Output,
    ) -> bool {
        let has_rules = !rules.is_empty();
        self.counters.observations += 1;
        self.counters.sigma_matches += rules.len() as u64;
        let held_by = hold(&rules);
        let (rules, is_excused) = self.unsilenced(rules, &observation);
        let mut held = self.config.floor.held(&observation);
        held.is_excused |= is_excused;
        let is_held_or_silenced = held.rule.is_some() || held.silenced.is_some() || held.is_excused;
        if let Some(rule) = held.silenced {
            *self.silenced.entry(rule.id.clone()).or_default() += 1;
        }
        let verdict = match &self.config.baseline {
            Some(baseline) => baseline.judge_held(&observation, held),
            None => held.rule.map_or(Verdict::Learning, |rule| Verdict::Floor(Arc::clone(rule))),
        };
        let is_learning = verdict == Verdict::Learning;
        let of_verdict = Reason::of(&verdict);
        // Nothing to learn: the subject is a guess, or the workload a number.
        let is_guess = is_learning && doer.is_of_unknown;
        let held_by = held_by.filter(|_| is_learning && !is_guess);
        let is_held = held_by.is_some();
        if of_verdict.is_none() && !rules.is_empty() {
            out.matches.push(RuleMatch { behaviour: observation.behaviour.clone(), is_held });
        }
        if let Some(reason) = of_verdict.or((!rules.is_empty()).then_some(Reason::Sigma)) {
            self.report(doer, &observation, &verdict, (reason, rules), out);
        }
        if is_guess {
            self.counters.observations_of_unknown += 1;
        } else if let Some(rule) = held_by {
            self.counters.sigma_held += 1;
            out.withheld.push((observation, rule));
        } else {
            out.observations.push((observation, verdict));
            return !is_held_or_silenced && !has_rules;
        }
        false
    }

    fn report(
        &mut self,
        doer: Doer<'_>,
        observation: &Observation,
        verdict: &Verdict,
        (reason, rules): (Reason, Vec<Arc<Rule>>),
        out: &mut Output,
    ) {
        let process = doer.process;
        let did = (observation.behaviour.action, &reason);
        let names = self.incidents.names(process, did, observation.time, self.now);
        let (baseline, floor, processes) = (&self.config.baseline, &self.config.floor, &self.processes);
        let worst = rules.first().map_or(Severity::Informational, |rule| rule.level);
        let severity = floor.severity(observation, verdict).max(worst);
        let baseline_version = baseline.as_ref().and_then(Layers::version).unwrap_or(0);
        let claims = claims(observation, (&reason, &rules), severity, baseline_version);
        let arguments = (observation.behaviour.action == Action::Exec).then_some(&process.image.argv);
        let act = Act { claims: &claims, names: &names, arguments, time: observation.time };
        let make = || {
            let nothing = Layers::default();
            let explanation = baseline.as_ref().unwrap_or(&nothing).explain(observation, verdict);
            let is_of_rules = reason == Reason::Sigma;
            let rules = &rules[..rules.len().min(RULES_MAX)];
            Finding {
                time: observation.time,
                severity,
                behaviour: observation.behaviour.clone(),
                process: process.facts(),
                ancestors: processes.ancestors(process).map(Process::facts).collect(),
                explanation: if is_of_rules { of_rules(rules, explanation) } else { explanation },
                tier: doer.tier.name(),
                object_from_caller: observation.traits.object_from_caller,
                baseline_version,
                incident: names.incident.clone(),
                name: names.finding.clone(),
                count: 1,
                is_repeat: false,
                reason: reason.clone(),
                rules: rules.to_vec(),
            }
        };
        if self.tellings.tell(&act, self.now, make, |finding| out.findings.push(finding)) {
            self.counters.findings += 1;
            self.counters.sigma_matches_unnamed += rules.len().saturating_sub(RULES_MAX) as u64;
        } else {
            self.counters.findings_repeated += 1;
        }
    }
}

/// What speaks against an observation: the verdict, and each rule.
fn claims<'a>(
    observation: &'a Observation,
    (reason, rules): (&'a Reason, &'a [Arc<Rule>]),
    severity: Severity,
    baseline_version: u64,
) -> Vec<Claim<'a>> {
    let behaviour = &observation.behaviour;
    let of_verdict = (*reason != Reason::Sigma).then(|| {
        let against = (reason.name(), reason.rule_id());
        Claim { behaviour, against, severity, baseline_version }
    });
    let of_rules = rules.iter().map(|rule| {
        let against = (Reason::Sigma.name(), &*rule.id);
        Claim { behaviour, against, severity: rule.level, baseline_version: 0 }
    });
    of_verdict.into_iter().chain(of_rules).collect()
}

fn path(text: &str, own: Identity) -> Object {
    Object::Path(literal(text, own))
}

/// A process's own entries in /proc carry its pid: their behaviour is that of `/proc/self`.
fn literal(text: &str, own: Identity) -> PathText {
    if let Some(rest) = text.strip_prefix("/proc/") {
        let (first, below) = rest.split_once('/').unwrap_or((rest, ""));
        if first.parse() == Ok(own.pid) {
            let below = below.strip_prefix(&format!("task/{}/", own.pid)).unwrap_or(below);
            return PathText::literal(&format!("/proc/self/{below}"));
        }
    }
    PathText::literal(text)
}

/// Whether a datagram goes from a server's port to a client's. A server answers whoever asks: its peers are no behaviour
/// of it, or its baseline would never settle. A port below 1024 is what only a privileged process binds.
fn is_answer(socket: &Socket) -> bool {
    (1..PORT_UNPRIVILEGED_MIN).contains(&socket.source_port)
        && socket.destination_port >= PORT_UNPRIVILEGED_MIN
}

/// `None` for what baselines have no words for: other protocols, unix sockets.
fn endpoint(socket: &Socket, address: IpAddr, port: u16) -> Option<Object> {
    let is_internet = matches!(socket.family, Family::INET | Family::INET6);
    let protocol = match socket.protocol {
        IPPROTO_TCP => Protocol::Tcp,
        IPPROTO_UDP => Protocol::Udp,
        _ => return None,
    };
    (is_internet && port != 0).then_some(Object::Endpoint(Endpoint { protocol, address, port }))
}

/// Whether an open says something about the program: not a pipe or a terminal, and not a device that swallows or
/// makes up data.
fn is_kept(file: &FileOpen) -> bool {
    let text = file.path.text.as_str();
    match file.mode & S_IFMT {
        S_IFIFO | S_IFSOCK => false,
        S_IFCHR => !PLAIN_DEVICES.contains(&text) && !text.starts_with("/dev/pts/"),
        _ => true,
    }
}

const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
/// `net.ipv4.ip_unprivileged_port_start`, by default.
const PORT_UNPRIVILEGED_MIN: u16 = 1024;
const S_IFMT: u32 = 0o170_000;
const S_IFIFO: u32 = 0o010_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFSOCK: u32 = 0o140_000;
/// Character devices that every program may write to without meaning anything by it.
const PLAIN_DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/console",
];
