//! Pieces of a host that tests make and take away again: a control group that is a workload, a network namespace that
//! is a second host. Not the product. It may write to cgroupfs and run `ip`.

use crate::process;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const EMPTY_LIMIT: Duration = Duration::from_secs(10);

/// A control group shaped like a systemd unit's. Ends its processes and goes when dropped.
#[derive(Debug)]
pub struct Workload {
    cgroup: PathBuf,
    unit: String,
}

impl Workload {
    /// Makes the group of the unit `name`, for example `demo.service`.
    ///
    /// # Errors
    /// When cgroup v2 is not mounted or not writable.
    pub fn new(name: &str) -> Result<Self> {
        let cgroup = cgroup2_mount()?.join("system.slice").join(name);
        fs::create_dir_all(&cgroup).with_context(|| format!("creating {}", cgroup.display()))?;
        Ok(Self { cgroup, unit: name.to_owned() })
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

    /// Makes the namespace and its interfaces.
    ///
    /// # Errors
    /// When `ip` fails, with its words.
    pub fn new(name: &str) -> Result<Self> {
        let namespace = Self { name: name.to_owned() };
        let (near, far) = (format!("{name}0"), format!("{name}1"));
        let (near_cidr, far_cidr) =
            (format!("{}/30", Self::HOST_ADDRESS), format!("{}/30", Self::FAR_ADDRESS));
        for words in [
            &["netns", "add", name][..],
            &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name],
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
