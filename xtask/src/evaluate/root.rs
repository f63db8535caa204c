//! The Debian root that every room is a copy of: made once, from the archive that this machine's apt uses. Not a room. It
//! may run apt and mmdebstrap, and write to the user's cache.

use crate::apt::{Apt, Unavailable};
use crate::evaluate::corpus::Attack;
use crate::setup::stdout;
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release of Debian that the rooms are.
pub(super) const SUITE: &str = "bookworm";

/// What the benign days need, besides what the attacks name.
const PACKAGES: &[&str] = &[
    "bzip2",
    "ca-certificates",
    "cron",
    "curl",
    "dpkg-dev",
    "gcc",
    "git",
    "iproute2",
    "less",
    "libc6-dev",
    "logrotate",
    "lsof",
    "make",
    "nginx-light",
    "openssh-client",
    "openssh-server",
    "openssl",
    "postgresql",
    "procps",
    "psmisc",
    "python3",
    "python3-pip",
    "python3-setuptools",
    "python3-venv",
    "python3-wheel",
    "rsync",
    "sudo",
    "vim-tiny",
];

/// What makes a bare root a host.
const ONCE: &str = include_str!("inside/once.sh");

/// The root for these attacks, made when it is not there yet.
///
/// # Errors
/// When it cannot be made; [`Unavailable`] where this machine has no way to Debian's archive.
pub(super) fn prepare(attacks: &[Attack]) -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let cache = PathBuf::from(home).join(".cache/sensor/evaluate");
    let wanted: BTreeSet<&str> = PACKAGES
        .iter()
        .copied()
        .chain(attacks.iter().flat_map(|attack| attack.packages.iter().map(String::as_str)))
        .collect();
    let key = Sha256::digest(format!("{SUITE} {wanted:?} {ONCE}"));
    let key: String = key.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let root = cache.join(format!("root-{key}"));
    if root.is_dir() {
        return Ok(root);
    }
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    install_mmdebstrap()?;
    let apt = Apt::prepare(&cache.join("apt"), &[SUITE])?;
    apt.update()?;
    let (there, missing) = available(&apt, &wanted)?;
    if !missing.is_empty() {
        println!("evaluate: not in {SUITE}, so left out: {}", missing.join(", "));
    }
    println!("evaluate: making {} of {} packages and what they need", root.display(), there.len());
    let new = cache.join(format!("root-{key}.new"));
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("removing {}", new.display()))?;
    }
    let sources = cache.join("apt/sources.list");
    let mut command = Command::new("mmdebstrap");
    command.args(["--mode=root", "--variant=important"]).arg(format!("--include={}", there.join(",")));
    command.arg(SUITE).args([&new, &sources]).stdin(Stdio::null());
    sensor_tests::output(&mut command)?;
    furnish(&new)?;
    fs::rename(&new, &root).with_context(|| format!("naming {}", root.display()))?;
    Ok(root)
}

fn furnish(root: &Path) -> Result<()> {
    let mut command = Command::new("chroot");
    command.arg(root).args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", ONCE]);
    sensor_tests::output(&mut command).map(|_| ())
}

fn install_mmdebstrap() -> Result<()> {
    let found = Command::new("mmdebstrap").arg("--version").stdout(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    println!("evaluate: mmdebstrap is missing, installing it");
    let mut install = Command::new("apt-get");
    install.args(["-qq", "install", "-y", "--no-install-recommends", "mmdebstrap"]).stdin(Stdio::null());
    let installed = sensor_tests::output(install.env("DEBIAN_FRONTEND", "noninteractive"));
    installed
        .map(|_| ())
        .map_err(|error| Unavailable(format!("mmdebstrap cannot be installed: {error:#}")).into())
}

/// The packages that the archive has, and those that it has not.
fn available<'a>(apt: &Apt, wanted: &BTreeSet<&'a str>) -> Result<(Vec<&'a str>, Vec<&'a str>)> {
    let names = stdout(apt.command("apt-cache").arg("pkgnames"))?;
    let names: BTreeSet<&str> = names.lines().collect();
    let (there, missing): (Vec<&str>, Vec<&str>) = wanted.iter().partition(|name| names.contains(*name));
    ensure!(!there.is_empty(), "the archive has none of {}", missing.join(", "));
    Ok((there, missing))
}
