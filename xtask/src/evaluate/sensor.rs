//! The built agent as the evaluation uses it: record, learn from recordings, judge recordings. Not the agent. It may run
//! `sensor-agent` and read what it prints.

use super::events::{Did, read_events};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

/// The agent's binary.
#[derive(Clone)]
pub(super) struct Sensor {
    binary: PathBuf,
    /// Sigma rules that run beside the baseline.
    sigma: Option<PathBuf>,
    /// Silences that were reviewed.
    silences: Option<PathBuf>,
}

/// What the agent proposes to silence.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    /// The file.
    pub(super) path: PathBuf,
    pub(super) silences: usize,
    /// What it does not propose to silence, one a line, with the reason.
    pub(super) left: Vec<String>,
}

/// What was recorded.
pub(super) struct Recorded {
    pub(super) path: PathBuf,
    /// Records that were lost on the way.
    pub(super) lost: u64,
}

/// What the agent is asked for besides findings.
pub(super) struct Judged {
    pub(super) findings: Vec<Finding>,
    /// What the rooms did, where it was asked for.
    pub(super) did: Vec<Did>,
    pub(super) observations: u64,
    pub(super) milliseconds: f64,
}

/// One behaviour that was found, as the agent prints it: evidence of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) time_ns: u64,
    /// `novel`, `floor`, `denied` or `sigma`.
    pub(super) reason: String,
    /// The id of the rule, or the reason.
    pub(super) rule: String,
    /// Whether Sigma rules speak against it, alone or beside the baseline.
    pub(super) meets_rules: bool,
    pub(super) severity: String,
    pub(super) workload: String,
    pub(super) subject: String,
    pub(super) action: String,
    pub(super) object: String,
    /// Of the acting process.
    pub(super) cgroup: String,
    pub(super) incident: String,
    /// What is the same here is one finding to an operator.
    pub(super) finding: String,
    /// The entry of the baseline that comes closest, empty when there is none.
    pub(super) nearest: String,
}

impl Finding {
    fn of(value: &Value) -> Result<Self> {
        let text = |value: &Value, name: &str| {
            let text = value[name].as_str().map(str::to_owned);
            text.with_context(|| format!("a finding without {name}: {value}"))
        };
        let reason = text(value, "reason")?;
        let sigma = value["rules"][0]["title"].as_str();
        let id = value["floor_rule"]["id"].as_str().or_else(|| sigma.filter(|_| reason == "sigma"));
        let rule = id.map_or_else(|| reason.clone(), str::to_owned);
        Ok(Self {
            time_ns: value["time_unix_ns"].as_u64().context("a finding without a time")?,
            reason,
            rule,
            meets_rules: sigma.is_some(),
            severity: text(value, "severity")?,
            workload: text(value, "workload")?,
            subject: text(value, "subject")?,
            action: text(value, "action")?,
            object: text(value, "object")?,
            cgroup: text(&value["process"], "cgroup")?,
            incident: text(value, "incident")?,
            finding: text(value, "finding")?,
            nearest: value["explanation"]["nearest"][0].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Whether it is there without any Sigma rule.
    pub(super) fn is_of_baseline(&self) -> bool {
        self.reason != "sigma"
    }

    /// What makes two findings the same for an operator.
    pub(super) fn key(&self) -> (String, String, String, String, String) {
        let parts = [&self.workload, &self.subject, &self.action, &self.object, &self.rule];
        let [workload, subject, action, object, rule] = parts.map(Clone::clone);
        (workload, subject, action, object, rule)
    }

    /// What was done and by whom, on one line.
    pub(super) fn line(&self) -> String {
        format!("{} {} {} {} ({})", self.workload, self.subject, self.action, self.object, self.rule)
    }
}

/// What was learned of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Learned {
    pub(super) workload: String,
    pub(super) behaviours: u64,
    pub(super) bytes: u64,
    /// Actions that were left to be learned.
    pub(super) left: Vec<String>,
}

impl Sensor {
    /// Builds the agent. `sigma` is a folder of rules.
    pub(super) fn build(sigma: Option<PathBuf>) -> Result<Self> {
        Ok(Self { binary: sensor_tests::binaries()?.join("sensor-agent"), sigma, silences: None })
    }

    /// Whether Sigma rules run beside the baseline.
    pub(super) fn has_rules(&self) -> bool {
        self.sigma.is_some()
    }

    /// The same without Sigma rules.
    pub(super) fn without_rules(&self) -> Self {
        Self { sigma: None, ..self.clone() }
    }

    /// The same with silences in force.
    pub(super) fn with_silences(&self, path: &Path) -> Self {
        Self { silences: Some(path.to_owned()), ..self.clone() }
    }

    /// Has silences proposed of what rules find in these recordings.
    pub(super) fn propose(
        &self,
        recordings: &[&Path],
        workloads: &[String],
        path: PathBuf,
    ) -> Result<Proposal> {
        let mut command = Command::new(&self.binary);
        command.args(["baseline", "silences", "--owner", "the evaluation"]);
        command
            .args(["--reason", "found on ordinary days", "--expires", "2100-01-01", "--output"])
            .arg(&path);
        for workload in workloads {
            command.args(["--workload", workload]);
        }
        if let Some(folder) = &self.sigma {
            command.arg("--sigma").arg(folder);
        }
        let output = command.arg("--").args(recordings).output().context("starting sensor-agent")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {}\n{told}", output.status);
        let silences = told.lines().find_map(|line| line.strip_suffix(" silences proposed")?.parse().ok());
        let silences = silences.context("the agent did not say how many silences it proposes")?;
        let left = told.lines().filter_map(|line| line.strip_prefix("not proposed: ")).map(str::to_owned);
        Ok(Proposal { path, silences, left: left.collect() })
    }

    /// Why it cannot record here, or `None`.
    pub(super) fn why_not() -> Result<Option<String>> {
        sensor_tests::why_not_live()
    }

    /// The tiers of its events and what the kernel is, from `check --json`.
    pub(super) fn check(&self) -> Result<Value> {
        let output =
            Command::new(&self.binary).args(["check", "--json"]).output().context("running the agent")?;
        serde_json::from_slice(&output.stdout).context("sensor-agent check --json: not JSON")
    }

    /// Records the host from now on; waits until everything is seen. `containerd` is the state folder of one to ask.
    pub(super) fn record(&self, path: &Path, containerd: Option<&Path>) -> Result<Recorder> {
        let mut command = Command::new(&self.binary);
        command.args(["record", "--output"]).arg(path).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(state) = containerd {
            command.arg("--containerd").arg(state);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().context("starting sensor-agent record")?;
        let mut lines = BufReader::new(child.stderr.take().expect("stderr was piped above")).lines();
        let mut told = Vec::new();
        for line in lines.by_ref() {
            let line = line.context("reading what the agent says")?;
            if line == "recording" {
                let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect());
                return Ok(Recorder { child: Some(child), rest: Some(rest), path: path.to_owned() });
            }
            told.push(line);
        }
        let _ = child.wait();
        bail!("the agent does not record: {}", told.join("; "))
    }

    /// Learns workloads from recordings into `output`.
    pub(super) fn learn(
        &self,
        recordings: &[&Path],
        workloads: &[String],
        new_max: Option<f64>,
        output: &Path,
    ) -> Result<Vec<Learned>> {
        let mut command = Command::new(&self.binary);
        command.args(["baseline", "learn", "--fleet", "evaluate", "--output"]).arg(output);
        for workload in workloads {
            command.args(["--workload", workload]);
        }
        if let Some(max) = new_max {
            command.args(["--new-max", &max.to_string()]);
        }
        let output = command.arg("--").args(recordings).output().context("starting sensor-agent")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {}\n{told}", output.status);
        let mut all: Vec<Learned> =
            told.lines().filter_map(|line| learned(line).transpose()).collect::<Result<_>>()?;
        for (workload, action) in told.lines().filter_map(left) {
            if let Some(one) = all.iter_mut().find(|one| one.workload == workload) {
                one.left.push(action.to_owned());
            }
        }
        Ok(all)
    }

    /// Judges a recording: each finding once.
    pub(super) fn judge(&self, recording: &Path, baseline: &Path) -> Result<Judged> {
        self.replay(recording, baseline, &[])
    }

    /// Judges a recording: each finding once in each incident. `events` is a file to write its events to, to be told
    /// what the rooms did.
    pub(super) fn judge_incidents(
        &self,
        recording: &Path,
        baseline: &Path,
        events: Option<&Path>,
    ) -> Result<Judged> {
        let per_incident = OsStr::new("--per-incident");
        let Some(path) = events else { return self.replay(recording, baseline, &[per_incident]) };
        let options = [per_incident, OsStr::new("--events"), path.as_os_str()];
        let mut judged = self.replay(recording, baseline, &options)?;
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        judged.did = read_events(BufReader::new(file))?;
        fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        Ok(judged)
    }

    fn replay(&self, recording: &Path, baseline: &Path, options: &[&OsStr]) -> Result<Judged> {
        let mut command = Command::new(&self.binary);
        command.arg("replay").arg(recording).arg("--baseline").arg(baseline).arg("--json").args(options);
        if let Some(folder) = &self.sigma {
            command.arg("--sigma").arg(folder);
        }
        if let Some(path) = &self.silences {
            command.arg("--floor").arg(path);
        }
        let output = command.output().context("starting sensor-agent")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(matches!(output.status.code(), Some(0 | 2)), "{command:?}: {}\n{told}", output.status);
        for line in told.lines().filter(|line| is_trouble(line)) {
            println!("evaluate: {}: {line}", recording.display());
        }
        let (observations, milliseconds) = told.lines().find_map(spent).context("the agent told no time")?;
        let text = String::from_utf8(output.stdout).context("findings that are no text")?;
        let findings = text.lines().map(|line| {
            let value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
            Finding::of(&value)
        });
        let findings = findings.collect::<Result<_>>()?;
        Ok(Judged { findings, did: Vec::new(), observations, milliseconds })
    }
}

/// An agent that records.
pub(super) struct Recorder {
    child: Option<Child>,
    rest: Option<JoinHandle<Vec<String>>>,
    path: PathBuf,
}

impl Recorder {
    /// Ends the recording.
    pub(super) fn stop(mut self) -> Result<Recorded> {
        let mut child = self.child.take().expect("it runs until it is stopped");
        interrupt(&child);
        let status = child.wait().context("waiting for the agent")?;
        let told = self.rest.take().and_then(|rest| rest.join().ok()).unwrap_or_default();
        ensure!(status.success(), "sensor-agent record: {status}: {}", told.join("; "));
        for line in told.iter().filter(|line| lost(line).is_some()) {
            println!("evaluate: {}: {line}", self.path.display());
        }
        // The agent tells totals, again when there are more.
        let lost: BTreeMap<&str, u64> = told.iter().filter_map(|line| lost(line)).collect();
        Ok(Recorded { path: std::mem::take(&mut self.path), lost: lost.values().sum() })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            interrupt(&child);
            let _ = child.wait();
        }
    }
}

fn interrupt(child: &Child) {
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    // One that has ended is waited for next, and says how.
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
}

/// Reads `learned WORKLOAD: N behaviours, M bytes of memory`.
fn learned(line: &str) -> Result<Option<Learned>> {
    let Some(rest) = line.strip_prefix("learned ").and_then(|rest| rest.strip_suffix(" bytes of memory"))
    else {
        return Ok(None);
    };
    let parts = rest.rsplit_once(": ").and_then(|(workload, numbers)| {
        let (behaviours, bytes) = numbers.split_once(" behaviours, ")?;
        let (behaviours, bytes) = (behaviours.parse().ok()?, bytes.parse().ok()?);
        Some(Learned { workload: workload.to_owned(), behaviours, bytes, left: Vec::new() })
    });
    parts.map(Some).with_context(|| format!("not what the agent says of a workload: {line}"))
}

/// Reads `left to be learned: WORKLOAD ACTION`.
fn left(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("left to be learned: ")?.rsplit_once(' ')
}

/// Reads `lost kind=KIND reason=REASON count=N`.
fn lost(line: &str) -> Option<(&str, u64)> {
    let (what, count) = line.strip_prefix("lost ")?.split_once(" count=")?;
    Some((what, count.parse().ok()?))
}

/// Reads `judged N observations in M ms`.
fn spent(line: &str) -> Option<(u64, f64)> {
    let rest = line.strip_prefix("judged ")?.strip_suffix(" ms")?;
    let (observations, milliseconds) = rest.split_once(" observations in ")?;
    Some((observations.parse().ok()?, milliseconds.parse().ok()?))
}

/// What would make a measurement untrue.
fn is_trouble(line: &str) -> bool {
    line.starts_with("lost when recorded") || line.starts_with("not shown:") || line.contains("evicted=")
}

#[cfg(test)]
mod tests {
    use super::{Learned, learned, left, lost, spent};

    #[test]
    fn what_the_agent_says_is_read() {
        let line = "learned unit:a.service: 3 behaviours, 420 bytes of memory";
        let expected =
            Learned { workload: "unit:a.service".to_owned(), behaviours: 3, bytes: 420, left: Vec::new() };
        assert_eq!(learned(line).unwrap(), Some(expected));
        assert_eq!(learned("learned 7 behaviours into x").unwrap(), None);
        assert!(learned("learned x: many behaviours, 1 bytes of memory").is_err());
        assert_eq!(spent("judged 12 observations in 3.500 ms"), Some((12, 3.5)));
        assert_eq!(spent("judging"), None);
        assert_eq!(lost("lost kind=exec reason=full count=3"), Some(("kind=exec reason=full", 3)));
        assert_eq!(lost("total kind=exec seen=3 delivered=3 cached=0 lost=0"), None);
        let unit = "left to be learned: unit:a b.service write";
        assert_eq!(left(unit), Some(("unit:a b.service", "write")));
    }
}
