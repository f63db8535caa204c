//! `cargo xtask ci`: the steps of CI in order, each timed, stopping at the first that fails; and `codegen`. Not the
//! steps themselves. It may run cargo and the other tasks.

use crate::{demo, ebpf, fuzz, setup, testing, tidy, vm, workspace_root};
use anyhow::{Context, Result};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs everything that must hold before a change lands.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    let mut spent = Vec::new();
    let mut step = |name: &'static str, task: &dyn Fn() -> Result<()>| -> Result<()> {
        println!("\n== {name}");
        let begun = Instant::now();
        task().with_context(|| format!("ci step `{name}`"))?;
        spent.push((name, begun.elapsed()));
        Ok(())
    };
    step("setup", &setup::run)?;
    step("format", &|| cargo(&["fmt", "--all", "--check"]))?;
    step("tidy", &tidy::run)?;
    step("kernel object is what its source builds to", &ebpf::check)?;
    step("generated code is what proto/ generates", &|| codegen(true))?;
    step("clippy", &|| cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    step("licences and duplicates (cargo-deny)", &deny)?;
    step("fuzzing, 15 s a target", &fuzz::short)?;
    step("demo", &|| demo::run(&demo::Arguments::default()))?;
    step("tests", &|| testing::run(None))?;
    step("kernel tests on other kernels", &vm::run_in_ci)?;
    println!("\nci: all steps passed in {} s:", start.elapsed().as_secs());
    for (name, time) in spent {
        println!("  {:>5} s  {name}", time.as_secs());
    }
    Ok(())
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

fn deny() -> Result<()> {
    let version = Command::new("cargo")
        .args(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !version.is_ok_and(|status| status.success()) {
        println!("skipped: cargo-deny is not installed (cargo install cargo-deny --locked)");
        return Ok(());
    }
    // Advisories need a database from the network; CI without one checks the rest.
    cargo(&["deny", "check", "bans", "licenses", "sources"])
}

fn cargo(arguments: &[&str]) -> Result<()> {
    sensor_tests::run(Command::new("cargo").current_dir(workspace_root()).args(arguments))
}
