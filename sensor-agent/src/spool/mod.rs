//! The durable queue between judging and the collector: a thread around [`keeper::Keeper`], and its handles. Not the
//! uplink, and it knows nothing of what a finding says. It may call clocks, threads and channels.
//!
//! An item is *accepted* when a commit has covered it: it then survives any crash. Accepted items are numbered
//! without holes and leave only by an ack or by the overflow rule (see [`store`]), which leaves a gap. Items that
//! cannot be accepted (queue full, disk failing for long) are counted and become gaps as soon as one can be written.

mod evict;
mod file;
pub mod item;
pub mod keeper;
pub mod store;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::{oneshot, watch};

pub(crate) use file::set_aside;
pub use item::{Content, Epoch, Gap, LossTally, NewItem, Rank, Seq, StoredItem};
pub use keeper::{Clock, Health, Keeper};
pub(crate) use store::bound_log;
pub use store::{Holding, ReadLimits, Store, StoreError};

/// Where the spool is and how large it may grow.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The database file.
    pub path: PathBuf,
    /// Bytes of items kept at most.
    pub bytes_max: u64,
}

/// What the spool thread publishes after each step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolState {
    /// What the file holds; `None` when there is none.
    pub holding: Option<Holding>,
    /// How the spool is.
    pub health: Health,
}

/// The running spool. Dropping it commits what waits and ends the thread.
pub struct Spool {
    sender: Option<SpoolSender>,
    commands: Option<Sender<Command>>,
    state: watch::Receiver<SpoolState>,
    thread: Option<JoinHandle<()>>,
}

/// Puts items in. Never blocks and does no I/O.
#[derive(Clone)]
pub struct SpoolSender {
    items: Sender<NewItem>,
    shared: Arc<Shared>,
}

/// Takes items out and acknowledges them.
#[derive(Clone)]
pub struct SpoolReader {
    commands: Sender<Command>,
    state: watch::Receiver<SpoolState>,
}

#[derive(Default)]
struct Shared {
    queued_bytes: AtomicU64,
    refused_count: AtomicU64,
    losses: Mutex<LossTally>,
}

enum Command {
    Read { from: Seq, limits: ReadLimits, reply: oneshot::Sender<Result<Vec<StoredItem>, StoreError>> },
    Acknowledge { epoch: Epoch, upto: Seq },
    Renumber,
}

impl Spool {
    /// Starts the spool's thread. A file that cannot be used does not stop it: see [`Health::degraded`].
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(options: SpoolOptions) -> std::io::Result<Self> {
        let (items, items_in) = crossbeam_channel::bounded(QUEUE_ITEMS_MAX);
        let (commands, commands_in) = crossbeam_channel::bounded(COMMANDS_MAX);
        let (publish, state) = watch::channel(SpoolState::default());
        let shared = Arc::new(Shared::default());
        let worker =
            Worker { options, items: items_in, commands: commands_in, publish, shared: shared.clone() };
        let (started, has_started) = crossbeam_channel::bounded(1);
        let thread =
            std::thread::Builder::new().name("spool".to_owned()).spawn(move || worker.run(&started))?;
        // The first state is published before anyone asks for it.
        let _ended_early = has_started.recv();
        let sender = SpoolSender { items, shared };
        Ok(Self { sender: Some(sender), commands: Some(commands), state, thread: Some(thread) })
    }

    /// A handle to put items in.
    #[must_use]
    pub fn sender(&self) -> SpoolSender {
        self.sender.clone().expect("the sender is taken in drop only")
    }

    /// A handle to take items out.
    #[must_use]
    pub fn reader(&self) -> SpoolReader {
        let commands = self.commands.clone().expect("the commands are taken in drop only");
        SpoolReader { commands, state: self.state.clone() }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.sender = None;
        self.commands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the spool thread has panicked");
        }
    }
}

impl SpoolSender {
    /// Offers an item. When the queue to the spool thread is full it is counted and becomes part of a gap.
    pub fn append(&self, item: NewItem) {
        let cost = item.cost_bytes();
        let queued = self.shared.queued_bytes.fetch_add(cost, Ordering::Relaxed);
        let refused = if queued + cost > QUEUE_BYTES_MAX {
            Some(item)
        } else {
            match self.items.try_send(item) {
                Ok(()) => None,
                Err(TrySendError::Full(item) | TrySendError::Disconnected(item)) => Some(item),
            }
        };
        if let Some(item) = refused {
            self.shared.queued_bytes.fetch_sub(cost, Ordering::Relaxed);
            self.shared.refused_count.fetch_add(1, Ordering::Relaxed);
            let (kind, reason) = ("finding".to_owned(), "spool_queue_full".to_owned());
            self.report_loss(Gap { from_ns: item.time_ns, to_ns: item.time_ns, kind, count: 1, reason });
        }
    }

    /// Declares a loss that happened before the spool.
    pub fn report_loss(&self, gap: Gap) {
        self.shared.losses.lock().unwrap_or_else(PoisonError::into_inner).add(gap);
    }

    /// Items refused because the queue was full.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.shared.refused_count.load(Ordering::Relaxed)
    }
}

impl SpoolReader {
    /// The newest state, and a way to wait for the next.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<SpoolState> {
        self.state.clone()
    }

    /// Items from `from` on, in order.
    ///
    /// # Errors
    /// When the file cannot be read, or the spool has ended.
    pub async fn read(&self, from: Seq, limits: ReadLimits) -> Result<Vec<StoredItem>, String> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Read { from, limits, reply })?;
        match answer.await {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(_) => Err("the spool has ended".to_owned()),
        }
    }

    /// Says that the collector has stored everything up to `upto`. Lost when the queue is full: the next ack, or
    /// the next welcome, covers it.
    pub fn acknowledge(&self, epoch: Epoch, upto: Seq) {
        let _covered_by_the_next = self.send(Command::Acknowledge { epoch, upto });
    }

    /// Asks for a new epoch for what is held.
    pub fn renumber(&self) {
        let _asked_again_on_the_next_welcome = self.send(Command::Renumber);
    }

    fn send(&self, command: Command) -> Result<(), String> {
        self.commands.try_send(command).map_err(|_| "the spool does not keep up".to_owned())
    }
}

struct Worker {
    options: SpoolOptions,
    items: Receiver<NewItem>,
    commands: Receiver<Command>,
    publish: watch::Sender<SpoolState>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(self, started: &Sender<()>) {
        let origin = Instant::now();
        let mut keeper =
            Keeper::start(&self.options.path, self.options.bytes_max, random_epoch, clock(origin));
        self.publish_state(&keeper);
        let _nobody_waits = started.send(());
        loop {
            let now = clock(origin);
            let wait = keeper.deadline().map_or(IDLE_INTERVAL, |at| at.saturating_sub(now.monotonic));
            let open = crossbeam_channel::select! {
                recv(self.items) -> item => item.map(|item| self.take(&mut keeper, item, clock(origin))).is_ok(),
                recv(self.commands) -> command => {
                    command.map(|command| self.obey(&mut keeper, command, clock(origin))).is_ok()
                },
                default(wait.min(IDLE_INTERVAL)) => true,
            };
            let now = clock(origin);
            for item in self.items.try_iter().take(QUEUE_ITEMS_MAX) {
                self.take(&mut keeper, item, now);
            }
            let losses =
                std::mem::take(&mut *self.shared.losses.lock().unwrap_or_else(PoisonError::into_inner));
            keeper.push_losses(losses, now);
            if open {
                keeper.commit_if_due(now);
            } else {
                keeper.commit(now);
            }
            self.publish_state(&keeper);
            if !open {
                return;
            }
        }
    }

    fn take(&self, keeper: &mut Keeper, item: NewItem, now: Clock) {
        self.shared.queued_bytes.fetch_sub(item.cost_bytes(), Ordering::Relaxed);
        keeper.push(item, now);
    }

    fn obey(&self, keeper: &mut Keeper, command: Command, now: Clock) {
        match command {
            Command::Read { from, limits, reply } => {
                let _nobody_waits = reply.send(keeper.read(from, limits, now));
            }
            Command::Acknowledge { epoch, upto } => keeper.acknowledge(epoch, upto, now),
            Command::Renumber => keeper.renumber(now),
        }
    }

    fn publish_state(&self, keeper: &Keeper) {
        let state = SpoolState { holding: keeper.holding(), health: keeper.health().clone() };
        self.publish.send_if_modified(|published| {
            let changed = *published != state;
            *published = state;
            changed
        });
    }
}

fn clock(origin: Instant) -> Clock {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Clock { monotonic: origin.elapsed(), unix_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
}

/// A numbering that nothing has used.
pub(crate) fn random_epoch() -> Epoch {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    Epoch(bytes)
}

/// Bounds of the queue from the pipeline to the spool thread.
const QUEUE_ITEMS_MAX: usize = 4096;
const QUEUE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Reads and acks under way; the uplink has one of each.
const COMMANDS_MAX: usize = 64;
/// How often losses are looked for when nothing else happens.
const IDLE_INTERVAL: Duration = Duration::from_millis(250);
