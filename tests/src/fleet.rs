//! A collector and its agents, driven as an operator drives them. Not a client of its own: everything an operator
//! does here goes through `sensorctl`. It may start the built binaries.

use crate::finding::Finding;
use crate::host::NetworkNamespace;
use crate::process::{self, Kept};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a pushed baseline may take to reach every agent of its fleet.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(5);

/// A collector in a folder of its own, and what an operator does with it.
#[derive(Debug)]
pub struct Fleet {
    name: String,
    binaries: PathBuf,
    scratch: PathBuf,
    /// The token that `init` printed; one agent can use it.
    first_token: String,
    /// The gRPC address agents use: fixed at the first start, so that a restart is at the same place.
    grpc: String,
    http: String,
    collector: Option<Kept>,
}

/// An enrolled agent.
#[derive(Debug)]
pub struct Agent {
    binaries: PathBuf,
    config: PathBuf,
    log: PathBuf,
    state: PathBuf,
    namespace: Option<String>,
    running: Option<Kept>,
}

impl Fleet {
    /// Makes and starts a collector for the fleet `name`; its state lies in `scratch`. `host` is the address it
    /// listens on, for example `127.0.0.1`.
    ///
    /// # Errors
    /// When a binary fails or does not say where it listens.
    pub fn start(name: &str, host: &str, scratch: &Path) -> Result<Self> {
        let binaries = crate::binaries()?;
        let state = scratch.join("collector");
        let any_port = format!("{host}:0");
        let mut init = Command::new(binaries.join("sensor-collector"));
        init.args(["init", "--fleet", name, "--listen-grpc", &any_port, "--listen-http", &any_port]);
        let words = process::output(init.arg("--state-dir").arg(&state))?;
        let token = words.lines().find_map(|line| line.strip_prefix("enrollment token: "));
        let first_token = token.with_context(|| format!("no enrollment token in {words:?}"))?.to_owned();
        let mut fleet = Self {
            name: name.to_owned(),
            binaries,
            scratch: scratch.to_path_buf(),
            first_token,
            grpc: String::new(),
            http: String::new(),
            collector: None,
        };
        fleet.start_collector()?;
        fleet.pin_addresses()?;
        Ok(fleet)
    }

    /// Starts the collector again after [`Self::stop_collector`] or [`Self::kill_collector`].
    ///
    /// # Errors
    /// When it does not say where it listens.
    pub fn start_collector(&mut self) -> Result<()> {
        let mut run = Command::new(self.binaries.join("sensor-collector"));
        run.arg("run").arg("--config").arg(self.state().join("collector.toml"));
        let mut collector = Kept::start("sensor-collector", &mut run, &self.scratch.join("collector.log"))?;
        let addresses = collector.line_after("listening ", START_LIMIT)?;
        self.grpc = address(&addresses, "grpc")?;
        self.http = address(&addresses, "http")?;
        self.collector = Some(collector);
        Ok(())
    }

    /// Ends the collector as a service manager does.
    pub fn stop_collector(&mut self) {
        self.collector = None;
    }

    /// Ends the collector as a crash does.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill_collector(&mut self) -> Result<()> {
        self.collector.take().map_or(Ok(()), Kept::kill)
    }

    /// The kernel chose the ports at the first start: write them where collector and sensorctl look.
    fn pin_addresses(&self) -> Result<()> {
        let http_url = format!("https://{}", self.http);
        set_keys(&self.sensorctl_config(), &[("url", &http_url)])?;
        let config = self.state().join("collector.toml");
        set_keys(&config, &[("listen_grpc", &self.grpc), ("listen_http", &self.http)])
    }

    /// Folder of the collector's state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.scratch.join("collector")
    }

    /// The gRPC address.
    #[must_use]
    pub fn grpc(&self) -> &str {
        &self.grpc
    }

    /// The token that `init` printed.
    #[must_use]
    pub fn first_token(&self) -> &str {
        &self.first_token
    }

    /// Process id of the running collector.
    #[must_use]
    pub fn collector_id(&self) -> Option<u32> {
        self.collector.as_ref().map(Kept::id)
    }

    /// Enrolls and starts an agent named `name`, in `namespace` if given.
    ///
    /// # Errors
    /// When enrolment fails or the agent does not capture in time.
    pub fn agent(&self, name: &str, token: &str, namespace: Option<&NetworkNamespace>) -> Result<Agent> {
        let mut agent = self.enroll(name, token, namespace, "")?;
        agent.start()?;
        Ok(agent)
    }

    /// Enrolls an agent, which does not run yet. `settings` are tables of its configuration, as TOML.
    ///
    /// # Errors
    /// When enrolment fails.
    pub fn enroll(
        &self,
        name: &str,
        token: &str,
        namespace: Option<&NetworkNamespace>,
        settings: &str,
    ) -> Result<Agent> {
        let state = self.scratch.join(name);
        let config = self.scratch.join(format!("{name}.toml"));
        let text = format!(
            "state_dir = {:?}\nhostname = {name:?}\n\n[collector]\naddress = {:?}\n\n{settings}",
            state.display().to_string(),
            self.grpc
        );
        fs::write(&config, text).context("writing the agent's configuration")?;
        let agent = Agent {
            binaries: self.binaries.clone(),
            config,
            log: self.scratch.join(format!("{name}.log")),
            state,
            namespace: namespace.map(|namespace| namespace.name().to_owned()),
            running: None,
        };
        let mut enroll = agent.command();
        enroll.args(["enroll", "--collector", &self.grpc, "--token", token]);
        process::output(enroll.arg("--state-dir").arg(&agent.state))?;
        Ok(agent)
    }

    /// A new enrollment token of the fleet.
    ///
    /// # Errors
    /// When `sensorctl` fails.
    pub fn new_token(&self) -> Result<String> {
        let text = self.sensorctl(&["tokens", "create", "--fleet", &self.name])?;
        let token = text.split_whitespace().find(|word| word.starts_with("sensor1."));
        Ok(token.with_context(|| format!("no token in {text:?}"))?.to_owned())
    }

    /// Where `sensorctl` finds this collector.
    #[must_use]
    pub fn sensorctl_config(&self) -> PathBuf {
        self.state().join("sensorctl.toml")
    }

    /// Path of the `sensorctl` binary.
    #[must_use]
    pub fn sensorctl_binary(&self) -> PathBuf {
        self.binaries.join("sensorctl")
    }

    /// Runs `sensorctl` and returns what it printed.
    ///
    /// # Errors
    /// When it exits other than 0; the message holds what it printed.
    pub fn sensorctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.sensorctl_binary());
        process::output(command.arg("--config").arg(self.sensorctl_config()).args(arguments))
    }

    /// Runs `sensorctl ... --json`.
    ///
    /// # Errors
    /// When it fails or its output is not JSON.
    pub fn sensorctl_json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.sensorctl(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("parsing {text:?} of sensorctl {arguments:?}"))
    }

    /// Stored findings with evidence of one workload, and all of their evidence, in the order in which they last grew.
    ///
    /// # Errors
    /// When `sensorctl` fails.
    pub fn findings_of(&self, workload: &str) -> Result<Vec<Finding>> {
        let with_evidence = |mut listed: Finding| {
            if listed.count() > 1 {
                return self.sensorctl_json(&["findings", "show", listed.id()]).map(Finding);
            }
            // Done once: what it tells is its only evidence.
            listed.0["evidence"] = serde_json::json!([listed.0]);
            Ok(listed)
        };
        let findings = self.listed()?.into_iter().map(with_evidence).collect::<Result<Vec<_>>>()?;
        let is_of =
            |finding: &Finding| finding.evidence().iter().any(|piece| piece.text("workload") == workload);
        Ok(findings.into_iter().filter(is_of).collect())
    }

    /// Stored evidence of one workload.
    ///
    /// # Errors
    /// When `sensorctl` fails.
    pub fn evidence_of(&self, workload: &str) -> Result<Vec<Finding>> {
        let evidence = self.findings_of(workload)?.into_iter().flat_map(|finding| finding.evidence());
        Ok(evidence.filter(|piece| piece.text("workload") == workload).collect())
    }

    /// How often a workload did what findings tell whose worst behaviour is its own.
    ///
    /// # Errors
    /// When `sensorctl` fails.
    pub fn count_of(&self, workload: &str) -> Result<u64> {
        let listed = self.listed()?;
        Ok(listed.iter().filter(|one| one.text("workload") == workload).map(Finding::count).sum())
    }

    fn listed(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut cursor = None;
        loop {
            let mut arguments = vec!["findings", "list", "--order", "oldest", "--limit", "1000"];
            arguments.extend(cursor.iter().flat_map(|cursor: &String| ["--after", cursor]));
            let page = self.sensorctl_json(&arguments)?;
            let list = page["findings"].as_array().context("findings are not a list")?;
            findings.extend(list.iter().cloned().map(Finding));
            match page["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(findings),
            }
        }
    }

    /// What the fleet has learned, as YAML.
    ///
    /// # Errors
    /// When `sensorctl` fails.
    pub fn candidate(&self) -> Result<String> {
        self.sensorctl(&["baseline", "pull", "--fleet", &self.name])
    }

    /// Pushes a baseline and waits until every agent of the fleet has applied it. Returns its version.
    ///
    /// # Errors
    /// When it is refused or not applied in time.
    pub fn push(&self, yaml: &str) -> Result<u64> {
        let file = self.scratch.join("pushed.yaml");
        fs::write(&file, yaml).context("writing the baseline to push")?;
        self.sensorctl(&["baseline", "push", "--fleet", &self.name, &file.to_string_lossy()])?;
        self.await_rollout()
    }

    /// Approves one piece of evidence and waits until every agent has applied the new version.
    ///
    /// # Errors
    /// When it is refused or not applied in time.
    pub fn approve(&self, evidence: &str) -> Result<u64> {
        self.sensorctl(&["baseline", "approve", "--one", evidence])?;
        self.await_rollout()
    }

    fn await_rollout(&self) -> Result<u64> {
        process::wait_for("every agent to apply the baseline", ROLLOUT_LIMIT, || {
            let rollout = self.sensorctl_json(&["baseline", "status", "--fleet", &self.name])?;
            let agents = rollout["agents"].as_array().context("rollout without agents")?;
            let applied = !agents.is_empty() && agents.iter().all(|agent| agent["state"] == "APPLIED");
            Ok(applied.then(|| rollout["version"].as_u64()).flatten())
        })
    }

    /// Leaves the collector running when this value is dropped.
    pub fn detach(mut self) {
        if let Some(collector) = self.collector.take() {
            collector.detach();
        }
    }
}

impl Agent {
    fn command(&self) -> Command {
        let binary = self.binaries.join("sensor-agent");
        let Some(namespace) = &self.namespace else { return Command::new(binary) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(binary);
        command
    }

    /// Starts the agent and waits until it captures.
    ///
    /// # Errors
    /// When it does not capture in time.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.command();
        command.arg("run").arg("--config").arg(&self.config);
        let mut running = Kept::start("sensor-agent", &mut command, &self.log)?;
        running.line_after("sensor-agent running ", START_LIMIT)?;
        self.running = Some(running);
        Ok(())
    }

    /// Ends the agent as a service manager does.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Ends the agent as a crash does.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill(&mut self) -> Result<()> {
        self.running.take().map_or(Ok(()), Kept::kill)
    }

    /// Folder of the agent's state.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The agent's configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The file that the agent's standard error goes to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Process id of the running agent.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(Kept::id)
    }

    /// Leaves the agent running when this value is dropped.
    pub fn detach(mut self) {
        if let Some(running) = self.running.take() {
            running.detach();
        }
    }
}

fn address(addresses: &str, name: &str) -> Result<String> {
    let found = addresses.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned).with_context(|| format!("no {name} address in {addresses:?}"))
}

/// Replaces the values of text keys in a TOML file, line by line, so that comments stay.
fn set_keys(file: &Path, values: &[(&str, &str)]) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in values {
        let is_key = |line: &&mut String| line.split_once('=').is_some_and(|(name, _)| name.trim() == *key);
        let line = lines.iter_mut().find(is_key);
        *line.with_context(|| format!("{}: no key {key}", file.display()))? = format!("{key} = {value:?}");
    }
    fs::write(file, lines.join("\n") + "\n").with_context(|| format!("writing {}", file.display()))
}
