//! System calls that the actors need and that no safe wrapper covers, each behind a safe function. Not a general way
//! to make calls. It may call libc, and is the one test file that may use unsafe code.

#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// `struct open_how`, which another thread may change while the kernel reads it.
#[repr(C)]
pub(crate) struct RacingOpenHow {
    flags: AtomicU64,
    mode: AtomicU64,
    resolve: AtomicU64,
}

impl RacingOpenHow {
    pub(crate) fn new(flags: i32) -> Self {
        Self {
            flags: AtomicU64::new(u64::from(flags.cast_unsigned())),
            mode: AtomicU64::new(0),
            resolve: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_flags(&self, flags: u64) {
        self.flags.store(flags, Ordering::SeqCst);
    }
}

/// `openat2` below the current directory.
pub(crate) fn openat2(path: &CStr, how: &RacingOpenHow) -> io::Result<OwnedFd> {
    // SAFETY: `path` ends with a NUL and `how` is as large as said; both outlive the call, and the kernel only
    // reads them. Whoever changes `how` meanwhile does so atomically.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            std::ptr::from_ref(how),
            size_of::<RacingOpenHow>(),
        )
    };
    let fd = i32::try_from(Errno::result(result)?).expect("a descriptor is an int");
    // SAFETY: the kernel has just made the descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kinds of lease on a file, and none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Lease {
    Read = libc::F_RDLCK,
    None = libc::F_UNLCK,
}

/// Takes or gives up a lease. An opener that conflicts with it waits in the kernel until it is given up.
pub(crate) fn set_lease(fd: &OwnedFd, lease: Lease) -> io::Result<()> {
    // SAFETY: the command takes a number and touches no memory.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, lease as i32) };
    Errno::result(result).map(drop).map_err(Into::into)
}

/// Whether somebody waits for the lease on the file to be given up.
pub(crate) fn is_lease_breaking(fd: &OwnedFd) -> io::Result<bool> {
    // SAFETY: the command takes no argument and touches no memory.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETLEASE) };
    Ok(Errno::result(result)? == Lease::None as i32)
}

/// Ignores the signal by which the kernel asks for a lease, and which would end the process.
pub(crate) fn ignore_sigio() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler that could run.
    let result = unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    if result == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}
