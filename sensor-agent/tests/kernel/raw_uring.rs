//! The least of io_uring that the actors need: one request at a time, behind safe functions. Not a library for it: it
//! may call libc, and may use unsafe code as `raw` may.

#![expect(unsafe_code, reason = "a ring is shared memory and two system calls")]

use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// `enum io_uring_op` of `include/uapi/linux/io_uring.h`.
const ACCEPT: u8 = 13;
const CONNECT: u8 = 16;
const OPENAT: u8 = 18;
const SOCKET: u8 = 45;
const RENAMEAT: u8 = 35;
const UNLINKAT: u8 = 36;

const ENTER_GETEVENTS: u32 = 1;
const SQ_RING: i64 = 0;
const CQ_RING: i64 = 0x800_0000;
const SQ_ENTRIES: i64 = 0x1000_0000;

/// Room for rings of a few entries.
const MAP_BYTES: usize = 4096;

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`.
#[repr(C)]
#[derive(Default)]
struct Offsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    /// Of completions: overflow.
    flags: u32,
    /// Of completions: where they are.
    dropped: u32,
    array: u32,
    reserved: u32,
    user_address: u64,
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Params {
    numbers: [u32; 10],
    submissions: Offsets,
    completions: Offsets,
}

/// `struct io_uring_sqe`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Request {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    len: u32,
    operation_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// A ring with room for one request.
pub(crate) struct Ring {
    fd: OwnedFd,
    params: Params,
    submissions: NonNull<u8>,
    completions: NonNull<u8>,
    entries: NonNull<Request>,
}

impl Ring {
    /// A ring, where the kernel has them.
    pub(crate) fn new() -> io::Result<Self> {
        let mut params = Params::default();
        // SAFETY: the structure is as large as the kernel expects, and outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) };
        let fd = i32::try_from(Errno::result(fd)?).expect("a descriptor is an int");
        // SAFETY: the kernel has just made the descriptor for us, so nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let (submissions, completions) = (map(&fd, SQ_RING)?, map(&fd, CQ_RING)?);
        let entries = map(&fd, SQ_ENTRIES)?.cast();
        Ok(Self { fd, params, submissions, completions, entries })
    }

    /// `openat` below the current directory.
    pub(crate) fn open(&mut self, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
        let result = self.run(Request {
            opcode: OPENAT,
            fd: libc::AT_FDCWD,
            address: path.as_ptr().addr() as u64,
            len: 0o600,
            operation_flags: flags.cast_unsigned(),
            ..Request::default()
        })?;
        Ok(own(result))
    }

    /// `connect` to a `sockaddr`, as bytes.
    pub(crate) fn connect(&mut self, socket: &impl AsRawFd, address: &[u8]) -> io::Result<()> {
        let request = Request {
            opcode: CONNECT,
            fd: socket.as_raw_fd(),
            address: address.as_ptr().addr() as u64,
            offset: address.len() as u64,
            ..Request::default()
        };
        self.run(request).map(drop)
    }

    /// `accept`.
    pub(crate) fn accept(&mut self, socket: &impl AsRawFd) -> io::Result<OwnedFd> {
        let request = Request { opcode: ACCEPT, fd: socket.as_raw_fd(), ..Request::default() };
        self.run(request).map(own)
    }

    /// `socket`.
    pub(crate) fn socket(&mut self, family: i32, socket_type: i32, protocol: i32) -> io::Result<OwnedFd> {
        let result = self.run(Request {
            opcode: SOCKET,
            fd: family,
            offset: socket_type.cast_unsigned().into(),
            len: protocol.cast_unsigned(),
            ..Request::default()
        })?;
        Ok(own(result))
    }

    /// `unlinkat` below the current directory.
    pub(crate) fn unlink(&mut self, path: &CStr) -> io::Result<()> {
        let address = path.as_ptr().addr() as u64;
        self.run(Request { opcode: UNLINKAT, fd: libc::AT_FDCWD, address, ..Request::default() }).map(drop)
    }

    /// `renameat` below the current directory.
    pub(crate) fn rename(&mut self, from: &CStr, to: &CStr) -> io::Result<()> {
        let request = Request {
            opcode: RENAMEAT,
            fd: libc::AT_FDCWD,
            address: from.as_ptr().addr() as u64,
            offset: to.as_ptr().addr() as u64,
            len: libc::AT_FDCWD.cast_unsigned(),
            ..Request::default()
        };
        self.run(request).map(drop)
    }

    /// Hands a request in and waits until it is done. What it points to outlives the call.
    fn run(&mut self, request: Request) -> io::Result<i32> {
        let (submissions, completions) = (&self.params.submissions, &self.params.completions);
        let tail = at(self.submissions, submissions.tail).load(Ordering::Acquire);
        // SAFETY: the mapping holds at least one entry, and the kernel reads it only once the tail says so.
        unsafe { self.entries.write(request) };
        at(self.submissions, submissions.array).store(0, Ordering::Release);
        at(self.submissions, submissions.tail).store(tail.wrapping_add(1), Ordering::Release);
        let fd = self.fd.as_raw_fd();
        // SAFETY: the call reads the rings, and what the request points to, which lives until it is done.
        Errno::result(unsafe { libc::syscall(libc::SYS_io_uring_enter, fd, 1, 1, ENTER_GETEVENTS, 0, 0) })?;
        let head = at(self.completions, completions.head).load(Ordering::Acquire);
        let index = head & at(self.completions, completions.ring_mask).load(Ordering::Acquire);
        // A completion has 16 bytes: user data, then the result.
        let result = at(self.completions, completions.dropped + index * 16 + 8).load(Ordering::Acquire);
        at(self.completions, completions.head).store(head.wrapping_add(1), Ordering::Release);
        let result = result.cast_signed();
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
    }
}

fn map(fd: &OwnedFd, offset: i64) -> io::Result<NonNull<u8>> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
    // SAFETY: a new mapping, which takes nobody's place. It is never unmapped: the actor ends soon.
    let mapped =
        unsafe { libc::mmap(std::ptr::null_mut(), MAP_BYTES, protection, flags, fd.as_raw_fd(), offset) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(mapped.cast()).expect("the kernel maps nothing at 0"))
}

/// A number in a ring, which the kernel changes.
fn at<'a>(ring: NonNull<u8>, offset: u32) -> &'a AtomicU32 {
    // SAFETY: the offsets are the kernel's, within the mapping, which is never unmapped.
    let place = unsafe { ring.add(offset as usize) }.cast::<u32>();
    // SAFETY: aligned as the kernel aligns its numbers, and both sides access them atomically.
    unsafe { AtomicU32::from_ptr(place.as_ptr()) }
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made the descriptor for us, so nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
