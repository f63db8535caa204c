//! Starts the product as an operator would (a collector, agents, `sensorctl`) for end-to-end tests and the demo. Not
//! a mock of anything. It may start the built binaries, make control groups and network namespaces, and end what it
//! started.

mod containerd;
mod finding;
mod fleet;
mod host;
mod image;
mod process;
mod program;

pub use containerd::Containerd;
pub use finding::Finding;
pub use fleet::{Agent, Fleet};
pub use host::{NetworkNamespace, Workload, cgroup2_mount};
pub use process::{Kept, output, run, wait_for};
pub use program::{copy_program, write_script};

use anyhow::Context as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Folder of the built binaries: the one this executable lies in, or its parent for a test executable. Builds
/// them first, once, in the same profile, so that a test never runs yesterday's.
///
/// # Errors
/// When the build fails.
pub fn binaries() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

/// Makes [`binaries`] build and use the release profile; before anything asks for them.
pub fn use_release() {
    IS_RELEASE.store(true, Ordering::Relaxed);
}

static IS_RELEASE: AtomicBool = AtomicBool::new(false);

fn build() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().expect("an executable lies in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    // The profiles' folders lie side by side. A release-built test tests a release-built product.
    let is_release = IS_RELEASE.load(Ordering::Relaxed) || folder.ends_with("release");
    let packages = ["-p", "sensor-agent", "-p", "sensor-collector", "-p", "sensorctl"];
    let mut command = std::process::Command::new("cargo");
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(["build", "--bins"]).args(packages);
    command.args(is_release.then_some("--release"));
    run(&mut command)?;
    Ok(if is_release { folder.with_file_name("release") } else { folder.to_path_buf() })
}

/// Why end-to-end tests with a live kernel cannot run here, or `None`. A test prints it as `skipped: REASON`. The agent
/// itself is asked; what it answers is remembered.
///
/// # Errors
/// When the agent cannot be built or asked, or answers something else than a report.
pub fn why_not_live() -> anyhow::Result<Option<String>> {
    static ANSWER: OnceLock<Result<Option<String>, String>> = OnceLock::new();
    if !nix::unistd::geteuid().is_root() {
        return Ok(Some("needs root to load kernel programs".to_owned()));
    }
    let answer = ANSWER.get_or_init(|| ask_agent().map_err(|error| format!("{error:#}")));
    answer.clone().map_err(anyhow::Error::msg)
}

fn ask_agent() -> anyhow::Result<Option<String>> {
    let output = std::process::Command::new(binaries()?.join("sensor-agent"))
        .args(["check", "--json"])
        .output()
        .context("cannot start sensor-agent check")?;
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("sensor-agent check --json: not a report")?;
    Ok(report["error"].as_str().map(str::to_owned))
}
