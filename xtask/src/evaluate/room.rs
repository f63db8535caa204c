//! A room: a throwaway copy of the Debian root in namespaces of its own, with control groups shaped like a host's. Not
//! what happens in it. It may run `unshare`, `nsenter` and `setpriv`, and write to cgroupfs.

use anyhow::{Context, Result, bail, ensure};
use sensor_tests::{cgroup2_mount, wait_for};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a room may take to open, or to go.
const ROOM_LIMIT: Duration = Duration::from_secs(20);
/// How often a process with a time limit is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// What the room's processes may not do to the machine, also as root.
const CAPABILITIES_DROPPED: &str =
    "--bounding-set=-sys_module,-sys_boot,-sys_time,-sys_rawio,-syslog,-bpf,-perfmon,-audit_control";
/// The control group that holds all of the evaluation's, but for sessions.
const SLICE: &str = "sensor-evaluate.slice";

/// What rooms are made from, and where.
pub(super) struct Site {
    /// The Debian root.
    pub(super) lower: PathBuf,
    /// The scripts that rooms run.
    inside: PathBuf,
    /// The Rust toolchain that rooms build with.
    toolchain: String,
    cgroups: PathBuf,
    /// The control group that this process was in before.
    before: PathBuf,
    scratch: tempfile::TempDir,
}

impl Site {
    /// Moves this process to a control group of its own, so that what it does is no session's.
    pub(super) fn prepare(lower: PathBuf) -> Result<Self> {
        let mount = cgroup2_mount()?;
        let own = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("no cgroup v2 group")?;
        let site = Self {
            lower,
            inside: crate::workspace_root().join("xtask/src/evaluate/inside"),
            toolchain: crate::setup::stdout(Command::new("rustc").args(["--print", "sysroot"]))?,
            before: mount.join(own),
            cgroups: mount,
            scratch: tempfile::Builder::new()
                .prefix("sensor-evaluate-")
                .tempdir()
                .context("making a folder")?,
        };
        let group = site.cgroups.join("system.slice").join(SLICE).join("harness.service");
        fs::create_dir_all(&group).with_context(|| format!("creating {}", group.display()))?;
        fs::write(group.join("cgroup.procs"), "0")
            .with_context(|| format!("entering {}", group.display()))?;
        Ok(site)
    }

    /// The control group of a room, from the root.
    pub(super) fn slice_of(&self, number: u32) -> String {
        format!("/system.slice/{SLICE}/room-{number}.slice")
    }

    /// A folder that goes with the site.
    pub(super) fn scratch(&self) -> &Path {
        self.scratch.path()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let slice = self.cgroups.join("system.slice").join(SLICE);
        let _ = fs::write(self.before.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(slice.join("harness.service"));
        let _ = fs::remove_dir(&slice);
        // These have other groups yet when this fails.
        let _ = fs::remove_dir(self.cgroups.join("system.slice"));
        let _ = fs::remove_dir(self.cgroups.join("user.slice/user-0.slice"));
        let _ = fs::remove_dir(self.cgroups.join("user.slice"));
    }
}

/// Where in a room something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A systemd unit's control group.
    Unit(&'static str),
    /// A login session of root's.
    Session,
}

/// A copy of the root with processes in it. Everything of it goes when this is dropped.
pub(super) struct Room {
    number: u32,
    first: Child,
    /// The room lasts as long as this is open.
    _lifeline: Option<ChildStdin>,
    /// The first process's id outside.
    pid: u32,
    slice: PathBuf,
    session: PathBuf,
    folder: PathBuf,
}

impl Room {
    /// Opens a room; no two at a time may have the same number.
    pub(super) fn open(site: &Site, number: u32) -> Result<Self> {
        let slice = site.cgroups.join("system.slice").join(SLICE).join(format!("room-{number}.slice"));
        let session = site.cgroups.join(format!("user.slice/user-0.slice/{}", session_name(number)));
        let folder = site.scratch.path().join(format!("room-{number}"));
        for path in [&slice, &session, &folder] {
            fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "sh"]);
        command
            .arg(site.inside.join("room.sh"))
            .args([&folder, &site.lower, &site.inside])
            .arg(&site.toolchain);
        command.env_clear().env("PATH", PATH);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut first = command.spawn().with_context(|| format!("running {command:?}"))?;
        let lifeline = first.stdin.take();
        let stdout = first.stdout.take().expect("stdout was piped above");
        let mut room = Self { number, first, _lifeline: lifeline, pid: 0, slice, session, folder };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("reading what the room says")?;
        let pid = line.trim().strip_prefix("room ").and_then(|pid| pid.parse().ok());
        room.pid = pid.with_context(|| format!("room {number} did not open: it said {line:?}"))?;
        Ok(room)
    }

    /// A command that runs `arguments` in the room, as root, in `folder` of it.
    pub(super) fn command(&self, place: Place, folder: &str, arguments: &[&str]) -> Result<Command> {
        let group = self.group(place)?;
        // Who starts the evaluation behind an `&` has it ignore interrupts, which no service does.
        let mut command = Command::new("env");
        command.args(["--default-signal", "sh", "-c", "echo 0 > \"$0\" && exec \"$@\""]);
        command.arg(group.join("cgroup.procs"));
        command.args(["setpriv", CAPABILITIES_DROPPED, "nsenter", "--target"]).arg(self.pid.to_string());
        command.args(["--mount", "--pid", "--net", "--ipc", "--uts", "--root", "--"]);
        // A shell, since attacks are started by one anyway: another program would hide that an attack runs it.
        command.args(["sh", "-c", "cd \"$0\" && exec \"$@\"", folder]).args(arguments);
        command.env_clear().envs([("PATH", PATH), ("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root")]);
        command.envs([("LANG", "C.UTF-8"), ("TERM", "xterm")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    fn group(&self, place: Place) -> Result<PathBuf> {
        let group = match place {
            Place::Unit(name) => self.slice.join(name),
            Place::Session => self.session.clone(),
        };
        fs::create_dir_all(&group).with_context(|| format!("creating {}", group.display()))?;
        Ok(group)
    }

    /// Runs `arguments` to their end.
    ///
    /// # Errors
    /// When they fail or take longer than `limit`; the message holds what they wrote to standard error.
    pub(super) fn run(&self, place: Place, arguments: &[&str], limit: Duration) -> Result<()> {
        let log = self.folder.with_extension("log");
        let errors = fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut child = self.command(place, "/", arguments)?.stderr(errors).spawn().context("starting sh")?;
        let status = within(&mut child, limit)?;
        let errors = fs::read_to_string(&log).unwrap_or_default();
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{}: {status}\n{}", arguments.join(" "), errors.trim_end()),
            None => bail!("{}: not done after {limit:?}\n{}", arguments.join(" "), errors.trim_end()),
        }
    }

    /// A file of the room, as seen from outside.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    /// Replaces a file of the room.
    pub(super) fn write(&self, inside: &str, text: &str) -> Result<()> {
        fs::write(self.path(inside), text)
            .with_context(|| format!("writing {inside} of room {}", self.number))
    }

    /// Removes a file of the room, if it is there.
    pub(super) fn remove(&self, inside: &str) -> Result<()> {
        match fs::remove_file(self.path(inside)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {inside} of room {}", self.number))
            }
            _ => Ok(()),
        }
    }

    /// Ends every process of one unit.
    pub(super) fn end(&self, place: Place) -> Result<()> {
        empty(&self.group(place)?)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // The room's first process ends all others of its pid namespace with it; mounts go with the last.
        let _ = self.first.kill();
        let _ = self.first.wait();
        let groups = fs::read_dir(&self.slice).into_iter().flatten().flatten().map(|entry| entry.path());
        for group in groups.filter(|path| path.is_dir()).chain([self.session.clone(), self.slice.clone()]) {
            let _ = empty(&group);
            let _ = fs::remove_dir(&group);
        }
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(self.folder.with_extension("log"));
    }
}

/// Ends the processes of a control group that was made here.
fn empty(group: &Path) -> Result<()> {
    wait_for("a control group to empty", ROOM_LIMIT, || {
        let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        Ok(members.is_empty().then_some(()))
    })
}

/// The name of a room's session.
pub(super) fn session_name(number: u32) -> String {
    format!("session-evaluate{number}.scope")
}

/// The number of the room that a control group belongs to.
pub(super) fn room_of(cgroup: &str) -> Option<u32> {
    cgroup.split('/').find_map(|part| {
        let room = part.strip_prefix("room-").and_then(|rest| rest.strip_suffix(".slice"));
        let session = part.strip_prefix("session-evaluate").and_then(|rest| rest.strip_suffix(".scope"));
        room.or(session)?.parse().ok()
    })
}

/// Waits for a process to end; ends it after `limit`, and says nothing then.
pub(super) fn within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("waiting for a process")? {
            return Ok(Some(status));
        }
        if begun.elapsed() > limit {
            child.kill().context("ending a process")?;
            child.wait().context("waiting for a process")?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Reads the first line that a process prints.
pub(super) fn first_line(child: &mut Child) -> Result<String> {
    let stdout = child.stdout.take().context("standard output is not piped")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("reading what a process says")?;
    ensure!(!line.is_empty(), "a process ended before it said that it is ready");
    Ok(line)
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::{room_of, session_name};

    #[test]
    fn a_control_group_names_its_room() {
        for (cgroup, expected) in [
            ("/system.slice/sensor-evaluate.slice/room-12.slice/evaluate-web.service", Some(12)),
            ("/user.slice/user-0.slice/session-evaluate7.scope", Some(7)),
            ("/user.slice/user-0.slice/session-7.scope", None),
            ("/system.slice/web.service", None),
            ("/system.slice/room-x.slice/web.service", None),
        ] {
            assert_eq!(room_of(cgroup), expected, "{cgroup}");
        }
        assert_eq!(room_of(&format!("/user.slice/{}", session_name(3))), Some(3));
    }
}
