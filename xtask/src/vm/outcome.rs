//! What a machine's tests said: how many passed, which failed, and what was asserted of which event. Pure: text in,
//! values out.

use super::image::EXIT_MARK;
use crate::testing::Totals;
use sensor_event::Kind;
use serde_json::Value;

/// What one run came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) totals: Totals,
    /// Names of tests that failed.
    pub(super) failures: Vec<String>,
    /// Why tests were skipped.
    pub(super) skips: Vec<String>,
    pub(super) cells: Vec<Cell>,
    /// What the agent says it cannot see.
    pub(super) limits: Vec<Limit>,
    /// Names of tests that passed only when they ran again.
    pub(super) mended: Vec<String>,
    /// Exit status of the test binary, if it got that far.
    pub(super) status: Option<i32>,
}

/// What a test says about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// Name of the kind.
    pub(super) kind: String,
    pub(super) fact: Fact,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// Its content was asserted.
    Asserted { tier: String, hook: String, what: String },
    /// It cannot be, for this reason.
    Impossible(String),
}

/// Something that an event does not show; the same on every machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Limit {
    /// Tier of the hooks that have it.
    pub(super) tier: String,
    /// Kernels that have it, in words.
    pub(super) kernels: String,
    /// What is not seen.
    pub(super) what: String,
    /// Name of the event.
    pub(super) event: String,
}

/// Stands before a cell's JSON.
const CELL_MARK: &str = "cell: ";

/// Stands before a limit's JSON.
const LIMIT_MARK: &str = "limit: ";

impl Outcome {
    pub(super) fn of(log: &str) -> Self {
        let mut outcome = Self::default();
        let mut is_in_failures = false;
        for line in log.lines() {
            outcome.totals.count(line);
            if let Some((_, reason)) = line.split_once("skipped: ") {
                outcome.skips.push(reason.to_owned());
            }
            outcome.cells.extend(cell(line));
            outcome.limits.extend(limit(line));
            if let Some(status) = line.strip_prefix(EXIT_MARK) {
                outcome.status = status.trim().parse().ok();
            }
            // The names stand indented under the last such heading.
            match line.strip_prefix("    ") {
                Some(name) if is_in_failures && !name.contains(' ') => outcome.failures.push(name.to_owned()),
                _ => is_in_failures = line == "failures:" || (is_in_failures && line.is_empty()),
            }
        }
        outcome
    }

    /// Counts a test that failed as passed if it did so when it ran again, and says whether it did.
    pub(super) fn mend(&mut self, name: &str, again: Self) -> bool {
        let Some(index) = self.failures.iter().position(|failure| failure == name) else { return false };
        if !again.is_good() {
            return false;
        }
        self.mended.push(self.failures.remove(index));
        self.totals.mend_one();
        self.cells.extend(again.cells);
        if self.failures.is_empty() {
            self.status = again.status;
        }
        true
    }

    /// Kinds of events about which no test said anything.
    pub(super) fn unsaid(&self) -> impl Iterator<Item = &'static str> {
        let names = Kind::ALL.iter().map(|kind| kind.name());
        names.filter(|name| !self.cells.iter().any(|cell| cell.kind == *name))
    }

    /// Whether tests ran and all passed.
    pub(super) fn is_good(&self) -> bool {
        self.status == Some(0) && self.totals.failed == 0 && self.totals.passed() > 0
    }
}

fn cell(line: &str) -> Option<Cell> {
    let value = value_after(line, CELL_MARK)?;
    let fact = match text_of(&value, "reason") {
        Some(reason) => Fact::Impossible(reason),
        None => Fact::Asserted {
            tier: text_of(&value, "tier")?,
            hook: text_of(&value, "hook")?,
            what: text_of(&value, "what")?,
        },
    };
    Some(Cell { kind: text_of(&value, "kind")?, fact })
}

fn limit(line: &str) -> Option<Limit> {
    let value = value_after(line, LIMIT_MARK)?;
    let text = |name| text_of(&value, name);
    Some(Limit { tier: text("tier")?, kernels: text("kernels")?, what: text("what")?, event: text("event")? })
}

/// The JSON object that stands after a mark. The next test's output may follow it.
fn value_after(line: &str, mark: &str) -> Option<Value> {
    let (_, rest) = line.split_once(mark).filter(|(_, rest)| rest.starts_with('{'))?;
    serde_json::Deserializer::from_str(rest).into_iter().next()?.ok()
}

fn text_of(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(str::to_owned)
}

/// Stands before the number of runs of programs that the kernel skipped while a test ran that failed.
const MISSED_MARK: &str = "missed: ";

/// Whether a test failed while the kernel skipped runs of programs, as it does where tasks are preempted inside of them:
/// then it says nothing about the programs.
pub(super) fn is_disturbed(log: &str, name: &str) -> bool {
    let counts = output_of(log, name).filter_map(|line| line.strip_prefix(MISSED_MARK)?.parse::<u64>().ok());
    counts.sum::<u64>() > 0
}

/// The lines that a test wrote: from its name to the next test's.
pub(super) fn output_of<'a>(log: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let heading = format!("test {name} ... ");
    let mut lines = log.lines().skip_while(move |line| !line.starts_with(&heading));
    let first = lines.next();
    first.into_iter().chain(lines.take_while(|line| !(line.starts_with("test ") || *line == "failures:")))
}

#[cfg(test)]
mod tests {
    use super::{Cell, Fact, Limit, Outcome, is_disturbed, output_of};

    const LOG: &str = "running 5 tests
test a::one ... cell: {\"hook\":\"tp/x\",\"kind\":\"exec\",\"tier\":\"tracepoint\",\"what\":\"all: {}\"}
ok
test a::two ... 
thread 'a::two' panicked at x.rs:1:1:
no
FAILED
test a::three ... skipped: no such thing
ok
test a::four ... cell: {\"kind\":\"mount\",\"reason\":\"none here\"}
ok
test a::five ... limit: {\"event\":\"send\",\"kernels\":\"all\",\"tier\":\"lsm\",\"what\":\"raw\"}
ok

failures:

failures:
    a::two

test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 44.76s

sensor-vm: exit 101
";

    #[test]
    fn log_is_counted_and_cells_are_found() {
        let outcome = Outcome::of(LOG);
        let totals = &outcome.totals;
        assert_eq!((totals.passed(), totals.failed, totals.skipped), (3, 1, 1));
        assert_eq!(outcome.failures, ["a::two"]);
        assert_eq!(outcome.skips, ["no such thing"]);
        assert_eq!(outcome.status, Some(101));
        assert!(!outcome.is_good());
        let asserted = |tier: &str, hook: &str, what: &str| Fact::Asserted {
            tier: tier.to_owned(),
            hook: hook.to_owned(),
            what: what.to_owned(),
        };
        let expected = [
            Cell { kind: "exec".to_owned(), fact: asserted("tracepoint", "tp/x", "all: {}") },
            Cell { kind: "mount".to_owned(), fact: Fact::Impossible("none here".to_owned()) },
        ];
        assert_eq!(outcome.cells, expected);
        let [tier, kernels, what, event] = ["lsm", "all", "raw", "send"].map(str::to_owned);
        assert_eq!(outcome.limits, [Limit { tier, kernels, what, event }]);
    }

    #[test]
    fn failing_test_is_shown_with_its_own_lines() {
        let lines: Vec<&str> = output_of(LOG, "a::two").collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(lines[3], "FAILED");
    }

    #[test]
    fn only_a_test_that_the_kernel_disturbed_is_disturbed() {
        let log = |count| LOG.replace("no\nFAILED", &format!("no\nmissed: {count}\nFAILED"));
        assert!(is_disturbed(&log(2), "a::two") && !is_disturbed(&log(2), "a::one"));
        assert!(!is_disturbed(&log(0), "a::two") && !is_disturbed(LOG, "a::two"));
    }

    #[test]
    fn a_test_that_passes_again_is_mended() {
        let again = |log| Outcome::of(log);
        let mut outcome = Outcome::of(LOG);
        assert!(
            !outcome
                .mend("a::two", again("test result: FAILED. 0 passed; 1 failed\n\nsensor-vm: exit 101\n"))
        );
        assert!(!outcome.mend("a::two", again("")));
        assert!(!outcome.is_good());
        let passed = "test result: ok. 1 passed; 0 failed\n\nsensor-vm: exit 0\n";
        assert!(!outcome.mend("a::one", again(passed)));
        assert!(outcome.mend("a::two", again(passed)) && outcome.is_good());
        assert_eq!((outcome.totals.passed(), outcome.totals.failed), (4, 0));
        assert_eq!(outcome.mended, ["a::two"]);
    }

    #[test]
    fn events_without_a_cell_are_named() {
        let unsaid: Vec<_> = Outcome::of(LOG).unsaid().collect();
        assert!(unsaid.contains(&"fork") && !unsaid.contains(&"exec") && !unsaid.contains(&"mount"));
    }

    #[test]
    fn machine_that_ran_nothing_is_not_good() {
        assert!(!Outcome::of("").is_good());
        assert!(!Outcome::of("test result: ok. 0 passed; 0 failed\n\nsensor-vm: exit 0\n").is_good());
        assert!(!Outcome::of("test result: ok. 3 passed; 0 failed\n").is_good());
    }
}
