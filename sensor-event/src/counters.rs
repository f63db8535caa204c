//! Numbers of the per-CPU counters that account for every record. Not their reading or display. It may call
//! `core` only.
//!
//! For each kind: `seen == submitted + cached + sum(lost by reason)`, exactly.

use crate::header::Kind;

/// Why a record was lost in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum LossReason {
    /// The ring had no room.
    RingFull = 0,
    /// The record would exceed [`crate::RECORD_BYTES_MAX`].
    Oversize = 1,
    /// Every scratch slot of the CPU was taken by interrupted programs.
    Nested = 2,
    /// A kernel object that the record cannot do without could not be read.
    Fault = 3,
    /// A map of the kernel side was full.
    MapFull = 4,
    /// The kernel did not run the program, as a rule because the CPU was running it already: `recursion_misses` of
    /// `include/linux/bpf.h`, 5.12 and later. Counted by the kernel (an upper bound, for not every run makes a record), or by
    /// a program that finds an earlier run missing.
    Missed = 5,
}

impl LossReason {
    /// Every reason, in numeric order.
    pub const ALL: [Self; 6] =
        [Self::RingFull, Self::Oversize, Self::Nested, Self::Fault, Self::MapFull, Self::Missed];

    /// The name used in counters, logs and gaps.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::Oversize => "oversize",
            Self::Nested => "nested",
            Self::Fault => "fault",
            Self::MapFull => "map_full",
            Self::Missed => "missed",
        }
    }
}

/// One counter of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// The hook fired for something this kind reports.
    Seen,
    /// The record was submitted to its ring.
    Submitted,
    /// The verdict on it was known already: it was counted there and went no further.
    Cached,
    /// The record was lost.
    Lost(LossReason),
}

const COUNTERS_PER_KIND: usize = 3 + LossReason::ALL.len();

/// Entries of the per-CPU counter array.
pub const COUNTERS_LEN: usize = Kind::KINDS_LEN * COUNTERS_PER_KIND;

/// Index of a counter in the per-CPU array. Unknown kinds count under index 0's row.
#[must_use]
pub const fn counter_index(kind: Kind, counter: Counter) -> usize {
    let row = if (kind.0 as usize) < Kind::KINDS_LEN { kind.0 as usize } else { 0 };
    let column = match counter {
        Counter::Seen => 0,
        Counter::Submitted => 1,
        Counter::Cached => 2,
        Counter::Lost(reason) => 3 + reason as usize,
    };
    row * COUNTERS_PER_KIND + column
}
