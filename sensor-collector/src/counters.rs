//! Named counters of the collector itself: every loss and refusal has one. It is not the agents' counters. It calls
//! nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::intake::IntakeCounters;

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Items received on Findings streams.
    pub items_received: AtomicU64,
    /// Items that were stored already.
    pub items_duplicate: AtomicU64,
    /// Items with content this version does not know.
    pub items_unknown: AtomicU64,
    /// Names of findings and incidents that were too long.
    pub names_refused: AtomicU64,
    /// Rows written.
    pub items_stored: AtomicU64,
    /// Sequences missing without a declared gap.
    pub sequences_missing: AtomicU64,
    /// Batches that the store did not take.
    pub commits_failed: AtomicU64,
    /// Streams ended for a violation of the protocol.
    pub protocol_violations: AtomicU64,
    /// Streams and calls refused for want of an identity that counts.
    pub identities_refused: AtomicU64,
    /// Enrollments refused for the token or the certificate request.
    pub enrollments_refused: AtomicU64,
    /// Learned behaviours that could not be read.
    pub learned_unreadable: AtomicU64,
    /// Learned behaviours beyond an agent's bound.
    pub learned_over_bound: AtomicU64,
    /// Streams ended because the agent did not take our frames.
    pub streams_stalled: AtomicU64,
    /// API requests without a good token.
    pub requests_unauthorized: AtomicU64,
}

impl Counters {
    /// Adds what one stream counted.
    pub fn add_intake(&self, counted: IntakeCounters) {
        add(&self.items_received, counted.items_received);
        add(&self.items_duplicate, counted.items_duplicate);
        add(&self.items_unknown, counted.items_unknown);
        add(&self.names_refused, counted.names_refused);
        add(&self.sequences_missing, counted.sequences_missing);
    }

    /// Every counter by name.
    pub fn snapshot(&self) -> BTreeMap<&'static str, u64> {
        [
            ("items_received", &self.items_received),
            ("items_duplicate", &self.items_duplicate),
            ("items_unknown", &self.items_unknown),
            ("names_refused", &self.names_refused),
            ("items_stored", &self.items_stored),
            ("sequences_missing", &self.sequences_missing),
            ("commits_failed", &self.commits_failed),
            ("protocol_violations", &self.protocol_violations),
            ("identities_refused", &self.identities_refused),
            ("enrollments_refused", &self.enrollments_refused),
            ("learned_unreadable", &self.learned_unreadable),
            ("learned_over_bound", &self.learned_over_bound),
            ("streams_stalled", &self.streams_stalled),
            ("requests_unauthorized", &self.requests_unauthorized),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
        .collect()
    }
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
