//! What the work is measured beside: an agent, or another tool of this host. Not the measuring. It may start both.

use super::measure::Against;
use super::sensor::{Running, Sensors, Used};
use super::work::Work;
use crate::compare::Watcher;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Another tool that watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Execsnoop,
    Opensnoop,
    BpftraceExec,
    BpftraceOpen,
}

impl Tool {
    pub(super) const ALL: [Self; 4] =
        [Self::Execsnoop, Self::Opensnoop, Self::BpftraceExec, Self::BpftraceOpen];

    /// As it is asked for and told.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Execsnoop => "execsnoop",
            Self::Opensnoop => "opensnoop",
            Self::BpftraceExec => "execsnoop.bt",
            Self::BpftraceOpen => "opensnoop.bt",
        }
    }

    /// Debian's package of it, and the start of its headline.
    const fn package(self) -> (&'static str, &'static str) {
        match self {
            Self::Execsnoop => ("libbpf-tools", "PCOMM"),
            Self::Opensnoop => ("libbpf-tools", "PID"),
            Self::BpftraceExec | Self::BpftraceOpen => ("bpftrace", ""),
        }
    }

    /// Whether it sees anything of the work.
    pub(super) const fn concerns(self, work: Work) -> bool {
        match self {
            Self::Execsnoop | Self::BpftraceExec => matches!(work, Work::Spawn | Work::Git | Work::Cargo),
            Self::Opensnoop | Self::BpftraceOpen => {
                matches!(
                    work,
                    Work::OpenRead | Work::OpenWrite | Work::CreateUnlink | Work::Git | Work::Cargo
                )
            }
        }
    }

    /// Why it cannot run here, or `None`.
    pub(super) fn why_not(self) -> Option<String> {
        let missing = super::program(self.name()).is_none();
        missing.then(|| format!("{} is not installed (Debian's package {})", self.name(), self.package().0))
    }

    fn start(self, scratch: &Path) -> Result<Watcher> {
        let program: PathBuf = super::program(self.name()).context("it was there before")?;
        Watcher::tool(self.name(), &program, self.package().1, scratch)
    }
}

/// Something that stands beside the work. It ends when dropped.
pub(super) enum Beside<'a> {
    Sensor(Running<'a>),
    Tool(Watcher),
}

impl<'a> Beside<'a> {
    /// Starts it, and waits until it sees.
    pub(super) fn start(against: Against, sensors: &'a mut Sensors, scratch: &Path) -> Result<Self> {
        Ok(match against {
            Against::Sensor(variant) => Self::Sensor(sensors.start(variant)?),
            Against::Tool(tool) => Self::Tool(tool.start(scratch)?),
        })
    }

    /// Ends it; gives what it used, if it is an agent.
    pub(super) fn end(self) -> Result<Option<Used>> {
        match self {
            Self::Sensor(running) => running.end().map(Some),
            Self::Tool(watcher) => watcher.end().map(|_| None),
        }
    }
}
