//! `cargo xtask test`: all tests of the workspace, with skipped ones counted as skipped. Not a test framework: cargo
//! and libtest run them. It may run cargo.

use crate::workspace_root;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long all tests may take, with their build: some minutes where nothing is wrong.
const DEADLINE: Duration = Duration::from_secs(3_600);

/// Lines of tests that wait to be printed.
const LINES_MAX: usize = 1_024;

/// What the runs added up to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// What libtest calls passed, skipped tests included.
    returned: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// Builds the binaries that end-to-end tests start, then runs every test one package after the other.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    let root = workspace_root();
    sensor_tests::run(Command::new("cargo").current_dir(&root).args(["build", "--workspace", "--bins"]))?;
    let mut command = Command::new("cargo");
    command.current_dir(&root).args(["test", "--workspace", "--no-fail-fast"]);
    command.args(filter).args(["--", "--nocapture"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting cargo test")?;
    let stdout = child.stdout.take().expect("stdout was piped above");
    let (lines, deadline) = (lines_of(stdout), Instant::now() + DEADLINE);
    let mut totals = Totals::default();
    let mut last = String::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                totals.count(&line);
                last = line;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                end(&mut child);
                bail!("cargo test: not finished after {} s; it said last: {last}", DEADLINE.as_secs());
            }
        }
    }
    let status = child.wait().context("waiting for cargo test")?;
    let (passed, failed, skipped) = (totals.passed(), totals.failed, totals.skipped);
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    if !status.success() || failed > 0 {
        bail!("cargo test: {status}, {failed} failed");
    }
    if let Some(filter) = filter {
        ensure!(totals.returned > 0, "no test has a name that contains {filter:?}");
    }
    Ok(())
}

/// Lines as they come, whatever bytes they hold.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = sync_channel(LINES_MAX);
    // The thread ends with the output, or when nobody reads any more.
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Ends cargo and the tests that it runs.
fn end(cargo: &mut Child) {
    let pid = cargo.id();
    let tests = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for test in tests.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        // It may have ended just now.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(test), nix::sys::signal::Signal::SIGKILL);
    }
    let _ = cargo.kill();
    let _ = cargo.wait();
}

impl Totals {
    /// Tests that did run and passed. One that cannot run here prints `skipped: REASON` and returns, so libtest
    /// counts it as passed.
    pub(crate) fn passed(&self) -> u64 {
        self.returned.saturating_sub(self.skipped)
    }

    /// A test that had failed passed when it ran again.
    pub(crate) fn mend_one(&mut self) {
        self.failed -= 1;
        self.returned += 1;
    }

    /// Adds one line of libtest's output.
    pub(crate) fn count(&mut self, line: &str) {
        if line.contains("skipped: ") {
            self.skipped += 1;
            return;
        }
        let Some(summary) = line.strip_prefix("test result: ") else { return };
        for part in summary.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) =
                (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match what {
                "passed" => self.returned += count,
                "failed" => self.failed += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Totals, lines_of};

    #[test]
    fn line_that_is_no_text_does_not_end_the_reading() {
        let lines: Vec<String> = lines_of(&b"a\n\xff\xfe\nb\r\nc"[..]).iter().collect();
        assert_eq!(lines, ["a", "\u{fffd}\u{fffd}", "b", "c"]);
    }

    #[test]
    fn skipped_tests_are_not_counted_as_passed() {
        let mut totals = Totals::default();
        // The line of a skipped test comes before the summary that counts it.
        totals.count("skipped: needs CAP_BPF");
        totals.count("test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out");
        totals.count("test result: ok. 2 passed; 0 failed; 0 ignored");
        assert_eq!((totals.passed(), totals.failed, totals.skipped), (6, 1, 1));
    }
}
