//! Takes records out of both rings in causal order. Not their decoding: only the time in the header is read. It
//! may call aya's ring buffer, the clock and epoll.
//!
//! # Why the order is causal
//!
//! Within a ring, records lie in the order of their reservation, which differs from the order of their times by
//! as long as a program runs; between the rings there is no order at all. What is needed is: when the hook of
//! record X ran before, and so could cause, the hook of record Y (fork before the child's exec, exec before the
//! program's first open, open before the exit), X is handed over first, also when the two are in different rings
//! and different calls of [`Drain::drain`].
//!
//! A round reads the clock into a *frontier*, then empties both rings up to it, and hands over what is not later
//! than the frontier, by time. Let X cause Y and Y be handed over. A program stamps its record when the hook
//! fires and commits it before the task, or the CPU, that it runs on goes on; so X was committed before Y was
//! stamped, Y was stamped before the frontier, and the rings were read after it: X was there. X's time is before
//! Y's, so it is in this round or an earlier one, and it sorts before Y. `CLOCK_BOOTTIME` does not go backwards
//! between CPUs, and a tie goes to the lifecycle ring, where causes of activity live.
//!
//! A ring has been read up to the frontier when it is empty or shows a record later than the frontier: that one
//! was reserved after everything that was committed before the frontier. It waits for the next round. A ring
//! that is not empty but gives no record has one that another CPU is just copying: the reader waits for it,
//! microseconds as a rule, at most [`BUSY_WAIT_MAX_NS`].

use super::error::KernelError;
use aya::maps::{MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::time::{ClockId, clock_gettime};
use sensor_event::Header;
use std::os::fd::AsFd;
use std::time::Duration;
use zerocopy::FromBytes;

/// How long the reader waits for one record that is being copied. Then order may suffer; loss does not.
const BUSY_WAIT_MAX_NS: u64 = 20_000_000;

/// Room for records that is kept while there are none.
const BYTES_KEPT: usize = 256 << 10;

/// What one drain did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records handed over.
    pub records: usize,
    /// Nothing is left: both rings were seen empty, and nothing read from them waits for the next call.
    pub is_empty: bool,
    /// Rounds, since the start, in which a record stayed busy for so long that order was given up.
    pub order_given_up_count: u64,
}

/// Where records come from: a ring, or a test's.
pub(super) trait Source {
    /// Takes the next record, if one is ready.
    fn take(&mut self, sink: &mut dyn FnMut(&[u8])) -> bool;
    /// Whether nothing is reserved in it that has not been taken.
    fn is_empty(&self) -> bool;
}

impl Source for RingBuf<MapData> {
    fn take(&mut self, sink: &mut dyn FnMut(&[u8])) -> bool {
        let Some(item) = self.next() else { return false };
        sink(&item);
        true
    }

    fn is_empty(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        // `ringbuf_map_poll()` compares the reader's position with the writers': a busy record counts as data.
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }
}

#[derive(Clone, Copy)]
struct Entry {
    time_ns: u64,
    start: usize,
    end: usize,
}

/// Both rings, and what was read from them and not yet handed over.
pub(super) struct Drain<S> {
    /// Lifecycle before activity: the order of ties.
    sources: [S; 2],
    bytes: Vec<u8>,
    /// Takes what is later than the frontier while `bytes` is emptied.
    late_bytes: Vec<u8>,
    /// Sorted by time up to `ready_end`; behind that, later than the frontier.
    entries: Vec<Entry>,
    next: usize,
    ready_end: usize,
    order_given_up_count: u64,
}

impl<S: Source> Drain<S> {
    pub(super) fn new(lifecycle: S, activity: S) -> Self {
        Self {
            sources: [lifecycle, activity],
            bytes: Vec::new(),
            late_bytes: Vec::new(),
            entries: Vec::new(),
            next: 0,
            ready_end: 0,
            order_given_up_count: 0,
        }
    }

    /// Whether something that was read waits to be handed over.
    pub(super) fn has_waiting(&self) -> bool {
        self.next < self.entries.len()
    }

    /// Hands over at most `budget` records. What a round reads is bounded by the size of the rings.
    pub(super) fn drain(
        &mut self,
        clock: &dyn Fn() -> u64,
        budget: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Drained {
        let mut drained = Drained::default();
        if self.next == self.ready_end {
            self.start_round(clock);
        }
        while self.next < self.ready_end && drained.records < budget {
            let entry = self.entries[self.next];
            sink(&self.bytes[entry.start..entry.end]);
            self.next += 1;
            drained.records += 1;
        }
        drained.is_empty = !self.has_waiting() && self.sources.iter().all(Source::is_empty);
        drained.order_given_up_count = self.order_given_up_count;
        drained
    }

    fn start_round(&mut self, clock: &dyn Fn() -> u64) {
        let frontier_ns = clock();
        self.keep_late();
        let kept = self.bytes.len();
        for source in &mut self.sources {
            let is_complete = read_up_to(source, clock, frontier_ns, &mut self.bytes, &mut self.entries);
            self.order_given_up_count += u64::from(!is_complete);
        }
        if self.bytes.len() == kept {
            // Nothing is going on: what a flood needed is given back.
            self.bytes.shrink_to(BYTES_KEPT);
            self.entries.shrink_to(BYTES_KEPT / size_of::<Header>());
        }
        // Stable: records of one time stay in the order of their ring, lifecycle first.
        self.entries.sort_by_key(|entry| entry.time_ns);
        self.ready_end = self.entries.partition_point(|entry| entry.time_ns <= frontier_ns);
    }

    /// Drops what was handed over and moves the rest to the front: at most one record per ring.
    fn keep_late(&mut self) {
        self.entries.drain(..self.ready_end);
        self.late_bytes.clear();
        for entry in &mut self.entries {
            let start = self.late_bytes.len();
            self.late_bytes.extend_from_slice(&self.bytes[entry.start..entry.end]);
            (entry.start, entry.end) = (start, self.late_bytes.len());
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(&self.late_bytes);
        self.next = 0;
    }
}

/// Reads a ring up to the frontier; `false` when a busy record kept it from that.
fn read_up_to<S: Source>(
    source: &mut S,
    clock: &dyn Fn() -> u64,
    frontier_ns: u64,
    bytes: &mut Vec<u8>,
    entries: &mut Vec<Entry>,
) -> bool {
    let mut busy_since_ns = None;
    loop {
        let mut is_late = false;
        let is_taken = source.take(&mut |record| {
            let start = bytes.len();
            bytes.extend_from_slice(record);
            let time_ns = time_of(record);
            is_late = time_ns > frontier_ns;
            entries.push(Entry { time_ns, start, end: bytes.len() });
        });
        if is_taken {
            busy_since_ns = None;
            if is_late {
                return true;
            }
        } else if source.is_empty() {
            return true;
        } else if clock().saturating_sub(*busy_since_ns.get_or_insert_with(clock)) > BUSY_WAIT_MAX_NS {
            return false;
        } else {
            std::thread::yield_now();
        }
    }
}

/// The time in a record's header; 0 for bytes too short to have one, which the decoder will refuse.
fn time_of(record: &[u8]) -> u64 {
    Header::read_from_prefix(record).map_or(0, |(header, _)| header.time_ns)
}

/// `CLOCK_BOOTTIME`, the clock of the records.
pub(super) fn boot_time_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

/// Waits until a program wakes the readers.
pub(super) struct Waiter(Epoll);

impl Waiter {
    /// Edge-triggered: it reports a wake-up, which the programs send at a fill level, and not that there is a
    /// record. The caller's time-out takes care of the rest.
    pub(super) fn new(rings: [&RingBuf<MapData>; 2]) -> Result<Self, KernelError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(KernelError::Wait)?;
        for ring in rings {
            let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
            epoll.add(ring, event).map_err(KernelError::Wait)?;
        }
        Ok(Self(epoll))
    }

    /// Waits for a wake-up, a signal or the time-out.
    pub(super) fn wait(&self, timeout: Duration) -> Result<(), KernelError> {
        let millis = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
        let mut events = [EpollEvent::empty(); 2];
        match self.0.wait(&mut events, EpollTimeout::from(millis)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(KernelError::Wait(errno)),
        }
    }
}

impl Drain<RingBuf<MapData>> {
    pub(super) fn waiter(&self) -> Result<Waiter, KernelError> {
        Waiter::new([&self.sources[0], &self.sources[1]])
    }
}

#[cfg(test)]
#[path = "rings_tests.rs"]
mod tests;
