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
use std::time::Duration;

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

/// The note beside a root: when it was last used.
const USED: &str = "used";
/// How long a root that is not used is kept.
const UNUSED_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

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
        note_use(&root)?;
        remove_unused(&cache)?;
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
    note_use(&root)?;
    remove_unused(&cache)?;
    Ok(root)
}

/// Notes beside a root that it is used now.
fn note_use(root: &Path) -> Result<()> {
    let note = root.with_extension(USED);
    fs::write(&note, "").with_context(|| format!("writing {}", note.display()))
}

/// Removes roots that no evaluation has used for a week: what they are made of has changed.
fn remove_unused(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache).with_context(|| format!("listing {}", cache.display()))? {
        let root = entry.with_context(|| format!("listing {}", cache.display()))?.path();
        let name = root.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with("root-") || name.contains('.') || !root.is_dir() {
            continue;
        }
        let note = root.with_extension(USED);
        // One of before there were notes is as old as it is.
        let used = fs::metadata(&note).or_else(|_| fs::metadata(&root)).and_then(|found| found.modified());
        let used = used.with_context(|| format!("asking when {} was used", root.display()))?;
        if used.elapsed().is_ok_and(|since| since > UNUSED_MAX) {
            println!("evaluate: removing {}, which was not used for a week", root.display());
            fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
            let _ = fs::remove_file(&note);
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::{UNUSED_MAX, USED, note_use, remove_unused};
    use std::fs::{self, File};
    use std::time::SystemTime;

    #[test]
    fn only_a_root_that_was_not_used_for_long_is_removed() {
        let cache = tempfile::tempdir().unwrap();
        let roots = ["root-old", "root-new", "root-half.new", "apt"].map(|name| cache.path().join(name));
        for root in &roots {
            fs::create_dir_all(root.join("etc")).unwrap();
            note_use(root).unwrap();
        }
        let long_ago = SystemTime::now() - UNUSED_MAX * 2;
        for root in [&roots[0], &roots[3]] {
            File::options()
                .write(true)
                .open(root.with_extension(USED))
                .unwrap()
                .set_modified(long_ago)
                .unwrap();
        }
        remove_unused(cache.path()).unwrap();
        assert_eq!(roots.map(|root| root.exists()), [false, true, true, true]);
    }
}
