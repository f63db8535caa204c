//! Debian's kernels, fetched once through the archive that this machine's apt knows, unpacked, and kept. Not
//! installed: nothing of the machine's changes. It may run apt and dpkg-deb, and write to the cache.

use crate::apt::{Apt, Unavailable};
use crate::setup::{stdout, succeed};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// Debian 11's.
    V5_10,
    /// Debian 12's.
    V6_1,
    /// Debian 13's.
    V6_12,
    /// The newest that Debian packages at all.
    Newest,
}

impl Name {
    pub(super) const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::Newest];

    /// As the command line has it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// What its versions begin with; the newest is whatever is highest.
    fn version_prefix(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10.",
            Self::V6_1 => "6.1.",
            Self::V6_12 => "6.12.",
            Self::Newest => "",
        }
    }

    /// Where Debian keeps it.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Self::V5_10 => &["bullseye"],
            Self::V6_1 => &["bookworm"],
            Self::V6_12 => &["trixie"],
            Self::Newest => &["trixie-backports", "sid"],
        }
    }
}

/// A kernel in the cache.
pub(super) struct Kernel {
    pub(super) name: Name,
    /// `uname -r`.
    pub(super) release: String,
    /// What boots.
    pub(super) image: PathBuf,
    /// [`MODULES`], loadable as they are.
    pub(super) modules: Vec<PathBuf>,
}

/// Where Debian keeps the busybox that the machines get: any that is still served.
const BUSYBOX_SUITE: &str = "trixie";

/// Depends on the current kernel of each suite.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// Packages that make up a kernel: newer ones are in parts.
const PARTS: &[&str] = &["linux-image-", "linux-binary-", "linux-modules-"];

/// The modules that the machines get: one that tests load, and one that tests need loaded.
const MODULES: &[&str] = &["dummy.ko", "overlay.ko"];

/// The kernels and busybox, from the cache or else, or if they are to be fetched anew, from Debian.
///
/// # Errors
/// [`Unavailable`] when there is no way to Debian's archive; others when it does not hold what is expected.
pub(super) fn find(names: &[Name], cache: &Path, is_refresh: bool) -> Result<(Vec<Kernel>, PathBuf)> {
    let busybox = cache.join("busybox");
    let is_wanted = |name: &Name| is_refresh || cached(*name, cache).is_none();
    let wanted: Vec<Name> = names.iter().copied().filter(is_wanted).collect();
    if !busybox.is_file() || !wanted.is_empty() {
        fetch(&wanted, cache, &busybox).map_err(|error| match error.downcast::<Unavailable>() {
            Ok(Unavailable(reason)) => Unavailable(format!("cannot fetch kernels: {reason}")).into(),
            Err(error) => error,
        })?;
    }
    let kernels = names.iter().map(|name| cached(*name, cache).context("a kernel vanished from the cache"));
    Ok((kernels.collect::<Result<_>>()?, busybox))
}

fn folder_of(name: Name, cache: &Path) -> PathBuf {
    cache.join("kernels").join(name.text())
}

fn cached(name: Name, cache: &Path) -> Option<Kernel> {
    let folder = folder_of(name, cache);
    let modules: Vec<_> = MODULES.iter().map(|module| folder.join(module)).collect();
    let is_whole = modules.iter().all(|module| module.is_file());
    let release = fs::read_to_string(folder.join("release")).ok().filter(|_| is_whole)?;
    Some(Kernel { name, release, image: folder.join("vmlinuz"), modules })
}

fn fetch(names: &[Name], cache: &Path, busybox: &Path) -> Result<()> {
    let mut suites: BTreeSet<&str> = names.iter().flat_map(|name| name.suites()).copied().collect();
    if !busybox.is_file() {
        suites.insert(BUSYBOX_SUITE);
    }
    let suites: Vec<&str> = suites.into_iter().collect();
    let apt = Apt::prepare(&cache.join("apt"), &suites)?;
    println!("vm: reading the lists of packages of {}", suites.join(", "));
    apt.update()?;
    if !busybox.is_file() {
        let unpacked = unpack(&apt, cache, &["busybox-static".to_owned()])?;
        let places = ["usr/bin/busybox", "bin/busybox"].map(|place| unpacked.path().join(place));
        let program = places.iter().find(|place| place.is_file()).context("busybox-static has no busybox")?;
        // Renamed when it is whole: the next run takes whatever is there.
        let whole = unpacked.path().join("whole");
        fs::copy(program, &whole)
            .and_then(|_| fs::rename(&whole, busybox))
            .with_context(|| format!("writing {}", busybox.display()))?;
    }
    for name in names {
        fetch_kernel(*name, &apt, cache, busybox).with_context(|| format!("kernel {}", name.text()))?;
    }
    Ok(())
}

fn fetch_kernel(name: Name, apt: &Apt, cache: &Path, busybox: &Path) -> Result<()> {
    let table = stdout(apt.command("apt-cache").args(["show", META_PACKAGE]))?;
    let (image, version) = image_package(&table, name.version_prefix()).context("no such kernel")?;
    let depends = stdout(apt.command("apt-cache").args(["show", &format!("{image}={version}")]))?;
    let mut packages = parts_of(&depends, version);
    packages.push(format!("{image}={version}"));
    println!("vm: downloading {}", packages.join(" "));
    let unpacked = unpack(apt, cache, &packages)?;

    let kernel = find_file(unpacked.path(), &|name| name.starts_with("vmlinuz")).context("no vmlinuz")?;
    let release = image.trim_start_matches("linux-image-");
    let folder = folder_of(name, cache);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let marker = folder.join("release");
    if marker.exists() {
        fs::remove_file(&marker).context("giving up the kernel in the cache")?;
    }
    fs::copy(kernel, folder.join("vmlinuz")).context("keeping vmlinuz")?;
    for module in MODULES {
        let packed = find_file(unpacked.path(), &|name| name.starts_with(module))
            .with_context(|| format!("no {module}"))?;
        fs::write(folder.join(module), module_bytes(&packed, busybox)?).context("keeping a module")?;
    }
    // Last, because a kernel without it does not count as cached.
    fs::write(marker, release).context("keeping the release")
}

/// A module as the kernel loads it.
fn module_bytes(path: &Path, busybox: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("reading {}", path.display()));
    }
    let output = Command::new(busybox).arg("xzcat").arg(path).output().context("running busybox xzcat")?;
    ensure!(output.status.success(), "{}: xzcat: {}", path.display(), output.status);
    Ok(output.stdout)
}

/// Downloads packages (`name` or `name=version`) and unpacks all of them into one folder.
fn unpack(apt: &Apt, cache: &Path, packages: &[String]) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir_in(cache).context("making a folder for packages")?;
    apt.download(packages, folder.path())?;
    let unpacked = tempfile::tempdir_in(cache).context("making a folder for what is in packages")?;
    for entry in fs::read_dir(folder.path()).context("listing packages")? {
        let archive = entry.context("listing packages")?.path();
        succeed(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(unpacked.path()))?;
    }
    Ok(unpacked)
}

/// The first file below `folder` whose name is wanted.
fn find_file(folder: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if entry.file_type().ok()?.is_dir() {
            if let Some(found) = find_file(&path, is_wanted) {
                return Some(found);
            }
        } else if is_wanted(&entry.file_name().to_string_lossy()) {
            return Some(path);
        }
    }
    None
}

/// From `apt-cache show` of the meta package: the image package of the highest version with this prefix.
fn image_package<'a>(table: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let stanzas = table.split("\n\n").filter_map(|stanza| {
        let version = field(stanza, "Version").filter(|version| version.starts_with(prefix))?;
        let image = field(stanza, "Depends")?.split(", ").find_map(|dependency| {
            let name = dependency.split_whitespace().next()?;
            name.strip_prefix("linux-image-")?
                .starts_with(|first: char| first.is_ascii_digit())
                .then_some(name)
        })?;
        Some((image, version))
    });
    stanzas.max_by_key(|(_, version)| numbers(version))
}

/// From `apt-cache show` of an image package: the other parts of this kernel, as `name=version`.
fn parts_of(table: &str, version: &str) -> Vec<String> {
    let depends = field(table, "Depends").unwrap_or_default();
    let names = depends.split(", ").filter_map(|dependency| dependency.split_whitespace().next());
    names
        .filter(|name| PARTS.iter().any(|part| name.starts_with(part)))
        .map(|name| format!("{name}={version}"))
        .collect()
}

fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The numbers of a version before its revision: enough to order kernels.
fn numbers(version: &str) -> Vec<u32> {
    let upstream = version.split(['-', '~', '+']).next().unwrap_or(version);
    upstream.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{image_package, parts_of};

    const META: &str = "Package: linux-image-cloud-amd64
Version: 6.9.14-1
Depends: linux-base-cloud-amd64 (= 6.9.14-1), linux-image-6.9.14+deb13-cloud-amd64 (= 6.9.14-1)

Package: linux-image-cloud-amd64
Version: 6.12.107-1
Depends: linux-image-6.12.107+deb13-cloud-amd64 (= 6.12.107-1)

Package: linux-image-cloud-amd64
Version: 6.1.176-1
Depends: linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1)
";

    #[test]
    fn newest_is_the_highest_by_number() {
        assert_eq!(image_package(META, ""), Some(("linux-image-6.12.107+deb13-cloud-amd64", "6.12.107-1")));
        assert_eq!(image_package(META, "6.1."), Some(("linux-image-6.1.0-50-cloud-amd64", "6.1.176-1")));
        assert_eq!(image_package(META, "5.10."), None);
    }

    #[test]
    fn kernel_in_parts_is_fetched_with_all_of_them() {
        let table = "Package: x\nDepends: dracut | initramfs-tools (>= 0.120), linux-base-7 (= 7.3), \
                     linux-binary-7-cloud-amd64 (= 7.3), linux-modules-7-cloud-amd64 (= 7.3)\n";
        let expected = ["linux-binary-7-cloud-amd64=7.3", "linux-modules-7-cloud-amd64=7.3"];
        assert_eq!(parts_of(table, "7.3"), expected);
    }
}
