//! The drain thread: records from the kernel through the pipeline to the spool's and the learner's queues. It does no
//! I/O: what it hands over goes through bounded queues that count what does not fit, and a log that hangs is another
//! thread's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;
use nix::time::{ClockId, clock_gettime};
use sensor_baseline::Verdict;

use super::accounting::{self, Losses};
use super::baseline_keeper::Handover;
use super::vitals::{DrainReport, DrainReports};
use crate::account::{Account, Imbalance};
use crate::event::BootNs;
use crate::finding::Finding;
use crate::kernel::{HookState, Kernel, KernelError, boot_to_unix_offset_ns, give_back};
use crate::learned_store::{LearnedSender, Lessons};
use crate::pipeline::{Output, Pipeline};
use crate::rescan::Rescanner;
use crate::spool::SpoolSender;
use crate::teller::Teller;
use crate::who::{self, ANSWER_INTERVAL, Stage};
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
    /// Writes the log.
    pub(super) teller: Teller<Line>,
    /// The host name in findings.
    pub(super) hostname: String,
    /// Set when the agent is to end.
    pub(super) is_ending: Arc<AtomicBool>,
}

/// A line of the log.
#[derive(Debug)]
pub(super) enum Line {
    /// Something was lost.
    Lost { kind: String, reason: String, count: u64 },
    /// The last account, as JSON.
    Account(String),
    /// What of it does not add up.
    Imbalance(Imbalance),
}

impl Line {
    /// Writes it to the log, which may take long.
    pub(super) fn log(self) {
        match self {
            Self::Lost { kind, reason, count } => tracing::warn!(kind, reason, count, "lost"),
            Self::Account(json) => tracing::info!("account {json}"),
            Self::Imbalance(imbalance) => tracing::error!("the account of {imbalance}"),
        }
    }
}

impl Drain {
    /// Runs until the agent is to end; then detaches the programs and goes on until the rings are empty, for
    /// [`ENDING_MAX`] at most. What is left in them then is lost, and a gap says so.
    ///
    /// # Errors
    /// When the rings cannot be read any more. Everything that came before has been passed on.
    pub(super) fn run(mut self) -> Result<(), KernelError> {
        let mut accounting = Accounting::default();
        let drained = self.drain(&mut accounting);
        self.judge_rest();
        self.pass_on_rest();
        let accounted = self.end_account(&mut accounting);
        // A log that hangs is not waited for.
        let _was_told = self.teller.end();
        drained.and(accounted)
    }

    fn drain(&mut self, accounting: &mut Accounting) -> Result<(), KernelError> {
        let mut output = Output::default();
        let mut ending_since = None;
        loop {
            let is_ending = self.is_ending.load(Ordering::Relaxed);
            if is_ending {
                // Nothing more is seen; what was is in the rings.
                self.kernel.detach();
            }
            while let Ok(handover) = self.baselines.try_recv() {
                self.kernel.set_policy(self.pipeline.next_policy())?;
                self.take_hits(&mut output);
                self.pipeline.set_baseline(Some(handover.layers), &mut output);
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
            for image in who::images(&self.pipeline, &mut self.stage, upto) {
                self.pipeline.name(&image, &mut output);
            }
            if drained.is_empty {
                self.pipeline.tick(upto, &mut output);
            }
            self.kernel.remember(self.pipeline.remembered());
            if accounting.is_due() {
                self.take_hits(&mut output);
            }
            self.hand_over(&mut output);
            self.pass_on(upto);
            accounting.rounds_unordered = drained.order_given_up_count;
            if accounting.is_due() {
                self.pipeline.set_boot_to_unix_offset_ns(boot_to_unix_offset_ns());
                self.account(accounting)?;
            }
            if is_ending {
                // Nobody counts any more.
                self.take_hits(&mut output);
                self.hand_over(&mut output);
            }
            let is_done = drained.is_empty && is_ending && self.kernel.counters()?.is_settled();
            let is_late = is_ending && ending_since.get_or_insert_with(Instant::now).elapsed() >= ENDING_MAX;
            if is_done || is_late {
                return Ok(());
            }
        }
    }

    fn take_hits(&mut self, output: &mut Output) {
        self.pipeline.take_hits(&|cell| self.kernel.hits(cell), output);
    }

    fn hand_over(&mut self, output: &mut Output) {
        let now = boot_now();
        for finding in output.findings.drain(..) {
            self.stage.push(finding, now);
        }
        let mut lessons = Lessons { withheld: std::mem::take(&mut output.withheld), ..Lessons::default() };
        for (observation, verdict) in output.observations.drain(..) {
            match verdict {
                Verdict::Learning => lessons.observations.push(observation),
                Verdict::Floor(rule) => lessons.withheld.push((observation, rule.id.as_str().into())),
                Verdict::Allowed | Verdict::Novel | Verdict::Denied => {}
            }
        }
        let repeated = output.repeated.drain(..).filter(|repeated| repeated.verdict == Verdict::Learning);
        lessons.repeated.extend(repeated.map(|repeated| (repeated.observation, repeated.count)));
        self.learned.observe(lessons);
        output.clear();
    }

    /// Passes on the findings of which it is known who did it.
    fn pass_on(&mut self, now: BootNs) {
        while let Some(finding) = self.stage.pop(now) {
            self.spool.append(wire::spool_item(&finding, &self.hostname));
        }
    }

    /// Judges what waits for the image of its container, and tells the repetitions that wait.
    fn judge_rest(&mut self) {
        let mut output = Output::default();
        who::name_rest(&mut self.pipeline, &mut self.stage, boot_now, &mut output, |_| {});
        self.pipeline.tell_repeats(&mut output);
        self.hand_over(&mut output);
    }

    /// Passes on every finding: those that wait do so no longer than ever.
    fn pass_on_rest(&mut self) {
        while !self.stage.is_empty() {
            self.pass_on(boot_now());
            self.stage.wait(ANSWER_INTERVAL);
        }
    }

    /// Publishes the counters and declares what was lost since the last time.
    fn account(&mut self, accounting: &mut Accounting) -> Result<(), KernelError> {
        let kernel = self.kernel.counters()?;
        self.rescanner.note_lost(kernel.process_records_lost());
        let account = Account::of(&kernel, self.pipeline.delivered());
        let pipeline = self.pipeline.counters();
        let evicted = pipeline.get("processes_evicted").copied().unwrap_or(0);
        for gap in accounting.losses.gaps(&account, evicted, unix_ns()) {
            let (kind, reason) = (gap.kind.clone(), gap.reason.clone());
            self.teller.tell(Line::Lost { kind, reason, count: gap.count });
            self.spool.report_loss(gap);
        }
        let mut report =
            DrainReport { counters: accounting::counters(&account, &kernel), degraded: Vec::new() };
        report.counters.insert("rounds_unordered".to_owned(), accounting.rounds_unordered);
        report.counters.insert("verdicts_refused".to_owned(), self.kernel.verdicts_refused());
        report.counters.insert("log_lines_dropped".to_owned(), self.teller.dropped());
        let counted = pipeline.into_iter().chain(self.stage.counters()).chain(self.rescanner.troubles());
        report.counters.extend(counted.map(|(name, value)| (name.to_owned(), value)));
        let silenced = self.pipeline.silenced().iter();
        let silenced = silenced.map(|(rule, count)| (format!("findings_silenced{{rule={rule}}}"), *count));
        report.counters.extend(silenced);
        report.degraded.extend(self.kernel.hooks().iter().filter_map(|hook| match &hook.state {
            HookState::Attached => None,
            HookState::Failed(reason) => Some(format!("{}: {}: {reason}", hook.event, hook.hook)),
        }));
        report.degraded.extend(self.rescanner.degraded());
        self.reports.publish(report);
        let now = Instant::now();
        accounting.looked_at = Some(now);
        if now >= *accounting.give_back_at.get_or_insert(now + GIVE_BACK_INTERVAL) {
            accounting.give_back_at = Some(now + GIVE_BACK_INTERVAL);
            give_back();
        }
        Ok(())
    }

    /// With the programs detached and nobody who reads, everything that was seen is delivered, cached or lost.
    fn end_account(&mut self, accounting: &mut Accounting) -> Result<(), KernelError> {
        self.kernel.detach();
        let left = Account::of(&self.kernel.counters()?, self.pipeline.delivered());
        for (kind, count) in left.left_behind() {
            self.pipeline.abandon_unread(kind, count);
        }
        self.account(accounting)?;
        let account = Account::of(&self.kernel.counters()?, self.pipeline.delivered());
        let json = serde_json::to_string(&account).expect("numbers and maps with text keys are JSON");
        self.teller.tell(Line::Account(json));
        for imbalance in account.check().err().unwrap_or_default() {
            self.teller.tell(Line::Imbalance(imbalance));
        }
        Ok(())
    }
}

/// When the account was last looked at, and what it said.
#[derive(Default)]
struct Accounting {
    looked_at: Option<Instant>,
    /// When memory that is not used is given back.
    give_back_at: Option<Instant>,
    losses: Losses,
    rounds_unordered: u64,
}

impl Accounting {
    fn is_due(&self) -> bool {
        self.looked_at.is_none_or(|at| at.elapsed() >= ACCOUNT_INTERVAL)
    }
}

fn boot_now() -> BootNs {
    BootNs(clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| Duration::from(time).as_nanos() as u64))
}

/// Wall-clock nanoseconds since the Unix epoch.
pub(super) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A record waits in its ring at most so long.
const DRAIN_INTERVAL: Duration = Duration::from_millis(50);
/// Records handled before baselines and counters are looked at again.
const DRAIN_RECORDS_MAX: usize = 4096;
/// How long the rings may take to become empty when the agent ends.
const ENDING_MAX: Duration = Duration::from_secs(5);
const ACCOUNT_INTERVAL: Duration = Duration::from_secs(1);
/// The first time is when everything has been started; then that of a flood is given back.
const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(15);
