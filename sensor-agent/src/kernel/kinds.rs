//! Which records the agent wants of the kernel side. Not what is done with them. It may call the event crate.

use sensor_event::Kind;

/// A set of kinds, and whether opens that change nothing belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindSet {
    bits: u64,
    reads: bool,
}

impl KindSet {
    /// exec, fork and exit only. They are part of every set: everything else names a process.
    pub const PROCESS: Self =
        Self { bits: bit(Kind::EXEC) | bit(Kind::FORK) | bit(Kind::EXIT), reads: false };

    /// What baselines know about, and what concerns privileges: neither reads nor mappings of files.
    pub const DEFAULT: Self = Self { bits: every_bit() & !bit(Kind::EXEC_MAP), reads: false };

    /// Everything, reads and failed opens as well.
    pub const ALL: Self = Self { bits: every_bit(), reads: true };

    /// This set and a kind.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Self {
        Self { bits: self.bits | bit(kind), ..self }
    }

    /// This set, with opens that change nothing and opens that fail.
    #[must_use]
    pub const fn with_reads(self) -> Self {
        Self { bits: self.bits | bit(Kind::FILE_OPEN), reads: true }
    }

    /// Whether a kind belongs to it.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.bits & bit(kind) != 0
    }

    /// Whether opens that change nothing, and opens that fail, belong to it.
    #[must_use]
    pub const fn has_reads(self) -> bool {
        self.reads
    }
}

const fn bit(kind: Kind) -> u64 {
    1 << kind.0
}

const fn every_bit() -> u64 {
    let (mut bits, mut index) = (0, 0);
    while index < Kind::ALL.len() {
        bits |= bit(Kind::ALL[index]);
        index += 1;
    }
    bits
}

const _: () = assert!(Kind::KINDS_LEN <= 64, "a kind has a bit of its own");
