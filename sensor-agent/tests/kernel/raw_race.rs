//! Memory that another thread rewrites while the kernel reads it, and the system calls that are given it, each behind a
//! safe function. Not a general way to make calls. It may call libc, and use unsafe code for that.

#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use nix::errno::Errno;
use nix::libc;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The text of a path whose last byte may be changed at any time.
pub(crate) struct RacingName(Vec<AtomicU8>);

impl RacingName {
    pub(crate) fn new(name: &str) -> Self {
        Self(name.bytes().chain([0]).map(AtomicU8::new).collect())
    }

    fn last(&self) -> &AtomicU8 {
        &self.0[self.0.len() - 2]
    }

    pub(crate) fn set_last(&self, byte: u8) {
        self.last().store(byte, Ordering::SeqCst);
    }

    /// The last byte as it is now.
    pub(crate) fn now(&self) -> char {
        char::from(self.last().load(Ordering::SeqCst))
    }

    fn pointer(&self) -> *const libc::c_char {
        self.0.as_ptr().cast()
    }
}

/// `struct sockaddr_in`, whose port and address may be changed at any time.
#[repr(C, align(8))]
pub(crate) struct RacingAddress {
    /// `sin_family`, `sin_port` and `sin_addr`.
    start: AtomicU64,
    zero: [u8; 8],
}

impl RacingAddress {
    pub(crate) fn new(address: SocketAddrV4) -> Self {
        Self { start: AtomicU64::new(start(address)), zero: [0; 8] }
    }

    pub(crate) fn set(&self, address: SocketAddrV4) {
        self.start.store(start(address), Ordering::SeqCst);
    }

    /// The address as it is now.
    pub(crate) fn now(&self) -> SocketAddrV4 {
        let bytes = self.start.load(Ordering::SeqCst).to_ne_bytes();
        let address = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
        SocketAddrV4::new(address, u16::from_be_bytes([bytes[2], bytes[3]]))
    }
}

/// The first eight bytes of `struct sockaddr_in`.
fn start(address: SocketAddrV4) -> u64 {
    let family = libc::sa_family_t::try_from(libc::AF_INET).expect("AF_INET is 2").to_ne_bytes();
    let port = address.port().to_be_bytes();
    let [a, b, c, d] = address.ip().octets();
    u64::from_ne_bytes([family[0], family[1], port[0], port[1], a, b, c, d])
}

/// `openat(AT_FDCWD, name, O_WRONLY | O_CREAT)`.
pub(crate) fn open_to_write(name: &RacingName) -> io::Result<OwnedFd> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC;
    // SAFETY: `name` ends with a NUL that never changes and outlives the call; whoever changes it does so atomically.
    let fd = unsafe { libc::openat(libc::AT_FDCWD, name.pointer(), flags, 0o600) };
    owned(fd)
}

/// `unlink(name)`.
pub(crate) fn unlink(name: &RacingName) -> io::Result<()> {
    // SAFETY: as in `open_to_write`.
    let result = unsafe { libc::unlink(name.pointer()) };
    Errno::result(result).map(drop).map_err(Into::into)
}

/// `rename(old, new)`.
pub(crate) fn rename(old: &RacingName, new: &RacingName) -> io::Result<()> {
    // SAFETY: as in `open_to_write`, for both.
    let result = unsafe { libc::rename(old.pointer(), new.pointer()) };
    Errno::result(result).map(drop).map_err(Into::into)
}

/// A blocking socket of IPv4; `kind` is `SOCK_STREAM` or `SOCK_DGRAM`.
pub(crate) fn socket(kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers and touches no memory.
    let fd = unsafe { libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, 0) };
    owned(fd)
}

/// `connect(socket, address)`.
pub(crate) fn connect(socket: &OwnedFd, address: &RacingAddress) -> io::Result<()> {
    let pointer = std::ptr::from_ref(address).cast();
    // SAFETY: `address` has the layout and the length of `sockaddr_in` and outlives the call; whoever changes it does so
    // atomically.
    let result = unsafe { libc::connect(socket.as_raw_fd(), pointer, ADDRESS_BYTES) };
    Errno::result(result).map(drop).map_err(Into::into)
}

/// `sendto(socket, one byte, address)`.
pub(crate) fn send_to(socket: &OwnedFd, address: &RacingAddress) -> io::Result<()> {
    let pointer = std::ptr::from_ref(address).cast();
    let datagram = [1u8];
    // SAFETY: `datagram` is one byte long; `address` as in `connect`.
    let result = unsafe {
        libc::sendto(socket.as_raw_fd(), datagram.as_ptr().cast(), datagram.len(), 0, pointer, ADDRESS_BYTES)
    };
    Errno::result(result).map(drop).map_err(Into::into)
}

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made the descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const ADDRESS_BYTES: libc::socklen_t = 16;
const _: () = assert!(size_of::<RacingAddress>() == 16 && size_of::<libc::sockaddr_in>() == 16, "one layout");
