//! The scan of /proc and of the cgroup v2 mount at start, made by drivers. Not the tables it fills. It does I/O, and
//! is the only part of `enrich` that does.

use procfs::process::{Process as ProcProcess, StatFlags, all_processes};
use sensor_baseline::text::escape;
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::enrich::process_table::TICK_NS;
use crate::event::Identity;

/// A process as /proc shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedProcess {
    /// Process id.
    pub pid: u32,
    /// Parent's.
    pub ppid: u32,
    /// Boot time nanoseconds, rounded down to 10 ms.
    pub start_time_ns: u64,
    /// Executable, escaped; empty when it cannot be read.
    pub exe: String,
    /// Arguments, escaped.
    pub argv: Vec<String>,
    /// Working directory, escaped.
    pub cwd: String,
    /// Root directory, escaped; empty when it cannot be read.
    #[serde(default)]
    pub root: String,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Short name, escaped.
    pub comm: String,
    /// cgroup v2 path.
    pub cgroup: String,
    /// cgroup v2 id, 0 when unknown.
    pub cgroup_id: u64,
    /// It has no program of its own.
    pub is_kernel_thread: bool,
}

/// A control group that existed at start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedCgroup {
    /// Inode number of its directory.
    pub id: u64,
    /// Path below the mount.
    pub path: String,
}

/// What the host looked like at start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Processes, in no order.
    pub processes: Vec<SeedProcess>,
    /// Control groups.
    pub cgroups: Vec<SeedCgroup>,
}

/// Scans the host. A process that ends meanwhile is left out: its events tell of it.
///
/// # Errors
/// When /proc cannot be listed.
pub fn scan() -> Result<Seed, procfs::ProcError> {
    let cgroups = cgroup_mount().map(|mount| scan_cgroups(&mount)).unwrap_or_default();
    let processes = all_processes()?
        .filter_map(Result::ok)
        .filter_map(|process| read_process(&process, &cgroups).ok())
        .collect();
    Ok(Seed { processes, cgroups })
}

/// The agent's own identity, as exact as /proc has it.
///
/// # Errors
/// When /proc/self cannot be read.
pub fn own_identity() -> Result<Identity, procfs::ProcError> {
    let stat = ProcProcess::myself()?.stat()?;
    Ok(Identity { pid: std::process::id(), start_time_ns: stat.starttime.saturating_mul(TICK_NS) })
}

fn read_process(process: &ProcProcess, cgroups: &[SeedCgroup]) -> Result<SeedProcess, procfs::ProcError> {
    let stat = process.stat()?;
    let status = process.status()?;
    let cgroup = process
        .cgroups()?
        .into_iter()
        .find(|cgroup| cgroup.hierarchy == 0)
        .map_or_else(String::new, |cgroup| escape(cgroup.pathname.as_bytes()));
    let is_kernel_thread = StatFlags::from_bits_truncate(stat.flags).contains(StatFlags::PF_KTHREAD);
    Ok(SeedProcess {
        pid: u32::try_from(stat.pid).unwrap_or_default(),
        ppid: u32::try_from(stat.ppid).unwrap_or_default(),
        start_time_ns: stat.starttime.saturating_mul(TICK_NS),
        exe: process.exe().map(|exe| program_text(&exe)).unwrap_or_default(),
        argv: raw_arguments(stat.pid),
        cwd: process.cwd().map(|cwd| escape(cwd.as_os_str().as_bytes())).unwrap_or_default(),
        root: process.root().map(|root| escape(root.as_os_str().as_bytes())).unwrap_or_default(),
        uid: status.ruid,
        euid: status.euid,
        comm: escape(stat.comm.as_bytes()),
        cgroup_id: cgroups.iter().find(|known| known.path == cgroup).map_or(0, |known| known.id),
        cgroup,
        is_kernel_thread,
    })
}

/// The kernel appends ` (deleted)` to the name of a program without a name; the record's flag says so better.
fn program_text(exe: &Path) -> String {
    let bytes = exe.as_os_str().as_bytes();
    escape(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes))
}

fn raw_arguments(pid: i32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let bytes = &bytes[..bytes.len().min(ARGUMENT_BYTES_MAX)];
    let trimmed = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if trimmed.is_empty() { Vec::new() } else { trimmed.split(|byte| *byte == 0).map(escape).collect() }
}

fn cgroup_mount() -> Option<PathBuf> {
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    mounts.into_iter().find(|mount| mount.fs_type == "cgroup2").map(|mount| mount.mount_point)
}

fn scan_cgroups(mount: &Path) -> Vec<SeedCgroup> {
    let mut found = Vec::new();
    let mut pending = vec![mount.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(metadata) = std::fs::metadata(&directory) else { continue };
        let below = directory.strip_prefix(mount).unwrap_or(Path::new(""));
        let path = format!("/{}", escape(below.as_os_str().as_bytes()));
        found.push(SeedCgroup { id: metadata.ino(), path });
        if found.len() >= CGROUPS_SCANNED_MAX {
            break;
        }
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        let directories =
            entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        pending.extend(directories.map(|entry| entry.path()));
    }
    found
}

/// Bytes of a command line kept at most.
const ARGUMENT_BYTES_MAX: usize = 16 * 1024;
/// Control groups scanned at most.
const CGROUPS_SCANNED_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scan_finds_this_process_as_it_is() {
        let seed = scan().unwrap();
        let own = own_identity().unwrap();
        let found = seed
            .processes
            .iter()
            .find(|process| process.pid == own.pid)
            .expect("the scan sees its own process");
        assert_eq!(found.start_time_ns, own.start_time_ns);
        assert_eq!(found.exe, escape(std::env::current_exe().unwrap().as_os_str().as_bytes()));
        assert_eq!(found.argv.len(), std::env::args().count());
        assert!(!found.is_kernel_thread);
    }
}
