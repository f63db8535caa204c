//! The drain thread: records from the kernel through the pipeline to the spool's and the learner's queues. It does no
//! I/O: what it hands over goes through bounded queues that count what does not fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;
use nix::time::{ClockId, clock_gettime};
use sensor_baseline::Verdict;
use sensor_event::{Kind, LossReason};

use super::baseline_keeper::Handover;
use super::vitals::{DrainReport, DrainReports};
use crate::enrich::rescan::Rescanner;
use crate::event::BootNs;
use crate::finding::Finding;
use crate::kernel::{Counters, HookState, Kernel, KernelError, boot_to_unix_offset_ns};
use crate::learned_store::LearnedSender;
use crate::pipeline::{Output, Pipeline};
use crate::spool::{Gap, SpoolSender};
use crate::who::Stage;
use crate::wire;

/// What the drain thread works with.
pub(super) struct Drain {
    /// Where records come from.
    pub(super) kernel: Kernel,
    /// What they go through.
    pub(super) pipeline: Pipeline,
    /// Where findings wait until it is known who did it.
    pub(super) stage: Stage<Finding>,
    /// Where findings go.
    pub(super) spool: SpoolSender,
    /// Where observations of workloads that are not armed go.
    pub(super) learned: LearnedSender,
    /// Baselines to judge by from now on.
    pub(super) baselines: Receiver<Handover>,
    /// Where counters are published.
    pub(super) reports: DrainReports,
    /// Scans the host again when process records were lost.
    pub(super) rescanner: Rescanner,
    /// The host name in findings.
    pub(super) hostname: String,
    /// Set when the agent is to end.
    pub(super) is_ending: Arc<AtomicBool>,
}

impl Drain {
    /// Runs until the agent is to end, and then until the rings are empty, or [`ENDING_ROUNDS_MAX`] rounds on a host
    /// that fills them as fast.
    ///
    /// # Errors
    /// When the rings cannot be read any more.
    pub(super) fn run(mut self) -> Result<(), KernelError> {
        let mut output = Output::default();
        let mut accounting = Accounting::default();
        let mut ending_rounds = 0;
        loop {
            let is_ending = self.is_ending.load(Ordering::Relaxed);
            for handover in self.baselines.try_iter() {
                self.pipeline.set_baseline(Some(handover.baseline));
                let _nobody_waits = handover.in_force.try_send(());
            }
            if let Some(rescan) = self.rescanner.take() {
                self.pipeline.reconcile(rescan);
            }
            let upto = boot_now();
            let pipeline = &mut self.pipeline;
            let drained = self.kernel.drain(DRAIN_INTERVAL, DRAIN_RECORDS_MAX, &mut |record| {
                pipeline.handle(record, &mut output);
            })?;
            if drained.is_empty {
                self.pipeline.tick(upto, &mut output);
            }
            self.hand_over(&mut output);
            self.pass_on(upto);
            if accounting.is_due() || is_ending {
                self.pipeline.set_boot_to_unix_offset_ns(boot_to_unix_offset_ns());
                self.account(&mut accounting, drained.order_given_up_count)?;
            }
            ending_rounds += u32::from(is_ending);
            if is_ending && (drained.is_empty || ending_rounds >= ENDING_ROUNDS_MAX) {
                self.pass_on_rest();
                return Ok(());
            }
        }
    }

    fn hand_over(&mut self, output: &mut Output) {
        let now = boot_now();
        for finding in output.findings.drain(..) {
            self.stage.push(finding, now);
        }
        let learnable =
            output.observations.drain(..).filter(|(_, verdict)| matches!(verdict, Verdict::Learning));
        self.learned.observe(learnable.map(|(observation, _)| observation).collect());
        output.clear();
    }

    /// Passes on the findings of which it is known who did it.
    fn pass_on(&mut self, now: BootNs) {
        while let Some(finding) = self.stage.pop(now) {
            self.spool.append(wire::spool_item(&finding, &self.hostname));
        }
    }

    /// Passes on every finding: those that wait do so no longer than ever.
    fn pass_on_rest(&mut self) {
        while !self.stage.is_empty() {
            self.pass_on(boot_now());
            self.stage.wait(ANSWER_INTERVAL);
        }
    }

    /// Publishes the counters and declares what was lost since the last time.
    fn account(&mut self, accounting: &mut Accounting, order_given_up_count: u64) -> Result<(), KernelError> {
        let kernel = self.kernel.counters()?;
        self.rescanner.note_lost(kernel.process_records_lost());
        let now_ns = unix_ns();
        let pipeline = self.pipeline.counters();
        let undecodable = pipeline.get("records_undecodable").copied().unwrap_or(0);
        for gap in accounting.losses_since(&kernel, undecodable, now_ns) {
            self.spool.report_loss(gap);
        }
        let mut report = DrainReport::default();
        for kind in Kind::ALL {
            let name = kind.name();
            report.counters.insert(format!("records_seen{{kind={name}}}"), kernel.seen(kind));
            report.counters.insert(format!("records_submitted{{kind={name}}}"), kernel.submitted(kind));
            for reason in LossReason::ALL {
                let counter = format!("records_lost{{kind={name},reason={}}}", reason.name());
                report.counters.insert(counter, kernel.lost(kind, reason));
            }
        }
        report.counters.insert("records_order_given_up".to_owned(), order_given_up_count);
        let counted = pipeline.into_iter().chain(self.stage.counters());
        report.counters.extend(counted.map(|(name, value)| (name.to_owned(), value)));
        report.degraded.extend(self.kernel.hooks().iter().filter_map(|hook| match &hook.state {
            HookState::Attached => None,
            HookState::Failed(reason) => Some(format!("{}: {}: {reason}", hook.event, hook.hook)),
        }));
        self.reports.publish(report);
        Ok(())
    }
}

/// What had been lost when it was last looked at.
#[derive(Default)]
struct Accounting {
    looked_at: Option<Instant>,
    looked_at_unix_ns: u64,
    lost: Vec<(Kind, LossReason, u64)>,
    undecodable: u64,
}

impl Accounting {
    fn is_due(&self) -> bool {
        self.looked_at.is_none_or(|at| at.elapsed() >= ACCOUNT_INTERVAL)
    }

    /// Gaps for what the counters grew by. The kernel does not say when a record was lost, so a gap spans the whole
    /// time since the last look.
    fn losses_since(&mut self, kernel: &Counters, undecodable: u64, now_ns: u64) -> Vec<Gap> {
        let from_ns = if self.looked_at.is_some() { self.looked_at_unix_ns } else { now_ns };
        let gap = |kind: &str, reason: &str, count: u64| Gap {
            from_ns,
            to_ns: now_ns,
            kind: kind.to_owned(),
            count,
            reason: reason.to_owned(),
        };
        let lost: Vec<_> = kernel.losses().collect();
        let known = |kind: Kind, reason: LossReason| {
            self.lost.iter().find(|(k, r, _)| (*k, *r) == (kind, reason)).map_or(0, |(_, _, count)| *count)
        };
        let mut gaps: Vec<Gap> = lost
            .iter()
            .map(|&(kind, reason, count)| {
                gap(kind.name(), reason.name(), count.saturating_sub(known(kind, reason)))
            })
            .collect();
        gaps.push(gap("record", "undecodable", undecodable.saturating_sub(self.undecodable)));
        gaps.retain(|gap| gap.count > 0);
        self.lost = lost;
        self.undecodable = undecodable;
        self.looked_at = Some(Instant::now());
        self.looked_at_unix_ns = now_ns;
        gaps
    }
}

fn boot_now() -> BootNs {
    BootNs(clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| Duration::from(time).as_nanos() as u64))
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A record waits in its ring at most so long.
const DRAIN_INTERVAL: Duration = Duration::from_millis(50);
/// Records handled before baselines and counters are looked at again.
const DRAIN_RECORDS_MAX: usize = 4096;
const ENDING_ROUNDS_MAX: u32 = 50;
/// How often the deadline is looked at while no answer comes.
const ANSWER_INTERVAL: Duration = Duration::from_millis(10);
const ACCOUNT_INTERVAL: Duration = Duration::from_secs(1);
