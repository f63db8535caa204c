//! From the account of the records to what an operator is told: gaps for what was lost since the last look, counters for
//! the heartbeat. Not the counting, and not the sending. No clock and no I/O.

use std::collections::BTreeMap;

use sensor_event::Kind;

use crate::account::Account;
use crate::kernel::Counters;
use crate::spool::Gap;

/// What had been lost when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Losses {
    looked_at_unix_ns: Option<u64>,
    known: BTreeMap<(&'static str, &'static str), u64>,
}

impl Losses {
    /// Gaps for what has grown since the last look. Nobody knows when exactly a record was lost, so a gap spans the whole
    /// time since then. `processes_evicted` are processes that the agent had to forget: what they did since is told of
    /// processes that nothing is known about.
    pub(super) fn gaps(&mut self, account: &Account, processes_evicted: u64, now_ns: u64) -> Vec<Gap> {
        let from_ns = self.looked_at_unix_ns.replace(now_ns).unwrap_or(now_ns);
        let records = account.losses().map(|(kind, reason, count)| ((kind.name(), reason), count));
        let evicted = ((Kind::PROCESS.name(), TABLE_FULL), processes_evicted);
        let mut gaps = Vec::new();
        for ((kind, reason), count) in records.chain([evicted]) {
            let known = self.known.entry((kind, reason)).or_default();
            let grown = count.saturating_sub(*known);
            *known = count;
            if grown > 0 {
                let (kind, reason) = (kind.to_owned(), reason.to_owned());
                gaps.push(Gap { from_ns, to_ns: now_ns, kind, count: grown, reason });
            }
        }
        gaps
    }
}

/// The account as counters: of each kind that was seen, and of each reason for which something was lost. A counter
/// cannot be negative: where more became of the records than were seen, `records_unaccounted` says by how many.
pub(super) fn counters(account: &Account, kernel: &Counters) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    for row in account.rows() {
        let name = row.kind.name();
        let mut count =
            |what: &str, value: u64| counters.insert(format!("records_{what}{{kind={name}}}"), value);
        count("seen", row.seen);
        count("submitted", kernel.submitted(row.kind));
        count("delivered", row.delivered);
        count("cached", row.cached);
        count("in_flight", u64::try_from(row.in_flight).unwrap_or(0));
        if row.in_flight < 0 {
            count("unaccounted", row.in_flight.unsigned_abs());
        }
        for (reason, value) in &row.lost {
            counters.insert(format!("records_lost{{kind={name},reason={reason}}}"), *value);
        }
    }
    counters
}

/// A bounded table of the agent had no room.
const TABLE_FULL: &str = "table_full";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Delivered;
    use crate::record_fixture::Who;
    use sensor_event::{Counter, LossReason};

    fn account(kernel: &[(Kind, Counter, u64)], undecodable: usize) -> (Account, Counters) {
        let mut delivered = Delivered::default();
        let mut damaged = Who::new(20, 10).listen(80);
        damaged.truncate(120);
        for _ in 0..undecodable {
            delivered.decode(&damaged).expect_err("it was cut");
        }
        let kernel = Counters::from_counts(kernel);
        (Account::of(&kernel, &delivered), kernel)
    }

    fn texts(gaps: &[Gap]) -> Vec<String> {
        let text =
            |gap: &Gap| format!("{}-{} {} {} {}", gap.from_ns, gap.to_ns, gap.kind, gap.reason, gap.count);
        gaps.iter().map(text).collect()
    }

    #[test]
    fn every_kind_and_reason_that_grew_is_a_gap_once() {
        let mut losses = Losses::default();
        let lost: Vec<_> = Kind::ALL
            .into_iter()
            .flat_map(|kind| LossReason::ALL.map(|reason| (kind, Counter::Lost(reason), 2)))
            .collect();
        let (all, _) = account(&lost, 1);
        let gaps = losses.gaps(&all, 3, 100);
        assert_eq!(gaps.len(), lost.len() + 2, "and what was undecodable, and forgotten processes");
        assert!(losses.gaps(&all, 3, 200).is_empty());
        let more: Vec<_> = lost.iter().map(|(kind, counter, _)| (*kind, *counter, 5)).collect();
        let gaps = losses.gaps(&account(&more, 1).0, 4, 300);
        assert_eq!(gaps.len(), lost.len() + 1);
        assert!(texts(&gaps).contains(&"200-300 vm_write map_full 3".to_owned()));
        assert!(texts(&gaps).contains(&"200-300 process table_full 1".to_owned()));
    }

    #[test]
    fn what_was_counted_twice_is_told() {
        let (account, kernel) =
            account(&[(Kind::EXIT, Counter::Seen, 1), (Kind::EXIT, Counter::Cached, 4)], 0);
        let counters = counters(&account, &kernel);
        let count = |what: &str| counters.get(&format!("records_{what}{{kind=exit}}")).copied();
        assert_eq!((count("in_flight"), count("unaccounted")), (Some(0), Some(3)));
    }

    #[test]
    fn counters_are_those_of_kinds_that_were_seen() {
        let (account, kernel) = account(
            &[
                (Kind::LISTEN, Counter::Seen, 7),
                (Kind::LISTEN, Counter::Submitted, 3),
                (Kind::LISTEN, Counter::Lost(LossReason::Nested), 2),
            ],
            1,
        );
        let counters: Vec<String> =
            counters(&account, &kernel).into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(
            counters,
            [
                "records_cached{kind=listen} 0",
                "records_delivered{kind=listen} 0",
                "records_in_flight{kind=listen} 4",
                "records_lost{kind=listen,reason=nested} 2",
                "records_lost{kind=listen,reason=undecodable} 1",
                "records_seen{kind=listen} 7",
                "records_submitted{kind=listen} 3",
            ]
        );
    }
}
