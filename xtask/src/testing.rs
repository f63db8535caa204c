//! `cargo xtask test`: all tests of the workspace, with skipped ones counted as skipped. Not a test framework: cargo
//! and libtest run them. It may run cargo.

use crate::workspace_root;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

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
    let mut totals = Totals::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("reading cargo test's output")?;
        println!("{line}");
        totals.count(&line);
    }
    let status = child.wait().context("waiting for cargo test")?;
    let (passed, failed, skipped) = (totals.passed(), totals.failed, totals.skipped);
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    if !status.success() || failed > 0 {
        bail!("cargo test: {status}, {failed} failed");
    }
    Ok(())
}

impl Totals {
    /// Tests that did run and passed. One that cannot run here prints `skipped: REASON` and returns, so libtest
    /// counts it as passed.
    pub(crate) fn passed(&self) -> u64 {
        self.returned.saturating_sub(self.skipped)
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
    use super::Totals;

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
