//! `incidents list`, `incidents show`: findings that belong together, and all of their evidence as a process tree. Groups what
//! the collector lists; which findings belong together the agent has said. May call: `client`, `table`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::findings::{counted, in_one_line, process, whole};
use crate::cli::IncidentsList;
use crate::client::{Client, Path};
use crate::table::{cell, items, json as as_json, safe, table, time};

pub(super) fn list(client: &Client, list: &IncidentsList, json: bool) -> Result<String> {
    let path = Path::new(&["v1", "findings"]).with("fleet", list.fleet.as_deref());
    let path = path.with("agent", list.agent.as_deref()).with("order", Some("newest"));
    let answer = client.get(&path.with("limit", Some(&list.findings.to_string())))?;
    let incidents = group(items(&answer, "findings"));
    if json {
        let all: Vec<Value> = incidents.iter().map(Incident::as_json).collect();
        return Ok(as_json(&json!({ "incidents": all })));
    }
    let rows: Vec<_> = incidents.iter().map(Incident::row).collect();
    let heading =
        ["FIRST", "LAST", "SEVERITY", "FINDINGS", "BEHAVIOURS", "HOST", "WORKLOAD", "PROGRAMS", "INCIDENT"];
    let mut text = table(&heading, &rows);
    if !answer["next"].is_null() {
        writeln!(text, "made of the newest {} findings; more with --findings N", list.findings)?;
    }
    Ok(text)
}

pub(super) fn show(client: &Client, id: &str, json: bool) -> Result<String> {
    let Some((agent, incident)) = id.split_once(':') else {
        bail!("incident {id:?}: expected AGENT:INCIDENT, as `incidents list` prints it");
    };
    // A finding without an incident is listed as one by itself.
    let (findings, is_cut) = if incident.contains(':') {
        (vec![whole(client, id)?], false)
    } else {
        of_incident(client, agent, incident)?
    };
    if findings.is_empty() {
        bail!("incident {id:?}: its agent has no finding of it");
    }
    if json {
        return Ok(as_json(&json!({ "incident": id, "findings": findings, "is_cut": is_cut })));
    }
    let heading = group(&findings).first().map(Incident::heading).unwrap_or_default();
    let evidence: Vec<Value> = findings.iter().flat_map(|one| items(one, "evidence")).cloned().collect();
    let mut text = heading + &Tree::of(&evidence).text();
    let left_off: u64 = findings.iter().filter_map(|one| one["evidence_left_off"].as_u64()).sum();
    if left_off > 0 {
        writeln!(text, "and {left_off} pieces of evidence more")?;
    }
    if is_cut {
        writeln!(text, "of the first {FINDINGS_MAX} findings")?;
    }
    Ok(text)
}

/// The first findings of an incident, each with its evidence, and whether there are more.
fn of_incident(client: &Client, agent: &str, incident: &str) -> Result<(Vec<Value>, bool)> {
    let path = Path::new(&["v1", "findings"]).with("agent", Some(agent)).with("incident", Some(incident));
    let answer = client.get(&path.with("limit", Some(&FINDINGS_MAX.to_string())))?;
    let with_evidence = |finding: &Value| match (finding["count"].as_u64(), finding["id"].as_str()) {
        // Done once: what it tells is its only evidence.
        (Some(1), _) | (_, None) => {
            let mut whole = finding.clone();
            whole["evidence"] = json!([finding]);
            Ok(whole)
        }
        (_, Some(id)) => whole(client, id),
    };
    let findings = items(&answer, "findings").iter().map(with_evidence).collect::<Result<_>>()?;
    Ok((findings, !answer["next"].is_null()))
}

/// Findings of one incident, in the order given.
struct Incident<'a> {
    id: String,
    findings: Vec<&'a Value>,
}

/// Findings by incident, in the order of their first. One without an incident is one by itself.
fn group(findings: &[Value]) -> Vec<Incident<'_>> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut incidents: Vec<Incident<'_>> = Vec::new();
    for finding in findings {
        let name = finding["incident"].as_str().filter(|name| !name.is_empty());
        let id = match name {
            Some(name) => format!("{}:{name}", finding["agent"].as_str().unwrap_or_default()),
            None => finding["id"].as_str().unwrap_or_default().to_owned(),
        };
        let place = *places.entry(id.clone()).or_insert(incidents.len());
        if place == incidents.len() {
            incidents.push(Incident { id, findings: Vec::new() });
        }
        incidents[place].findings.push(finding);
    }
    incidents
}

impl Incident<'_> {
    fn words(&self, name: &str) -> Vec<String> {
        let words: BTreeSet<String> = self.findings.iter().map(|finding| cell(&finding[name])).collect();
        words.into_iter().collect()
    }

    /// Base names of the programs, each once.
    fn programs(&self) -> Vec<String> {
        let name = |finding: &&Value| {
            let exe = cell(&finding["process"]["exe"]);
            exe.rsplit('/').next().unwrap_or_default().to_owned()
        };
        let names: BTreeSet<String> = self.findings.iter().map(name).collect();
        names.into_iter().collect()
    }

    fn severity(&self) -> String {
        let of = |finding: &Value| SEVERITIES.iter().position(|name| finding["severity"] == *name);
        let worst = self.findings.iter().filter_map(|finding| of(finding)).max();
        worst.map_or_else(|| "-".to_owned(), |at| SEVERITIES[at].to_owned())
    }

    /// Its earliest and its latest time; RFC 3339 in UTC sorts by time.
    fn times(&self) -> (String, String) {
        let first = self.findings.iter().map(|finding| time(&finding["first_time"])).min();
        let last = self.findings.iter().map(|finding| time(&finding["last_time"])).max();
        (first.unwrap_or_default(), last.unwrap_or_default())
    }

    fn behaviours(&self) -> u64 {
        self.findings.iter().map(|finding| finding["behaviours"].as_u64().unwrap_or(1)).sum()
    }

    fn row(&self) -> Vec<String> {
        let (first, last) = self.times();
        let few = |words: Vec<String>| match words.len() {
            0..=3 => words.join(","),
            count => format!("{},... ({count})", words[..3].join(",")),
        };
        let (count, behaviours) = (self.findings.len().to_string(), self.behaviours().to_string());
        let (host, workload) = (few(self.words("hostname")), few(self.words("workload")));
        let programs = few(self.programs());
        vec![first, last, self.severity(), count, behaviours, host, workload, programs, safe(&self.id)]
    }

    fn heading(&self) -> String {
        let (first, last) = self.times();
        let (host, workload) = (self.words("hostname").join(", "), self.words("workload").join(", "));
        format!(
            "incident {}\n{}, {}, {}, {first} to {last}\nhost {host}, workload {workload}\n\n",
            safe(&self.id),
            counted(self.findings.len() as u64, "finding"),
            counted(self.behaviours(), "behaviour"),
            self.severity()
        )
    }

    fn as_json(&self) -> Value {
        let (first, last) = self.times();
        json!({
            "incident": self.id,
            "first": first,
            "last": last,
            "severity": self.severity(),
            "hosts": self.words("hostname"),
            "workloads": self.words("workload"),
            "programs": self.programs(),
            "findings": self.words("id"),
            "behaviours": self.behaviours(),
        })
    }
}

/// Pid and start time.
type Identity = (u64, u64);

/// The processes that evidence names, and what each did.
#[derive(Default)]
struct Tree<'a> {
    processes: BTreeMap<Identity, &'a Value>,
    children: BTreeMap<Option<Identity>, BTreeSet<Identity>>,
    /// Each act of a process in one line, in the order told, and how often it was done.
    acts: BTreeMap<Identity, Vec<(String, u64)>>,
}

impl<'a> Tree<'a> {
    fn of(evidence: &'a [Value]) -> Self {
        let mut tree = Self::default();
        let mut parents: BTreeMap<Identity, Option<Identity>> = BTreeMap::new();
        for piece in evidence {
            let chain: Vec<&Value> =
                std::iter::once(&piece["process"]).chain(items(piece, "ancestors")).collect();
            tree.add(identity(chain[0]), piece);
            for (at, process) in chain.iter().enumerate() {
                // What it runs now is said where it acts itself.
                if at == 0 {
                    tree.processes.insert(identity(process), process);
                } else {
                    tree.processes.entry(identity(process)).or_insert(process);
                }
                let parent = chain.get(at + 1).map(|parent| identity(parent));
                let known = parents.entry(identity(process)).or_default();
                *known = known.or(parent);
            }
        }
        for (process, parent) in parents {
            tree.children.entry(parent).or_default().insert(process);
        }
        tree
    }

    /// What is told again is not shown again.
    fn add(&mut self, process: Identity, piece: &Value) {
        let (act, count) = (in_one_line(piece), piece["count"].as_u64().unwrap_or(1));
        let acts = self.acts.entry(process).or_default();
        match acts.iter_mut().find(|(known, _)| *known == act) {
            Some((_, known)) => *known = known.saturating_add(count),
            None => acts.push((act, count)),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut waiting: Vec<(Identity, usize)> = self.below(None).map(|root| (root, 0)).collect();
        while let Some((process, depth)) = waiting.pop() {
            self.push(&mut text, process, depth);
            waiting.extend(self.below(Some(process)).map(|child| (child, depth + 1)));
        }
        text
    }

    /// Those a process has made, the last first.
    fn below(&self, parent: Option<Identity>) -> impl Iterator<Item = Identity> {
        self.children.get(&parent).into_iter().flatten().rev().copied()
    }

    fn push(&self, text: &mut String, identity: Identity, depth: usize) {
        let indent = "  ".repeat(depth);
        let shown = self.processes.get(&identity).map(|shown| process(shown)).unwrap_or_default();
        writeln!(text, "{indent}{shown}").expect("writing to a string cannot fail");
        for (act, count) in self.acts.get(&identity).into_iter().flatten() {
            let times = if *count == 1 { String::new() } else { format!(", {count} times") };
            writeln!(text, "{indent}  ! {act}{times}").expect("writing to a string cannot fail");
        }
    }
}

fn identity(process: &Value) -> Identity {
    (process["pid"].as_u64().unwrap_or_default(), process["start_time_ns"].as_u64().unwrap_or_default())
}

/// From the least.
const SEVERITIES: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
/// Findings of an incident that are shown.
const FINDINGS_MAX: u32 = 200;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Tree, group};

    fn finding(id: &str, incident: &str, severity: &str, pids: &[u64], object: &str) -> Value {
        let process = |pid: &u64| json!({"pid": pid, "start_time_ns": pid * 10, "exe": format!("/bin/p{pid}"), "argv": ["p", pid.to_string()], "uid": 0, "euid": 0});
        let all: Vec<Value> = pids.iter().map(process).collect();
        json!({
            "id": id, "agent": "a", "incident": incident, "severity": severity, "hostname": "web1",
            "first_time": format!("2026-11-23T05:00:0{id}.5Z"), "last_time": format!("2026-11-23T05:00:0{id}.9Z"),
            "behaviours": 2, "workload": "unit:a.service", "action": "exec", "object": object, "reason": "novel",
            "process": all[0], "ancestors": &all[1..],
        })
    }

    #[test]
    fn what_an_agent_calls_an_incident_harms_no_terminal() {
        let findings = [finding("1", "x\u{1b}[2J\nfake", "low", &[7], "/a")];
        let incident = &group(&findings)[0];
        let shown = incident.row().concat() + incident.heading().trim_end();
        assert!(!shown.contains('\u{1b}') && shown.lines().count() == 3, "{shown:?}");
    }

    #[test]
    fn findings_of_one_incident_are_one_line_with_the_worst_severity() {
        let findings = [
            finding("1", "x", "low", &[3, 2, 1], "/a"),
            finding("2", "", "low", &[9], "/b"),
            finding("3", "x", "high", &[4, 3, 2, 1], "/c"),
        ];
        let incidents = group(&findings);
        assert_eq!(incidents.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["a:x", "2"]);
        let row = incidents[0].row();
        assert_eq!(row[..5], ["2026-11-23T05:00:01Z", "2026-11-23T05:00:03Z", "high", "2", "4"]);
        assert_eq!(row[7], "p3,p4");
        let heading = incidents[0].heading();
        assert!(heading.starts_with("incident a:x\n2 findings, 4 behaviours, high, "), "{heading}");
    }

    #[test]
    fn the_tree_shows_each_process_once_with_what_it_did_and_how_often() {
        let mut repeat = finding("4", "x", "low", &[5, 2, 1], "/b");
        (repeat["count"], repeat["is_repeat"]) = (6.into(), true.into());
        let findings = [
            finding("1", "x", "low", &[3, 2, 1], "/a"),
            finding("2", "x", "low", &[5, 2, 1], "/b"),
            finding("3", "x", "high", &[4, 3, 2, 1], "/c"),
            repeat,
        ];
        let expected = "\
1 /bin/p1 (uid 0 euid 0): p 1
  2 /bin/p2 (uid 0 euid 0): p 2
    3 /bin/p3 (uid 0 euid 0): p 3
      ! low novel: exec /a
      4 /bin/p4 (uid 0 euid 0): p 4
        ! high novel: exec /c
    5 /bin/p5 (uid 0 euid 0): p 5
      ! low novel: exec /b, 7 times
";
        assert_eq!(Tree::of(&findings).text(), expected);
    }
}
