//! The product as it is measured: a fleet on loopback, an agent for each variant, and what one holds and has used. Not
//! what that means. It may start the built binaries and read /proc.

use super::account::Account;
use anyhow::{Context, Result};
use sensor_tests::{Agent, Fleet, Workload, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How the agent is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variant {
    /// A baseline lists all that is done.
    Steady,
    /// The same, and the kernel remembers no verdict.
    CacheOff,
    /// There is no baseline.
    Learning,
}

impl Variant {
    pub(super) const ALL: [Self; 3] = [Self::Steady, Self::CacheOff, Self::Learning];

    /// As it is asked for and told.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::CacheOff => "cache-off",
            Self::Learning => "learning",
        }
    }

    /// Tables of the agent's configuration.
    fn settings(self, baseline: &Path) -> String {
        let armed = format!("[layers]\nhost = {:?}\n", baseline.display().to_string());
        match self {
            Self::Steady => armed,
            Self::CacheOff => format!("{armed}\n[verdict_cache]\nentries_max = 0\n"),
            Self::Learning => String::new(),
        }
    }
}

/// A collector and an agent for each variant.
pub(super) struct Sensors {
    fleet: Fleet,
    agents: Vec<(Variant, Agent)>,
}

impl Sensors {
    /// Starts the collector and enrolls the agents, which do not run yet.
    pub(super) fn prepare(variants: &[Variant], baseline: &Path, scratch: &Path) -> Result<Self> {
        let fleet = Fleet::start("bench", "127.0.0.1", scratch)?;
        let agents = variants.iter().map(|variant| {
            let settings = variant.settings(baseline);
            Ok((*variant, fleet.enroll(variant.name(), &fleet.new_token()?, None, &settings)?))
        });
        let agents = agents.collect::<Result<_>>()?;
        Ok(Self { fleet, agents })
    }

    /// Starts a variant's agent; it captures, and has nothing to do.
    pub(super) fn start(&mut self, variant: Variant) -> Result<Running<'_>> {
        let found = self.agents.iter_mut().find(|(one, _)| *one == variant);
        let (_, agent) = found.with_context(|| format!("no agent for {}", variant.name()))?;
        agent.start()?;
        let pid = agent.id().context("the agent runs")?;
        let mut running = Running { agent, pid, since: Instant::now(), cpu_before_ns: 0 };
        running.settle()?;
        running.since = Instant::now();
        running.cpu_before_ns = running.cpu_ns()?;
        Ok(running)
    }

    /// How often the workload did what the baseline does not list.
    pub(super) fn findings(&self, group: &Workload) -> Result<u64> {
        self.fleet.count_of(&group.name())
    }
}

/// What an agent used from when it ran until it had nothing more to do, and its account.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    pub(super) cpu_ns: u64,
    pub(super) wall_ns: u64,
    pub(super) account: Account,
}

impl Used {
    /// Adds what another used.
    pub(super) fn add(&mut self, other: &Self) {
        self.cpu_ns += other.cpu_ns;
        self.wall_ns += other.wall_ns;
        self.account.add(&other.account);
    }
}

/// An agent that runs. It ends when dropped.
pub(super) struct Running<'a> {
    agent: &'a mut Agent,
    pid: u32,
    since: Instant,
    cpu_before_ns: u64,
}

impl Running<'_> {
    /// Waits until the agent has emptied its rings: until it hardly runs.
    pub(super) fn settle(&self) -> Result<()> {
        let mut last = self.cpu_ns()?;
        let mut at = Instant::now();
        let is_idle = || {
            if at.elapsed() < IDLE_MIN {
                return Ok(None);
            }
            let (cpu, now) = (self.cpu_ns()?, Instant::now());
            let share = (cpu - last) as f64 / (now - at).as_nanos() as f64;
            (last, at) = (cpu, now);
            Ok((share < IDLE_SHARE).then_some(()))
        };
        // Who else is busy on this host keeps the agent busy too. Then that is part of what it uses.
        let _ = wait_for("the agent to be idle", SETTLE_LIMIT, is_idle);
        Ok(())
    }

    /// Lets it empty its rings, and ends it.
    pub(super) fn end(self) -> Result<Used> {
        self.settle()?;
        let cpu_ns = self.cpu_ns()? - self.cpu_before_ns;
        let wall_ns = self.since.elapsed().as_nanos() as u64;
        self.agent.stop();
        let log = fs::read_to_string(self.agent.log()).context("reading the agent's log")?;
        Ok(Used { cpu_ns, wall_ns, account: Account::of_log(&log)? })
    }

    /// CPU time of all its threads: the scheduler's nanoseconds.
    fn cpu_ns(&self) -> Result<u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).context("the agent has ended")?;
        let mut sum = 0;
        for task in tasks {
            // A thread that has ended meanwhile has no file.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            sum += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    }

    /// Memory of the process.
    pub(super) fn memory(&self) -> Result<Memory> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid)).context("the agent has ended")?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            number.with_context(|| format!("no {name} in the agent's status"))
        };
        let mut maps_bytes = 0;
        let mut maps = 0;
        for text in self.descriptors("anon_inode:bpf-map")? {
            maps += 1;
            maps_bytes += number(&text, "memlock").unwrap_or(0);
        }
        Ok(Memory {
            rss_kib: kib("VmRSS")?,
            anonymous_kib: kib("RssAnon")?,
            file_kib: kib("RssFile")?,
            shared_kib: kib("RssShmem")?,
            maps,
            maps_kib: maps_bytes / 1024,
        })
    }

    /// Its kernel programs' run counts and times, by id, where the kernel keeps statistics.
    pub(super) fn programs(&self) -> Result<Vec<Program>> {
        let texts = self.descriptors("anon_inode:bpf-prog")?;
        let names = program_names();
        let program = |text: &String| {
            let (id, runs, ns) =
                (number(text, "prog_id")?, number(text, "run_cnt")?, number(text, "run_time_ns")?);
            let name = names.get(&id).cloned().unwrap_or_else(|| format!("program {id}"));
            Some(Program { name, runs, ns })
        };
        Ok(texts.iter().filter_map(program).collect())
    }

    /// What the kernel says of descriptors of a kind.
    fn descriptors(&self, kind: &str) -> Result<Vec<String>> {
        let process = PathBuf::from(format!("/proc/{}", self.pid));
        let mut texts = Vec::new();
        for entry in fs::read_dir(process.join("fd")).context("the agent has ended")? {
            let entry = entry?;
            // A descriptor that is closed meanwhile has no target.
            if fs::read_link(entry.path()).is_ok_and(|target| target.to_str() == Some(kind)) {
                texts.extend(fs::read_to_string(process.join("fdinfo").join(entry.file_name())));
            }
        }
        Ok(texts)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.agent.stop();
    }
}

/// What an agent holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) rss_kib: u64,
    pub(super) anonymous_kib: u64,
    pub(super) file_kib: u64,
    pub(super) shared_kib: u64,
    pub(super) maps: u64,
    /// Of maps and rings, in the kernel.
    pub(super) maps_kib: u64,
}

/// A kernel program's statistics.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Its number where nobody tells its name.
    pub(super) name: String,
    pub(super) runs: u64,
    pub(super) ns: u64,
}

/// Names of the loaded programs by id; none where bpftool is not installed.
fn program_names() -> BTreeMap<u64, String> {
    let Some(bpftool) = super::program("bpftool") else { return BTreeMap::new() };
    let output = Command::new(bpftool).args(["--json", "prog", "show"]).output();
    let json =
        output.ok().and_then(|output| serde_json::from_slice::<serde_json::Value>(&output.stdout).ok());
    let programs = json.as_ref().and_then(serde_json::Value::as_array).into_iter().flatten();
    programs.filter_map(|one| Some((one["id"].as_u64()?, one["name"].as_str()?.to_owned()))).collect()
}

fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

/// An agent that runs for less than this part of the time is idle.
const IDLE_SHARE: f64 = 0.1;
/// Measured over at least so long: longer than records wait in a ring.
const IDLE_MIN: Duration = Duration::from_millis(80);
const SETTLE_LIMIT: Duration = Duration::from_secs(2);
