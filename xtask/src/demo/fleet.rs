//! Collector, agent and the operator's commands of the demo. Not a client of its own: everything an operator does
//! here goes through `sensorctl`. It may start the built binaries.

use super::target::Target;
use crate::process::{self, Kept};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const FLEET: &str = "demo";
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a pushed baseline may take to reach the agent.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(5);

/// A collector with one agent.
pub(super) struct Fleet {
    binaries: PathBuf,
    state: PathBuf,
    collector: Kept,
    agent: Kept,
}

impl Fleet {
    /// Starts both and waits until the agent captures.
    pub(super) fn start(binaries: &Path, scratch: &Path) -> Result<Self> {
        let state = scratch.join("collector");
        let mut init = Command::new(binaries.join("sensor-collector"));
        init.args(["init", "--fleet", FLEET, "--listen-grpc", "127.0.0.1:0", "--listen-http", "127.0.0.1:0"]);
        let words = process::output(init.arg("--state-dir").arg(&state))?;
        let token = words.lines().find_map(|line| line.strip_prefix("enrollment token: "));
        let token = token.with_context(|| format!("no enrollment token in {words:?}"))?;

        let mut run = Command::new(binaries.join("sensor-collector"));
        run.arg("run").arg("--config").arg(state.join("collector.toml"));
        let mut collector = Kept::start("sensor-collector", &mut run, &scratch.join("collector.log"))?;
        let addresses = collector.line_after("listening ", START_LIMIT)?;
        let grpc = address(&addresses, "grpc")?;
        let http = address(&addresses, "http")?;

        let agent_state = scratch.join("agent");
        let mut enroll = Command::new(binaries.join("sensor-agent"));
        enroll.args(["enroll", "--collector", &grpc, "--token", token]).arg("--state-dir").arg(&agent_state);
        process::output(&mut enroll)?;
        let config = scratch.join("agent.toml");
        let text = format!(
            "state_dir = {:?}\n\n[collector]\naddress = {grpc:?}\n",
            agent_state.display().to_string()
        );
        fs::write(&config, text).context("writing the agent's configuration")?;
        let mut run = Command::new(binaries.join("sensor-agent"));
        let mut agent = Kept::start(
            "sensor-agent",
            run.arg("run").arg("--config").arg(&config),
            &scratch.join("agent.log"),
        )?;
        agent.line_after("sensor-agent running ", START_LIMIT)?;

        let fleet = Self { binaries: binaries.to_path_buf(), state, collector, agent };
        fleet.point_sensorctl_at(&http)?;
        Ok(fleet)
    }

    /// The collector chose its port at start: write it where sensorctl looks.
    fn point_sensorctl_at(&self, http: &str) -> Result<()> {
        let file = self.sensorctl_config();
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let lines = text.lines().map(|line| match line.split_once('=') {
            Some((key, _)) if key.trim() == "url" => format!("url = \"https://{http}\"\n"),
            _ => format!("{line}\n"),
        });
        fs::write(&file, lines.collect::<String>()).with_context(|| format!("writing {}", file.display()))
    }

    fn sensorctl_config(&self) -> PathBuf {
        self.state.join("sensorctl.toml")
    }

    fn sensorctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.binaries.join("sensorctl"));
        process::output(command.arg("--config").arg(self.sensorctl_config()).args(arguments))
    }

    /// Findings of one workload, oldest first.
    pub(super) fn findings_of(&self, workload: &str) -> Result<Vec<Finding>> {
        let text = self.sensorctl(&["findings", "list", "--json"])?;
        let list: Value =
            serde_json::from_str(&text).with_context(|| format!("parsing findings {text:?}"))?;
        let list =
            list.as_array().or_else(|| list["findings"].as_array()).context("findings are not a list")?;
        let of_workload = list.iter().filter(|finding| finding["workload"] == workload);
        let mut findings: Vec<_> = of_workload.cloned().map(Finding).collect();
        findings.sort_by(|a, b| a.text("time").cmp(b.text("time")));
        Ok(findings)
    }

    /// What the fleet has learned, as YAML.
    pub(super) fn candidate(&self) -> Result<String> {
        self.sensorctl(&["baseline", "pull", "--fleet", FLEET])
    }

    /// Pushes a baseline and waits until the agent has applied it. Returns its version.
    pub(super) fn push(&self, yaml: &str) -> Result<u64> {
        let file = self.state.join("pushed.yaml");
        fs::write(&file, yaml).context("writing the baseline to push")?;
        self.sensorctl(&["baseline", "push", "--fleet", FLEET, &file.to_string_lossy()])?;
        self.await_rollout()
    }

    /// Approves a finding and waits until the agent has applied the new version.
    pub(super) fn approve(&self, finding: &str) -> Result<u64> {
        self.sensorctl(&["baseline", "approve", finding])?;
        self.await_rollout()
    }

    fn await_rollout(&self) -> Result<u64> {
        process::wait_for("the agent to apply the baseline", ROLLOUT_LIMIT, || {
            let text = self.sensorctl(&["baseline", "status", "--fleet", FLEET, "--json"])?;
            let rollout: Value =
                serde_json::from_str(&text).with_context(|| format!("parsing rollout {text:?}"))?;
            let agents = rollout["agents"].as_array().context("rollout without agents")?;
            let applied = !agents.is_empty() && agents.iter().all(|agent| agent["state"] == "APPLIED");
            Ok(applied.then(|| rollout["version"].as_u64()).flatten())
        })
    }

    /// Leaves everything running and says how to look and how to end it.
    pub(super) fn keep(self, target: Target, scratch: tempfile::TempDir) {
        let sensorctl = format!(
            "{} --config {}",
            self.binaries.join("sensorctl").display(),
            self.sensorctl_config().display()
        );
        println!("left running:");
        println!("  collector: pid {}, agent: pid {}", self.collector.id(), self.agent.id());
        println!("  look: {sensorctl} findings list\n        {sensorctl} agents list");
        println!("  logs and state: {}", scratch.path().display());
        println!("  end: kill {} {} {}", self.agent.id(), self.collector.id(), target.id());
        target.detach();
        self.agent.detach();
        self.collector.detach();
        let _ = scratch.keep();
    }
}

fn address(addresses: &str, name: &str) -> Result<String> {
    let found = addresses.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned).with_context(|| format!("no {name} address in {addresses:?}"))
}

/// A stored finding as the collector's API shows it.
pub(super) struct Finding(Value);

impl Finding {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// The collector's id of the finding.
    pub(super) fn id(&self) -> &str {
        self.text("id")
    }

    /// What was done: exec, connect, write, ...
    pub(super) fn action(&self) -> &str {
        self.text("action")
    }

    /// To what it was done.
    pub(super) fn object(&self) -> &str {
        self.text("object")
    }

    /// Whether both findings are of one line of a baseline.
    pub(super) fn same_behaviour(&self, other: &Self) -> bool {
        ["workload", "subject", "action", "object"].iter().all(|key| self.text(key) == other.text(key))
    }

    /// Milliseconds from the system call to the collector's commit.
    pub(super) fn latency_ms(&self) -> Result<f64> {
        self.0["latency_ms"].as_f64().with_context(|| format!("finding {} without latency_ms", self.id()))
    }

    /// A block for a person. Fails when something is missing that every finding must have.
    pub(super) fn describe(&self) -> Result<String> {
        for key in ["id", "workload", "subject", "action", "object", "reason", "severity"] {
            ensure!(!self.text(key).is_empty(), "finding {} has no {key}", self.id());
        }
        let (process, parent) = (&self.0["process"], &self.0["ancestors"][0]);
        let exe = |process: &Value| process["exe"].as_str().filter(|exe| !exe.is_empty()).map(str::to_owned);
        let mut text = format!("{} [{}]\n", self.id(), self.text("severity"));
        let exe_of = exe(process).with_context(|| format!("finding {} has no process", self.id()))?;
        let parent_exe =
            exe(parent).with_context(|| format!("finding {} has no parent process", self.id()))?;
        writeln!(text, "process   {exe_of} ({}), parent {parent_exe} ({})", process["pid"], parent["pid"])?;
        writeln!(text, "workload  {}, subject {}", self.text("workload"), self.text("subject"))?;
        writeln!(text, "object    {} {}", self.action(), self.object())?;
        write!(text, "reason    {}", self.text("reason"))?;
        if self.text("reason") == "floor" {
            let rule = &self.0["floor_rule"];
            let techniques = rule["techniques"].as_array().filter(|techniques| !techniques.is_empty());
            let techniques = techniques.with_context(|| format!("finding {} has no technique", self.id()))?;
            let names: Vec<_> = techniques.iter().filter_map(Value::as_str).collect();
            write!(text, ": {} (ATT&CK {})", rule["title"].as_str().unwrap_or_default(), names.join(", "))?;
        }
        let summary = self.0["explanation"]["summary"].as_str().filter(|summary| !summary.is_empty());
        let summary = summary.with_context(|| format!("finding {} has no explanation", self.id()))?;
        writeln!(text, "\nwhy       {summary}")?;
        writeln!(text, "stored    {:.0} ms after the system call", self.latency_ms()?)?;
        Ok(text)
    }
}
