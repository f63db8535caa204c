//! One virtual machine from boot to power-off, with a deadline. Not what runs in it. It may run QEMU, and apt to
//! install it.

use super::image::EXIT_MARK;
use super::kernels::Kernel;
use crate::apt::{Unavailable, fetch};
use anyhow::{Context, Result};
use nix::unistd::Uid;
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a machine said.
pub(super) struct Log {
    /// The kernel and `init`.
    pub(super) kernel: String,
    /// The tests.
    pub(super) tests: String,
    /// Why the run does not count, if it does not.
    pub(super) failure: Option<String>,
}

const QEMU: &str = "qemu-system-x86_64";

/// Debian's package of it.
const QEMU_PACKAGE: &str = "qemu-system-x86";

/// The emulator: virtualisation is faster where it works, but a device for it says nothing about whether it does.
const ACCELERATOR: &str = "tcg";

/// Names another one.
const ACCELERATOR_VARIABLE: &str = "SENSOR_VM_ACCELERATOR";

/// No list of security modules is asked for: they are as Debian boots them. Defences against the processor's flaws
/// only take time where there is no such processor, and a busy host fails the check of the timer.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=4 panic=-1 mitigations=off edd=off no_timer_check";

/// How long a machine may take: all tests take a minute or two where the processor is emulated.
const DEADLINE: Duration = Duration::from_secs(1_200);

/// Pause between two looks at a machine.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes at the end of a log that are shown.
const TAIL_BYTES_MAX: usize = 4_000;

/// Everything the emulator can do but `cmpxchg16b`: QEMU 7.2 gives it wrong flags, which crashes kernels.
const PROCESSOR: &str = "max,-cx16";

/// Makes sure that there is a QEMU.
///
/// # Errors
/// [`Unavailable`] when there is none and it cannot be installed.
pub(super) fn require_qemu() -> Result<()> {
    let version = Command::new(QEMU).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    if !Uid::effective().is_root() {
        return Err(Unavailable(format!("{QEMU} is missing: install the package {QEMU_PACKAGE}")).into());
    }
    println!("vm: installing {QEMU_PACKAGE}");
    let install = || {
        let mut command = Command::new("apt-get");
        command.args(["install", "-qq", "-y", "--no-install-recommends", QEMU_PACKAGE]);
        fetch(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // This machine's lists of packages may be old, or not read yet.
    let installed = install()
        .or_else(|_| fetch(Command::new("apt-get").args(["-qq", "update"])).and_then(|()| install()));
    installed.map_err(|error| {
        Unavailable(format!("{QEMU} is missing and {QEMU_PACKAGE} cannot be installed: {error:#}")).into()
    })
}

/// Boots a kernel with an initramfs, waits for its power-off, and keeps the logs next to `base`.
///
/// # Errors
/// When QEMU cannot be run. What goes wrong inside is in the log.
pub(super) fn boot(kernel: &Kernel, image: &Path, base: &Path) -> Result<Log> {
    let (kernel_log, tests_log) =
        (format!("{}.kernel.log", base.display()), format!("{}.log", base.display()));
    let mut command = Command::new(QEMU);
    let accelerator = env::var(ACCELERATOR_VARIABLE).unwrap_or_else(|_| ACCELERATOR.to_owned());
    command.args(["-accel", &accelerator, "-cpu", PROCESSOR, "-smp", "2", "-m", "2G"]);
    command.args(["-nographic", "-no-reboot", "-nic", "none", "-monitor", "none"]);
    command.args(["-serial", &format!("file:{kernel_log}"), "-serial", &format!("file:{tests_log}")]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(image);
    command.args(["-append", COMMAND_LINE]);
    let errors = format!("{}.qemu.log", base.display());
    let stderr = fs::File::create(&errors).with_context(|| format!("writing {errors}"))?;
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().context("starting QEMU")?;

    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().context("waiting for QEMU")? {
            break Some(status);
        }
        if since.elapsed() > DEADLINE {
            child.kill().context("stopping QEMU")?;
            child.wait().context("waiting for QEMU")?;
            break None;
        }
        thread::sleep(LOOK_INTERVAL);
    };
    let (kernel, tests) = (read(&kernel_log), read(&tests_log));
    let failure = match status {
        None => Some(format!("not finished after {} s", DEADLINE.as_secs())),
        Some(status) if !status.success() => Some(format!("QEMU: {status}: {}", tail(&read(&errors)))),
        Some(_) if !tests.contains(EXIT_MARK) => Some("the machine died before the tests ended".to_owned()),
        Some(_) => None,
    };
    Ok(Log { kernel, tests, failure })
}

/// A log as text with plain line ends; empty if the machine did not get as far as writing one.
fn read(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\r', "")
}

/// The end of a log.
pub(super) fn tail(log: &str) -> &str {
    let log = log.trim();
    let mut from = log.len().saturating_sub(TAIL_BYTES_MAX);
    while !log.is_char_boundary(from) {
        from += 1;
    }
    &log[from..]
}
