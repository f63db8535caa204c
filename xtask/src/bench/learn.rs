//! The baseline that lists what the work does: learned by the product while all of it is done once. Not the learner. It
//! may run `sensor-agent learn`.

use super::work::Work;
use super::worker::{Rounds, Worker};
use crate::demo::learned::only_workload;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sensor_tests::{Workload, wait_for};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Does each work for a while under the learning agent; gives the baseline's file.
pub(super) fn baseline(works: &[Work], group: &Workload, scratch: &Path) -> Result<PathBuf> {
    let (learned, told) = (scratch.join("learned.yaml"), scratch.join("learn.log"));
    let mut command = Command::new(sensor_tests::binaries()?.join("sensor-agent"));
    command.args(["learn", "--fleet", "bench", "--output"]).arg(&learned).stdin(Stdio::null());
    let log = File::create(&told).context("making the learner's log")?;
    let mut learner = Learner(command.stderr(log).spawn().context("starting sensor-agent learn")?);
    wait_for("the agent to learn", START_LIMIT, || {
        ensure!(learner.0.try_wait()?.is_none(), "sensor-agent learn: {}", fs::read_to_string(&told)?);
        Ok(fs::read_to_string(&told)?.contains("learning").then_some(()))
    })?;
    for work in works {
        // Starting and ending belong to it: both are done beside every variant later.
        let mut worker = Worker::start(*work, group, scratch)?;
        worker.run(Rounds { warm: 0, timed: if work.is_long() { 2 } else { ROUNDS }, rate: 0 })?;
    }
    kill(Pid::from_raw(learner.0.id().cast_signed()), Signal::SIGINT).context("ending the learner")?;
    let status = wait_for("the learner to end", END_LIMIT, || Ok(learner.0.try_wait()?))?;
    ensure!(status.success(), "sensor-agent learn: {status}: {}", fs::read_to_string(&told)?);
    let text = fs::read_to_string(&learned).context("reading what was learned")?;
    // Work of which nothing is captured is armed with nothing.
    let text = only_workload(&text, &group.name())
        .unwrap_or_else(|| format!("fleet: bench\nworkloads:\n  {}: {{}}\n", group.name()));
    let baseline = scratch.join("baseline.yaml");
    fs::write(&baseline, text).context("writing the baseline")?;
    Ok(baseline)
}

/// Ends when dropped.
struct Learner(Child);

impl Drop for Learner {
    fn drop(&mut self) {
        // It has ended already when these fail.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Of each small work: every known file is opened several times.
const ROUNDS: u64 = 500;
const START_LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(30);
