//! `cargo xtask setup`: installs what building the kernel programs needs, if it is missing. Not needed for a plain
//! build, which uses the committed object. It may run rustup, apt and cargo, and write to the toolchain's folder
//! and to the user's cache.
//!
//! It asks nothing, says what it does, and changes nothing that is there already:
//!
//! 1. The standard library's sources (`rust-src`) of exactly the pinned rustc: from rustup, else, where rustup
//!    reaches nothing, from Debian's package of the same version, unpacked into the cache and linked into the
//!    toolchain. Debian's archive is the one that this machine's apt already uses; apt's own state is not touched.
//! 2. `bpf-linker`, from crates.io.
//!
//! CI needs rustfmt and clippy besides: [`formatter_and_linter`].

use crate::apt::Apt;
use crate::ebpf;
use anyhow::{Context, Result, bail, ensure};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The version that links with the LLVM of the pinned rustc.
const BPF_LINKER_VERSION: &str = "0.10.3";

/// How long rustup may take to download a component before it is given up.
const RUSTUP_TIMEOUT: Duration = Duration::from_secs(90);

/// Pause between two looks at a command that has a time limit.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Where Debian keeps compilers newer than its release.
const DEBIAN_SUITE: &str = "trixie-backports";

/// Installs what is missing.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn run() -> Result<()> {
    let rustc = Rustc::find()?;
    rust_src(&rustc)?;
    bpf_linker()?;
    println!("setup: ready to build the kernel programs: cargo xtask ebpf");
    Ok(())
}

/// Installs rustfmt and clippy if they are missing.
///
/// # Errors
/// When they are missing and rustup has none for this machine.
pub(crate) fn formatter_and_linter() -> Result<()> {
    let is_missing = |subcommand: &str| {
        let mut version = in_workspace("cargo");
        version.args([subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
        !version.status().is_ok_and(|status| status.success())
    };
    let components = [("fmt", "rustfmt"), ("clippy", "clippy")];
    let missing: Vec<&str> = components
        .into_iter()
        .filter_map(|(subcommand, component)| is_missing(subcommand).then_some(component))
        .collect();
    if missing.is_empty() {
        println!("setup: rustfmt and clippy: there");
        return Ok(());
    }
    let names = missing.join(" ");
    println!("setup: {names}: missing, trying rustup");
    let is_added = within(RUSTUP_TIMEOUT, in_workspace("rustup").args(["component", "add"]).args(&missing));
    ensure!(is_added, "{names} missing, and cannot be installed: rustup component add {names}");
    Ok(())
}

/// The pinned compiler.
struct Rustc {
    /// As in `1.95.0`.
    version: String,
    sysroot: PathBuf,
}

impl Rustc {
    fn find() -> Result<Self> {
        let version = stdout(in_workspace("rustc").arg("--version"))?;
        let version =
            version.split_whitespace().nth(1).context("rustc --version names no version")?.to_owned();
        let sysroot = PathBuf::from(stdout(in_workspace("rustc").args(["--print", "sysroot"]))?);
        Ok(Self { version, sysroot })
    }

    /// Where `-Z build-std` looks for the standard library's sources.
    fn source(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }
}

fn has_library(source: &Path) -> bool {
    source.join("library/Cargo.lock").is_file() && source.join("library/core/src/lib.rs").is_file()
}

fn rust_src(rustc: &Rustc) -> Result<()> {
    let source = rustc.source();
    if has_library(&source) {
        println!("setup: rust-src {}: there, in {}", rustc.version, source.display());
        return Ok(());
    }
    println!("setup: rust-src {}: missing, trying rustup", rustc.version);
    let is_added = within(RUSTUP_TIMEOUT, in_workspace("rustup").args(["component", "add", "rust-src"]));
    if is_added && has_library(&source) {
        println!("setup: rust-src {}: installed by rustup", rustc.version);
        return Ok(());
    }
    println!("setup: rustup has none for this machine, trying Debian's package");
    let unpacked = debian_source(&rustc.version).context("getting rust-src from Debian")?;
    link(&unpacked, &source)?;
    ensure!(has_library(&source), "{} does not hold the standard library", unpacked.display());
    println!("setup: rust-src {}: linked from {} to {}", rustc.version, source.display(), unpacked.display());
    Ok(())
}

/// Points `link` at `target`. Replaces a link, which may be broken, but nothing else.
fn link(target: &Path, link: &Path) -> Result<()> {
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    if link.is_symlink() {
        fs::remove_file(link).with_context(|| format!("removing the link {}", link.display()))?;
    }
    symlink(target, link).with_context(|| format!("linking {}", link.display()))
}

/// The unpacked sources of Debian's package, downloaded unless the cache has them.
fn debian_source(version: &str) -> Result<PathBuf> {
    let cache = cache()?;
    let unpacked = cache.join(format!("rust-src-{version}/usr/src/rustc-{version}"));
    if has_library(&unpacked) {
        println!("setup: rust-src {version}: unpacked earlier in {}", cache.display());
        return Ok(unpacked);
    }
    let apt = Apt::prepare(&cache.join("apt"), &[DEBIAN_SUITE])?;
    println!("setup: reading {DEBIAN_SUITE}'s list of packages");
    apt.update()?;
    let package = version_of(&apt, "rust-src", version)?;
    println!("setup: downloading rust-src {package}");
    let downloads = cache.join("download");
    fs::create_dir_all(&downloads).with_context(|| format!("making {}", downloads.display()))?;
    apt.download(&[format!("rust-src={package}")], &downloads)?;
    let archive = newest(&downloads).context("apt-get downloaded nothing")?;
    println!("setup: unpacking {}", archive.display());
    let folder = cache.join(format!("rust-src-{version}"));
    succeed(Command::new("dpkg").arg("-x").args([archive.as_path(), &folder]))?;
    fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
    ensure!(has_library(&unpacked), "rust-src {package} does not hold {}", unpacked.display());
    Ok(unpacked)
}

/// The package in the download folder.
fn newest(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.filter(|path| path.extension() == Some(OsStr::new("deb"))).max()
}

/// The package's version whose upstream version is `upstream`.
fn version_of(apt: &Apt, package: &str, upstream: &str) -> Result<String> {
    let table = stdout(apt.command("apt-cache").args(["madison", package]))?;
    match matching_version(&table, upstream) {
        Some(version) => Ok(version.to_owned()),
        None => bail!("{DEBIAN_SUITE} has no {package} {upstream}, only:\n{table}"),
    }
}

/// From `apt-cache madison`: `package | version | archive`.
fn matching_version<'a>(table: &'a str, upstream: &str) -> Option<&'a str> {
    table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim).find(|version| {
        version
            .strip_prefix(upstream)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', '-', '~']))
    })
}

fn bpf_linker() -> Result<()> {
    let expected = format!("bpf-linker {BPF_LINKER_VERSION}");
    let found = stdout(Command::new(ebpf::linker()).arg("--version")).unwrap_or_default();
    if found == expected {
        println!("setup: {expected}: there");
        return Ok(());
    }
    let found = if found.is_empty() { "missing" } else { &found };
    println!("setup: {expected}: {found}; building it with cargo, which takes some minutes");
    succeed(in_workspace("cargo").args([
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER_VERSION,
        "--locked",
    ]))
}

/// This user's cache folder for the project.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let cache = base.join("sensor");
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    Ok(cache)
}

/// A command of the pinned toolchain.
fn in_workspace(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(crate::workspace_root());
    command
}

/// Runs a command whose output the user sees.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// Runs a command for its output, trimmed.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a command succeeds within a time limit.
fn within(limit: Duration, command: &mut Command) -> bool {
    let Ok(mut child) = command.stdin(Stdio::null()).spawn() else { return false };
    let since = Instant::now();
    while since.elapsed() < limit {
        match child.try_wait() {
            Ok(None) => thread::sleep(LOOK_INTERVAL),
            Ok(Some(status)) => return status.success(),
            Err(_) => return false,
        }
    }
    // It may end by itself just now: then there is nothing to stop.
    drop(child.kill());
    drop(child.wait());
    false
}

#[cfg(test)]
mod tests {
    use super::{has_library, link, matching_version};
    use std::fs;

    #[test]
    fn version_must_be_exactly_the_compilers() {
        let table = " rust-src | 1.95.1+dfsg1-1~bpo13+1 | a\n rust-src | 1.95.0+dfsg1-1~bpo13+1 | b\n";
        assert_eq!(matching_version(table, "1.95.0"), Some("1.95.0+dfsg1-1~bpo13+1"));
        assert_eq!(matching_version(table, "1.95"), None);
        assert_eq!(matching_version("", "1.95.0"), None);
    }

    #[test]
    fn broken_link_is_replaced_and_a_folder_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let place = folder.path().join("lib/rust");
        link(&folder.path().join("nowhere"), &place).expect("a first link");
        let target = folder.path().join("rustc");
        fs::create_dir_all(target.join("library/core/src")).expect("a folder");
        fs::write(target.join("library/Cargo.lock"), "").expect("a file");
        fs::write(target.join("library/core/src/lib.rs"), "").expect("a file");
        assert!(!has_library(&place));
        link(&target, &place).expect("a link in place of the broken one");
        assert!(has_library(&place));
        link(&target, &target.join("library")).expect_err("a folder is not replaced");
    }
}
