//! The process that does the work, as the bench sees it: started in the workload's control group, told how often, timed.
//! Not the work. It may start this program again and read cgroupfs.

use super::work::Work;
use anyhow::{Context, Result, bail};
use sensor_tests::Workload;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How often a work is done in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rounds {
    /// Before the clock runs.
    pub(super) warm: u64,
    /// While it does.
    pub(super) timed: u64,
    /// A second; 0 for as fast as possible.
    pub(super) rate: u64,
}

impl Rounds {
    /// Of both kinds.
    pub(super) const fn total(self) -> u64 {
        self.warm + self.timed
    }
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    /// By the clock, of the timed rounds.
    pub(super) wall_ns: u64,
    /// CPU time of the whole control group, of all rounds.
    pub(super) cpu_ns: u64,
}

/// A process that works. It ends when dropped.
pub(super) struct Worker {
    work: Work,
    child: Child,
    answers: Receiver<String>,
    cpu: PathBuf,
}

impl Worker {
    /// Starts it in the group, and waits until it is ready.
    pub(super) fn start(work: Work, group: &Workload, folder: &Path) -> Result<Self> {
        let folder = folder.join(work.name());
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let own = std::env::current_exe().context("finding this program")?;
        let words = [own.as_path(), Path::new("bench-work"), Path::new(work.name()), &folder];
        let mut command = group.shell("exec \"$@\"", &words);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting the work {}", work.name()))?;
        let stdout = child.stdout.take().expect("stdout was piped above");
        let (sender, answers) = channel();
        // The thread ends with the child's standard output.
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        let mut worker = Self { work, child, answers, cpu: group.cgroup().join("cpu.stat") };
        let first = worker.answer()?;
        if first != "ready" {
            bail!("the work {} said {first:?}", work.name());
        }
        Ok(worker)
    }

    /// Has it work.
    pub(super) fn run(&mut self, rounds: Rounds) -> Result<Taken> {
        let Rounds { warm, timed, rate } = rounds;
        let before = self.cpu_ns()?;
        let stdin = self.child.stdin.as_mut().expect("stdin was piped at the start");
        writeln!(stdin, "{warm} {timed} {rate}").with_context(|| format!("the work {}", self.work.name()))?;
        let answer = self.answer()?;
        let wall_ns =
            answer.parse().with_context(|| format!("the work {} said {answer:?}", self.work.name()))?;
        Ok(Taken { wall_ns, cpu_ns: self.cpu_ns()? - before })
    }

    /// Finds out how often it works in `warm` and `timed`.
    pub(super) fn calibrate(&mut self, warm: Duration, timed: Duration) -> Result<Rounds> {
        let mut rounds = Rounds { warm: 0, timed: 1, rate: 0 };
        let mut took = self.run(rounds)?.wall_ns;
        while took < CALIBRATION_MIN.as_nanos() as u64 {
            rounds.timed *= 4;
            took = self.run(rounds)?.wall_ns;
        }
        let count = |time: Duration| time.as_nanos() as u64 * rounds.timed / took;
        // What takes longer than its warm-up is warm after the calibration.
        Ok(Rounds { warm: count(warm), timed: count(timed).max(1), rate: 0 })
    }

    fn cpu_ns(&self) -> Result<u64> {
        let text =
            fs::read_to_string(&self.cpu).with_context(|| format!("reading {}", self.cpu.display()))?;
        let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse::<u64>().ok());
        Ok(usage.context("no usage_usec in cpu.stat")? * 1000)
    }

    fn answer(&mut self) -> Result<String> {
        let name = self.work.name();
        match self.answers.recv_timeout(RUN_LIMIT) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("the work {name} was not done within {RUN_LIMIT:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the work {name} ended: {}", self.child.wait()?),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without input it ends by itself, and ends what it has started.
        drop(self.child.stdin.take());
        let ended = sensor_tests::wait_for("its end", END_LIMIT, || Ok(self.child.try_wait()?));
        if ended.is_err() {
            // It has ended already when these fail.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How long one run may take; a build on a busy machine takes longest.
const RUN_LIMIT: Duration = Duration::from_secs(120);
const END_LIMIT: Duration = Duration::from_secs(10);
/// Less than this tells little.
const CALIBRATION_MIN: Duration = Duration::from_millis(50);
