//! What the kernel remembers of verdicts: the layouts of its maps, and the keyed hash that names an object in them. Not a
//! verdict: that is the agent's, and the kernel only counts how often it holds again. It may call `core` only.
//!
//! ```text
//! process --CONTEXTS--> context (as whom it acts) --hash with the object--> VERDICTS --> cell of HITS
//! ```
//!
//! An entry is worth nothing once what it was judged by has changed; nobody has to remove it for that:
//! - the process became another program, moved to another control group, or was another process: [`ContextEntry`];
//! - the agent judges by something else: `policy`;
//! - something happened that changes what the same words mean, such as a new file in the place of another: `stamp`;
//! - it is old: [`VERDICT_NS_MAX`].

use crate::body::Family;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How long an entry holds: then the next such record is made again, so that what the agent remembers of files for longer
/// (whether they are fresh) is never older than that.
pub const VERDICT_NS_MAX: u64 = 60_000_000_000;

/// Components of a path at most whose verdict is remembered.
pub const KNOWN_COMPONENTS_MAX: usize = 24;

/// Bytes of one of them at most, without NUL.
pub const KNOWN_NAME_BYTES_MAX: usize = 127;

/// Cells that count what changes the meaning of files, by [`change_cell`]; the first counts new directories.
pub const CHANGES_LEN: usize = 1 + (1 << CHANGE_BITS);

const CHANGE_BITS: u32 = 14;

/// What is done to an object, as part of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum KnownAction {
    /// A file that was there is opened for writing.
    Write = 1,
    /// A TCP connect, or the first datagram to a peer.
    Connect = 2,
}

/// Value of the map `CONTEXTS`, by tgid: as whom a process acts, and what has to be so for that to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextEntry {
    /// `start_boottime` of the process. Read last, as [`VerdictEntry::hash`] is.
    pub start_time_ns: u64,
    /// Its cgroup v2 id.
    pub cgroup_id: u64,
    /// Number of the context; the agent never gives one twice.
    pub context: u32,
    /// Low half of `task->self_exec_id`: another one, another program.
    pub exec_id: u16,
    /// Not 0: the context holds for [`Self::euid`] only.
    pub is_of_user: u16,
    /// Effective user id.
    pub euid: u32,
    /// Always zero.
    pub reserved: u32,
}

/// Value of the map `VERDICTS`, by hash: a verdict that the agent has nothing more to do for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VerdictEntry {
    /// What it is on: read last. The memory of an entry that is removed can become another's while a program looks at it,
    /// and the first word is written first.
    pub hash: u64,
    /// Time of the record that was judged: the entry holds until [`VERDICT_NS_MAX`] later.
    pub since_ns: u64,
    /// The agent's policy that it was judged by.
    pub policy: u32,
    /// [`crate::FileBody::stamp`] of that record; 0 for what has none.
    pub stamp: u32,
    /// Index of its cell in `HITS`.
    pub cell: u32,
    /// Always zero.
    pub reserved: u32,
}

/// Value of the map `HITS`: how often an entry held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hits {
    /// Times. Only rises.
    pub count: u64,
    /// Last time, nanoseconds of `CLOCK_BOOTTIME`.
    pub last_ns: u64,
}

/// Index in `CHANGES` of the cell that a file's changes are counted in. Files share cells: one's change then makes
/// another's verdicts void without need.
#[must_use]
#[inline(always)]
pub const fn change_cell(dev: u32, inode: u64) -> u32 {
    let mixed = (inode ^ (dev as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    1 + (mixed >> (u64::BITS - CHANGE_BITS)) as u32
}

/// The remote end of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address family.
    pub family: Family,
    /// Protocol number.
    pub protocol: u16,
    /// Port in host byte order.
    pub port: u16,
    /// [`crate::SocketBody::destination`].
    pub address: [u64; 2],
}

/// SipHash-1-3 over words (Aumasson and Bernstein, 2012): the keyed hash of an object. Whoever does not know the secret
/// cannot make two objects that have the same one.
#[derive(Clone, Copy, Debug)]
pub struct ObjectHash([u64; 4]);

impl ObjectHash {
    /// Of what a context does.
    #[must_use]
    #[inline(always)]
    pub const fn new(secret: [u64; 2], context: u32, action: KnownAction) -> Self {
        let [low, high] = secret;
        Self([
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        ])
        .with(context as u64 | (action as u64) << 32)
    }

    /// With one more word.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, word: u64) -> Self {
        let [a, b, c, d] = self.0;
        let [a, b, c, d] = round([a, b, c, d ^ word]);
        Self([a ^ word, b, c, d])
    }

    /// Of a file: which inode it is, then each component of its path, leaf first, in words of eight bytes with at least
    /// one zero byte behind it.
    #[must_use]
    #[inline(always)]
    pub const fn with_file(self, dev: u32, mode: u32, inode: u64) -> Self {
        self.with(dev as u64 | ((mode & S_IFMT) as u64) << 32).with(inode)
    }

    /// With a component of a path. `None` for one that is too long.
    #[must_use]
    pub fn with_component(mut self, name: &[u8]) -> Option<Self> {
        if name.len() > KNOWN_NAME_BYTES_MAX {
            return None;
        }
        let (words, rest) = name.as_chunks::<8>();
        for word in words {
            self = self.with(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        Some(self.with(u64::from_le_bytes(last)))
    }

    /// Of a peer.
    #[must_use]
    #[inline(always)]
    pub const fn with_peer(self, peer: &Peer) -> Self {
        let numbers = peer.family.0 as u64 | (peer.protocol as u64) << 16 | (peer.port as u64) << 32;
        self.with(numbers).with(peer.address[0]).with(peer.address[1])
    }

    /// The hash: never 0.
    #[must_use]
    #[inline(always)]
    pub const fn finish(self) -> u64 {
        let [a, b, c, d] = self.0;
        let [a, b, c, d] = round(round(round([a, b, c ^ 0xff, d])));
        (a ^ b ^ c ^ d) | 1
    }
}

#[inline(always)]
const fn round([a, b, c, d]: [u64; 4]) -> [u64; 4] {
    let (a, c) = (a.wrapping_add(b), c.wrapping_add(d));
    let (b, d) = (b.rotate_left(13) ^ a, d.rotate_left(16) ^ c);
    let a = a.rotate_left(32);
    let (c, a) = (c.wrapping_add(b), a.wrapping_add(d));
    let (b, d) = (b.rotate_left(17) ^ c, d.rotate_left(21) ^ a);
    [a, b, c.rotate_left(32), d]
}

/// `include/uapi/linux/stat.h`.
const S_IFMT: u32 = 0o170_000;

const _: () =
    assert!(size_of::<ContextEntry>() == 32 && size_of::<VerdictEntry>() == 32, "no hidden padding");

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::hash::{DefaultHasher, Hasher as _};

    #[test]
    fn rounds_are_those_of_siphash() {
        // The standard library's hasher is SipHash-1-3 with keys of zero; its last word is the length in bytes.
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(0x0000_0001_89ab_cdef);
        let hash = ObjectHash::new([0, 0], 0x89ab_cdef, KnownAction::Write).with(8 << 56).finish();
        assert_eq!(hash, hasher.finish() | 1);
    }

    #[test]
    fn paths_that_differ_have_other_words() {
        let paths: [&[&[u8]]; 7] = [
            &[b"abcdefgh", b"ij"],
            &[b"abcdefghij"],
            &[b"ij", b"abcdefgh"],
            &[b"abcdefgh", b"i", b"j"],
            &[b"abcdefgh"],
            &[b"abcdefg"],
            &[],
        ];
        let hashes = paths.map(|path| {
            let start = ObjectHash::new([1, 2], 3, KnownAction::Write).with_file(4, 0o100_644, 5);
            path.iter().fold(start, |hash, name| hash.with_component(name).expect("it is short")).finish()
        });
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..at].contains(hash), "{:?}", paths[at]);
        }
    }

    #[test]
    fn names_that_are_too_long_have_none() {
        let hash = ObjectHash::new([1, 2], 3, KnownAction::Write);
        assert!(hash.with_component(&[b'x'; KNOWN_NAME_BYTES_MAX]).is_some());
        assert!(hash.with_component(&[b'x'; KNOWN_NAME_BYTES_MAX + 1]).is_none());
    }
}
