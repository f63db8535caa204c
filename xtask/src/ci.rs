//! `cargo xtask ci`: the steps of CI in order, each timed, stopping at the first that fails; and `codegen`. Not the
//! steps themselves. It may run cargo and the other tasks.

use crate::{bench, demo, ebpf, fuzz, setup, testing, tidy, vm, workspace_root};
use anyhow::{Context, Result, ensure};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What became of a step that did not fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was done.
    Done,
    /// It cannot be done here, for this reason.
    Skipped(String),
}

/// A step's name and what it does.
type Task = (&'static str, fn() -> Result<Step>);

const STEPS: [Task; 13] = [
    ("lock files are up to date", || done(locked())),
    ("setup", || done(setup::run().and_then(|()| setup::formatter_and_linter()))),
    ("format", || done(format())),
    ("tidy", || done(tidy::run())),
    ("kernel object is what its source builds to", || done(ebpf::check())),
    ("generated code is what proto/ generates", || done(codegen(true))),
    ("clippy", || done(cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))),
    ("licences and duplicates (cargo-deny)", deny),
    ("fuzzing, 15 s a target", fuzz::run_in_ci),
    ("demo", || done(demo::run(&demo::Arguments::default()))),
    ("bench, its small form", bench::run_in_ci),
    ("tests", || done(testing::run(None))),
    ("kernel tests on other kernels", vm::run_in_ci),
];

/// Workspaces with a lock file of their own, below the repository's root.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "fuzz/Cargo.toml", "sensor-ebpf/Cargo.toml"];

/// Runs everything that must hold before a change lands.
///
/// # Errors
/// When a step fails. One that cannot be done here is skipped, and said to be at the end.
pub(crate) fn run() -> Result<()> {
    shed_environment()?;
    ensure!(
        nix::unistd::geteuid().is_root(),
        "ci loads kernel programs and installs what it needs: run it as root"
    );
    let start = Instant::now();
    let mut spent = Vec::new();
    for (name, task) in STEPS {
        println!("\n== {name}");
        let begun = Instant::now();
        let step = task().with_context(|| format!("ci step `{name}`"))?;
        if let Step::Skipped(reason) = &step {
            println!("skipped: {reason}");
        }
        spent.push((name, begun.elapsed(), step));
    }
    println!("\n{}", summary(&spent, start.elapsed()));
    Ok(())
}

fn summary(spent: &[(&str, Duration, Step)], total: Duration) -> String {
    let passed = spent.iter().filter(|(_, _, step)| *step == Step::Done).count();
    let skipped = spent.len() - passed;
    let mut text = format!("ci: {passed} steps passed, {skipped} skipped in {} s:", total.as_secs());
    for (name, time, step) in spent {
        write!(text, "\n  {:>5} s  {name}", time.as_secs())
            .expect("a string takes whatever is written to it");
        if let Step::Skipped(reason) = step {
            write!(text, ": skipped: {reason}").expect("a string takes whatever is written to it");
        }
    }
    text
}

/// Starts this program again without the variables that would make it build or test something else, if there are any.
fn shed_environment() -> Result<()> {
    let leaks: Vec<OsString> = env::vars_os().map(|(name, _)| name).filter(|name| is_leak(name)).collect();
    if leaks.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(env::current_exe().context("finding this program")?);
    command.args(env::args_os().skip(1));
    for name in &leaks {
        println!("ci: without {} of the environment", name.to_string_lossy());
        command.env_remove(name);
    }
    Err(command.exec()).context("starting ci without them")
}

fn is_leak(name: &OsStr) -> bool {
    name == "SENSOR_EBPF" || name.as_encoded_bytes().starts_with(b"SENSOR_TEST_")
}

fn done(result: Result<()>) -> Result<Step> {
    result.map(|()| Step::Done)
}

/// Fails when a lock file is not what its manifests ask for: a build would change it.
fn locked() -> Result<()> {
    for manifest in MANIFESTS {
        let mut command = Command::new("cargo");
        command.current_dir(workspace_root()).args(["metadata", "--locked", "--format-version", "1"]);
        // Without the sources of crates for other systems.
        command.args(["--filter-platform", "x86_64-unknown-linux-gnu", "--manifest-path", manifest]);
        let status = command.stdout(Stdio::null()).status().context("starting cargo metadata")?;
        ensure!(
            status.success(),
            "the lock file of {manifest}: cargo metadata: {status}: if it is out of date, run \
             `cargo update --workspace --manifest-path {manifest}` and commit the result"
        );
        println!("{manifest}: its lock file is up to date");
    }
    Ok(())
}

fn format() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    MANIFESTS[1..].iter().try_for_each(|manifest| cargo(&["fmt", "--manifest-path", manifest, "--check"]))
}

/// Writes, or with `check` compares, the code generated from `proto/`.
pub(crate) fn codegen(check: bool) -> Result<()> {
    let mut arguments =
        vec!["run", "-p", "sensor-proto", "--features", "codegen", "--bin", "sensor-proto-codegen"];
    if check {
        arguments.extend(["--", "--check"]);
    }
    cargo(&arguments)
}

fn deny() -> Result<Step> {
    let version = Command::new("cargo")
        .args(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !version.is_ok_and(|status| status.success()) {
        let reason = "cargo-deny is not installed (cargo install cargo-deny --locked)";
        return Ok(Step::Skipped(reason.to_owned()));
    }
    // Advisories need a database from the network; CI without one checks the rest.
    done(cargo(&["deny", "check", "bans", "licenses", "sources"]))
}

fn cargo(arguments: &[&str]) -> Result<()> {
    sensor_tests::run(Command::new("cargo").current_dir(workspace_root()).args(arguments))
}

#[cfg(test)]
mod tests {
    use super::{Step, is_leak, summary};
    use std::ffi::OsStr;
    use std::time::Duration;

    #[test]
    fn skipped_steps_are_not_called_passed() {
        let second = Duration::from_secs(1);
        let spent = [("a", second, Step::Done), ("b", second, Step::Skipped("no b here".to_owned()))];
        let expected =
            "ci: 1 steps passed, 1 skipped in 2 s:\n      1 s  a\n      1 s  b: skipped: no b here";
        assert_eq!(summary(&spent, 2 * second), expected);
    }

    #[test]
    fn only_variables_that_change_what_is_tested_are_shed() {
        for (name, expected) in [
            ("SENSOR_EBPF", true),
            ("SENSOR_TEST_TIER", true),
            ("SENSOR_VM_CACHE", false),
            ("CARGO_TARGET_DIR", false),
        ] {
            assert_eq!(is_leak(OsStr::new(name)), expected, "{name}");
        }
    }
}
