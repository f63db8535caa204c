//! What became of every record, by kind: `seen = delivered + cached + Σ lost[reason]`. Not the counting itself: the
//! kernel side counts what it saw, whoever empties the rings counts what it took. It may call the event crate and the
//! kernel side's counters; no I/O.
//!
//! ```text
//! hook fires ──→ seen
//!                 ├─ verdict known ────────────────→ cached
//!                 ├─ lost in the kernel ───────────→ lost[ring_full | oversize | nested | fault | map_full | missed]
//!                 └─ submitted → ring → agent ─┬───→ delivered (decoded and handed on)
//!                                              ├───→ lost[undecodable]
//!                                              └───→ lost[abandoned] (taken out after its reader had ended)
//! ```
//!
//! While the programs run, what lies in a ring or is being built is none of these yet: *in flight*. Once they are
//! detached and the rings are empty nothing is, and the two sides are equal, exactly.

use crate::kernel::Counters;
use sensor_event::{DecodeError, Header, Kind, LossReason, Record, decode};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use zerocopy::FromBytes as _;

/// One number per kind; index 0 is for kinds this build does not know.
type PerKind = [u64; Kind::KINDS_LEN];

/// What the agent did with the records that it took out of the rings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    decoded: PerKind,
    undecodable: PerKind,
    abandoned: PerKind,
}

impl Default for Delivered {
    fn default() -> Self {
        let none = [0; Kind::KINDS_LEN];
        Self { decoded: none, undecodable: none, abandoned: none }
    }
}

impl Delivered {
    /// Decodes a record and counts what came of it. One that cannot be decoded counts for the kind that its header
    /// names, if it has one.
    ///
    /// # Errors
    /// When the bytes are no record.
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Record<'a>, DecodeError> {
        let decoded = decode(bytes);
        match &decoded {
            Ok(record) => self.decoded[row(record.header.kind)] += 1,
            Err(_) => self.undecodable[row(kind_of(bytes))] += 1,
        }
        decoded
    }

    /// Counts a record that nobody was left to take.
    pub fn abandon(&mut self, bytes: &[u8]) {
        self.abandoned[row(kind_of(bytes))] += 1;
    }

    /// Counts what no reader took out of the rings: records of a kind that were seen and have not become anything.
    pub const fn abandon_unread(&mut self, kind: Kind, count: u64) {
        self.abandoned[row(kind)] += count;
    }

    /// Adds what another reader of the same rings counted.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.decoded, &other.decoded),
            (&mut self.undecodable, &other.undecodable),
            (&mut self.abandoned, &other.abandoned),
        ];
        for (sums, counts) in pairs {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    /// Records of this kind that were decoded and handed on.
    #[must_use]
    pub const fn decoded(&self, kind: Kind) -> u64 {
        self.decoded[row(kind)]
    }

    /// Records of this kind that could not be decoded.
    #[must_use]
    pub const fn undecodable(&self, kind: Kind) -> u64 {
        self.undecodable[row(kind)]
    }

    /// Records of this kind that nobody was left to take.
    #[must_use]
    pub const fn abandoned(&self, kind: Kind) -> u64 {
        self.abandoned[row(kind)]
    }

    /// Records of all kinds that could not be decoded.
    #[must_use]
    pub fn undecodable_total(&self) -> u64 {
        self.undecodable.iter().sum()
    }

    /// What the agent lost, by kind and reason; only what occurred.
    pub fn losses(&self) -> impl Iterator<Item = (Kind, &'static str, u64)> {
        let reasons =
            |kind| [(kind, UNDECODABLE, self.undecodable(kind)), (kind, ABANDONED, self.abandoned(kind))];
        every_kind().flat_map(reasons).filter(|(_, _, count)| *count > 0)
    }
}

/// The account of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The kind; [`UNKNOWN_KIND`] for those this build does not know.
    #[serde(skip)]
    pub kind: Kind,
    /// Times a hook fired for something this kind reports.
    pub seen: u64,
    /// Records decoded and handed on.
    pub delivered: u64,
    /// Times the verdict was known already.
    pub cached: u64,
    /// Records lost, by reason; only reasons that occurred.
    pub lost: BTreeMap<&'static str, u64>,
    /// What is none of these yet: negative when there is more than was seen.
    pub in_flight: i64,
}

impl Row {
    /// Records lost, for all reasons.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        self.lost.values().sum()
    }

    fn is_empty(&self) -> bool {
        self.seen == 0 && self.delivered == 0 && self.cached == 0 && self.lost.is_empty()
    }
}

/// A kind whose account does not add up although nothing is in flight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Imbalance(Row);

impl Imbalance {
    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.0.kind
    }
}

impl fmt::Display for Imbalance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { kind, seen, delivered, cached, in_flight, .. } = &self.0;
        let lost = self.0.lost_total();
        write!(
            out,
            "{}: seen {seen} is not delivered {delivered} + cached {cached} + lost {lost}: {in_flight} unaccounted for",
            kind.name()
        )
    }
}

/// The account of every kind of which anything is known. As JSON an object by the names of the kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account(Vec<Row>);

impl Account {
    /// Sets both sides against each other.
    #[must_use]
    pub fn of(kernel: &Counters, delivered: &Delivered) -> Self {
        let rows = every_kind().map(|kind| row_of(kernel, delivered, kind));
        Self(rows.filter(|row| !row.is_empty()).collect())
    }

    /// The kinds, in numeric order.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.0
    }

    /// Records lost, of all kinds, for all reasons.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        self.0.iter().map(Row::lost_total).sum()
    }

    /// Every loss that occurred: kind, reason, number.
    pub fn losses(&self) -> impl Iterator<Item = (Kind, &'static str, u64)> {
        self.0.iter().flat_map(|row| row.lost.iter().map(|(reason, count)| (row.kind, *reason, *count)))
    }

    /// What is in flight, by kind: when nobody reads any more it never becomes anything.
    pub fn left_behind(&self) -> impl Iterator<Item = (Kind, u64)> {
        self.0
            .iter()
            .filter_map(|row| Some((row.kind, u64::try_from(row.in_flight).ok().filter(|left| *left > 0)?)))
    }

    /// Whether `seen = delivered + cached + lost` for each kind: for an account that was drawn up after the programs
    /// were detached and the rings were emptied.
    ///
    /// # Errors
    /// The kinds for which it is not.
    pub fn check(&self) -> Result<(), Vec<Imbalance>> {
        let wrong: Vec<Imbalance> =
            self.0.iter().filter(|row| row.in_flight != 0).cloned().map(Imbalance).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for row in &self.0 {
            map.serialize_entry(row.kind.name(), row)?;
        }
        map.end()
    }
}

fn row_of(kernel: &Counters, delivered: &Delivered, kind: Kind) -> Row {
    let in_kernel = LossReason::ALL.map(|reason| (reason.name(), kernel.lost(kind, reason)));
    let in_agent = [(UNDECODABLE, delivered.undecodable(kind)), (ABANDONED, delivered.abandoned(kind))];
    let lost: BTreeMap<_, _> =
        in_kernel.into_iter().chain(in_agent).filter(|(_, count)| *count > 0).collect();
    let (seen, cached, handed_on) = (kernel.seen(kind), kernel.cached(kind), delivered.decoded(kind));
    let known = handed_on + cached + lost.values().sum::<u64>();
    Row { kind, seen, delivered: handed_on, cached, lost, in_flight: seen.wrapping_sub(known).cast_signed() }
}

/// Known kinds, and the row of unknown ones.
fn every_kind() -> impl Iterator<Item = Kind> {
    std::iter::once(UNKNOWN_KIND).chain(Kind::ALL)
}

const fn row(kind: Kind) -> usize {
    if (kind.0 as usize) < Kind::KINDS_LEN { kind.0 as usize } else { 0 }
}

fn kind_of(bytes: &[u8]) -> Kind {
    Header::read_from_prefix(bytes).map_or(UNKNOWN_KIND, |(header, _)| header.kind)
}

/// Stands for every kind this build does not know.
pub const UNKNOWN_KIND: Kind = Kind(0);
/// The agent could not decode the record.
pub const UNDECODABLE: &str = "undecodable";
/// The record was taken out of its ring when nobody was left to take it: the output was closed, or stuck at the end; or
/// it was left there, because the agent's time to end was over.
pub const ABANDONED: &str = "abandoned";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record_fixture::Who;
    use sensor_event::Counter;

    fn taken(records: &[Vec<u8>]) -> Delivered {
        let mut delivered = Delivered::default();
        for record in records {
            // Counted either way.
            let _ = delivered.decode(record);
        }
        delivered
    }

    #[test]
    fn every_record_is_delivered_cached_or_lost_for_a_reason() {
        let who = Who::new(20, 10);
        let mut damaged = who.listen(80);
        damaged.truncate(120);
        let mut delivered = taken(&[who.exit(0), who.exit(1), who.listen(80), damaged]);
        delivered.abandon(&who.listen(81));
        let kernel = Counters::from_counts(&[
            (Kind::EXIT, Counter::Seen, 5),
            (Kind::EXIT, Counter::Submitted, 2),
            (Kind::EXIT, Counter::Lost(LossReason::RingFull), 2),
            (Kind::EXIT, Counter::Lost(LossReason::MapFull), 1),
            (Kind::LISTEN, Counter::Seen, 7),
            (Kind::LISTEN, Counter::Submitted, 3),
            (Kind::LISTEN, Counter::Cached, 4),
        ]);
        let account = Account::of(&kernel, &delivered);
        assert_eq!(account.check(), Ok(()));
        assert_eq!(account.lost_total(), 5);
        assert_eq!(
            serde_json::to_string(&account).unwrap(),
            r#"{"exit":{"seen":5,"delivered":2,"cached":0,"lost":{"map_full":1,"ring_full":2},"in_flight":0},"#
                .to_owned()
                + r#""listen":{"seen":7,"delivered":1,"cached":4,"lost":{"abandoned":1,"undecodable":1},"in_flight":0}}"#
        );
    }

    #[test]
    fn what_does_not_add_up_is_named() {
        let kernel = Counters::from_counts(&[
            (Kind::EXIT, Counter::Seen, 3),
            (Kind::FORK, Counter::Seen, 1),
            (Kind::LISTEN, Counter::Seen, 1),
        ]);
        let who = Who::new(20, 10);
        let account = Account::of(
            &kernel,
            &taken(&[who.exit(0), who.fork(Who::new(21, 20)), who.listen(1), who.listen(2)]),
        );
        let wrong: Vec<String> = account.check().unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            wrong,
            [
                "exit: seen 3 is not delivered 1 + cached 0 + lost 0: 2 unaccounted for",
                "listen: seen 1 is not delivered 2 + cached 0 + lost 0: -1 unaccounted for",
            ]
        );
    }

    #[test]
    fn what_was_left_in_the_rings_is_lost() {
        let kernel = Counters::from_counts(&[
            (Kind::EXIT, Counter::Seen, 3),
            (Kind::LISTEN, Counter::Seen, 1),
            (Kind::FORK, Counter::Seen, 1),
        ]);
        let who = Who::new(20, 10);
        let mut delivered = taken(&[who.exit(0), who.listen(1), who.listen(2), who.fork(Who::new(21, 20))]);
        let left = Account::of(&kernel, &delivered).left_behind().collect::<Vec<_>>();
        assert_eq!(left, [(Kind::EXIT, 2)], "what was counted twice is not");
        left.into_iter().for_each(|(kind, count)| delivered.abandon_unread(kind, count));
        let account = Account::of(&kernel, &delivered);
        assert_eq!(account.losses().collect::<Vec<_>>(), [(Kind::EXIT, ABANDONED, 2)]);
        assert_eq!(account.check().unwrap_err().len(), 1, "only listen");
    }

    #[test]
    fn bytes_without_a_header_count_for_no_kind() {
        let mut delivered = taken(&[b"short".to_vec()]);
        let mut other = Delivered::default();
        other.add(&delivered);
        delivered.add(&other);
        assert_eq!(delivered.losses().collect::<Vec<_>>(), [(UNKNOWN_KIND, UNDECODABLE, 2)]);
        assert_eq!(Account::of(&Counters::from_counts(&[]), &delivered).check().unwrap_err().len(), 1);
    }
}
