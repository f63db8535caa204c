//! The kernel side as the agent sees it: load, read, account. Not decoding, not policy. It may call aya, the
//! clock and /proc; it is the only module that may use unsafe code.

mod attach;
#[doc(hidden)]
pub mod btf;
mod capability;
mod counters;
mod error;
mod fields;
mod heap;
mod iterator;
mod kinds;
pub mod limits;
mod load;
mod misses;
mod pid_namespace;
mod probes;
mod report;
mod rings;
mod verdicts;

pub use counters::Counters;
pub use error::KernelError;
pub use heap::{give_back, share_heap};
pub use kinds::KindSet;
pub use report::{CheckReport, check};
pub use rings::Drained;

use crate::pipeline::{Remember, VerdictOptions};
use aya::Ebpf;
use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use aya_log::EbpfLogger;
use misses::Misses;
use rings::{Drain, Waiter};
use sensor_event::{Hits, Kind, Tier};
use std::path::PathBuf;
use std::time::Duration;
use verdicts::VerdictMaps;

/// How to load the kernel side.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// Size of the ring for process records: a power of two and a multiple of the page size.
    pub lifecycle_ring_bytes: u32,
    /// Size of the ring for file and network records: likewise.
    pub activity_ring_bytes: u32,
    /// What is wanted.
    pub kinds: KindSet,
    /// How much the kernel remembers of verdicts; `None` and it remembers none, so that each record is made.
    pub verdicts: Option<VerdictOptions>,
    /// Use no hook better than tracepoints, as if the kernel offered none: for tests.
    pub tracepoint_only: bool,
    /// Let the programs log what they could not do, to `tracing`.
    pub bpf_log: bool,
    /// Where to read BTF instead of /sys/kernel/btf/vmlinux: for tests.
    pub btf_path: Option<PathBuf>,
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self {
            lifecycle_ring_bytes: 8 << 20,
            activity_ring_bytes: 16 << 20,
            kinds: KindSet::DEFAULT,
            verdicts: None,
            tracepoint_only: false,
            bpf_log: false,
            btf_path: None,
        }
    }
}

/// What became of a hook.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "reason")]
pub enum HookState {
    /// It sees the event.
    Attached,
    /// It does not, and why.
    Failed(String),
}

/// The hook that an event got.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HookStatus {
    /// Name of the event, or of the part of it that has a hook of its own.
    pub event: &'static str,
    /// The kind of its records.
    #[serde(skip)]
    pub kind: Kind,
    /// The hook.
    pub hook: String,
    /// Its tier.
    pub tier: &'static str,
    /// Whether the agent refuses to start without the event.
    pub required: bool,
    /// What became of it.
    #[serde(flatten)]
    pub state: HookState,
    /// What kept a better hook from being used; empty when this is the best.
    pub why_not_better: String,
}

/// The loaded kernel side. Dropping it detaches everything.
pub struct Kernel {
    hooks: Vec<HookStatus>,
    drain: Drain<RingBuf<MapData>>,
    waiter: Waiter,
    counters: PerCpuArray<MapData, u64>,
    misses: Misses,
    verdicts: Option<VerdictMaps>,
    /// What was missed until the hooks were detached.
    missed_at_end: Vec<(Kind, u64)>,
    /// Passes on what the programs log, if they were asked to.
    flush_log: Option<Box<dyn FnMut() + Send>>,
    /// Keeps programs and links alive; `None` once detached.
    ebpf: Option<Ebpf>,
}

impl Kernel {
    /// Loads the programs and attaches them.
    ///
    /// # Errors
    /// When a capability, BTF, a required field or a required hook is missing, or the kernel refuses the object.
    pub fn load(options: &KernelOptions) -> Result<Self, KernelError> {
        let load::Loaded { mut ebpf, hooks } = load::load(options)?;
        let flush_log = if options.bpf_log { Some(log_flusher(&mut ebpf)?) } else { None };
        let lifecycle = take_map(&mut ebpf, "LIFECYCLE")?;
        let activity = take_map(&mut ebpf, "ACTIVITY")?;
        let counters = take_map(&mut ebpf, "COUNTERS")?;
        let stood_in = take_map(&mut ebpf, "STATE_NESTED")?;
        let misses = Misses::of(&ebpf, stood_in);
        let verdicts = options.verdicts.map(|options| VerdictMaps::take(&mut ebpf, options.cells()));
        let verdicts = verdicts.transpose()?;
        let drain = Drain::new(lifecycle, activity);
        let waiter = drain.waiter()?;
        let missed_at_end = Vec::new();
        Ok(Self {
            hooks,
            drain,
            waiter,
            counters,
            misses,
            verdicts,
            missed_at_end,
            flush_log,
            ebpf: Some(ebpf),
        })
    }

    /// The hook each event got.
    #[must_use]
    pub fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    /// Detaches every hook and keeps the rings: what was submitted can still be drained, and the counters stand
    /// still.
    pub fn detach(&mut self) {
        if self.is_attached() {
            // The map can be read as long as the agent has it open.
            self.missed_at_end = self.misses.read().unwrap_or_default();
        }
        self.ebpf = None;
    }

    /// Remembers and forgets verdicts, as the pipeline asks for.
    pub fn remember(&mut self, changes: impl IntoIterator<Item = Remember>) {
        if let Some(maps) = &mut self.verdicts {
            changes.into_iter().for_each(|change| maps.apply(change));
        }
    }

    /// Makes every verdict void that was judged by another policy than this one.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_policy(&mut self, policy: u32) -> Result<(), KernelError> {
        self.verdicts.as_mut().map_or(Ok(()), |maps| maps.set_policy(policy))
    }

    /// What a cell has counted.
    #[must_use]
    pub fn hits(&self, cell: u32) -> Hits {
        self.verdicts.as_ref().map_or(Hits::default(), |maps| maps.hits(cell))
    }

    /// Changes to what is remembered that a full map has refused.
    #[must_use]
    pub fn verdicts_refused(&self) -> u64 {
        self.verdicts.as_ref().map_or(0, VerdictMaps::refused_count)
    }

    /// Whether the hooks are attached.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.ebpf.is_some()
    }

    /// The kernel side's account of its records.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Counters, KernelError> {
        if self.is_attached() {
            return Counters::read(&self.counters, &self.misses.read()?);
        }
        Counters::read(&self.counters, &self.missed_at_end)
    }

    /// Waits until the rings reach their fill level, at most `timeout`, then hands over at most `budget` records
    /// of both rings in causal order ([`rings`] says why it is). Does not wait while something read earlier
    /// still waits to be handed over. So `timeout` is also the longest time that a record stays unread.
    ///
    /// # Errors
    /// When waiting fails.
    pub fn drain(
        &mut self,
        timeout: Duration,
        budget: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Drained, KernelError> {
        if !self.drain.has_waiting() && !timeout.is_zero() {
            self.waiter.wait(timeout)?;
        }
        if let Some(flush_log) = &mut self.flush_log {
            flush_log();
        }
        Ok(self.drain.drain(&rings::boot_time_ns, budget, sink))
    }
}

/// What passes the programs' log on to this process's logger.
fn log_flusher(ebpf: &mut Ebpf) -> Result<Box<dyn FnMut() + Send>, KernelError> {
    let mut logger = EbpfLogger::init(ebpf)
        .map_err(|error| KernelError::Map { name: "AYA_LOGS", reason: error.to_string() })?;
    Ok(Box::new(move || logger.flush()))
}

fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::LSM => "lsm",
        Tier::TRACEPOINT => "tracepoint",
        Tier::PROCFS => "procfs",
        _ => "unknown",
    }
}

fn take_map<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, KernelError>
where
    T::Error: std::fmt::Display,
{
    let map = ebpf.take_map(name).ok_or(KernelError::Map { name, reason: "not in the object".into() })?;
    T::try_from(map).map_err(|error| KernelError::Map { name, reason: error.to_string() })
}

/// `CLOCK_REALTIME - CLOCK_BOOTTIME`: add it to a record's time to get nanoseconds since 1970.
#[must_use]
pub fn boot_to_unix_offset_ns() -> i64 {
    let boot = rings::boot_time_ns();
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    unix.wrapping_sub(boot).cast_signed()
}
