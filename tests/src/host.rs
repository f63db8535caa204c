//! Pieces of a host that tests make and take away again: a control group that is a workload, a network namespace that
//! is a second host. Not the product. It may write to cgroupfs and run `ip`.

use crate::process;
use anyhow::{Context, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const EMPTY_LIMIT: Duration = Duration::from_secs(10);

/// Whether the slice that units lie in was made here: then it goes with the last of them.
static IS_SLICE_OURS: AtomicBool = AtomicBool::new(false);

/// A control group shaped like a systemd unit's. Ends its processes and goes when dropped.
#[derive(Debug)]
pub struct Workload {
    cgroup: PathBuf,
    unit: String,
}

impl Workload {
    /// Makes the group of the unit `NAME-PID.service`: another process that uses the same name has another.
    ///
    /// # Errors
    /// When cgroup v2 is not mounted or not writable, or there is such a group.
    pub fn new(name: &str) -> Result<Self> {
        let slice = cgroup2_mount()?.join("system.slice");
        match fs::create_dir(&slice) {
            Ok(()) => IS_SLICE_OURS.store(true, Ordering::Relaxed),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("creating {}", slice.display())),
        }
        let unit = format!("{name}-{}.service", std::process::id());
        let cgroup = slice.join(&unit);
        fs::create_dir(&cgroup).with_context(|| format!("creating {}", cgroup.display()))?;
        Ok(Self { cgroup, unit })
    }

    /// The group's folder.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The workload's name in a baseline.
    #[must_use]
    pub fn name(&self) -> String {
        format!("unit:{}", self.unit)
    }

    /// The file that takes a process id to move that process in.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.cgroup.join("cgroup.procs")
    }

    /// A command that runs `script` with `sh` inside the group; `$1`, `$2`, ... are `arguments`.
    #[must_use]
    pub fn shell(&self, script: &str, arguments: &[&Path]) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("echo $$ > \"$0\"; {script}")).arg(self.procs()).args(arguments);
        command
    }

    /// Leaves the group and its processes in place.
    pub fn detach(self) {
        std::mem::forget(self);
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // The group is this value's own: whatever still runs in it was started for it.
        let members = fs::read_to_string(self.procs()).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse().ok()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let cgroup = &self.cgroup;
        let _ = process::wait_for("the control group to empty", EMPTY_LIMIT, || {
            Ok(fs::remove_dir(cgroup).is_ok().then_some(()))
        });
        if let Some(slice) = cgroup.parent().filter(|_| IS_SLICE_OURS.load(Ordering::Relaxed)) {
            // It has other units yet when this fails.
            let _ = fs::remove_dir(slice);
        }
    }
}

/// Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a hybrid host.
///
/// # Errors
/// When it is not mounted.
pub fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (folder, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(folder))
    });
    found.context("no cgroup v2 file system is mounted")
}

/// A network namespace joined to this host by a pair of interfaces. Goes when dropped.
#[derive(Debug)]
pub struct NetworkNamespace {
    name: String,
}

impl NetworkNamespace {
    /// Address of this host's end, from the range for documentation (RFC 5737), so that it meets no real network.
    pub const HOST_ADDRESS: &str = "198.51.100.1";
    const FAR_ADDRESS: &str = "198.51.100.2";

    /// Why there can be none here, or `None`.
    #[must_use]
    pub fn why_not() -> Option<String> {
        let found = Command::new("ip").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let has_ip = found.is_ok_and(|status| status.success());
        (!has_ip).then(|| "needs the program ip (Debian's package iproute2)".to_owned())
    }

    /// Makes this process's namespace and its interfaces. Their names hold its id, and are as long as the kernel allows.
    ///
    /// # Errors
    /// When `ip` fails, with its words: also when this process has one already.
    pub fn new() -> Result<Self> {
        let name = format!("sensor-{}", std::process::id());
        process::output(Command::new("ip").args(["netns", "add", &name]))?;
        // From here on it goes when something fails.
        let namespace = Self { name };
        let name = namespace.name.as_str();
        let (near, far) = (format!("{name}0"), format!("{name}1"));
        let (near_cidr, far_cidr) =
            (format!("{}/30", Self::HOST_ADDRESS), format!("{}/30", Self::FAR_ADDRESS));
        for words in [
            &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name][..],
            &["address", "add", &near_cidr, "dev", &near],
            &["link", "set", &near, "up"],
            &["-n", name, "address", "add", &far_cidr, "dev", &far],
            &["-n", name, "link", "set", &far, "up"],
            &["-n", name, "link", "set", "lo", "up"],
        ] {
            process::output(Command::new("ip").args(words))?;
        }
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        // Takes both interfaces with it.
        let _ = process::output(Command::new("ip").args(["netns", "delete", &self.name]));
    }
}
