//! The scan of /proc and of the cgroup v2 mount at start, made by drivers. Not the tables it fills. It does I/O, and
//! is the only part of `enrich` that does.

use nix::time::{ClockId, clock_gettime};
use procfs::process::{Process as ProcProcess, Stat, StatFlags, all_processes};
use sensor_baseline::text::escape;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::enrich::process_table::TICK_NS;
use crate::event::{Arguments, Identity};

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
    pub argv: Arguments,
    /// Working directory, escaped.
    pub cwd: String,
    /// Root directory, escaped; empty when it cannot be read.
    #[serde(default)]
    pub root: String,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    #[serde(default)]
    pub gid: u32,
    /// Effective group id.
    #[serde(default)]
    pub egid: u32,
    /// Audit login user, when set.
    #[serde(default)]
    pub login_uid: Option<u32>,
    /// Audit session, when set.
    #[serde(default)]
    pub audit_session: Option<u32>,
    /// Effective capabilities, when they can be read.
    #[serde(default)]
    pub cap_effective: Option<u64>,
    /// Permitted capabilities, when they can be read.
    #[serde(default)]
    pub cap_permitted: Option<u64>,
    /// Inode of the mount namespace, 0 when it cannot be read.
    #[serde(default)]
    pub mnt_ns: u32,
    /// Device of the executable as the kernel has it, 0 when it cannot be read.
    #[serde(default)]
    pub dev: u32,
    /// Inode number of the executable, 0 when it cannot be read.
    #[serde(default)]
    pub inode: u64,
    /// Short name, escaped.
    pub comm: String,
    /// cgroup v2 path.
    pub cgroup: String,
    /// cgroup v2 id, 0 when unknown.
    pub cgroup_id: u64,
    /// It has no program of its own.
    pub is_kernel_thread: bool,
    /// It has ended, and only waits for its parent to ask how.
    #[serde(default)]
    pub is_zombie: bool,
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
    /// When the scan began, in nanoseconds of `CLOCK_BOOTTIME`.
    #[serde(default)]
    pub taken_ns: u64,
}

/// A scan after the start, with what shows that it is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescan {
    /// What the host looked like.
    pub seed: Seed,
    /// Every process id that /proc listed when the scan was over.
    pub present: HashSet<u32>,
}

/// Control groups by path.
type CgroupIds<'a> = HashMap<&'a str, u64>;

/// Scans the host again.
///
/// # Errors
/// When /proc cannot be listed.
pub fn rescan() -> Result<Rescan, procfs::ProcError> {
    let seed = scan()?;
    let present = std::fs::read_dir("/proc")?
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    Ok(Rescan { seed, present })
}

/// Scans the host. A process that ends meanwhile is left out: its events tell of it.
///
/// # Errors
/// When /proc cannot be listed.
pub fn scan() -> Result<Seed, procfs::ProcError> {
    let taken_ns =
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| Duration::from(time).as_nanos() as u64);
    let cgroups = cgroup_mount().map(|mount| scan_cgroups(&mount)).unwrap_or_default();
    let known: CgroupIds<'_> = cgroups.iter().map(|cgroup| (cgroup.path.as_str(), cgroup.id)).collect();
    let processes = all_processes()?
        .filter_map(Result::ok)
        .filter_map(|process| read_process(&process, &known).ok())
        .collect();
    Ok(Seed { processes, cgroups, taken_ns })
}

/// The agent's own identity, as exact as /proc has it.
///
/// # Errors
/// When /proc/self cannot be read.
pub fn own_identity() -> Result<Identity, procfs::ProcError> {
    let stat = ProcProcess::myself()?.stat()?;
    Ok(Identity { pid: std::process::id(), start_time_ns: stat.starttime.saturating_mul(TICK_NS) })
}

fn read_process(process: &ProcProcess, cgroups: &CgroupIds<'_>) -> Result<SeedProcess, procfs::ProcError> {
    let stat = process.stat()?;
    let status = process.status()?;
    let cgroup = process
        .cgroups()?
        .into_iter()
        .find(|cgroup| cgroup.hierarchy == 0)
        .map_or_else(String::new, |cgroup| cgroup_text(cgroup.pathname.as_bytes(), cgroups));
    let is_kernel_thread = StatFlags::from_bits_truncate(stat.flags).contains(StatFlags::PF_KTHREAD);
    let files = process_files(&stat);
    let exe = std::fs::metadata(files.join("exe"));
    let seen = SeedProcess {
        pid: u32::try_from(stat.pid).unwrap_or_default(),
        ppid: u32::try_from(stat.ppid).unwrap_or_default(),
        start_time_ns: stat.starttime.saturating_mul(TICK_NS),
        exe: link_text(&files, "exe"),
        argv: raw_arguments(&files),
        cwd: link_text(&files, "cwd"),
        root: link_text(&files, "root"),
        uid: status.ruid,
        euid: status.euid,
        gid: status.rgid,
        egid: status.egid,
        login_uid: set_number(&files, "loginuid"),
        audit_session: set_number(&files, "sessionid"),
        cap_effective: Some(status.capeff),
        cap_permitted: Some(status.capprm),
        mnt_ns: mount_namespace(&files),
        dev: exe.as_ref().map_or(0, |exe| kernel_dev(exe.dev())),
        inode: exe.as_ref().map_or(0, std::os::unix::fs::MetadataExt::ino),
        comm: escape(stat.comm.as_bytes()),
        cgroup_id: cgroups.get(cgroup.as_str()).copied().unwrap_or(0),
        cgroup,
        is_kernel_thread,
        is_zombie: stat.state == 'Z' && stat.num_threads <= 1,
    };
    // Most was read by the process's number, which may be another's by now.
    match ProcProcess::new(stat.pid).and_then(|process| process.stat()) {
        Ok(now) if now.starttime != stat.starttime => Err(procfs::ProcError::NotFound(None)),
        _ => Ok(seen),
    }
}

/// Where /proc shows the process's files: at its leader, or at a thread that lives when the leader has ended.
fn process_files(stat: &Stat) -> PathBuf {
    let process = PathBuf::from(format!("/proc/{}", stat.pid));
    if stat.state != 'Z' {
        return process;
    }
    let threads = std::fs::read_dir(process.join("task")).into_iter().flatten().filter_map(Result::ok);
    let living = threads.map(|thread| thread.path()).find(|thread| thread.join("exe").read_link().is_ok());
    living.unwrap_or(process)
}

/// Where a link of /proc leads, escaped; empty when it cannot be read. The kernel appends ` (deleted)` to a name that
/// is no more, and a file may truly be called so: what the link leads to is compared with what has the name.
fn link_text(files: &Path, link: &str) -> String {
    let link = files.join(link);
    let Ok(target) = link.read_link() else { return String::new() };
    let bytes = target.as_os_str().as_bytes();
    let Some(bare) = bytes.strip_suffix(DELETED) else { return escape(bytes) };
    let named = std::fs::metadata(files.join("root").join(target.strip_prefix("/").unwrap_or(&target)));
    let is_literal = match (named, link.metadata()) {
        (Ok(named), Ok(linked)) => (named.dev(), named.ino()) == (linked.dev(), linked.ino()),
        _ => false,
    };
    escape(if is_literal { bytes } else { bare })
}

/// A control group that was removed with an ended process in it carries the kernel's mark behind its name.
fn cgroup_text(path: &[u8], cgroups: &CgroupIds<'_>) -> String {
    let text = escape(path);
    if cgroups.contains_key(text.as_str()) {
        return text;
    }
    path.strip_suffix(DELETED).map_or(text, escape)
}

/// A number of the audit subsystem, which says "not set" by all bits.
fn set_number(files: &Path, name: &str) -> Option<u32> {
    let number: u32 = std::fs::read_to_string(files.join(name)).ok()?.trim().parse().ok()?;
    (number != u32::MAX).then_some(number)
}

fn mount_namespace(files: &Path) -> u32 {
    std::fs::metadata(files.join("ns/mnt")).map_or(0, |file| u32::try_from(file.ino()).unwrap_or_default())
}

/// A device number as the kernel holds it, from the one it shows: `MKDEV` of include/linux/kdev_t.h.
#[must_use]
pub fn kernel_dev(shown: u64) -> u32 {
    let (major, minor) = (nix::sys::stat::major(shown), nix::sys::stat::minor(shown));
    u32::try_from(major << 20 | minor).unwrap_or_default()
}

fn raw_arguments(files: &Path) -> Arguments {
    let bytes = std::fs::read(files.join("cmdline")).unwrap_or_default();
    let bytes = &bytes[..bytes.len().min(ARGUMENT_BYTES_MAX)];
    let trimmed = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if trimmed.is_empty() {
        Arguments::default()
    } else {
        trimmed.split(|byte| *byte == 0).map(escape).collect()
    }
}

/// Where the cgroup v2 hierarchy is mounted.
pub(crate) fn cgroup_mount() -> Option<PathBuf> {
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
/// What the kernel appends to a name that is no more, `d_path` and `cgroup_path_ns`'s callers.
const DELETED: &[u8] = b" (deleted)";
/// Control groups scanned at most.
const CGROUPS_SCANNED_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every process that lives on: parent, start time and program are known, kernel threads and those without a
    /// program aside; the first process has no parent.
    #[test]
    fn the_scan_knows_every_process_that_proc_shows() {
        let before = pids();
        let seed = scan().unwrap();
        let after = pids();
        let own = nix::unistd::geteuid().as_raw();
        let mut compared = 0;
        for (pid, start) in before.iter().filter(|(pid, start)| after.get(*pid) == Some(*start)) {
            let found = seed.processes.iter().find(|process| process.pid == *pid);
            let found = found.unwrap_or_else(|| panic!("{pid} is missing"));
            compared += 1;
            assert_eq!(found.start_time_ns, start * TICK_NS, "{pid}");
            assert!(!found.comm.is_empty(), "{pid}");
            // The parent of the first process, and of kernel threads' first, is outside.
            let has_no_parent = found.ppid == 0 && (*pid == 1 || found.is_kernel_thread);
            assert!(
                has_no_parent || after.contains_key(&found.ppid) || before.contains_key(&found.ppid),
                "{found:?}"
            );
            let is_readable = own == 0 || (found.uid == own && found.euid == own);
            // The first process may keep what it runs to itself, from root as well.
            let has_program = !found.is_kernel_thread && !found.is_zombie && is_readable && *pid != 1;
            assert!(!has_program || (!found.exe.is_empty() && found.inode != 0), "{found:?}");
            assert!(!found.cgroup.ends_with(" (deleted)"), "{found:?}");
        }
        assert!(compared > 0);
    }

    /// Start times in ticks by pid, read without the code under test.
    fn pids() -> std::collections::BTreeMap<u32, u64> {
        let listed = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let numbered = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let start = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
        };
        numbered.filter_map(|pid| Some((pid, start(pid)?))).collect()
    }

    #[test]
    fn a_name_that_is_no_more_loses_the_mark_and_one_that_is_so_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("sleeper");
        let marked = folder.path().join("sleeper (deleted)");
        let text = |path: &Path| escape(path.as_os_str().as_bytes());
        for program in [&plain, &marked] {
            sensor_tests::copy_program("/bin/sleep", program);
        }
        let mut children: Vec<_> = [&plain, &marked]
            .map(|program| std::process::Command::new(program).arg("60").spawn().unwrap())
            .into();
        std::fs::remove_file(&plain).unwrap();
        let files = |child: &std::process::Child| PathBuf::from(format!("/proc/{}", child.id()));
        assert_eq!(link_text(&files(&children[0]), "exe"), text(&plain));
        assert_eq!(link_text(&files(&children[1]), "exe"), text(&marked));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let known = HashMap::from([("/b (deleted)", 1)]);
        assert_eq!(cgroup_text(b"/a (deleted)", &known), "/a");
        assert_eq!(cgroup_text(b"/b (deleted)", &known), "/b (deleted)");
    }

    #[test]
    fn a_zombie_is_told_from_what_lives() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = child.id();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let zombie = loop {
            let seed = scan().unwrap();
            let found = seed.processes.into_iter().find(|process| process.pid == pid && process.is_zombie);
            assert!(found.is_some() || std::time::Instant::now() < deadline, "it never ended");
            if let Some(zombie) = found {
                break zombie;
            }
        };
        assert_eq!((zombie.ppid, zombie.exe.as_str()), (std::process::id(), ""));
        child.wait().unwrap();
    }

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
