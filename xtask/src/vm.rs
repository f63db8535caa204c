//! `cargo xtask vm`: the kernel test binary, the very object it holds, on Debian's kernels in virtual machines; and
//! the table of docs/kernel-support.md. Not the tests themselves. It may run cargo, apt and QEMU.
//!
//! The binary is linked statically and is all that runs there, next to busybox: it and an `init` are the initramfs
//! that [`image`] makes. [`kernels`] fetches each kernel once, [`machine`] boots it, [`outcome`] reads what came out.

mod docs;
mod image;
mod kernels;
mod machine;
mod outcome;

use crate::apt::Unavailable;
use crate::ci::Step;
use crate::{target_folder, workspace_root};
use anyhow::{Context, Result, bail, ensure};
use kernels::{Kernel, Name};
use machine::Log;
use outcome::Outcome;
use serde_json::Value;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Which machines to boot and which tests to run there.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which of Debian's kernels.
    #[arg(long, value_enum, default_value_t = Choice::All)]
    kernel: Choice,
    /// Best tier of hooks to use; both tiers if it is left out.
    #[arg(long, value_enum)]
    tier: Option<Tier>,
    /// Only tests whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Rounds of the races: an emulated processor does some hundred a second.
    #[arg(long, default_value_t = ROUNDS)]
    rounds: u32,
    /// Write what was asserted to the table of docs/kernel-support.md: needs all kernels and all tests.
    #[arg(long)]
    write_docs: bool,
    /// Fetch the kernels anew, also those in the cache: the newest is a newer one after some weeks.
    #[arg(long)]
    refresh: bool,
}

/// Rounds of the races, unless asked for more.
const ROUNDS: u32 = 2_000;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    #[value(name = "5.10")]
    V5_10,
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
    Newest,
    All,
}

impl Choice {
    fn kernels(self) -> &'static [Name] {
        match self {
            Self::V5_10 => &[Name::V5_10],
            Self::V6_1 => &[Name::V6_1],
            Self::V6_12 => &[Name::V6_12],
            Self::Newest => &[Name::Newest],
            Self::All => &Name::ALL,
        }
    }
}

/// The best tier of hooks that a run may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Tier {
    /// Functions of the kernel, where the kernel offers them.
    Lsm,
    /// Tracepoints only.
    Tracepoint,
}

impl Tier {
    const ALL: [Self; 2] = [Self::Lsm, Self::Tracepoint];

    fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// One machine's run and what came of it.
struct Run {
    kernel: Name,
    release: String,
    tier: Tier,
    log: Log,
    outcome: Outcome,
    took: Duration,
}

impl Run {
    fn is_good(&self) -> bool {
        self.log.failure.is_none() && self.outcome.is_good()
    }
}

/// Machines that run at the same time: more would only make one another slower.
const MACHINES_MAX: usize = 2;

/// How often a test that the kernel disturbs is tried again.
const TRIES_MAX: u32 = 3;

/// Lines of a test's output that are shown when it fails.
const FAILURE_LINES_MAX: usize = 60;

/// Boots the machines and runs the tests in them.
///
/// # Errors
/// When a machine or a test in it fails, or something that machines need is missing.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        !arguments.write_docs
            || (arguments.kernel == Choice::All && arguments.tier.is_none() && arguments.filter.is_none()),
        "--write-docs needs every kernel, tier and test: leave out --kernel, --tier and --filter"
    );
    let tiers = arguments.tier.as_ref().map_or(&Tier::ALL[..], std::slice::from_ref);
    let what = What {
        tiers,
        filter: arguments.filter.as_deref(),
        rounds: arguments.rounds,
        is_refresh: arguments.refresh,
    };
    let runs = run_all(arguments.kernel.kernels(), &what)?;
    report(&runs, what.is_whole())?;
    if arguments.write_docs {
        docs::write(&runs, None)?;
    }
    Ok(())
}

/// All kernels and tiers, for CI, with the table of docs/kernel-support.md that these runs make next to the logs.
/// Skipped where QEMU or the kernels cannot be had.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_in_ci() -> Result<Step> {
    let what = What { tiers: &Tier::ALL, filter: None, rounds: ROUNDS, is_refresh: false };
    match run_all(&Name::ALL, &what) {
        Ok(runs) => {
            report(&runs, what.is_whole())?;
            docs::write(&runs, Some(&results()?.join("kernel-support.md")))?;
            Ok(Step::Done)
        }
        Err(error) if error.is::<Unavailable>() => Ok(Step::Skipped(format!("{error:#}"))),
        Err(error) => Err(error),
    }
}

/// What each kernel is to do.
struct What<'a> {
    tiers: &'a [Tier],
    filter: Option<&'a str>,
    rounds: u32,
    /// Whether the cache is to be filled anew.
    is_refresh: bool,
}

impl What<'_> {
    /// Whether every test runs: then each event must be asserted, or said to be impossible.
    fn is_whole(&self) -> bool {
        self.filter.is_none()
    }
}

fn run_all(names: &[Name], what: &What<'_>) -> Result<Vec<Run>> {
    let cache = cache()?;
    machine::require_qemu()?;
    let (kernels, busybox) = kernels::find(names, &cache, what.is_refresh)?;
    let binary = build()?;
    let results = results()?;
    let waiting: Vec<(&Kernel, Tier)> =
        kernels.iter().flat_map(|kernel| what.tiers.iter().map(move |tier| (kernel, *tier))).rev().collect();
    let count = waiting.len();
    let (waiting, done) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        while let Some((kernel, tier)) = pop(&waiting) {
            let begun = Instant::now();
            let base = format!("{}-{}", kernel.name.text(), tier.name());
            let boot = |suffix: &str, filter: Option<&str>| {
                let base = results.join(format!("{base}{suffix}"));
                let order = image::Order { tier: tier.name(), filter, rounds: what.rounds };
                let image = image::write(&base, kernel, &busybox, &binary, &order)?;
                machine::boot(kernel, &image, &base)
            };
            let log = boot("", what.filter)?;
            let outcome = try_again(&log, |name| boot("-again", Some(name)))?;
            let run = Run {
                kernel: kernel.name,
                release: kernel.release.clone(),
                tier,
                log,
                outcome,
                took: begun.elapsed(),
            };
            show(&run, count == 1);
            done.lock().expect("no worker panics").push(run);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..MACHINES_MAX.min(count)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    let mut runs = done.into_inner().expect("no worker panics");
    runs.sort_by_key(|run| (run.kernel, run.tier));
    Ok(runs)
}

/// What came of a run, after those tests ran again that failed while the kernel skipped runs of programs.
fn try_again(log: &Log, boot: impl Fn(&str) -> Result<Log>) -> Result<Outcome> {
    let mut outcome = Outcome::of(&log.tests);
    if log.failure.is_some() {
        return Ok(outcome);
    }
    for name in outcome.failures.clone() {
        let mut tests = log.tests.clone();
        for _ in 0..TRIES_MAX {
            if !outcome::is_disturbed(&tests, &name) {
                break;
            }
            tests = boot(&name)?.tests;
            if outcome.mend(&name, Outcome::of(&tests)) {
                break;
            }
        }
    }
    Ok(outcome)
}

fn pop<T>(waiting: &Mutex<Vec<T>>) -> Option<T> {
    waiting.lock().expect("no worker panics").pop()
}

/// Prints what came of a run: all of it if it is the only one, else what failed.
fn show(run: &Run, is_only: bool) {
    println!("{}", summary(run));
    if is_only && run.is_good() {
        println!("{}", run.log.tests.trim());
    }
    for name in &run.outcome.failures {
        println!("---- {} {}: {name}", run.kernel.text(), run.tier.name());
        for line in outcome::output_of(&run.log.tests, name).take(FAILURE_LINES_MAX) {
            println!("{line}");
        }
    }
    if let Some(failure) = &run.log.failure {
        println!("---- {} {}: {failure}; it said last:", run.kernel.text(), run.tier.name());
        println!("{}\n{}", machine::tail(&run.log.kernel), machine::tail(&run.log.tests));
    }
}

fn summary(run: &Run) -> String {
    let totals = &run.outcome.totals;
    format!(
        "vm: {:<6} {:<10} {:>3} passed, {} failed, {} skipped, {} cells, {:>3} s, {}{}",
        run.kernel.text(),
        run.tier.name(),
        totals.passed(),
        totals.failed,
        totals.skipped,
        run.outcome.cells.len(),
        run.took.as_secs(),
        run.release,
        run.log.failure.as_ref().map_or(String::new(), |failure| format!(": {failure}")),
    )
}

fn report(runs: &[Run], is_whole: bool) -> Result<()> {
    println!();
    let mut unsaid = 0;
    for run in runs {
        println!("{}", summary(run));
        for reason in &run.outcome.skips {
            println!("      skipped: {reason}");
        }
        for name in &run.outcome.mended {
            println!("      passed when it ran again, for the kernel had skipped runs of programs: {name}");
        }
        for name in &run.outcome.failures {
            println!("      failed: {name}");
        }
        // Machines that failed did not say everything.
        for kind in run.outcome.unsaid().filter(|_| is_whole && run.is_good()) {
            println!("      not asserted by any test: {kind}");
            unsaid += 1;
        }
    }
    let bad = runs.iter().filter(|run| !run.is_good()).count();
    if bad > 0 {
        bail!("{bad} of {} machines failed; whole logs: {}", runs.len(), results()?.display());
    }
    ensure!(
        unsaid == 0,
        "{unsaid} cells of the table would be empty: a test must say what it asserts of each event, or why it cannot"
    );
    Ok(())
}

/// The test binary.
const TESTS: &str = "kernel";

/// Builds the kernel test binary, static. Naming the target keeps it apart from other builds, which it shares only
/// the compilers' plugins with.
fn build() -> Result<PathBuf> {
    println!("vm: building the kernel tests");
    let mut command = Command::new("cargo");
    command
        .current_dir(workspace_root())
        .args(["test", "--no-run", "--message-format=json-render-diagnostics"])
        .args(["-p", "sensor-agent", "--test", TESTS, "--target", "x86_64-unknown-linux-gnu"])
        // Each test looks up some hundred kernel functions in the kernel's BTF, which an emulator makes slow.
        .args(["--config", "profile.dev.package.aya-obj.opt-level=3"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let output = command.stderr(Stdio::inherit()).output().context("running cargo test --no-run")?;
    ensure!(output.status.success(), "the kernel tests do not build: {}", output.status);
    let messages = String::from_utf8(output.stdout).context("cargo's messages are not text")?;
    let binary = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == TESTS)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    stripped(&binary.context("cargo named no test binary")?)
}

/// The binary without what only a debugger reads, which would only take memory in the machines; as it is where there
/// are no binutils.
fn stripped(binary: &Path) -> Result<PathBuf> {
    let small = results()?.join("kernel-tests");
    let status = Command::new("strip").arg("-o").args([&small, binary]).status();
    Ok(if status.is_ok_and(|status| status.success()) { small } else { binary.to_owned() })
}

/// Where the machines' files and logs go.
fn results() -> Result<PathBuf> {
    let results = target_folder()?.join("vm");
    fs::create_dir_all(&results).with_context(|| format!("making {}", results.display()))?;
    Ok(results)
}

/// Names another cache folder than the user's.
const CACHE_VARIABLE: &str = "SENSOR_VM_CACHE";

/// Where kernels are kept.
fn cache() -> Result<PathBuf> {
    let cache = match env::var_os(CACHE_VARIABLE) {
        Some(folder) => {
            std::path::absolute(&folder).with_context(|| format!("{CACHE_VARIABLE} {}", folder.display()))?
        }
        None => crate::setup::cache()?.join("vm"),
    };
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    Ok(cache)
}
