//! A containerd of the test's own, with everything it keeps in a temporary folder. Not a client. It may start
//! containerd and ctr.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running containerd; it ends when this goes.
pub(crate) struct Containerd {
    folder: TempDir,
    child: Child,
}

impl Containerd {
    /// Starts it and waits until it answers. The reason when it cannot run here.
    pub(crate) fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let below = |name: &str| folder.path().join(name).display().to_string();
        let state = below("state");
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{state}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = \"{state}/containerd.sock\"\n[ttrpc]\naddress = \"{state}/containerd.sock.ttrpc\"\n",
            below("root"),
        );
        std::fs::write(folder.path().join("config.toml"), config)
            .map_err(|error| format!("config: {error}"))?;
        let log =
            std::fs::File::create(folder.path().join("log")).map_err(|error| format!("log: {error}"))?;
        let child = Command::new("containerd")
            .args(["--config", &below("config.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("containerd does not start: {error}"))?;
        let mut containerd = Self { folder, child };
        let deadline = Instant::now() + START_MAX;
        while !containerd.answers() {
            let has_ended = containerd.child.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(containerd.folder.path().join("log")).unwrap_or_default();
                return Err(format!(
                    "containerd does not run here: {}",
                    log.lines().last().unwrap_or_default()
                ));
            }
        }
        Ok(containerd)
    }

    /// Where it keeps everything.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its state folder, with its socket.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Runs `ctr`.
    pub(crate) fn ctr(&self, arguments: &[&str]) {
        let output = self.command().args(arguments).output().expect("ctr starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr {arguments:?}: {}: {said}", output.status);
    }

    fn answers(&self) -> bool {
        let output = self.command().args(["--connect-timeout", "1s", "version"]).output();
        output.is_ok_and(|output| output.status.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.state().join("containerd.sock"));
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// Longest wait for the first answer.
const START_MAX: Duration = Duration::from_secs(60);
