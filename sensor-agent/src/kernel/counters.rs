//! The kernel side's account of its records. Not the agent's own counters. It may read the counter map.

use super::error::KernelError;
use crate::account::UNKNOWN_KIND;
use aya::maps::{MapData, PerCpuArray};
use sensor_event::{COUNTERS_LEN, Counter, Kind, LossReason, counter_index};

/// Sums over all CPUs. For each kind `seen == submitted + cached + lost`, exactly, once the programs stand still; while
/// they run, records between their two counts show as a small difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters([u64; COUNTERS_LEN]);

impl Counters {
    /// Reads the counters, and adds runs of programs that the kernel skipped as lost.
    pub(super) fn read(map: &PerCpuArray<MapData, u64>, missed: &[(Kind, u64)]) -> Result<Self, KernelError> {
        let mut sums = [0; COUNTERS_LEN];
        for (index, sum) in (0u32..).zip(&mut sums) {
            let cells = map
                .get(&index, 0)
                .map_err(|error| KernelError::Map { name: "COUNTERS", reason: error.to_string() })?;
            *sum = cells.iter().sum();
        }
        for (kind, count) in missed {
            for counter in [Counter::Seen, Counter::Lost(LossReason::Missed)] {
                sums[counter_index(*kind, counter)] += count;
            }
        }
        Ok(Self(sums))
    }

    /// Records of this kind that the hooks were asked for.
    #[must_use]
    pub fn seen(&self, kind: Kind) -> u64 {
        self.0[counter_index(kind, Counter::Seen)]
    }

    /// Records of this kind that were put into a ring.
    #[must_use]
    pub fn submitted(&self, kind: Kind) -> u64 {
        self.0[counter_index(kind, Counter::Submitted)]
    }

    /// Times that the verdict on a record of this kind was known already, so that it was not made.
    #[must_use]
    pub fn cached(&self, kind: Kind) -> u64 {
        self.0[counter_index(kind, Counter::Cached)]
    }

    /// Whether no program is between its first count of a record and its last: once none runs, this stays true.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.kinds().all(|kind| {
            let lost: u64 = LossReason::ALL.into_iter().map(|reason| self.lost(kind, reason)).sum();
            self.seen(kind) == self.submitted(kind) + self.cached(kind) + lost
        })
    }

    /// Counters that are all zero but for these.
    #[cfg(test)]
    pub(crate) fn from_counts(counts: &[(Kind, Counter, u64)]) -> Self {
        let mut sums = [0; COUNTERS_LEN];
        for (kind, counter, count) in counts {
            sums[counter_index(*kind, *counter)] = *count;
        }
        Self(sums)
    }

    /// Records of this kind that were lost for this reason.
    #[must_use]
    pub fn lost(&self, kind: Kind, reason: LossReason) -> u64 {
        self.0[counter_index(kind, Counter::Lost(reason))]
    }

    /// Records lost, of all kinds, for all reasons.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        self.losses().map(|(_, _, count)| count).sum()
    }

    /// Records lost without which the agent has processes wrong: of exec, fork and exit.
    #[must_use]
    pub fn process_records_lost(&self) -> u64 {
        let kinds = [Kind::EXEC, Kind::FORK, Kind::EXIT];
        kinds.iter().flat_map(|kind| LossReason::ALL.map(|reason| self.lost(*kind, reason))).sum()
    }

    /// Every loss that occurred.
    pub fn losses(&self) -> impl Iterator<Item = (Kind, LossReason, u64)> {
        self.kinds()
            .flat_map(|kind| LossReason::ALL.map(|reason| (kind, reason, self.lost(kind, reason))))
            .filter(|(_, _, count)| *count > 0)
    }

    /// Known kinds, and the row that counts unknown ones.
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        std::iter::once(UNKNOWN_KIND).chain(Kind::ALL)
    }
}
