//! The collector's end of one Findings stream, as a state machine: frames and commit results in, [`Output`]s out. It
//! does no I/O, has no clock and no queue of its own; the driver in `grpc/` moves bytes and decides nothing. It may
//! call the protocol's message types only.
//!
//! ```text
//!   Hello ─► Resume(epoch) ─► [driver reads the high-water mark] ─► handle_resumed ─► Welcome
//!   Batch ─► Commit(n)     ─► [driver commits, in order]         ─► handle_committed ─► Ack
//!   anything else          ─► Close
//! ```

mod batch;
mod commit;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;

use sensor_proto::v1;

pub use batch::novel;
pub use commit::{Commit, Content, FindingRow, GapRow, Hole, Row};

/// Identity of one spool: sequences mean something within an epoch only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub [u8; EPOCH_BYTES]);

impl Epoch {
    /// `None` when it is not exactly 16 bytes.
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Position in an epoch, from 1. 0 is before the first item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// What one agent may have outstanding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of batches received and not yet committed. One batch is always allowed, whatever its size: the
    /// transport bounds a message.
    pub credit_bytes: u64,
    /// Batches received and not yet committed.
    pub batches_max: usize,
}

/// What the driver must do next. Outputs of one call are done in order.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Read the high-water mark of this epoch, after every commit already queued, and call `handle_resumed`.
    Resume(Epoch),
    /// Send a Welcome.
    Welcome {
        /// The agent sends from the next one.
        durable_upto: Seq,
        /// Bytes that it may have unacknowledged.
        credit_bytes: u64,
    },
    /// Commit, then call `handle_committed` or `handle_commit_failed`, in the order of the commits.
    Commit(Commit),
    /// Send an Ack.
    Ack {
        /// The epoch the sequence belongs to.
        epoch: Epoch,
        /// Everything up to and including this is stored.
        upto: Seq,
    },
    /// End the stream. Nothing follows.
    Close(CloseReason),
}

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The agent sent something the protocol does not allow.
    #[error("protocol violation: {0}")]
    Violation(#[from] Violation),
    /// The store did not take a batch; the agent keeps it and comes back.
    #[error("the collector's store cannot take findings now: {cause}")]
    StoreFailed {
        /// What the store said.
        cause: String,
    },
}

/// What the agent did that the protocol does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A batch came first.
    #[error("the first frame must be hello")]
    BatchBeforeHello,
    /// Hello came twice.
    #[error("a second hello on one stream")]
    SecondHello,
    /// A frame with nothing in it that this version knows.
    #[error("a frame without content")]
    EmptyFrame,
    /// An epoch that is not 16 bytes.
    #[error("epoch of {found} bytes, expected {EPOCH_BYTES}")]
    EpochLength {
        /// Its length.
        found: usize,
    },
    /// A batch of another epoch than the hello's.
    #[error("batch of epoch {found:?} on a stream of epoch {expected:?}")]
    OtherEpoch {
        /// The hello's.
        expected: Epoch,
        /// The batch's.
        found: Epoch,
    },
    /// A batch without items.
    #[error("a batch without items")]
    EmptyBatch,
    /// A sequence of 0, above the largest storable one, or before its own first sequence.
    #[error("sequence {first}..={last} is not a range of sequences")]
    BadSequence {
        /// Where the item begins.
        first: u64,
        /// Where it ends.
        last: u64,
    },
    /// Items of a batch that do not follow each other.
    #[error("item begins at sequence {found}, expected {expected}")]
    NotContiguous {
        /// One after the previous item.
        expected: u64,
        /// Where the item begins.
        found: u64,
    },
    /// More unacknowledged bytes than the credit.
    #[error("{in_flight} bytes unacknowledged, the credit is {credit}")]
    OverCredit {
        /// Bytes with this batch.
        in_flight: u64,
        /// Bytes allowed.
        credit: u64,
    },
    /// More unacknowledged batches than allowed.
    #[error("{in_flight} batches unacknowledged, at most {allowed} are allowed")]
    TooManyBatches {
        /// Batches with this one.
        in_flight: usize,
        /// Batches allowed.
        allowed: usize,
    },
}

/// What one stream counted since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntakeCounters {
    /// Items received.
    pub items_received: u64,
    /// Items that were stored already and dropped.
    pub items_duplicate: u64,
    /// Sequences missing without a declared gap.
    pub sequences_missing: u64,
    /// Items with content that this collector does not know, stored as gaps.
    pub items_unknown: u64,
    /// Names of findings and incidents that are too long: the finding is stored without.
    pub names_refused: u64,
}

/// One Findings stream.
#[derive(Debug)]
pub struct Intake {
    limits: Limits,
    state: State,
    counters: IntakeCounters,
}

#[derive(Debug)]
enum State {
    AwaitHello,
    /// Hello came; the driver reads the high-water mark.
    Resuming {
        epoch: Epoch,
        first_seq: Seq,
    },
    Open(Open),
    Closed,
}

#[derive(Debug)]
struct Open {
    epoch: Epoch,
    /// Everything up to here is stored or handed to the driver; `None` while nothing says where an unknown epoch
    /// with an empty spool begins.
    received: Option<Seq>,
    /// The high-water mark that the next commit follows; `None` while the epoch is new to the store.
    after: Option<Seq>,
    durable: Seq,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
}

#[derive(Debug)]
struct InFlight {
    upto: Seq,
    bytes: u64,
}

impl Intake {
    /// A stream that awaits its hello.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::AwaitHello, counters: IntakeCounters::default() }
    }

    /// The agent's first frame.
    pub fn handle_hello(&mut self, hello: &v1::Hello) -> Output {
        if !matches!(self.state, State::AwaitHello) {
            return self.close(Violation::SecondHello.into());
        }
        let Some(epoch) = Epoch::from_wire(&hello.epoch) else {
            return self.close(Violation::EpochLength { found: hello.epoch.len() }.into());
        };
        if hello.first_seq > hello.last_seq || hello.last_seq > SEQ_MAX {
            let violation = Violation::BadSequence { first: hello.first_seq, last: hello.last_seq };
            return self.close(violation.into());
        }
        self.state = State::Resuming { epoch, first_seq: Seq(hello.first_seq) };
        Output::Resume(epoch)
    }

    /// The store's high-water mark of the hello's epoch; `None` when the epoch is new to the store.
    pub fn handle_resumed(&mut self, stored: Option<Seq>) -> Output {
        let State::Resuming { epoch, first_seq } = self.state else {
            panic!("handle_resumed answers Output::Resume, which the state {:?} has not sent", self.state);
        };
        // An epoch that is new to the collector begins where the agent's spool begins: what came before was never
        // promised to this store.
        let received = stored.or((first_seq.0 > 0).then(|| Seq(first_seq.0 - 1)));
        let durable = received.unwrap_or_default();
        self.state = State::Open(Open {
            epoch,
            received,
            after: stored,
            durable,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
        });
        Output::Welcome { durable_upto: durable, credit_bytes: self.limits.credit_bytes }
    }

    /// A batch, with its size on the wire. An answer is due at once only for what is stored already.
    pub fn handle_batch(&mut self, batch: v1::Batch, wire_bytes: u64) -> Option<Output> {
        let limits = self.limits;
        let open = match &mut self.state {
            State::Open(open) => open,
            State::AwaitHello | State::Resuming { .. } => {
                return Some(self.close(Violation::BatchBeforeHello.into()));
            }
            State::Closed => return None,
        };
        match open.take(batch, wire_bytes, limits, &mut self.counters) {
            Ok(output) => Some(output),
            Err(violation) => Some(self.close(violation.into())),
        }
    }

    /// A frame with no content that this version knows.
    pub fn handle_empty_frame(&mut self) -> Output {
        self.close(Violation::EmptyFrame.into())
    }

    /// The oldest outstanding commit is in the store.
    pub fn handle_committed(&mut self) -> Option<Output> {
        let State::Open(open) = &mut self.state else { return None };
        let done = open.in_flight.pop_front().expect("a commit result answers a commit");
        open.in_flight_bytes -= done.bytes;
        open.durable = open.durable.max(done.upto);
        Some(Output::Ack { epoch: open.epoch, upto: open.durable })
    }

    /// The oldest outstanding commit did not reach the store. Later ones must not be acknowledged either: an ack is
    /// cumulative. So the stream ends and the agent resumes from what is stored.
    pub fn handle_commit_failed(&mut self, cause: String) -> Option<Output> {
        match self.state {
            State::Closed => None,
            _ => Some(self.close(CloseReason::StoreFailed { cause })),
        }
    }

    /// Whether the stream is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// What was counted since the last call.
    pub fn take_counters(&mut self) -> IntakeCounters {
        std::mem::take(&mut self.counters)
    }

    fn close(&mut self, reason: CloseReason) -> Output {
        self.state = State::Closed;
        Output::Close(reason)
    }
}

/// Bytes of an epoch.
pub const EPOCH_BYTES: usize = 16;
/// Largest sequence that a column of the store can hold.
pub const SEQ_MAX: u64 = i64::MAX as u64;
/// Longest name of a finding or an incident, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
