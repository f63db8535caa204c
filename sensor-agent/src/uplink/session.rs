//! The agent's half of the Findings stream as a state machine: when to connect, what to send, what an ack means. No
//! socket, clock, task or random source: `handle_*` takes what happened and `poll_action` says what to do next, with
//! the time as an argument. It may call [`super::backoff`] and the spool's item types.
//!
//! ```text
//!            Connect                 SendHello                Welcome
//! Waiting ───────────► Connecting ───────────► Greeting ───────────────► Streaming
//!    ▲  handle_connect_failed │  no welcome in time │  closed, GoAway, nonsense │
//!    └────────────────────────┴─────────────────────┴───────────────────────────┘
//! ```
//!
//! Promises, each with a test: an ack never moves backwards; an ack of another epoch changes nothing; no more than
//! the credit is in flight, except that one batch always may be; items go out in order, each once per connection,
//! from where the collector says.

use std::collections::VecDeque;
use std::time::Duration;

use super::backoff::Backoff;
use crate::spool::{Content, Epoch, Holding, ReadLimits, Seq, StoredItem};

/// What the driver must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect, then call `handle_connected` or `handle_connect_failed`.
    Connect,
    /// Send the first frame.
    SendHello(Hello),
    /// Read the spool, then call `handle_read` or `handle_read_failed`.
    Read {
        /// The first number wanted.
        from: Seq,
        /// How much.
        limits: ReadLimits,
    },
    /// Send items as one batch.
    SendBatch {
        /// Their numbering.
        epoch: Epoch,
        /// Contiguous, ascending.
        items: Vec<StoredItem>,
    },
    /// Tell the spool what is stored.
    Acknowledge {
        /// The numbering.
        epoch: Epoch,
        /// Everything up to and including this.
        upto: Seq,
    },
    /// Ask the spool for a new epoch: the collector knows numbers that this spool has not given.
    Renumber,
    /// Close the connection. The session has already forgotten it.
    Close {
        /// For the log.
        reason: String,
    },
}

/// First frame of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The spool's numbering.
    pub epoch: Epoch,
    /// Oldest number held, 0 when nothing is.
    pub first: Seq,
    /// Newest number held, 0 when nothing is.
    pub last: Seq,
}

/// Counters of a session, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Connections that got a welcome.
    pub sessions: u64,
    /// Attempts that failed, and connections that ended.
    pub disconnects: u64,
    /// Items sent, repeats included.
    pub items_sent: u64,
    /// Items acknowledged.
    pub items_acked: u64,
    /// Acks ignored: of another epoch, or not beyond the last one.
    pub acks_ignored: u64,
    /// Frames that broke the protocol.
    pub protocol_errors: u64,
}

/// The state machine.
#[derive(Debug)]
pub struct Session {
    backoff: Backoff,
    state: State,
    spool: Option<Holding>,
    outbox: VecDeque<Action>,
    counters: SessionCounters,
}

#[derive(Debug)]
enum State {
    Waiting { until: Duration },
    Connecting,
    Greeting { epoch: Epoch, deadline: Duration },
    Streaming(Stream),
}

#[derive(Debug)]
struct Stream {
    epoch: Epoch,
    credit_bytes: u64,
    /// Next number to send.
    next: Seq,
    acked: Seq,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
    reading: bool,
    /// When the oldest unsent item was first seen.
    waiting_since: Option<Duration>,
    /// No read before this time: the last one failed or found nothing.
    read_not_before: Duration,
}

#[derive(Debug)]
struct InFlight {
    last: Seq,
    bytes: u64,
}

impl Session {
    /// A session that connects at once. Equal seeds give equal waits.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            backoff: Backoff::new(seed),
            state: State::Waiting { until: Duration::ZERO },
            spool: None,
            outbox: VecDeque::new(),
            counters: SessionCounters {
                sessions: 0,
                disconnects: 0,
                items_sent: 0,
                items_acked: 0,
                acks_ignored: 0,
                protocol_errors: 0,
            },
        }
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counters(&self) -> SessionCounters {
        self.counters
    }

    /// Whether a welcome was received on the current connection.
    #[must_use]
    pub const fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming(_))
    }

    /// The spool holds this now. A new epoch ends the stream: its numbers mean nothing there.
    pub fn handle_spool(&mut self, now: Duration, holding: Option<Holding>) {
        self.spool = holding;
        let current = match &self.state {
            State::Greeting { epoch, .. } => *epoch,
            State::Streaming(stream) => stream.epoch,
            State::Waiting { .. } | State::Connecting => return,
        };
        if holding.is_none_or(|holding| holding.epoch != current) {
            self.disconnect("the spool has a new epoch".to_owned());
            self.state = State::Waiting { until: now };
            return;
        }
        if let (State::Streaming(stream), Some(holding)) = (&mut self.state, holding)
            && holding.last >= stream.next
        {
            stream.waiting_since.get_or_insert(now);
        }
    }

    /// The connection stands.
    pub fn handle_connected(&mut self, now: Duration) {
        if !matches!(self.state, State::Connecting) {
            return;
        }
        let Some(holding) = self.spool else {
            // Without a spool there is no epoch to introduce; it comes back when the disk does.
            self.fail(now, "the spool is not available".to_owned());
            return;
        };
        let (first, last) =
            if holding.items() == 0 { (Seq(0), Seq(0)) } else { (holding.first, holding.last) };
        self.outbox.push_back(Action::SendHello(Hello { epoch: holding.epoch, first, last }));
        self.state = State::Greeting { epoch: holding.epoch, deadline: now + WELCOME_TIMEOUT };
    }

    /// The attempt failed.
    pub fn handle_connect_failed(&mut self, now: Duration) {
        if matches!(self.state, State::Connecting) {
            self.counters.disconnects += 1;
            self.wait(now);
        }
    }

    /// The connection has ended.
    pub fn handle_closed(&mut self, now: Duration) {
        if matches!(self.state, State::Greeting { .. } | State::Streaming(_)) {
            self.counters.disconnects += 1;
            self.outbox.clear();
            self.wait(now);
        }
    }

    /// The collector asks to be left alone for a while.
    pub fn handle_go_away(&mut self, now: Duration, retry_after: Duration) {
        if matches!(self.state, State::Waiting { .. }) {
            return;
        }
        self.disconnect("the collector asked to go away".to_owned());
        let wait = self.backoff.asked_wait(retry_after).max(self.backoff.next_wait());
        self.state = State::Waiting { until: now + wait };
    }

    /// The collector has stored everything up to `durable`, and grants `credit_bytes` in flight.
    pub fn handle_welcome(&mut self, now: Duration, durable: Seq, credit_bytes: u64) {
        let (State::Greeting { epoch, .. }, Some(holding)) = (&self.state, self.spool) else {
            self.break_off(now, "a welcome that nobody asked for");
            return;
        };
        let epoch = *epoch;
        if durable > holding.last {
            self.outbox.push_back(Action::Renumber);
            self.fail(
                now,
                format!("the collector has {} of this epoch, the spool {}", durable.0, holding.last.0),
            );
            return;
        }
        self.counters.sessions += 1;
        // It is up and talks: should it fall over again, the next attempt comes soon.
        self.backoff.reset();
        if durable >= holding.first {
            self.outbox.push_back(Action::Acknowledge { epoch, upto: durable });
        }
        // Older ones are gone from here; if the collector lacks them too, it sees the hole and records it.
        let next = durable.next().max(holding.first);
        self.state = State::Streaming(Stream {
            epoch,
            credit_bytes,
            next,
            acked: durable,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            reading: false,
            waiting_since: (holding.last >= next).then_some(Duration::ZERO),
            read_not_before: Duration::ZERO,
        });
    }

    /// Everything up to and including `upto` is stored.
    pub fn handle_ack(&mut self, now: Duration, epoch: Epoch, upto: Seq) {
        let State::Streaming(stream) = &mut self.state else {
            self.counters.acks_ignored += 1;
            return;
        };
        if epoch != stream.epoch || upto <= stream.acked {
            self.counters.acks_ignored += 1;
            return;
        }
        if upto >= stream.next {
            self.break_off(now, "an ack of items that were not sent");
            return;
        }
        self.counters.items_acked += upto.0 - stream.acked.0;
        stream.acked = upto;
        while stream.in_flight.front().is_some_and(|batch| batch.last <= upto) {
            if let Some(batch) = stream.in_flight.pop_front() {
                stream.in_flight_bytes -= batch.bytes;
            }
        }
        self.outbox.push_back(Action::Acknowledge { epoch, upto });
    }

    /// The items that [`Action::Read`] asked for.
    pub fn handle_read(&mut self, now: Duration, items: Vec<StoredItem>) {
        let State::Streaming(stream) = &mut self.state else { return };
        if !stream.reading {
            return;
        }
        stream.reading = false;
        let mut expected = stream.next;
        let contiguous = items.iter().all(|item| {
            let follows = item.first == expected;
            expected = item.seq.next();
            follows
        });
        let Some(last) = items.last().map(|item| item.seq).filter(|_| contiguous) else {
            // Nothing, or a stale answer to a read of an earlier connection: ask again, but not in a tight loop.
            stream.read_not_before = now + READ_RETRY;
            return;
        };
        let bytes = BATCH_FRAMING_BYTES + items.iter().map(wire_bytes).sum::<u64>();
        stream.in_flight.push_back(InFlight { last, bytes });
        stream.in_flight_bytes += bytes;
        stream.next = last.next();
        let more = self.spool.is_some_and(|holding| holding.last >= stream.next);
        stream.waiting_since = more.then_some(now);
        self.counters.items_sent += items.len() as u64;
        let epoch = stream.epoch;
        self.outbox.push_back(Action::SendBatch { epoch, items });
    }

    /// The spool could not be read; it is asked again after a while.
    pub fn handle_read_failed(&mut self, now: Duration) {
        if let State::Streaming(stream) = &mut self.state {
            stream.reading = false;
            stream.read_not_before = now + READ_RETRY;
        }
    }

    /// What to do next, if anything.
    pub fn poll_action(&mut self, now: Duration) -> Option<Action> {
        if let Some(action) = self.outbox.pop_front() {
            return Some(action);
        }
        match &mut self.state {
            State::Waiting { until } if *until <= now && self.spool.is_some() => {
                self.state = State::Connecting;
                Some(Action::Connect)
            }
            State::Greeting { deadline, .. } if *deadline <= now => {
                self.fail(now, "no welcome in time".to_owned());
                self.outbox.pop_front()
            }
            State::Streaming(stream) => {
                let holding = self.spool?;
                if stream.read_at(&holding)? > now {
                    return None;
                }
                stream.reading = true;
                let bytes_max = stream.room().min(BATCH_BYTES_MAX);
                let limits = ReadLimits { items_max: BATCH_ITEMS_MAX, bytes_max };
                Some(Action::Read { from: stream.next, limits })
            }
            _ => None,
        }
    }

    /// When `poll_action` may have something to do although nothing happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.state {
            State::Waiting { until } => self.spool.is_some().then_some(*until),
            State::Connecting => None,
            State::Greeting { deadline, .. } => Some(*deadline),
            State::Streaming(stream) => self.spool.and_then(|holding| stream.read_at(&holding)),
        }
    }

    fn break_off(&mut self, now: Duration, reason: &str) {
        self.counters.protocol_errors += 1;
        self.disconnect(format!("protocol error: {reason}"));
        // A peer that does not speak the protocol will not learn it in a second.
        self.state = State::Waiting { until: now + self.backoff.asked_wait(PROTOCOL_ERROR_WAIT) };
    }

    fn fail(&mut self, now: Duration, reason: String) {
        self.disconnect(reason);
        self.wait(now);
    }

    fn disconnect(&mut self, reason: String) {
        self.counters.disconnects += 1;
        self.outbox.retain(|action| matches!(action, Action::Renumber | Action::Acknowledge { .. }));
        self.outbox.push_back(Action::Close { reason });
    }

    fn wait(&mut self, now: Duration) {
        self.state = State::Waiting { until: now + self.backoff.next_wait() };
    }
}

impl Stream {
    /// Payload that the credit has room for in one more batch, framing set aside.
    const fn room(&self) -> u64 {
        let framing = BATCH_FRAMING_BYTES + BATCH_ITEMS_MAX as u64 * ITEM_FRAMING_BYTES;
        self.credit_bytes.saturating_sub(self.in_flight_bytes + framing)
    }

    /// When the next read is due; `None` when it waits for an item, an ack, or a read under way.
    fn read_at(&self, holding: &Holding) -> Option<Duration> {
        if self.reading || holding.last < self.next {
            return None;
        }
        // The first item of a batch may be larger than what is left of the credit, so a batch goes out only when
        // there is room for the largest finding, or nothing is in flight.
        let is_short = self.room() < ITEM_BYTES_MAX && !self.in_flight.is_empty();
        if is_short || self.in_flight.len() >= BATCHES_MAX {
            return None;
        }
        let unsent = holding.last.next().0 - self.next.0;
        let unsent_bytes = holding.bytes.saturating_sub(self.in_flight_bytes);
        let full = unsent >= BATCH_ITEMS_MAX as u64 || unsent_bytes >= BATCH_BYTES_MAX;
        let at = if full || holding.urgent >= self.next {
            Duration::ZERO
        } else {
            self.waiting_since.unwrap_or_default() + BATCH_INTERVAL
        };
        Some(at.max(self.read_not_before))
    }
}

/// What an item costs of the credit: its payload and its framing.
fn wire_bytes(item: &StoredItem) -> u64 {
    let payload = match &item.content {
        Content::Finding(bytes) => bytes.len(),
        Content::Gap(gap) => gap.kind.len() + gap.reason.len(),
    };
    payload as u64 + ITEM_FRAMING_BYTES
}

/// A batch is full at so many items.
pub const BATCH_ITEMS_MAX: usize = 256;
/// A batch is full at so many bytes.
pub const BATCH_BYTES_MAX: u64 = 128 * 1024;
/// Batches in flight at most, however small they are.
pub const BATCHES_MAX: usize = 64;
/// An item waits at most so long for company in its batch.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);
/// No encoded finding is larger; [`crate::wire`] sees to it.
pub const ITEM_BYTES_MAX: u64 = 64 * 1024;
/// The most that tags, lengths and numbers of an item take on the wire: a gap has five fields, an item four.
const ITEM_FRAMING_BYTES: u64 = 80;
/// The same for a batch: its epoch, and its own tag and length.
const BATCH_FRAMING_BYTES: u64 = 32;
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
const PROTOCOL_ERROR_WAIT: Duration = Duration::from_secs(15);
const READ_RETRY: Duration = Duration::from_millis(500);

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
