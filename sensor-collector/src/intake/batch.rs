//! How an open stream takes a batch: order, duplicates, holes, credit. It is not the stream's life cycle (the parent
//! module). It may call the protocol's message types and hashes only.

use prost::Message;
use sensor_proto::v1;

use crate::clock::UnixNs;
use crate::identity::secret::Sha256Hash;
use crate::intake::{
    Commit, Content, Epoch, FindingRow, GapRow, Hole, InFlight, IntakeCounters, Limits, NAME_BYTES_MAX, Open,
    Output, Row, SEQ_MAX, Seq, Violation,
};

impl Open {
    /// Checks the whole batch before it changes anything.
    pub(super) fn take(
        &mut self,
        batch: v1::Batch,
        wire_bytes: u64,
        limits: Limits,
        counters: &mut IntakeCounters,
    ) -> Result<Output, Violation> {
        let epoch =
            Epoch::from_wire(&batch.epoch).ok_or(Violation::EpochLength { found: batch.epoch.len() })?;
        if epoch != self.epoch {
            return Err(Violation::OtherEpoch { expected: self.epoch, found: epoch });
        }
        self.check_credit(wire_bytes, limits)?;
        let ranges = ranges(&batch.items)?;
        let (first, last) = match (ranges.first(), ranges.last()) {
            (Some(first), Some(last)) => (first.0, last.1),
            _ => return Err(Violation::EmptyBatch),
        };

        counters.items_received += ranges.len() as u64;
        let received = *self.received.get_or_insert(Seq(first.0 - 1));
        let hole =
            (first.0 > received.0 + 1).then(|| Hole { first: Seq(received.0 + 1), last: Seq(first.0 - 1) });
        counters.sequences_missing += hole.map_or(0, Hole::count);
        let mut rows = Vec::with_capacity(batch.items.len());
        for (item, (item_first, seq)) in batch.items.into_iter().zip(ranges) {
            if seq <= received {
                counters.items_duplicate += 1;
                continue;
            }
            counters.items_unknown += u64::from(item.content.is_none());
            counters.names_refused += refused_names(&item);
            // A stand-in may reach back over items that were stored before they overflowed.
            let item_first = item_first.max(Seq(received.0 + 1));
            rows.push(Row { first: item_first, seq, content: content(item.content) });
        }
        let upto = received.max(last);
        self.received = Some(upto);
        if rows.is_empty() && self.in_flight.is_empty() {
            // All of it was stored before: the answer is the ack that the agent missed.
            return Ok(Output::Ack { epoch, upto: self.durable });
        }
        self.in_flight_bytes += wire_bytes;
        self.in_flight.push_back(InFlight { upto, bytes: wire_bytes });
        let after = self.after.replace(upto);
        Ok(Output::Commit(Commit { epoch, after, hole, rows, upto }))
    }

    fn check_credit(&self, wire_bytes: u64, limits: Limits) -> Result<(), Violation> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        let in_flight = self.in_flight_bytes.saturating_add(wire_bytes);
        if in_flight > limits.credit_bytes {
            return Err(Violation::OverCredit { in_flight, credit: limits.credit_bytes });
        }
        if self.in_flight.len() >= limits.batches_max {
            let in_flight = self.in_flight.len() + 1;
            return Err(Violation::TooManyBatches { in_flight, allowed: limits.batches_max });
        }
        Ok(())
    }
}

/// The sequences that each item covers, which must follow each other.
fn ranges(items: &[v1::Item]) -> Result<Vec<(Seq, Seq)>, Violation> {
    let mut ranges: Vec<(Seq, Seq)> = Vec::with_capacity(items.len());
    for item in items {
        let last = item.seq;
        let first = match (item.first_seq, &item.content) {
            (0, _) => last,
            (first, Some(v1::item::Content::Gap(_))) => first,
            (first, _) => return Err(Violation::BadSequence { first, last }),
        };
        if first == 0 || first > last || last > SEQ_MAX {
            return Err(Violation::BadSequence { first, last });
        }
        if let Some((_, previous)) = ranges.last()
            && first != previous.0 + 1
        {
            return Err(Violation::NotContiguous { expected: previous.0 + 1, found: first });
        }
        ranges.push((Seq(first), Seq(last)));
    }
    Ok(ranges)
}

/// What an agent calls a finding or an incident, unless it is too long to be looked for. Such a finding is kept and stands by
/// itself.
fn name(text: &str) -> Option<&str> {
    (1..=NAME_BYTES_MAX).contains(&text.len()).then_some(text)
}

fn refused_names(item: &v1::Item) -> u64 {
    let Some(v1::item::Content::Finding(finding)) = &item.content else { return 0 };
    let names = [&finding.finding, &finding.incident];
    names.into_iter().filter(|text| text.len() > NAME_BYTES_MAX).count() as u64
}

/// The hash of a novel behaviour, by which other hosts' are compared.
pub fn novel(finding: &v1::Finding) -> Option<Sha256Hash> {
    let behaviour = finding.behaviour.as_ref().filter(|_| finding.reason() == v1::Reason::Novel)?;
    Some(Sha256Hash::of(&behaviour.encode_to_vec()))
}

fn content(content: Option<v1::item::Content>) -> Content {
    match content {
        Some(v1::item::Content::Finding(finding)) => Content::Finding(FindingRow {
            name: name(&finding.finding).map(str::to_owned),
            incident: name(&finding.incident).map(str::to_owned),
            count: finding.count.max(1),
            is_repeat: finding.is_repeat,
            time: UnixNs::from_claimed(finding.time_unix_ns),
            severity: finding.severity().into(),
            reason: finding.reason,
            novel: novel(&finding),
            body: finding.encode_to_vec(),
        }),
        Some(v1::item::Content::Gap(gap)) => Content::Gap(GapRow {
            from: UnixNs::from_claimed(gap.from_unix_ns),
            to: UnixNs::from_claimed(gap.to_unix_ns),
            kind: gap.kind,
            count: gap.count,
            reason: gap.reason,
        }),
        // A newer agent's item: it holds its place in the sequence, and the loss is on record.
        None => Content::Gap(GapRow {
            from: UnixNs::from_claimed(0),
            to: UnixNs::from_claimed(0),
            kind: "item".to_owned(),
            count: 1,
            reason: "item_unknown".to_owned(),
        }),
    }
}
