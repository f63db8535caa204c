//! What a heartbeat says: every counter by name, the hooks, and what is degraded. Not when it is sent. It may read the
//! states that the other threads publish.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sensor_proto::v1;

use super::baseline_keeper::BaselineKeeper;
use crate::learned_store::{LearnedReader, LearnedSender};
use crate::spool::{SpoolReader, SpoolSender};
use crate::uplink::session::SessionCounters;

/// What the drain thread publishes about kernel and pipeline.
#[derive(Clone, Debug, Default)]
pub struct DrainReport {
    /// Counters by name.
    pub counters: BTreeMap<String, u64>,
    /// Why capture is impaired; empty when it is not.
    pub degraded: Vec<String>,
}

/// The newest [`DrainReport`], shared between the drain thread and the uplink.
#[derive(Clone, Default)]
pub struct DrainReports(Arc<Mutex<DrainReport>>);

impl DrainReports {
    /// Replaces the newest report.
    pub fn publish(&self, report: DrainReport) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    /// The newest report.
    #[must_use]
    pub fn newest(&self) -> DrainReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where a heartbeat's content comes from.
pub struct Vitals {
    /// The host name in findings.
    pub hostname: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// Random per boot.
    pub boot_id: Vec<u8>,
    /// Event to hook.
    pub hooks: BTreeMap<String, String>,
    /// Kernel and pipeline.
    pub drain: DrainReports,
    /// State of the spool.
    pub spool: SpoolReader,
    /// What did not get into the spool.
    pub spool_sender: SpoolSender,
    /// State of the learned behaviours.
    pub learned: LearnedReader,
    /// What did not get there.
    pub learned_sender: LearnedSender,
}

impl Vitals {
    /// A heartbeat as of now.
    #[must_use]
    pub fn heartbeat(&self, session: SessionCounters, baselines: &BaselineKeeper) -> v1::Heartbeat {
        let DrainReport { mut counters, mut degraded } = self.drain.newest();
        let spool = self.spool.state().borrow().clone();
        let learned = self.learned.state().borrow().clone();
        let mut count = |name: &str, value: u64| counters.insert(name.to_owned(), value);
        count("spool_accepted", spool.health.accepted_count);
        count("spool_pending", spool.health.pending_count);
        count("spool_lost{reason=queue_full}", self.spool_sender.refused_count());
        count("spool_lost{reason=unavailable}", spool.health.dropped_count);
        count("spool_lost{reason=full}", spool.holding.map_or(0, |holding| holding.evicted_count));
        count("spool_damaged", spool.health.damaged_count);
        count("learned_behaviours", learned.behaviours);
        count("learned_lost{reason=queue_full}", self.learned_sender.dropped_count());
        count("learned_refused{reason=floor}", learned.counters.refused_floor);
        count("learned_refused{reason=withheld}", learned.counters.refused_withheld);
        count("learned_refused{reason=full}", learned.counters.refused_full);
        count("learned_refused{reason=no_text}", learned.counters.refused_no_text);
        count("learned_evicted", learned.counters.evicted);
        count("learned_withheld", learned.withheld);
        count("learned_withheld_full", learned.counters.unwithheld_full);
        count("uplink_sessions", session.sessions);
        count("uplink_disconnects", session.disconnects);
        count("uplink_items_sent", session.items_sent);
        count("uplink_items_acked", session.items_acked);
        count("uplink_acks_ignored", session.acks_ignored);
        count("uplink_protocol_errors", session.protocol_errors);
        degraded.extend(spool.health.degraded.map(|reason| format!("spool: {reason}")));
        degraded.extend(learned.degraded.map(|reason| format!("learned: {reason}")));
        degraded.extend(baselines.trouble().map(|reason| format!("baseline: {reason}")));
        let in_force = baselines.in_force();
        v1::Heartbeat {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.hostname.clone(),
            kernel_release: self.kernel_release.clone(),
            boot_id: self.boot_id.clone(),
            counters,
            hooks: self.hooks.clone(),
            baseline_version: in_force.version,
            baseline_sha256: in_force.sha256.map(Vec::from).unwrap_or_default(),
            degraded,
            spool_items: spool.holding.map_or(0, |holding| holding.items()),
            spool_bytes: spool.holding.map_or(0, |holding| holding.bytes),
        }
    }
}
