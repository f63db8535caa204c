//! The way of the records from the thread that drains the rings to the one that consumes them, and how long a consumer
//! that takes nothing may hold up the end. Not what consumes. It may call threads' means and clocks.

use super::capture::IDLE_INTERVAL;
use crate::account::Delivered;
use crate::enrich::seed::Rescan;
use crate::event::BootNs;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Records as they came out of the rings, in causal order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Everything up to this time has been handed over, with this batch and those before it.
    pub(super) upto: BootNs,
    /// A new scan of /proc, after records of processes were lost.
    pub(super) rescan: Option<Rescan>,
}

impl Batch {
    pub(super) fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    /// Each record's bytes.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    const fn size(&self) -> Size {
        Size { bytes: self.bytes.len(), records: self.ends.len() }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Size {
    bytes: usize,
    records: usize,
}

/// Batches that wait, bounded by number and by bytes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Batch>,
    /// Of what waits and of what the consumer is at.
    held: Size,
    /// What the consumer is at.
    in_hand: Size,
    /// Batches that the consumer has begun with.
    taken: u64,
    /// Nothing more comes.
    is_closed: bool,
    /// The consumer takes no more.
    has_left: bool,
}

impl State {
    fn has_room(&self, size: Size) -> bool {
        let is_held = self.held.bytes > 0;
        self.waiting.len() < BATCHES_MAX && !(is_held && self.held.bytes + size.bytes > BATCH_BYTES_MAX)
    }

    fn finish(&mut self) {
        let done = std::mem::take(&mut self.in_hand);
        self.held.bytes -= done.bytes;
        self.held.records -= done.records;
    }
}

/// What the consumer got.
#[derive(Debug)]
pub(super) enum Taken {
    Batch(Batch),
    Nothing,
    Closed,
}

impl Queue {
    /// Puts a batch in; gives it back when there was no room in time, or nobody takes any more.
    fn offer(&self, batch: Batch, timeout: Duration) -> Option<Batch> {
        let size = batch.size();
        let mut state = self.wait(timeout, |state| !state.has_left && !state.has_room(size));
        if state.has_left || !state.has_room(size) {
            return Some(batch);
        }
        state.held.bytes += size.bytes;
        state.held.records += size.records;
        state.waiting.push_back(batch);
        self.changed.notify_all();
        None
    }

    /// The next batch; the one before it is finished with.
    pub(super) fn take(&self, timeout: Duration) -> Taken {
        let mut state = self.lock();
        if state.in_hand.records > 0 || state.in_hand.bytes > 0 {
            state.finish();
            self.changed.notify_all();
        }
        drop(state);
        let mut state = self.wait(timeout, |state| state.waiting.is_empty() && !state.is_closed);
        let Some(batch) = state.waiting.pop_front() else {
            return if state.is_closed { Taken::Closed } else { Taken::Nothing };
        };
        state.taken += 1;
        state.in_hand = batch.size();
        self.changed.notify_all();
        Taken::Batch(batch)
    }

    /// Whether no batch waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// The consumer takes no more.
    pub(super) fn leave(&self) {
        self.lock().has_left = true;
        self.changed.notify_all();
    }

    /// What nobody took.
    pub(super) fn into_rest(self) -> impl Iterator<Item = Batch> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).waiting.into_iter()
    }

    fn wait(&self, timeout: Duration, is_early: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |state| is_early(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the way at which batches go in, and what could not go it.
pub(super) struct Outlet<'a> {
    queue: &'a Queue,
    patience: Patience,
    /// The consumer took nothing while we should end.
    is_stuck: bool,
    abandoned: Delivered,
    abandoned_count: usize,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(queue: &'a Queue) -> Self {
        let (patience, abandoned) = (Patience::default(), Delivered::default());
        Self { queue, patience, is_stuck: false, abandoned, abandoned_count: 0 }
    }

    /// Hands a batch over, waiting for room; counts its records when the consumer is gone, or stuck while we should
    /// end, as `is_over` says.
    pub(super) fn send(
        &mut self,
        mut batch: Batch,
        is_over: &mut dyn FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        while !self.is_stopped() {
            let Some(unsent) = self.queue.offer(batch, IDLE_INTERVAL) else { return Ok(()) };
            batch = unsent;
            let is_over = is_over()?;
            self.is_stuck = self.is_out_of_patience(is_over);
        }
        self.abandoned_count += batch.size().records;
        batch.records().for_each(|record| self.abandoned.abandon(record));
        Ok(())
    }

    /// Whether there is no use in sending.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stuck || self.queue.lock().has_left
    }

    /// Waits until the consumer has ended, after everything that was sent.
    ///
    /// # Errors
    /// When it is stuck: how many records that were read it has not taken, or not finished with.
    pub(super) fn close(mut self) -> Result<Delivered, usize> {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_all();
        while !self.queue.wait(IDLE_INTERVAL, |state| !state.has_left).has_left {
            if self.is_stuck || self.is_out_of_patience(true) {
                return Err(self.queue.lock().held.records + self.abandoned_count);
            }
        }
        Ok(self.abandoned)
    }

    fn is_out_of_patience(&mut self, is_over: bool) -> bool {
        let taken = self.queue.lock().taken;
        self.patience.is_over(is_over, taken, Instant::now())
    }
}

/// For how long the consumer has taken nothing since the capture should end.
#[derive(Debug, Default)]
struct Patience {
    since: Option<(u64, Instant)>,
}

impl Patience {
    fn is_over(&mut self, is_ending: bool, taken: u64, now: Instant) -> bool {
        let since = self.since.filter(|(before, _)| is_ending && *before == taken);
        self.since = since.or_else(|| is_ending.then_some((taken, now)));
        since.is_some_and(|(_, since)| now.duration_since(since) > STUCK_MAX)
    }
}

/// Batches that wait at most.
const BATCHES_MAX: usize = 64;
/// Bytes of records that wait at most; one batch alone may be longer.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// How long a stuck consumer may hold up the end.
const STUCK_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: usize) -> Batch {
        let mut batch = Batch::default();
        batch.push(&vec![0; bytes]);
        batch
    }

    #[test]
    fn batches_are_bounded_by_bytes() {
        let queue = Queue::default();
        let size = BATCH_BYTES_MAX / 3;
        let offered = (0..5).filter(|_| queue.offer(batch(size), Duration::ZERO).is_none()).count();
        assert_eq!(offered, 3);
        assert!(matches!(queue.take(Duration::ZERO), Taken::Batch(_)));
        assert!(queue.offer(batch(size), Duration::ZERO).is_some(), "the consumer is at it still");
        assert!(matches!(queue.take(Duration::ZERO), Taken::Batch(_)));
        assert!(queue.offer(batch(size), Duration::ZERO).is_none());
    }

    #[test]
    fn a_batch_that_is_too_long_goes_alone() {
        let queue = Queue::default();
        assert!(queue.offer(batch(BATCH_BYTES_MAX + 1), Duration::ZERO).is_none());
        assert!(queue.offer(batch(1), Duration::ZERO).is_some());
    }

    #[test]
    fn batches_are_bounded_by_number() {
        let queue = Queue::default();
        let offered = (0..100).filter(|_| queue.offer(batch(1), Duration::ZERO).is_none()).count();
        assert_eq!(offered, BATCHES_MAX);
        queue.leave();
        assert_eq!(queue.into_rest().count(), BATCHES_MAX);
    }

    #[test]
    fn patience_ends_when_nothing_is_taken_while_the_capture_should_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::default();
        assert!(!patience.is_over(false, 0, at(0)));
        assert!(!patience.is_over(false, 0, at(100)), "it may take as long as it likes before the end");
        assert!(!patience.is_over(true, 0, at(100)));
        assert!(!patience.is_over(true, 1, at(106)), "it has taken one");
        assert!(!patience.is_over(true, 1, at(111)));
        assert!(patience.is_over(true, 1, at(112)));
    }

    #[test]
    fn what_a_consumer_that_is_gone_did_not_take_is_counted() {
        let queue = Queue::default();
        let mut outlet = Outlet::new(&queue);
        outlet.send(batch(10), &mut || Ok(false)).unwrap();
        queue.leave();
        outlet.send(batch(10), &mut || Ok(false)).unwrap();
        let delivered = outlet.close().expect("the consumer has left");
        assert_eq!(delivered.abandoned(crate::account::UNKNOWN_KIND), 1);
        assert_eq!(queue.into_rest().count(), 1);
    }
}
