//! What is measured: one kind of work, done by a process of its own that is pinned to one CPU and told on its standard
//! input how often. Not the measuring. It may start processes, use loopback, and write to the folder that it is given.
//!
//! ```text
//! bench → WARM TIMED RATE     rounds to warm up, rounds to time, rounds a second or 0 for as fast as possible
//! work  → NANOSECONDS         of the timed rounds, by the monotonic clock
//! ```

mod real;
mod small;

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    OpenRead,
    OpenWrite,
    CreateUnlink,
    Spawn,
    ConnectOpen,
    ConnectClosed,
    Git,
    Cargo,
    Nginx,
}

impl Work {
    /// In the order in which they are measured.
    pub(super) const ALL: [Self; 9] = [
        Self::OpenRead,
        Self::OpenWrite,
        Self::CreateUnlink,
        Self::Spawn,
        Self::ConnectOpen,
        Self::ConnectClosed,
        Self::Git,
        Self::Cargo,
        Self::Nginx,
    ];

    /// As it is asked for and told.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::OpenRead => "open-read",
            Self::OpenWrite => "open-write",
            Self::CreateUnlink => "create-unlink",
            Self::Spawn => "spawn",
            Self::ConnectOpen => "connect-open",
            Self::ConnectClosed => "connect-closed",
            Self::Git => "git",
            Self::Cargo => "cargo",
            Self::Nginx => "nginx",
        }
    }

    /// What one round is, for people.
    pub(super) const fn round(self) -> &'static str {
        match self {
            Self::OpenRead => "open for reading and close one of 64 known files, 4 folders deep",
            Self::OpenWrite => "open for writing and close one of 64 known files, 4 folders deep",
            Self::CreateUnlink => "create a file of a known name, write 4 KiB, close, unlink",
            Self::Spawn => "start `/bin/true` and wait for it",
            Self::ConnectOpen => "connect to an open loopback port, be hung up on, reset",
            Self::ConnectClosed => "connect to a closed loopback port, be refused",
            Self::Git => "`git` add, status, diff, commit and log in a clone of this repository",
            Self::Cargo => "`cargo build --release` of a workspace of four small crates, from nothing",
            Self::Nginx => "one request of a page of 4 KiB; a new connection every 100",
        }
    }

    /// Records of a kind that a round makes for certain: what an account must have seen at least.
    pub(super) const fn records_a_round(self) -> &'static [&'static str] {
        match self {
            Self::OpenWrite => &["file_open"],
            Self::CreateUnlink => &["file_open", "file_unlink"],
            Self::Spawn => &["exec", "exit"],
            Self::ConnectOpen | Self::ConnectClosed => &["connect"],
            Self::OpenRead | Self::Git | Self::Cargo | Self::Nginx => &[],
        }
    }

    /// Whether a round is many processes' work and takes a good part of a second, or more.
    pub(super) const fn is_long(self) -> bool {
        matches!(self, Self::Git | Self::Cargo)
    }

    /// Why it cannot be done here.
    pub(super) fn why_not(self) -> Option<String> {
        let program = match self {
            Self::Git => "git",
            Self::Cargo => "cargo",
            Self::Nginx => "nginx",
            _ => return None,
        };
        super::program(program).is_none().then(|| format!("no {program}"))
    }

    fn prepare(self, folder: PathBuf) -> Result<Box<dyn Rounds>> {
        Ok(match self {
            Self::OpenRead => Box::new(small::Opens::prepare(&folder, nix::fcntl::OFlag::O_RDONLY)?),
            Self::OpenWrite => Box::new(small::Opens::prepare(&folder, nix::fcntl::OFlag::O_WRONLY)?),
            Self::CreateUnlink => Box::new(small::CreateUnlink::prepare(&folder)?),
            Self::Spawn => Box::new(small::Spawn),
            Self::ConnectOpen => Box::new(small::ConnectOpen::prepare(&folder)?),
            Self::ConnectClosed => Box::new(small::ConnectClosed::prepare(&folder)?),
            Self::Git => Box::new(real::Git::prepare(&folder)?),
            Self::Cargo => Box::new(real::Cargo::prepare(folder)?),
            Self::Nginx => Box::new(real::Nginx::prepare(&folder)?),
        })
    }
}

impl std::str::FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|work| work.name() == text).ok_or_else(|| {
            format!("{text}: no such work; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// Work that is ready to be done.
trait Rounds {
    /// Does it once.
    fn round(&mut self, number: u64) -> Result<()>;
}

/// Which work, and where.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The work.
    work: Work,
    /// A folder of its own.
    folder: PathBuf,
}

/// Works as told until standard input ends. Prints `ready` first.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    pin()?;
    let mut rounds = arguments.work.prepare(arguments.folder.clone())?;
    let mut number = 0;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<u64> = line.split(' ').map_while(|word| word.parse().ok()).collect();
        let [warm, timed, rate] = words[..] else { bail!("{line:?}: not three numbers") };
        for _ in 0..warm {
            rounds.round(number)?;
            number += 1;
        }
        let begun = Instant::now();
        for done in 0..timed {
            if rate > 0 && done % PACE == 0 {
                let due = Duration::from_nanos(1_000_000_000 * done / rate);
                while begun.elapsed() < due {
                    std::hint::spin_loop();
                }
            }
            rounds.round(number)?;
            number += 1;
        }
        writeln!(out, "{}", begun.elapsed().as_nanos())?;
        out.flush()?;
    }
    Ok(())
}

/// Keeps this process, and what it starts, on the last CPU that it may use.
fn pin() -> Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("asking for CPUs")?;
    let last = (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut only = CpuSet::new();
    only.set(last.context("no CPU to run on")?)?;
    sched_setaffinity(Pid::from_raw(0), &only).context("pinning to a CPU")
}

/// Rounds between two looks at the clock of a paced run.
const PACE: u64 = 16;
