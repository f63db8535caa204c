//! The service under attack: its own control group, so that it is a workload, and its own mount namespace, so that
//! what the intrusion writes to the cron folder never reaches the host's. Not the service itself. It may mount in
//! that namespace and make one folder in the cgroup v2 tree.

use anyhow::{Context, Result, ensure};
use sensor_tests::{Kept, Workload};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The service's unit is named after it.
const NAME: &str = "sensor-demo";
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long the service may take for an answer, or for reading a request.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const REQUEST_INTERVAL: Duration = Duration::from_millis(100);
/// Host names that normal look-ups ask for.
const NORMAL_NAME: &str = "localhost";

/// A running service.
pub(super) struct Target {
    // Dropped before the group that it runs in.
    service: Kept,
    group: Workload,
    name: String,
    port: u16,
}

impl Target {
    /// Starts the service in a control group and a mount namespace of its own.
    pub(super) fn start(scratch: &Path) -> Result<Self> {
        let group = Workload::new(NAME)?;
        let program = scratch.join("sensor-demo-service");
        fs::copy(std::env::current_exe()?, &program).context("copying the service's program")?;
        // The shell moves itself into the group, hides the host's cron folder, and becomes the service.
        let script = r#"echo $$ > "$1" && mount -t tmpfs demo "$2" && exec "$3" demo-service --log "$4""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "demo"]);
        command.arg(group.procs()).arg(CRON_FOLDER).arg(&program).arg(scratch.join("access.log"));
        ensure!(Path::new(CRON_FOLDER).is_dir(), "the demo needs the folder {CRON_FOLDER} to mount over");
        let mut service = Kept::start("demo service", &mut command, &scratch.join("service.log"))?;
        let port = service.line_after("listening ", START_LIMIT)?;
        let port = port.parse().with_context(|| format!("demo service: port {port:?}"))?;
        Ok(Self { service, name: group.name(), group, port })
    }

    /// The workload that owns the service's baseline.
    pub(super) fn workload(&self) -> &str {
        &self.name
    }

    /// Process id of the service.
    pub(super) fn id(&self) -> u32 {
        self.service.id()
    }

    /// Folder of the service's control group.
    pub(super) fn cgroup(&self) -> &Path {
        self.group.cgroup()
    }

    /// Sends normal requests for `duration`.
    pub(super) fn work(&self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.request("/")?;
            self.request(&format!("/lookup?name={NORMAL_NAME}"))?;
            std::thread::sleep(REQUEST_INTERVAL);
        }
        Ok(())
    }

    /// Whether the candidate holds what normal requests do: the log written and the look-up's program run.
    pub(super) fn is_learned(&self, candidate: &str) -> bool {
        candidate.contains("access.log") && candidate.contains("getent")
    }

    /// Runs `command` in the service's shell, through the hole.
    pub(super) fn run_through_hole(&self, command: &str) -> Result<()> {
        self.request(&format!("/lookup?name={}", percent_encode(&format!("{NORMAL_NAME}; {command}"))))
    }

    /// Port of the service on loopback.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Leaves the service running.
    pub(super) fn detach(self) {
        self.service.detach();
        self.group.detach();
    }

    fn request(&self, target: &str) -> Result<()> {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.port)).context("connecting to the demo service")?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        write!(stream, "GET {target} HTTP/1.1\r\nHost: demo\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("reading the demo service's answer")?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "demo service answered {answer:?}");
        Ok(())
    }
}

/// The folder that the intrusion writes to; the service sees an empty one of its own.
pub(super) const CRON_FOLDER: &str = "/etc/cron.d";

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
        encoded
    })
}
