//! Starts the product as an operator would (a collector, agents, `sensorctl`) for end-to-end tests and the demo. Not
//! a mock of anything. It may start the built binaries, make control groups and network namespaces, and end what it
//! started.

mod finding;
mod fleet;
mod host;
mod process;

pub use finding::Finding;
pub use fleet::{Agent, Fleet};
pub use host::{NetworkNamespace, Workload, cgroup2_mount};
pub use process::{Kept, output, run, wait_for};

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Folder of the built binaries: the one this executable lies in, or its parent for a test executable. Builds
/// them first, once, so that a test never runs yesterday's.
///
/// # Errors
/// When the build fails.
pub fn binaries() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build() -> anyhow::Result<PathBuf> {
    let packages = ["-p", "sensor-agent", "-p", "sensor-collector", "-p", "sensorctl"];
    let mut command = std::process::Command::new("cargo");
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(["build", "--bins"]).args(packages);
    run(&mut command)?;
    let own = std::env::current_exe()?;
    let folder = own.parent().expect("an executable lies in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_path_buf())
}

/// Why end-to-end tests with a live kernel cannot run here, or `None`. A test prints it as `skipped: REASON`.
#[must_use]
pub fn why_not_live() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root to load kernel programs".to_owned());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no BTF".to_owned());
    }
    // `PROC_PID_INIT_INO`: the agent refuses to run anywhere else.
    if !std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link == Path::new("pid:[4026531836]")) {
        return Some("not in the host's pid namespace".to_owned());
    }
    None
}
