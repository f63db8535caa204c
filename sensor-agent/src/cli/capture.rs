//! From the kernel to a consumer: one thread drains the rings, another runs the pipeline and writes. Not the pipeline.
//! It may call `kernel`, `enrich::seed`, processes, threads and clocks.
//!
//! The queue between the two is bounded. When the consumer is slow the queue fills, then records stay in the
//! rings, and only when these are full does the kernel side drop one, and counts it: there is one place of loss.

pub(super) use super::outlet::Batch;
use super::outlet::{Outlet, Queue, Taken};
use super::signals::Interrupt;
use super::{EXIT_TROUBLE, Span};
use crate::account::{Account, Delivered, Row};
use crate::enrich::process_table::Scope;
use crate::enrich::seed;
use crate::event::BootNs;
use crate::kernel::{Drained, Kernel, KernelOptions, KindSet, boot_to_unix_offset_ns};
use crate::recording::Start;
use crate::rescan::Rescanner;
use crate::teller::Teller;
use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use sensor_baseline::{Workload, text};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// What consumes records.
pub(super) trait Consumer: Send {
    /// Takes a batch. `false` ends the capture: nobody reads any more.
    fn take(&mut self, batch: &Batch) -> anyhow::Result<bool>;
    /// What it has counted of the records it took.
    fn delivered(&self) -> &Delivered;
    /// Nothing has come for a moment: whatever is buffered should go out.
    fn idle(&mut self) -> anyhow::Result<bool>;
    /// No more comes.
    fn end(&mut self) -> anyhow::Result<()> {
        self.idle().map(|_| ())
    }
}

/// How a capture ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Of the command, if there was one and it ended.
    pub(super) status: Option<ExitStatus>,
    /// What became of every record.
    pub(super) account: Account,
    /// Rounds of reading the rings in which a record stayed busy for so long that order was given up.
    pub(super) rounds_unordered: u64,
}

impl Ended {
    /// Losses by `kind/reason`.
    pub(super) fn lost(&self) -> BTreeMap<String, u64> {
        let losses = self.account.losses();
        losses.map(|(kind, reason, count)| (format!("{}/{reason}", kind.name()), count)).collect()
    }
}

/// A loaded kernel side, with what the host looked like just after.
pub(super) struct Capture {
    kernel: Kernel,
    interrupt: Interrupt,
    is_output_diverted: bool,
    rescanner: Rescanner,
    /// Prints to stderr: whoever reads it may be stuck, and the rings fill.
    teller: Teller<String>,
    /// What a recording begins with; what a pipeline is seeded with.
    pub(super) start: Start,
}

impl Capture {
    /// Attaches the programs, then scans /proc: what happens in between is in the rings.
    pub(super) fn begin(kinds: KindSet) -> anyhow::Result<Self> {
        let interrupt = Interrupt::install()?;
        let kernel = Kernel::load(&KernelOptions { kinds, ..KernelOptions::default() })?;
        let own = seed::own_identity().context("cannot read /proc/self")?;
        let start = Start {
            hostname: kernel_word("hostname")?,
            kernel_release: kernel_word("osrelease")?,
            boot_to_unix_offset_ns: boot_to_unix_offset_ns(),
            own: Some((own.pid, own.start_time_ns)),
            seed: seed::scan().context("cannot scan /proc")?,
        };
        let rescanner = Rescanner::start().context("cannot start the thread that scans /proc")?;
        let teller = Teller::start(|line: String| say!("{line}")).context("cannot start a thread")?;
        Ok(Self { kernel, interrupt, start, is_output_diverted: false, rescanner, teller })
    }

    /// Sends the command's standard output to stderr: stdout is for findings.
    pub(super) const fn with_command_output_on_stderr(mut self, is_output_diverted: bool) -> Self {
        self.is_output_diverted = is_output_diverted;
        self
    }

    /// Runs until the command ends, the time is up, a signal comes, or the consumer has enough. Then detaches the
    /// programs and hands over everything that they have left, so that the account is exact.
    pub(super) fn run(mut self, span: &Span, consumer: &mut dyn Consumer) -> anyhow::Result<Ended> {
        let queue = Queue::default();
        let mut outlet = Outlet::new(&queue);
        let result = std::thread::scope(|scope| {
            let (queue, consumer) = (&queue, &mut *consumer);
            let consuming = std::thread::Builder::new()
                .name("pipeline".to_owned())
                .spawn_scoped(scope, move || {
                    let _leave = Leave(queue);
                    consume(queue, consumer)
                })
                .context("cannot start the pipeline's thread")?;
            let drained = self.drain(span, &mut outlet);
            let abandoned = match outlet.close() {
                Ok(abandoned) => abandoned,
                Err(untold) => self.give_up(drained.err(), untold),
            };
            let consumed = consuming.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            consumed.and(drained).map(|drained| (drained, abandoned))
        });
        self.end_telling();
        let ((status, rounds_unordered), mut delivered) = result?;
        for batch in queue.into_rest() {
            batch.records().for_each(|record| delivered.abandon(record));
        }
        delivered.add(consumer.delivered());
        let account = Account::of(&self.kernel.counters()?, &delivered);
        Ok(Ended { status, account, rounds_unordered })
    }

    /// Ends the process: the thread that prints cannot be told to end. `untold` records were read and are not printed.
    fn give_up(&mut self, error: Option<anyhow::Error>, untold: usize) -> ! {
        if let Some(error) = error {
            self.teller.tell(format!("sensor-agent: {error:#}"));
        }
        self.teller
            .tell(format!("sensor-agent: output is stuck: {untold} records that were read are not printed"));
        self.end_telling();
        std::process::exit(i32::from(EXIT_TROUBLE));
    }

    /// Waits until what is to be told was told, a moment at most.
    fn end_telling(&mut self) {
        let dropped = self.teller.dropped();
        if self.teller.end() && dropped > 0 {
            say!("sensor-agent: {dropped} lines about losses could not be printed");
        }
    }

    fn drain(&mut self, span: &Span, outlet: &mut Outlet<'_>) -> anyhow::Result<(Option<ExitStatus>, u64)> {
        let mut until = Until {
            deadline: span.duration.map(|duration| Instant::now() + duration),
            interrupt: self.interrupt.clone(),
            command: spawn(&span.command, self.is_output_diverted)?,
        };
        let mut losses = LossReport::default();
        let mut ending = None;
        loop {
            let (drained, latest) = self.hand_over(DRAIN_INTERVAL, outlet, &mut until)?;
            if losses.is_due() {
                losses.report(&self.kernel, &mut self.teller)?;
                self.rescanner.note_lost(self.kernel.counters()?.process_records_lost());
            }
            let is_over = until.is_over()?;
            match ending {
                _ if outlet.is_stopped() => break,
                None if is_over => ending = Some(boot_now().0),
                // Everything from before the end has been handed over.
                Some(end) if drained.is_empty || latest > end => break,
                _ => {}
            }
        }
        let rounds_unordered = self.settle(outlet, &mut until)?;
        losses.report_now(&self.kernel, &mut self.teller)?;
        if let Some(trouble) = self.rescanner.degraded() {
            self.teller.tell(format!("sensor-agent: {trouble}"));
        }
        Ok((until.command.and_then(|command| command.finish(&mut self.teller)), rounds_unordered))
    }

    /// Detaches the programs, and hands over what they have left in the rings. Returns the rounds without order.
    fn settle(&mut self, outlet: &mut Outlet<'_>, until: &mut Until) -> anyhow::Result<u64> {
        self.kernel.detach();
        let since = Instant::now();
        loop {
            let (drained, _) = self.hand_over(SETTLE_INTERVAL, outlet, until)?;
            // A program that ran when it was detached still counts to its end.
            let is_settled = drained.is_empty && self.kernel.counters()?.is_settled();
            if is_settled || since.elapsed() > SETTLE_MAX {
                return Ok(drained.order_given_up_count);
            }
        }
    }

    /// Reads the rings once and passes on what they had, with the time of the latest record.
    fn hand_over(
        &mut self,
        wait: Duration,
        outlet: &mut Outlet<'_>,
        until: &mut Until,
    ) -> anyhow::Result<(Drained, u64)> {
        let upto = boot_now();
        let mut batch = Batch::default();
        let mut latest = 0;
        let drained = self.kernel.drain(wait, DRAIN_RECORDS_MAX, &mut |record| {
            latest = record_time(record).max(latest);
            batch.push(record);
        })?;
        batch.rescan = self.rescanner.take();
        batch.upto = if drained.is_empty { upto } else { BootNs(latest) };
        outlet.send(batch, &mut || until.is_over())?;
        Ok((drained, latest))
    }
}

/// Says that the consumer takes no more, also when it panics.
struct Leave<'a>(&'a Queue);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What ends a capture.
struct Until {
    deadline: Option<Instant>,
    interrupt: Interrupt,
    command: Option<Command>,
}

impl Until {
    fn is_over(&mut self) -> anyhow::Result<bool> {
        if let Some(command) = &mut self.command {
            command.poll()?;
        }
        let has_command_ended = self.command.as_ref().is_some_and(|command| command.status.is_some());
        let is_late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        Ok(is_late || self.interrupt.is_set() || has_command_ended)
    }
}

/// The command as a workload: its base name.
pub(super) fn command_scope(command: &[OsString]) -> Scope {
    match command.first() {
        Some(program) => {
            let name = Path::new(program).file_name().unwrap_or(OsStr::new("command"));
            Scope::Command(Workload(format!("command:{}", text::escape(name.as_bytes()))))
        }
        None => Scope::Host,
    }
}

/// Prints the account, by kind, and what of it does not add up.
pub(super) fn print_totals(ended: &Ended) {
    for row in ended.account.rows() {
        let Row { kind, seen, delivered, cached, .. } = row;
        let lost = row.lost_total();
        say!("total kind={} seen={seen} delivered={delivered} cached={cached} lost={lost}", kind.name());
    }
    print_imbalances(ended);
}

/// Prints what of the account does not add up: nothing, unless something is wrong with the sensor itself. Whether
/// anything was printed.
pub(super) fn print_imbalances(ended: &Ended) -> bool {
    let wrong = ended.account.check().err().unwrap_or_default();
    for imbalance in &wrong {
        say!("sensor-agent: the account of {imbalance}");
    }
    !wrong.is_empty()
}

/// Prints the account as one JSON object on a line of stderr.
pub(super) fn print_account_json(ended: &Ended) {
    let json = serde_json::to_string(&ended.account).expect("numbers and maps with text keys are JSON");
    say!("account {json}");
}

fn consume(queue: &Queue, consumer: &mut dyn Consumer) -> anyhow::Result<()> {
    loop {
        let is_wanted = match queue.take(IDLE_INTERVAL) {
            Taken::Batch(batch) => consumer.take(&batch)? && (!queue.is_empty() || consumer.idle()?),
            Taken::Nothing => consumer.idle()?,
            Taken::Closed => return consumer.end(),
        };
        if !is_wanted {
            return Ok(());
        }
    }
}

/// A command that was started.
struct Command {
    child: Child,
    status: Option<ExitStatus>,
}

impl Command {
    fn poll(&mut self) -> anyhow::Result<()> {
        if self.status.is_none() {
            self.status = self.child.try_wait().context("cannot wait for the command")?;
        }
        Ok(())
    }

    /// Ends it when it still runs: the capture was cut short.
    fn finish(self, teller: &mut Teller<String>) -> Option<ExitStatus> {
        if self.status.is_none() {
            let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
            // Fails only when it has just ended, which is what is wanted.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            teller.tell("sensor-agent: the command had not ended and was told to (SIGTERM)".to_owned());
        }
        self.status
    }
}

fn spawn(command: &[OsString], is_output_diverted: bool) -> anyhow::Result<Option<Command>> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    let mut builder = std::process::Command::new(program);
    if is_output_diverted {
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().context("cannot copy stderr")?;
        builder.stdout(stderr);
    }
    let child = builder
        .args(arguments)
        .spawn()
        .with_context(|| format!("cannot start {}", text::escape(program.as_bytes())))?;
    Ok(Some(Command { child, status: None }))
}

/// Tells of losses when they grow, at most once a second.
#[derive(Default)]
struct LossReport {
    last: Option<Instant>,
    reported: BTreeMap<(&'static str, &'static str), u64>,
}

impl LossReport {
    fn is_due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= LOSS_INTERVAL)
    }

    fn report(&mut self, kernel: &Kernel, teller: &mut Teller<String>) -> anyhow::Result<()> {
        self.last = Some(Instant::now());
        self.report_now(kernel, teller)
    }

    fn report_now(&mut self, kernel: &Kernel, teller: &mut Teller<String>) -> anyhow::Result<()> {
        for (kind, reason, count) in kernel.counters()?.losses() {
            let reported = self.reported.entry((kind.name(), reason.name())).or_default();
            if count > *reported {
                *reported = count;
                teller.tell(format!("lost kind={} reason={} count={count}", kind.name(), reason.name()));
            }
        }
        Ok(())
    }
}

fn kernel_word(name: &str) -> anyhow::Result<String> {
    let path = format!("/proc/sys/kernel/{name}");
    let word = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(text::escape(word.trim_ascii()))
}

fn record_time(record: &[u8]) -> u64 {
    let time = record.get(TIME_AT..TIME_AT + 8).and_then(|bytes| bytes.try_into().ok());
    time.map_or(0, u64::from_ne_bytes)
}

/// `CLOCK_BOOTTIME`, as records have it.
pub(super) fn boot_now() -> BootNs {
    BootNs(clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| Duration::from(time).as_nanos() as u64))
}

/// Where a record's header has its time.
const TIME_AT: usize = std::mem::offset_of!(sensor_event::Header, time_ns);
/// Longest time a record stays in a ring unread.
const DRAIN_INTERVAL: Duration = Duration::from_millis(25);
const DRAIN_RECORDS_MAX: usize = 2_048;
pub(super) const IDLE_INTERVAL: Duration = Duration::from_millis(100);
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for the end of a program that ran when it was detached.
const SETTLE_INTERVAL: Duration = Duration::from_millis(5);
const SETTLE_MAX: Duration = Duration::from_secs(5);
