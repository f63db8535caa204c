//! `cargo xtask demo`: the whole product on this host, as an operator would use it. A collector, an agent on the live
//! kernel, a service that is learned and then broken into, its findings, and one approval. Not a test double
//! anywhere: the same binaries and commands as in production. It may start processes and use loopback.

mod attack;
pub(crate) mod learned;
pub(crate) mod service;
mod target;

use crate::shell_quoted;
use anyhow::{Context, Result, bail, ensure};
use attack::Attack;
use sensor_tests::{Agent, Finding, Fleet, wait_for};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use target::Target;

/// Median time from system call to stored that the demo accepts.
const LATENCY_MEDIAN_MAX_MS: f64 = 500.0;
/// How long one awaited step of the demo may take.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// How the demo runs.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave everything running afterwards and say how to look.
    #[arg(long)]
    keep: bool,
    /// Seconds of normal work to learn from.
    #[arg(long, default_value_t = 5)]
    learn_s: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { keep: false, learn_s: 5 }
    }
}

/// Runs the demo; an error names the first thing that is missing.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the demo loads kernel programs: run it as root");
    let mut progress = Progress::default();
    progress.step("build", "building agent, collector, sensorctl");
    sensor_tests::binaries()?;
    let scratch =
        tempfile::Builder::new().prefix("sensor-demo-").tempdir().context("creating a scratch folder")?;

    progress.step("start", "starting the collector, enrolling and starting the agent");
    let fleet = Fleet::start("demo", "127.0.0.1", scratch.path())?;
    let agent = fleet.agent("demo-host", fleet.first_token(), None)?;
    let target = Target::start(scratch.path())?;
    let attack = Attack::new(scratch.path())?;

    let learning = format!("learning {} for {} s of normal work", target.workload(), arguments.learn_s);
    progress.step("learn", &learning);
    target.work(Duration::from_secs(arguments.learn_s))?;
    let version = arm(&fleet, &target)?;
    let armed = format!("baseline version {version} applied; normal work again, then the intrusion");
    progress.step("intrude", &armed);
    target.work(Duration::from_secs(1))?;
    target.run_through_hole(&attack.first_strike())?;
    let evidence = wait_for("evidence of exec, connect and file", STEP_LIMIT, || {
        let evidence = fleet.evidence_of(target.workload())?;
        Ok(attack.is_complete(&evidence).then_some(evidence))
    })?;
    report(&fleet.findings_of(target.workload())?)?;
    println!("{}", progress.spent());

    let approved =
        attack.evidence_to_approve(&evidence).context("no evidence of the connection to approve")?;
    let approval = format!("approving `{} {}` for the fleet", approved.action(), approved.object());
    progress.step("approve", &approval);
    fleet.approve(approved.id())?;
    let seen: BTreeSet<String> = evidence.iter().map(|piece| piece.id().to_owned()).collect();
    target.run_through_hole(&attack.second_strike())?;
    wait_for("the finding that follows the approved action", STEP_LIMIT, || {
        let evidence = fleet.evidence_of(target.workload())?;
        Ok(evidence.iter().any(|piece| attack.is_marker(piece)).then_some(()))
    })?;
    let again = fleet.evidence_of(target.workload())?;
    let fresh = again.iter().filter(|piece| !seen.contains(piece.id()));
    if let Some(noise) = fresh.into_iter().find(|piece| piece.same_behaviour(approved)) {
        bail!("approved behaviour was found again: {}", noise.id());
    }
    progress.step("end", "repeated: the approved action stayed quiet, the new action beside it was found");
    if arguments.keep {
        keep(fleet, agent, target, scratch);
    }
    Ok(())
}

/// Pulls the fleet's candidate, keeps the service's workload, and pushes it as the baseline.
fn arm(fleet: &Fleet, target: &Target) -> Result<u64> {
    let candidate = wait_for("the learned candidate of the service", STEP_LIMIT, || {
        let candidate = learned::only_workload(&fleet.candidate()?, target.workload());
        Ok(candidate.filter(|text| target.is_learned(text)))
    })?;
    println!("{}", indented(&candidate));
    fleet.push(&candidate)
}

/// Leaves everything running and says how to look and how to end it.
fn keep(fleet: Fleet, agent: Agent, target: Target, scratch: tempfile::TempDir) {
    let config = fleet.sensorctl_config();
    let sensorctl = [&fleet.sensorctl_binary(), &config]
        .map(|path| shell_quoted(&path.to_string_lossy()))
        .join(" --config ");
    let ids = [agent.id(), fleet.collector_id(), Some(target.id())].into_iter().flatten();
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    println!("left running; state and logs in {}", scratch.path().display());
    println!("  service  http://127.0.0.1:{}/", target.port());
    println!("  look     {sensorctl} findings list");
    println!("           {sensorctl} incidents list");
    println!("           {sensorctl} agents list");
    println!("  end      kill {}", ids.join(" "));
    println!("           rmdir {}", shell_quoted(&target.cgroup().to_string_lossy()));
    println!("           rm -r {}", shell_quoted(&scratch.path().to_string_lossy()));
    target.detach();
    agent.detach();
    fleet.detach();
    let _ = scratch.keep();
}

/// Prints each finding with its evidence, and checks what an operator must find in it.
fn report(findings: &[Finding]) -> Result<()> {
    let mut latencies = Vec::new();
    for finding in findings {
        print!("{}", indented(&finding.describe()?));
        let evidence = finding.evidence();
        for piece in &evidence {
            let line = indented(&format!("evidence  {}", piece.line()?));
            // Of one piece the block has said all.
            print!("{}", if evidence.len() > 1 { line.as_str() } else { "" });
            latencies.push(piece.latency_ms()?);
        }
        println!();
    }
    ensure!(!latencies.is_empty(), "no findings to report");
    latencies.sort_by(f64::total_cmp);
    let median = latencies[latencies.len() / 2];
    let worst = latencies[latencies.len() - 1];
    println!(
        "system call to stored: median {median:.0} ms, worst {worst:.0} ms, {} behaviours in {} findings",
        latencies.len(),
        findings.len()
    );
    ensure!(median < LATENCY_MEDIAN_MAX_MS, "median {median:.0} ms, limit {LATENCY_MEDIAN_MAX_MS} ms");
    Ok(())
}

/// Says what the demo is at, and where its time went.
struct Progress {
    begun: Instant,
    steps: Vec<(&'static str, Instant)>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { begun: Instant::now(), steps: Vec::new() }
    }
}

impl Progress {
    fn step(&mut self, name: &'static str, what: &str) {
        self.steps.push((name, Instant::now()));
        println!("[{:5.1} s] {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Seconds until now, in total and by step.
    fn spent(&self) -> String {
        let now = Instant::now();
        let ends = self.steps.iter().skip(1).map(|(_, begun)| *begun).chain([now]);
        let parts = self.steps.iter().zip(ends);
        let parts = parts.map(|((name, begun), end)| format!("{name} {:.1} s", (end - *begun).as_secs_f64()));
        let parts: Vec<_> = parts.collect();
        format!("first findings after {:.1} s: {}", (now - self.begun).as_secs_f64(), parts.join(", "))
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
