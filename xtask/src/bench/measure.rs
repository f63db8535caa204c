//! The runs: bare and beside something, in the order A B B A, where A is bare. Not what they mean. It may start the work,
//! agents and other tools.

use super::foreign::{Beside, Tool};
use super::sensor::{Memory, Program, Sensors, Used, Variant};
use super::stats::{Block, Ratio};
use super::work::Work;
use super::worker::{Rounds, Taken, Worker};
use anyhow::{Context, Result};
use sensor_tests::Workload;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

/// What stands beside the work in the runs called B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    Sensor(Variant),
    Tool(Tool),
}

impl Against {
    /// All of them, the sensor first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Variant::ALL.map(Self::Sensor).into_iter().chain(Tool::ALL.map(Self::Tool))
    }

    /// As it is asked for and told.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sensor(variant) => variant.name(),
            Self::Tool(tool) => tool.name(),
        }
    }

    /// Why it cannot run here, or `None`.
    pub(super) fn why_not(self) -> Option<String> {
        match self {
            Self::Sensor(_) => None,
            Self::Tool(tool) => tool.why_not(),
        }
    }

    /// Whether it sees anything of the work.
    fn concerns(self, work: Work) -> bool {
        match self {
            Self::Sensor(_) => true,
            Self::Tool(tool) => tool.concerns(work),
        }
    }
}

impl std::str::FromStr for Against {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all().find(|against| against.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::all().map(Self::name).collect();
            format!("{text}: nothing of that name to measure against; there are {}", names.join(", "))
        })
    }
}

/// One work beside one thing.
pub(super) struct Pair {
    pub(super) work: Work,
    pub(super) against: Against,
    /// By the clock.
    pub(super) wall: Vec<Block>,
    /// CPU time of the workload.
    pub(super) cpu: Vec<Block>,
    /// Rounds that were done beside it.
    pub(super) rounds: u64,
    /// What agents used in all blocks together.
    pub(super) used: Used,
}

impl Pair {
    /// Of time by the clock.
    pub(super) fn ratio(&self) -> Option<Ratio> {
        Ratio::of(&self.wall)
    }

    /// Of CPU time.
    pub(super) fn cpu_ratio(&self) -> Option<Ratio> {
        Ratio::of(&self.cpu)
    }

    /// The agent's, if it is one.
    pub(super) const fn variant(&self) -> Option<Variant> {
        match self.against {
            Against::Sensor(variant) => Some(variant),
            Against::Tool(_) => None,
        }
    }

    /// Kinds of which fewer were seen than done, or more than can be.
    pub(super) fn miscounted(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for kind in self.work.records_a_round() {
            let (seen, done) = (self.used.account.seen(kind), self.rounds);
            if seen < done {
                wrong.push(format!("{kind}: {done} done, {seen} seen"));
            }
        }
        let unaccounted = self.used.account.wrong();
        wrong.extend(unaccounted.map(|(kind, count)| format!("{kind}: {count} unaccounted for")));
        wrong
    }
}

/// Where the work is done, and beside what.
pub(super) struct Site<'a> {
    pub(super) group: &'a Workload,
    pub(super) scratch: &'a Path,
    pub(super) sensors: Sensors,
}

impl Site<'_> {
    /// Measures one work beside each of these, in blocks that take turns.
    pub(super) fn measure(&mut self, work: Work, against: &[Against], blocks: usize) -> Result<Vec<Pair>> {
        let mut worker = Worker::start(work, self.group, self.scratch)?;
        let rounds = worker.calibrate(WARM, if work.is_long() { TIMED_LONG } else { TIMED })?;
        let concerned = against.iter().filter(|against| against.concerns(work));
        let mut pairs: Vec<Pair> = concerned
            .map(|against| Pair {
                work,
                against: *against,
                wall: Vec::new(),
                cpu: Vec::new(),
                rounds: 0,
                used: Used::default(),
            })
            .collect();
        for _ in 0..blocks {
            for pair in &mut pairs {
                self.block(&mut worker, rounds, pair)?;
            }
        }
        Ok(pairs)
    }

    fn block(&mut self, worker: &mut Worker, rounds: Rounds, pair: &mut Pair) -> Result<()> {
        let first = worker.run(rounds)?;
        let beside = Beside::start(pair.against, &mut self.sensors, self.scratch)?;
        let with = [worker.run(rounds)?, worker.run(rounds)?];
        if let Some(used) = beside.end()? {
            pair.used.add(&used);
        }
        let bare = [first, worker.run(rounds)?];
        let block =
            |of: fn(&Taken) -> u64| Block { bare: bare.each_ref().map(of), with: with.each_ref().map(of) };
        pair.wall.push(block(|taken| taken.wall_ns));
        pair.cpu.push(block(|taken| taken.cpu_ns));
        pair.rounds += 2 * rounds.total();
        Ok(())
    }

    /// What the agent holds beside so many processes of the workload that sleep, when it has judged them.
    pub(super) fn memory(&mut self, processes: usize) -> Result<Memory> {
        let mut worker = Worker::start(Work::OpenWrite, self.group, self.scratch)?;
        let running = self.sensors.start(Variant::Steady)?;
        let sleepers: Vec<Sleeper> =
            (0..processes).map(|_| Sleeper::start(self.group)).collect::<Result<_>>()?;
        let rounds = worker.calibrate(WARM, TIMED)?;
        worker.run(rounds)?;
        running.settle()?;
        let memory = running.memory()?;
        drop(sleepers);
        Ok(memory)
    }

    /// What each kernel program took, by the kernel's own statistics, while some work was done.
    pub(super) fn programs(&mut self, works: &[Work]) -> Result<Vec<Program>> {
        let running = self.sensors.start(Variant::Steady)?;
        let statistics = Statistics::on()?;
        for work in works.iter().filter(|work| !work.is_long()) {
            let mut worker = Worker::start(*work, self.group, self.scratch)?;
            let rounds = worker.calibrate(WARM, TIMED)?;
            worker.run(rounds)?;
        }
        let programs = running.programs();
        drop(statistics);
        programs
    }

    /// Opens files for writing at a rate, if this CPU can, while no verdict is remembered.
    pub(super) fn flood(&mut self, rate: u64) -> Result<Flood> {
        let mut worker = Worker::start(Work::OpenWrite, self.group, self.scratch)?;
        let running = self.sensors.start(Variant::CacheOff)?;
        let rounds = Rounds { warm: 0, timed: rate * FLOOD_S, rate };
        let taken = worker.run(rounds)?;
        let used = running.end()?;
        let reached = rounds.timed as f64 / (taken.wall_ns as f64 / 1e9);
        Ok(Flood { asked: rate, reached, rounds: rounds.timed, used })
    }
}

/// A process of the workload that does nothing. It ends when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start(group: &Workload) -> Result<Self> {
        let mut command = group.shell("exec sleep 3600", &[]);
        Ok(Self(command.spawn().context("starting a process that sleeps")?))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It has ended already when these fail.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The kernel's statistics of programs, which cost something themselves. Off again when dropped, unless they were on.
struct Statistics {
    before: String,
}

impl Statistics {
    fn on() -> Result<Self> {
        let before = fs::read_to_string(STATISTICS).context(STATISTICS)?;
        fs::write(STATISTICS, "1").context(STATISTICS)?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        // It was written before.
        let _ = fs::write(STATISTICS, &self.before);
    }
}

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// What came of a flood.
pub(super) struct Flood {
    /// Opens a second.
    pub(super) asked: u64,
    pub(super) reached: f64,
    pub(super) rounds: u64,
    pub(super) used: Used,
}

/// A run's warm-up: longer than it takes until what was seen first has been judged.
const WARM: Duration = Duration::from_millis(200);
const TIMED: Duration = Duration::from_millis(500);
const TIMED_LONG: Duration = Duration::from_secs(1);
const FLOOD_S: u64 = 3;
