//! System calls that the actors need and that no safe wrapper covers, each behind a safe function. Not a general way
//! to make calls. It may call libc, and is the one test file that may use unsafe code.

#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::{ForkResult, Pid};
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

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    Errno::result(result).map_err(Into::into)
}

/// A new descriptor that a call returned.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(checked(result)?).expect("a descriptor is an int");
    // SAFETY: the kernel has just made the descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `mkdirat` below the current directory: the libc's `mkdir`, whichever call that makes.
pub(crate) fn mkdir(path: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: `path` ends with a NUL and outlives the call.
    Errno::result(unsafe { libc::mkdir(path.as_ptr(), mode) }).map(drop).map_err(Into::into)
}

/// `setxattr`.
pub(crate) fn setxattr(path: &CStr, name: &CStr, value: &[u8], flags: i32) -> io::Result<()> {
    let (data, len) = (value.as_ptr().cast(), value.len());
    // SAFETY: both strings end with a NUL, `value` is as long as said; the kernel only reads them.
    let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), data, len, flags) };
    Errno::result(result).map(drop).map_err(Into::into)
}

/// `fsetxattr`.
pub(crate) fn fsetxattr(file: &impl AsRawFd, name: &CStr, value: &[u8], flags: i32) -> io::Result<()> {
    let (data, len) = (value.as_ptr().cast(), value.len());
    // SAFETY: `name` ends with a NUL, `value` is as long as said; the kernel only reads them.
    let result = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), data, len, flags) };
    Errno::result(result).map(drop).map_err(Into::into)
}

/// `FSCONFIG_CMD_CREATE` of `include/uapi/linux/mount.h`.
const FSCONFIG_CMD_CREATE: libc::c_long = 6;

/// `MOVE_MOUNT_F_EMPTY_PATH`.
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_long = 4;

/// A mount of a file system type, not attached anywhere: `fsopen`, `fsconfig` and `fsmount`.
pub(crate) fn make_mount(fs_type: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the string ends with a NUL and outlives the call.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, fs_type.as_ptr(), 0) })?;
    let fd = context.as_raw_fd();
    let none = std::ptr::null::<u8>();
    // SAFETY: the command takes neither key nor value.
    checked(unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0) })?;
    // SAFETY: the call takes numbers and touches no memory.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fd, 0, 0) })
}

/// Attaches a detached mount.
pub(crate) fn move_mount(from: &OwnedFd, to: &CStr) -> io::Result<()> {
    let (from, empty) = (from.as_raw_fd(), c"");
    // SAFETY: both strings end with a NUL and outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from,
            empty.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    checked(result).map(drop)
}

/// `ptrace`, for requests that take a process and nothing else.
pub(crate) fn ptrace(request: u32, pid: i32) -> io::Result<()> {
    let none = std::ptr::null_mut::<u8>();
    // SAFETY: these requests read neither address nor data.
    checked(unsafe { libc::syscall(libc::SYS_ptrace, libc::c_long::from(request), pid, none, none) })
        .map(drop)
}

/// Writes a copy of `bytes` over themselves, through `process_vm_writev` into process `pid`, which must have them at the
/// same address: this one, or its child by `fork`.
pub(crate) fn process_vm_writev(pid: i32, bytes: &mut [u8]) -> io::Result<usize> {
    let copy = bytes.to_vec();
    let local = libc::iovec { iov_base: copy.as_ptr().cast_mut().cast(), iov_len: copy.len() };
    let remote = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: both areas are as long as said; ours is only read, and the other one is `bytes`, which nobody else uses.
    let written = unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    Errno::result(written).map(isize::cast_unsigned).map_err(Into::into)
}

/// `include/uapi/linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_long = 5;

/// `BPF_PROG_LOAD`'s attributes, the first part, as of 4.15.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Loads a BPF program.
pub(crate) fn bpf_load(program_type: u32, name: &[u8], instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut padded = [0; 16];
    padded[..name.len()].copy_from_slice(name);
    let attributes = ProgramLoad {
        program_type,
        instruction_count: u32::try_from(instructions.len()).expect("programs are short"),
        instructions: instructions.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: padded,
    };
    let size = size_of::<ProgramLoad>();
    // SAFETY: the attributes and what they point to outlive the call, and are as long as said.
    owned(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, size) })
}

/// `struct __user_cap_header_struct` and two of `__user_cap_data_struct` (`include/uapi/linux/capability.h`).
#[repr(C)]
struct Capabilities {
    version: u32,
    pid: i32,
    data: [[u32; 3]; 2],
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Sets the calling thread's capabilities: effective, permitted, none inheritable.
pub(crate) fn capset(effective: u64, permitted: u64) -> io::Result<()> {
    let half = |shift: u32| [(effective >> shift) as u32, (permitted >> shift) as u32, 0];
    let capabilities = Capabilities { version: CAPABILITY_VERSION, pid: 0, data: [half(0), half(32)] };
    let (header, data) = (&raw const capabilities.version, &raw const capabilities.data);
    // SAFETY: header and data are laid out as the kernel says, and outlive the call.
    checked(unsafe { libc::syscall(libc::SYS_capset, header, data) }).map(drop)
}

/// `setresuid` of the calling thread only: the libc's would change every thread.
pub(crate) fn setresuid(user: u32, effective: u32, saved: u32) -> io::Result<()> {
    // SAFETY: the call takes numbers and touches no memory.
    checked(unsafe { libc::syscall(libc::SYS_setresuid, user, effective, saved) }).map(drop)
}

/// `setresgid` of the calling thread only.
pub(crate) fn setresgid(group: u32, effective: u32, saved: u32) -> io::Result<()> {
    // SAFETY: the call takes numbers and touches no memory.
    checked(unsafe { libc::syscall(libc::SYS_setresgid, group, effective, saved) }).map(drop)
}

/// `finit_module`.
pub(crate) fn finit_module(module: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: the parameters are an empty string, which outlives the call.
    checked(unsafe { libc::syscall(libc::SYS_finit_module, module.as_raw_fd(), c"".as_ptr(), 0) }).map(drop)
}

/// Takes the peer of a connected socket away: a connect to `AF_UNSPEC`.
pub(crate) fn disconnect(socket: &impl AsRawFd) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    let len = libc::socklen_t::try_from(size_of_val(&nobody)).expect("an address is short");
    // SAFETY: the address is as long as said and outlives the call.
    Errno::result(unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, len) })
        .map(drop)
        .map_err(Into::into)
}

/// A new process, whose only thread returns from here too; `None` in it.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the actors that call this have other threads only in their test runner, which holds no lock that the
    // child needs: it waits for the actor's.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// As [`fork`], into new namespaces.
pub(crate) fn clone(namespaces: CloneFlags) -> io::Result<Option<Pid>> {
    let flags = libc::c_long::from(namespaces.bits() | libc::SIGCHLD);
    // SAFETY: without a stack of its own the child goes on as one of `fork` does: see there.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    let pid = i32::try_from(pid).expect("a pid is an int");
    Ok((pid != 0).then_some(Pid::from_raw(pid)))
}

/// Makes a pseudo terminal this process's own, in a session of its own, and returns its number.
pub(crate) fn take_terminal() -> io::Result<u32> {
    let controller = std::fs::File::options().read(true).write(true).open("/dev/ptmx")?;
    let (unlock, mut number) = (0i32, 0u32);
    // SAFETY: the command reads a number, which outlives the call.
    checked_int(unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) })?;
    // SAFETY: the command writes a number, which outlives the call.
    checked_int(unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
    // SAFETY: the command takes a number and touches no memory.
    let terminal =
        unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY) };
    let terminal = owned(libc::c_long::from(terminal))?;
    nix::unistd::setsid()?;
    // SAFETY: the command takes a number and touches no memory.
    checked_int(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    // It stays ours while it is open, also in the program that comes next.
    std::mem::forget((controller, terminal));
    Ok(number)
}

fn checked_int(result: libc::c_int) -> io::Result<()> {
    Errno::result(result).map(drop).map_err(Into::into)
}

/// Maps a file's first page executable.
pub(crate) fn map_executable(file: &impl AsRawFd) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: a new mapping, which takes nobody's place and is not touched.
    let mapped =
        unsafe { libc::mmap(std::ptr::null_mut(), 1, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct file_handle` with room for any.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

/// Opens a file by its handle: `name_to_handle_at`, `open_by_handle_at`.
pub(crate) fn open_by_handle(mount: &impl AsRawFd, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let (mut mount_id, dirfd) = (0i32, libc::AT_FDCWD);
    // SAFETY: `path` ends with a NUL, the handle has as much room as it says, and all outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dirfd,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount_id,
            0,
        )
    };
    checked(result)?;
    // SAFETY: the kernel has filled the handle in, and only reads it now.
    owned(unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw const handle, flags) })
}
