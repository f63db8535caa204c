//! The initramfs of a machine: busybox, the kernel tests, an `init` that runs them, and a module to load. Not a
//! system: nothing else is there. It may write the one file it makes.

use super::kernels::Kernel;
use crate::shell_quoted;
use anyhow::{Context, Result};
use cpio::newc::{Builder, trailer};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What the machine is to do.
pub(super) struct Order<'a> {
    /// Name of the best tier to use.
    pub(super) tier: &'a str,
    /// Only tests whose name contains this.
    pub(super) filter: Option<&'a str>,
    /// Rounds of the races.
    pub(super) rounds: u32,
}

/// Where the tests find modules to load: `/modules/dummy.ko`.
const MODULES_FOLDER: &str = "modules";

/// Processes of the storm tests: an emulated processor starts some hundred a second.
const PROCESSES: u32 = 1_000;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Writes the initramfs to `base` with `.cpio` appended.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn write(
    base: &Path,
    kernel: &Kernel,
    busybox: &Path,
    tests: &Path,
    order: &Order<'_>,
) -> Result<PathBuf> {
    let path = PathBuf::from(format!("{}.cpio", base.display()));
    let file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    let mut archive = BufWriter::new(file);
    let mut inode = 0;
    let mut add = |name: &str, mode: u32, bytes: &[u8]| -> Result<()> {
        inode += 1;
        let size = u32::try_from(bytes.len()).context("a file is too large for an initramfs")?;
        let mut entry = Builder::new(name).ino(inode).nlink(1).mode(mode).write(&mut archive, size);
        entry.write_all(bytes).with_context(|| format!("adding {name}"))?;
        entry.finish().with_context(|| format!("adding {name}"))?;
        Ok(())
    };
    for name in ["bin", "dev", "etc", MODULES_FOLDER, "proc", "root", "sys", "tmp"] {
        add(name, DIRECTORY, b"")?;
    }
    add("init", PROGRAM, init(order).as_bytes())?;
    add("etc/passwd", 0o100_644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")?;
    for (name, from) in [("bin/busybox", busybox), ("kernel-tests", tests)] {
        add(name, PROGRAM, &read(from)?)?;
    }
    for module in &kernel.modules {
        let name = module.file_name().expect("a module is a file").to_string_lossy();
        add(&format!("{MODULES_FOLDER}/{name}"), 0o100_644, &read(module)?)?;
    }
    trailer(&mut archive).context("ending the initramfs")?;
    archive.flush().with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Mounts what a host has, runs the tests on the second serial line, and powers off. The root is a tmpfs.
fn init(order: &Order<'_>) -> String {
    let filter = order.filter.map(shell_quoted).unwrap_or_default();
    format!(
        "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir /dev/pts
mount -t devpts devpts /dev/pts
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ip link set lo up
insmod /{MODULES_FOLDER}/overlay.ko
export SENSOR_TEST_TIER={tier} SENSOR_TEST_PROCESSES={PROCESSES} SENSOR_TEST_ROUNDS={rounds}
cd /root
/kernel-tests --nocapture --test-threads=1 {filter} </dev/null >/dev/{TESTS_LINE} 2>&1
echo \"{EXIT_MARK}$?\" >/dev/{TESTS_LINE}
poweroff -f
",
        tier = order.tier,
        rounds = order.rounds,
    )
}

/// The serial line that only the tests write to, so that no message of the kernel's splits their lines.
const TESTS_LINE: &str = "ttyS1";

/// Stands before the status of the tests, on the last line.
pub(super) const EXIT_MARK: &str = "sensor-vm: exit ";

#[cfg(test)]
mod tests {
    use super::{Order, init};

    #[test]
    fn filter_is_one_argument_whatever_it_holds() {
        let script = init(&Order { tier: "lsm", filter: Some("a'b $(reboot)"), rounds: 1 });
        assert!(script.contains("--test-threads=1 'a'\\''b $(reboot)' <"), "{script}");
    }
}
