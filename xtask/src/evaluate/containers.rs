//! Containers of the ordinary days: one that serves, and jobs that come and go, by a containerd of the evaluation's own.
//! Not their schedule. It may run containerd and ctr.

use super::day::Dice;
use anyhow::{Context, Result, ensure};
use sensor_tests::{Containerd, wait_for};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What a baseline calls them.
pub(super) const WORKLOADS: &[&str] = &["container:sensor.test/web", "container:sensor.test/batch"];

const WEB: &str = "sensor.test/web:1";
const BATCH: &str = "sensor.test/batch:1";
/// How long the server may take to answer.
const READY_LIMIT: Duration = Duration::from_secs(30);

const SERVE: &str = "b=/bin/busybox; $b mkdir -p /www && echo ready > /www/index.html && \
                     exec $b httpd -f -p 127.0.0.1:8080 -h /www";
/// Arguments: a date, how many numbers, what they begin with.
const REPORT: &str = r#"b=/bin/busybox; $b mkdir -p /tmp; t=$($b mktemp -d) || exit 1
for n in $($b seq "$2"); do echo $((n * $3 % 97)); done > "$t/numbers"
$b sort -n "$t/numbers" | $b gzip > "/data/report-$1.gz"
$b rm -r "$t"
for old in $($b ls -r /data | $b tail -n +4); do $b rm "/data/$old"; done"#;

/// A containerd with the images, and where its containers run.
pub(super) struct Containers {
    containerd: Containerd,
    /// Control group, from the root.
    slice: String,
    /// What jobs keep.
    volume: TempDir,
    /// The container that serves: no other run's, for runc keeps what an interrupted one left, for all containerds.
    server: String,
}

impl Containers {
    /// Starts containerd; its containers' control groups will lie in `slice`.
    ///
    /// # Errors
    /// When it is not installed, or cannot run here.
    pub(super) fn start(slice: String) -> Result<Self> {
        for program in Containerd::PROGRAMS {
            let found =
                Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
            ensure!(found.is_ok(), "{program} is not installed");
        }
        let containerd = Containerd::start()?;
        for image in [WEB, BATCH] {
            containerd.import_busybox(image)?;
        }
        let volume =
            tempfile::Builder::new().prefix("sensor-evaluate-").tempdir().context("making a folder")?;
        Ok(Self { containerd, slice, volume, server: format!("web-{}", std::process::id()) })
    }

    /// containerd's state folder.
    pub(super) fn state(&self) -> PathBuf {
        self.containerd.state()
    }

    /// Starts the container that serves, and waits until it does.
    pub(super) fn serve(&self) -> Result<()> {
        self.run(&["--detach"], WEB, &self.server, &["sh", "-c", SERVE])?;
        let mut tries = 0;
        wait_for("the container to serve", READY_LIMIT, || {
            tries += 1;
            Ok(self.check(&format!("ready-{tries}")).ok())
        })
    }

    /// Asks the server from inside, as health checks do; no two checks may have the same name.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let wget = ["/bin/busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"];
        let exec = ["task", "exec", "--exec-id", name, &self.server];
        self.containerd.ctr(&exec.iter().chain(&wget).copied().collect::<Vec<_>>())
    }

    /// Runs a job; no two may have the same name.
    pub(super) fn job(&self, name: &str, date: &str, dice: &mut Dice) -> Result<()> {
        let volume = self.volume.path().display();
        let mount = format!("type=bind,src={volume},dst=/data,options=rbind:rw");
        let (count, first) = ((20 + dice.below(200)).to_string(), (1 + dice.below(90)).to_string());
        let report = ["sh", "-c", REPORT, "report", date, &count, &first];
        self.run(&["--rm", "--mount", &mount], BATCH, name, &report)
    }

    fn run(&self, options: &[&str], image: &str, name: &str, arguments: &[&str]) -> Result<()> {
        let group = format!("{}/containerd-{name}.scope", self.slice);
        let run = ["run", "--null-io", "--snapshotter", "native", "--cgroup", &group];
        let container = [image, name, "/bin/busybox"];
        let all = run.iter().chain(options).chain(&container).chain(arguments);
        self.containerd.ctr(&all.copied().collect::<Vec<_>>())
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        // It is gone already when it could not start.
        let _ = self.containerd.ctr(&["task", "rm", "--force", &self.server]);
    }
}
