//! Which findings and events are an attack's own: those of its room, of the workload it is a child of, since it began, and
//! beyond what a control does that runs nothing. Not how they were made. It calls nothing.

use super::attack::{Ending, Run, Setting};
use super::corpus::{Attack, Shell};
use super::events::{Did, Kind};
use super::room::room_of;
use super::sensor::Finding;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What became of one run.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) run: &'a Run,
    pub(super) attack: &'a Attack,
    /// What was found of that very run, each behaviour by itself.
    pub(super) findings: Vec<&'a Finding>,
    /// What it did that the kernel can show, beyond the launcher.
    pub(super) did: BTreeMap<Kind, BTreeSet<String>>,
}

impl Outcome<'_> {
    pub(super) fn is_detected(&self) -> bool {
        !self.findings.is_empty()
    }

    pub(super) fn is_found_so(&self, is_so: impl Fn(&Finding) -> bool) -> bool {
        self.findings.iter().any(|finding| is_so(finding))
    }

    pub(super) fn is_observable(&self) -> bool {
        !self.did.is_empty()
    }

    /// Whether it did something that a baseline has a dimension for.
    #[cfg(test)]
    pub(super) fn is_judgeable(&self) -> bool {
        Kind::JUDGED.iter().any(|kind| self.did.contains_key(kind))
    }

    pub(super) fn is_found_by(&self, kind: Kind) -> bool {
        self.findings.iter().any(|finding| Kind::of_action(&finding.action) == kind)
    }

    /// Whether its shell found no program of the last command's name, or could not run it.
    pub(super) fn lacks_program(&self) -> bool {
        matches!(self.run.ending, Ending::Done(Some(126 | 127)))
    }

    /// Whether a finding has one of these severities.
    pub(super) fn is_found_at(&self, severities: &[&str]) -> bool {
        self.findings.iter().any(|finding| severities.contains(&finding.severity.as_str()))
    }

    /// Findings as an operator sees them.
    pub(super) fn findings_told(&self) -> usize {
        self.findings.iter().map(|finding| &finding.finding).collect::<BTreeSet<_>>().len()
    }

    pub(super) fn incidents(&self) -> usize {
        self.findings.iter().map(|finding| &finding.incident).collect::<BTreeSet<_>>().len()
    }
}

/// What a context does by itself.
#[derive(Debug, Default)]
struct Control {
    findings: BTreeSet<(String, String, String, String, String)>,
    did: BTreeSet<(Kind, String)>,
}

/// The outcome of each run that is no control, and the findings that controls raised.
pub(super) fn outcomes<'a>(
    runs: &'a [Run],
    attacks: &'a [Attack],
    findings: &'a [Finding],
    did: &[Did],
) -> (Vec<Outcome<'a>>, Vec<&'a Finding>) {
    let mut findings_of: HashMap<u32, Vec<&Finding>> = HashMap::new();
    for finding in findings {
        if let Some(room) = room_of(&finding.cgroup) {
            findings_of.entry(room).or_default().push(finding);
        }
    }
    let mut did_of: HashMap<u32, Vec<&Did>> = HashMap::new();
    for did in did {
        did_of.entry(did.room).or_default().push(did);
    }
    let own_findings = |run: &Run| -> Vec<&'a Finding> {
        let all = findings_of.get(&run.room).into_iter().flatten().copied();
        all.filter(|finding| finding.time_ns >= run.begun_ns && finding.workload == run.setting.workload())
            .collect()
    };
    let own_did = |run: &Run| -> Vec<(Kind, String)> {
        let all = did_of.get(&run.room).into_iter().flatten();
        let own = all
            .filter(|did| did.time_ms >= run.begun_ns / NS_PER_MS && did.workload == run.setting.workload());
        own.map(|did| (did.kind, without_numbers(&did.what))).collect()
    };
    let mut controls: BTreeMap<(Setting, Shell), Control> = BTreeMap::new();
    let mut noise = Vec::new();
    for run in runs.iter().filter(|run| attacks[run.attack].is_control()) {
        let control = controls.entry((run.setting, attacks[run.attack].shell)).or_default();
        let found = own_findings(run);
        control.findings.extend(found.iter().map(|finding| finding.key()));
        control.did.extend(own_did(run));
        noise.extend(found);
    }
    let nothing = Control::default();
    let attacked = runs.iter().filter(|run| !attacks[run.attack].is_control());
    let outcomes = attacked.map(|run| {
        let attack = &attacks[run.attack];
        let control = controls.get(&(run.setting, attack.shell)).unwrap_or(&nothing);
        let found = own_findings(run).into_iter();
        let mut did: BTreeMap<Kind, BTreeSet<String>> = BTreeMap::new();
        for (kind, what) in own_did(run).into_iter().filter(|did| !control.did.contains(did)) {
            did.entry(kind).or_default().insert(what);
        }
        let findings = found.filter(|finding| !control.findings.contains(&finding.key())).collect();
        Outcome { run, attack, findings, did }
    });
    (outcomes.collect(), noise)
}

/// Why a run shows nothing, or nothing is found of it.
pub(super) fn cause_of_silence(outcome: &Outcome<'_>) -> String {
    match &outcome.run.ending {
        Ending::NotRun(reason) => {
            return format!("not run: {}", reason.lines().next().unwrap_or("no reason"));
        }
        Ending::TimedOut if !outcome.is_observable() => {
            return "took too long, and did nothing to be seen".to_owned();
        }
        Ending::Done(_) | Ending::TimedOut => {}
    }
    if !outcome.is_observable() {
        return "nothing beyond the shell: only builtins, or its program is missing".to_owned();
    }
    let parts = outcome.did.iter().map(|(kind, what)| {
        let shown: Vec<&str> = what.iter().take(SHOWN_MAX).map(String::as_str).collect();
        let more =
            if what.len() > SHOWN_MAX { format!(", {} more", what.len() - SHOWN_MAX) } else { String::new() };
        format!("{}: {}{more}", kind.name(), shown.join(", "))
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// A text in which each number is the same: process ids differ from run to run.
fn without_numbers(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for character in text.chars() {
        let is_digit = character.is_ascii_digit();
        if !is_digit {
            kept.push(character);
        } else if !kept.ends_with('#') {
            kept.push('#');
        }
    }
    kept
}

/// Objects named of a kind at most.
const SHOWN_MAX: usize = 5;
const NS_PER_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = NS_PER_MS;

    fn run(attack: usize, room: u32) -> Run {
        Run { attack, setting: Setting::Service, room, begun_ns: 10 * MS, ending: Ending::Done(Some(0)) }
    }

    fn finding(room: u32, time_ms: u64, object: &str) -> Finding {
        Finding {
            time_ns: time_ms * MS,
            workload: Setting::Service.workload().to_owned(),
            action: "exec".to_owned(),
            object: object.to_owned(),
            cgroup: format!("/system.slice/sensor-evaluate.slice/room-{room}.slice/evaluate-web.service"),
            ..Finding::default()
        }
    }

    fn attacks() -> Vec<Attack> {
        let attack = Attack { technique: "T1".to_owned(), ..Attack::control(Shell::Sh) };
        vec![Attack::control(Shell::Sh), attack]
    }

    #[test]
    fn a_finding_is_a_runs_own_by_room_time_and_control() {
        let (attacks, runs) = (attacks(), [run(0, 1), run(1, 2), run(1, 3)]);
        let mut elsewhere = finding(3, 20, "/bin/elsewhere");
        elsewhere.workload = "unit:evaluate-setup.service".to_owned();
        let findings = [
            finding(1, 20, "/bin/noise"),
            finding(2, 20, "/bin/noise"),
            finding(2, 20, "/bin/own"),
            finding(2, 5, "/bin/early"),
            finding(9, 20, "/bin/foreign"),
            elsewhere,
        ];
        let (outcomes, noise) = outcomes(&runs, &attacks, &findings, &[]);
        let own: Vec<Vec<&str>> = outcomes
            .iter()
            .map(|outcome| outcome.findings.iter().map(|finding| finding.object.as_str()).collect())
            .collect();
        assert_eq!(own, [vec!["/bin/own"], vec![]]);
        assert_eq!(noise.len(), 1);
    }

    #[test]
    fn a_run_is_observable_by_what_a_control_does_not_do() {
        let (attacks, runs) = (attacks(), [run(0, 1), run(1, 2), run(1, 3)]);
        let did = |room, time_ms, kind, what: &str| {
            let workload = Setting::Service.workload().to_owned();
            Did { room, workload, time_ms, kind, what: what.to_owned() }
        };
        let did = [
            did(1, 20, Kind::File, "Update /proc/11/x"),
            did(2, 20, Kind::File, "Update /proc/12/x"),
            did(2, 20, Kind::Other, "Set Security /tmp/x"),
            did(3, 20, Kind::File, "Update /proc/13/x"),
            did(3, 5, Kind::Exec, "/bin/early"),
        ];
        let (outcomes, _) = outcomes(&runs, &attacks, &[], &did);
        let seen: Vec<_> =
            outcomes.iter().map(|outcome| (outcome.is_observable(), outcome.is_judgeable())).collect();
        assert_eq!(seen, [(true, false), (false, false)]);
        assert_eq!(cause_of_silence(&outcomes[0]), "other: Set Security /tmp/x");
        assert!(cause_of_silence(&outcomes[1]).starts_with("nothing beyond the shell"));
    }
}
