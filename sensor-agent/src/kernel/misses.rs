//! Runs of programs that the kernel skipped because their CPU was running them already. Not what else is lost, which the
//! programs count themselves. It may read this process's /proc/self/fdinfo and one map.

use super::error::KernelError;
use super::probes::{PROBES, SOCKET_STATE, SOCKET_STATE_NESTED};
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use sensor_event::Kind;
use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

/// In the fdinfo of a program, `bpf_prog_show_fdinfo()`, 5.12 and later.
const LINE: &str = "recursion_misses:";

/// The programs that run, and what they missed.
pub(super) struct Misses {
    programs: Vec<Watched>,
    /// Runs of [`SOCKET_STATE`] that its twin stood in for.
    stood_in: PerCpuArray<MapData, u64>,
}

struct Watched {
    name: &'static str,
    /// What a run that was missed counts as: the first part in the table that the program serves.
    kind: Kind,
    fdinfo: String,
}

impl Misses {
    /// Of the programs that are loaded, which those are that are attached.
    pub(super) fn of(ebpf: &Ebpf, stood_in: PerCpuArray<MapData, u64>) -> Self {
        let mut names = HashSet::new();
        let mut programs = Vec::new();
        for probe in PROBES {
            for program in probe.hooks.iter().copied().flatten().filter(|program| names.insert(program.name))
            {
                if let Some(Ok(fd)) = ebpf.program(program.name).map(aya::programs::Program::fd) {
                    let fdinfo = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
                    programs.push(Watched { name: program.name, kind: probe.part.kind(), fdinfo });
                }
            }
        }
        Self { programs, stood_in }
    }

    /// Runs that were missed and that nobody stood in for, by kind.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub(super) fn read(&self) -> Result<Vec<(Kind, u64)>, KernelError> {
        let cells = self
            .stood_in
            .get(&0, 0)
            .map_err(|error| KernelError::Map { name: "STATE_NESTED", reason: error.to_string() })?;
        let stood_in: u64 = cells.iter().sum();
        let counts = self.programs.iter().map(|program| {
            let missed = fs::read_to_string(&program.fdinfo).ok().and_then(|text| missed(&text)).unwrap_or(0);
            let count = match program.name {
                // The program itself has handled what its twin missed.
                name if name == SOCKET_STATE_NESTED.name => 0,
                name if name == SOCKET_STATE.name => missed.saturating_sub(stood_in),
                _ => missed,
            };
            (program.kind, count)
        });
        Ok(counts.filter(|(_, count)| *count > 0).collect())
    }
}

/// The count in a program's fdinfo; `None` where the kernel does not count.
fn missed(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix(LINE))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::missed;

    #[test]
    fn the_count_is_found_where_there_is_one() {
        assert_eq!(missed("pos:\t0\nprog_id:\t8\nrecursion_misses:\t17\nverified_insns:\t5\n"), Some(17));
        assert_eq!(missed("pos:\t0\nprog_id:\t8\n"), None);
    }
}
