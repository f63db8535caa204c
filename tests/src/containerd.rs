//! A containerd of our own, with everything it keeps in a temporary folder. Not a client. It may start containerd and
//! ctr.

use crate::image::docker_archive;
use crate::process::output;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running containerd; it ends when this goes.
pub struct Containerd {
    folder: TempDir,
    child: Child,
}

impl Containerd {
    /// What has to be installed for it.
    pub const PROGRAMS: [&str; 4] = ["containerd", "ctr", "runc", "busybox"];

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When it cannot run here, with its own last word.
    pub fn start() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("sensor-containerd-").tempdir().context("making a folder")?;
        let below = |name: &str| folder.path().join(name).display().to_string();
        let state = below("state");
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{state}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = \"{state}/containerd.sock\"\n[ttrpc]\naddress = \"{state}/containerd.sock.ttrpc\"\n",
            below("root"),
        );
        std::fs::write(folder.path().join("config.toml"), config).context("writing its configuration")?;
        let log = std::fs::File::create(folder.path().join("log")).context("making its log")?;
        let child = Command::new("containerd")
            .args(["--config", &below("config.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting containerd")?;
        let mut containerd = Self { folder, child };
        let deadline = Instant::now() + START_MAX;
        while !containerd.answers() {
            let has_ended = containerd.child.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(containerd.folder.path().join("log")).unwrap_or_default();
                bail!("containerd does not run here: {}", log.lines().last().unwrap_or_default());
            }
        }
        Ok(containerd)
    }

    /// Where it keeps everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its state folder, with its socket.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Runs `ctr`.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn ctr(&self, arguments: &[&str]) -> Result<()> {
        output(self.command().args(arguments).stdin(Stdio::null())).map(|_| ())
    }

    /// Makes an image known that holds nothing but busybox.
    ///
    /// # Errors
    /// When busybox is not installed, or the import fails.
    pub fn import_busybox(&self, image: &str) -> Result<()> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
        let busybox = busybox.context("busybox is not installed")?;
        let archive = self.folder.path().join("image.tar");
        std::fs::write(&archive, docker_archive(image, &[("bin/busybox", &busybox)]))
            .context("writing an image")?;
        self.ctr(&[
            "image",
            "import",
            "--snapshotter",
            "native",
            archive.to_str().context("a path in UTF-8")?,
        ])
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
