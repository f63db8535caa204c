//! What the spool holds: findings as opaque bytes, and gaps. Not the wire's items and not the table's rows. It may
//! call nothing but the standard library.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Identifies one spool's numbering. A new spool has a new one, so that no sequence number is ever used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub [u8; 16]);

/// A number of the spool's stream: 1, 2, 3 and so on within an [`Epoch`], without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number before this one; 0 has none and stays.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// How much an item matters when room is short: the OCSF severity number for a finding, [`Rank::GAP`] for a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(pub u8);

impl Rank {
    /// From this rank on an item is committed and sent at once.
    pub const URGENT: Self = Self(4);
    /// Gaps outlive every finding: they are small, and they say what is missing.
    pub const GAP: Self = Self(100);
}

/// A declared hole: `count` things of `kind` are missing, for `reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First wall-clock time it covers, nanoseconds since the Unix epoch.
    pub from_ns: u64,
    /// Last wall-clock time it covers.
    pub to_ns: u64,
    /// What is missing: a record kind, `finding`, `gap` or `spool`.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: String,
}

/// The two things that have a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An encoded finding. The spool does not look inside.
    Finding(Vec<u8>),
    /// A declared hole.
    Gap(Gap),
}

/// An item that has no sequence number yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewItem {
    /// Its place in the order of eviction.
    pub rank: Rank,
    /// Wall-clock time, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// What it says.
    pub content: Content,
}

impl NewItem {
    /// A gap as an item.
    #[must_use]
    pub const fn gap(gap: Gap) -> Self {
        Self { rank: Rank::GAP, time_ns: gap.to_ns, content: Content::Gap(gap) }
    }

    /// What it counts against a byte limit.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        ITEM_OVERHEAD_BYTES
            + match &self.content {
                Content::Finding(bytes) => bytes.len() as u64,
                Content::Gap(gap) => (gap.kind.len() + gap.reason.len()) as u64,
            }
    }
}

/// An accepted item as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredItem {
    /// The first number it stands for: [`StoredItem::seq`], except for the gap that replaces evicted items.
    pub first: Seq,
    /// Its number; the last one it stands for.
    pub seq: Seq,
    /// What it says.
    pub content: Content,
}

/// What a row costs beside its payload: columns, the index entry, and page slack, rounded up.
pub const ITEM_OVERHEAD_BYTES: u64 = 96;

/// Losses that wait to become gaps, summed by kind and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LossTally {
    by_cause: BTreeMap<(String, String), Gap>,
}

impl LossTally {
    /// Adds one loss. Beyond [`LOSS_CAUSES_MAX`] causes the count goes to kind `other`, reason `other`.
    pub fn add(&mut self, mut gap: Gap) {
        if gap.count == 0 {
            return;
        }
        let is_known = |gap: &Gap| self.by_cause.contains_key(&(gap.kind.clone(), gap.reason.clone()));
        if self.by_cause.len() >= LOSS_CAUSES_MAX && !is_known(&gap) {
            gap = Gap { kind: "other".to_owned(), reason: "other".to_owned(), ..gap };
        }
        match self.by_cause.entry((gap.kind.clone(), gap.reason.clone())) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.count = known.count.saturating_add(gap.count);
                known.from_ns = known.from_ns.min(gap.from_ns);
                known.to_ns = known.to_ns.max(gap.to_ns);
            }
            Entry::Vacant(place) => {
                place.insert(gap);
            }
        }
    }

    /// Moves every loss of `other` into this tally.
    pub fn absorb(&mut self, other: Self) {
        for gap in other.by_cause.into_values() {
            self.add(gap);
        }
    }

    /// Whether nothing was lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_cause.is_empty()
    }

    /// The gaps that say it.
    pub fn gaps(&self) -> impl Iterator<Item = &Gap> {
        self.by_cause.values()
    }
}

/// Distinct (kind, reason) pairs kept apart: 10 kinds with 5 reasons each, and the spool's own.
const LOSS_CAUSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(kind: &str, count: u64, at: u64) -> Gap {
        Gap { from_ns: at, to_ns: at, kind: kind.to_owned(), count, reason: "ring_full".to_owned() }
    }

    #[test]
    fn losses_of_one_cause_sum_up_and_span_their_times() {
        let mut tally = LossTally::default();
        tally.add(gap("exec", 2, 50));
        tally.add(gap("exec", 3, 10));
        tally.add(gap("exec", 0, 999));
        let expected = Gap { from_ns: 10, to_ns: 50, ..gap("exec", 5, 0) };
        assert_eq!(tally.gaps().cloned().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn causes_are_bounded_and_no_count_is_lost() {
        let mut tally = LossTally::default();
        for n in 0..200 {
            tally.add(gap(&format!("kind{n}"), 1, n));
        }
        assert!(tally.gaps().count() <= LOSS_CAUSES_MAX + 1);
        assert_eq!(tally.gaps().map(|gap| gap.count).sum::<u64>(), 200);
    }
}
