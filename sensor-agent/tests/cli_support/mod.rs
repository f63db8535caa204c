//! Runs the agent's executable for the command line tests. Not a test. It may call the executable only.
#![allow(dead_code, reason = "each test uses its own part of this file")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The agent's executable.
pub(crate) fn agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sensor-agent"))
}

/// Whether the agent may load its programs here. Says `skipped:` and why when not.
pub(crate) fn is_permitted() -> bool {
    let output = agent().args(["check", "--json"]).output().expect("the agent starts");
    let report: Value = serde_json::from_slice(&output.stdout).expect("check --json prints JSON");
    match report["error"].as_str() {
        None => true,
        Some(reason) => {
            println!("skipped: {reason}");
            false
        }
    }
}

/// Whether a program is installed. Says `skipped:` when not.
pub(crate) fn is_installed(program: &str) -> bool {
    let is_found = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"]
        .iter()
        .any(|folder| PathBuf::from(folder).join(program).exists());
    if !is_found {
        println!("skipped: {program} is not installed");
    }
    is_found
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Each line of stdout as JSON.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

/// Runs the agent to its end.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Said {
    let output = agent().args(arguments).output().expect("the agent starts");
    Said {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("output is UTF-8"),
    }
}

/// A running agent that is told to end by SIGINT.
pub(crate) struct Running {
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<String>,
}

impl Running {
    /// Starts it, and waits until it says `ready`: from then on everything is seen.
    pub(crate) fn start<S: AsRef<OsStr>>(
        arguments: impl IntoIterator<Item = S>,
        ready: &'static str,
    ) -> Self {
        let mut child = agent()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        let mut out = child.stdout.take().expect("stdout is piped");
        let stdout = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).expect("stdout can be read");
            bytes
        });
        let (stderr, is_ready) = follow(BufReader::new(child.stderr.take().expect("stderr is piped")), ready);
        is_ready.recv_timeout(READY_MAX).expect("the agent says that it is ready");
        Self { child, stdout, stderr }
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> (ExitStatus, Vec<u8>, String) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).expect("the agent still runs");
        let status = self.child.wait().expect("the agent ends");
        (status, self.stdout.join().expect("it reads"), self.stderr.join().expect("it reads"))
    }
}

fn follow(
    mut lines: impl BufRead + Send + 'static,
    ready: &'static str,
) -> (JoinHandle<String>, Receiver<()>) {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || {
        let mut text = String::new();
        loop {
            let start = text.len();
            if lines.read_line(&mut text).expect("stderr can be read") == 0 {
                return text;
            }
            if text[start..].starts_with(ready) {
                // The receiver is gone once it has heard.
                let _ = sender.send(());
            }
        }
    });
    (thread, receiver)
}

/// Loading takes some seconds on a slow machine.
const READY_MAX: Duration = Duration::from_secs(60);
