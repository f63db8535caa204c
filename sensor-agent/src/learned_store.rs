//! Keeps what the agent learns, across restarts, and says what changed since a revision. Not the learner (that is
//! `sensor_baseline::Learner`, run here) and not on the drain path: a thread of its own takes observations from a
//! bounded queue and writes them once a second. It may call SQLite, threads and channels.
//!
//! Every changed behaviour takes the next revision, so that a reader can ask for what is later than the last one it
//! has, in pieces of any size. A new behaviour changes at its first write; a known one whose count grew changes at
//! most once a minute, so that a busy host does not send the same lines every second.

mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use sensor_baseline::{Behaviour, Floor, Learner, LearnerCounters, LearnerLimits, Observation, Remembered};
use tokio::sync::{oneshot, watch};

use crate::uplink::control::{Chunk, LearnedMark, Revision};
use table::{Table, is_damage, open_table, unix_ns};

/// What there is to learn of one drain.
#[derive(Debug, Default)]
pub struct Lessons {
    /// What was seen.
    pub observations: Vec<Observation>,
    /// What was seen more than once, and how often; the time is the last.
    pub repeated: Vec<(Observation, u64)>,
    /// What rules fired on.
    pub withheld: Vec<Withheld>,
}

/// What a rule fired on, with what a learner calls the rule.
pub type Withheld = (Observation, Arc<str>);

/// A learned behaviour with its totals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedRow {
    /// What.
    pub behaviour: Behaviour,
    /// How often.
    pub count: u64,
    /// First wall-clock time, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// Last wall-clock time.
    pub last_ns: u64,
    /// The rule that fired on it, so that it never enters a candidate.
    pub withheld_by: Option<Arc<str>>,
}

/// What the thread publishes after each write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LearnedState {
    /// How far it is; `None` before the first write.
    pub mark: Option<LearnedMark>,
    /// Behaviours held, withheld ones among them.
    pub behaviours: u64,
    /// Behaviours withheld.
    pub withheld: u64,
    /// What the learner took, refused and forgot.
    pub counters: LearnerCounters,
    /// Why changes are not written; `None` when they are.
    pub degraded: Option<String>,
}

/// The running store. Dropping it writes what waits and ends the thread.
pub struct LearnedStore {
    sender: Option<LearnedSender>,
    reader: Option<LearnedReader>,
    thread: Option<JoinHandle<()>>,
}

/// Hands observations over. Never blocks and does no I/O.
#[derive(Clone)]
pub struct LearnedSender {
    lessons: Sender<Lessons>,
    /// What rules fired on and the queue had no room for.
    unsent: Vec<Withheld>,
    dropped_count: Arc<AtomicU64>,
}

/// Reads changes back.
#[derive(Clone)]
pub struct LearnedReader {
    requests: Sender<Request>,
    state: watch::Receiver<LearnedState>,
}

struct Request {
    since: Revision,
    behaviours_max: usize,
    reply: oneshot::Sender<rusqlite::Result<Chunk>>,
}

impl LearnedStore {
    /// Starts the thread with what `path` holds. A file that cannot be used does not stop it.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(path: &Path, floor: Arc<Floor>) -> std::io::Result<Self> {
        let (lessons, lessons_in) = crossbeam_channel::bounded(QUEUE_BATCHES_MAX);
        let (requests, requests_in) = crossbeam_channel::bounded(REQUESTS_MAX);
        let (publish, state) = watch::channel(LearnedState::default());
        let path = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("learned".to_owned())
            .spawn(move || run(&path, floor, &lessons_in, &requests_in, &publish))?;
        Ok(Self {
            sender: Some(LearnedSender { lessons, unsent: Vec::new(), dropped_count: Arc::default() }),
            reader: Some(LearnedReader { requests, state }),
            thread: Some(thread),
        })
    }

    /// A handle to put observations in.
    #[must_use]
    pub fn sender(&self) -> LearnedSender {
        self.sender.clone().expect("the sender is taken in drop only")
    }

    /// A handle to read changes.
    #[must_use]
    pub fn reader(&self) -> LearnedReader {
        self.reader.clone().expect("the reader is taken in drop only")
    }
}

impl Drop for LearnedStore {
    fn drop(&mut self) {
        self.sender = None;
        self.reader = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the learning thread has panicked");
        }
    }
}

impl LearnedSender {
    /// Offers observations. When the queue is full they are counted: the behaviour is learned when it recurs. What rules
    /// fired on may not recur, so it is offered again with what comes next, up to [`WITHHELD_UNSENT_MAX`].
    pub fn observe(&mut self, mut lessons: Lessons) {
        lessons.withheld.append(&mut self.unsent);
        if lessons.observations.is_empty() && lessons.repeated.is_empty() && lessons.withheld.is_empty() {
            return;
        }
        let Err(refused) = self.lessons.try_send(lessons) else { return };
        let Lessons { observations, repeated, withheld } = refused.into_inner();
        let dropped = observations.len() + withheld.len().saturating_sub(WITHHELD_UNSENT_MAX);
        let repeated: u64 = repeated.iter().map(|(_, count)| count).sum();
        self.dropped_count.fetch_add(dropped as u64 + repeated, Ordering::Relaxed);
        self.unsent = withheld;
        self.unsent.truncate(WITHHELD_UNSENT_MAX);
    }

    /// Observations that the queue had no room for.
    #[must_use]
    pub fn dropped_count(&self) -> u64 {
        self.dropped_count.load(Ordering::Relaxed)
    }
}

impl LearnedReader {
    /// The newest state, and a way to wait for the next.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LearnedState> {
        self.state.clone()
    }

    /// Behaviours with a later revision, in its order; `None` when they cannot be read.
    pub async fn read(&self, since: Revision, behaviours_max: usize) -> Option<Chunk> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request { since, behaviours_max, reply }).ok()?;
        match answer.await.ok()? {
            Ok(chunk) => Some(chunk),
            Err(error) => {
                tracing::warn!("learned behaviours cannot be read: {error}");
                None
            }
        }
    }
}

fn run(
    path: &Path,
    floor: Arc<Floor>,
    lessons: &Receiver<Lessons>,
    requests: &Receiver<Request>,
    publish: &watch::Sender<LearnedState>,
) {
    let mut keeper = LearnedKeeper::start(path);
    keeper.learner = keeper.learner.with_floor(floor);
    publish.send_replace(keeper.state());
    let mut flush_at = Instant::now() + FLUSH_INTERVAL;
    loop {
        let wait = flush_at.saturating_duration_since(Instant::now());
        let open = crossbeam_channel::select! {
            recv(lessons) -> batch => batch.map(|batch| keeper.learn(&batch)).is_ok(),
            recv(requests) -> request => request.map(|request| keeper.answer(request)).is_ok(),
            default(wait) => true,
        };
        if !open {
            // Whichever queue ended first, what was handed over before that is kept.
            lessons.try_iter().for_each(|batch| keeper.learn(&batch));
        }
        if !open || flush_at <= Instant::now() {
            keeper.flush();
            publish.send_if_modified(|published| {
                let state = keeper.state();
                let changed = *published != state;
                *published = state;
                changed
            });
            flush_at = Instant::now() + FLUSH_INTERVAL;
        }
        if !open {
            return;
        }
    }
}

/// The store without its thread.
struct LearnedKeeper {
    path: PathBuf,
    table: Option<Table>,
    learner: Learner,
    /// Changed, and not yet written.
    unwritten: BTreeMap<Arc<Behaviour>, Remembered>,
    /// Evictions that the table knows of.
    evicted_written: u64,
    degraded: Option<String>,
}

impl LearnedKeeper {
    fn start(path: &Path) -> Self {
        let mut keeper = Self {
            path: path.to_owned(),
            table: None,
            learner: Learner::new(LearnerLimits::default()),
            unwritten: BTreeMap::new(),
            evicted_written: 0,
            degraded: None,
        };
        keeper.open();
        keeper
    }

    fn open(&mut self) {
        let opened = open_table(&self.path).or_else(|error| {
            if !is_damage(&error) {
                return Err(error);
            }
            tracing::error!("{}: damaged: {error}; learning starts afresh", self.path.display());
            let _opening_again_says_why = crate::spool::set_aside(&self.path, unix_ns() / 1_000_000_000);
            open_table(&self.path)
        });
        match opened {
            Ok((table, rows)) => {
                self.learner.restore(rows);
                self.table = Some(table);
                self.degraded = None;
            }
            Err(error) => self.fail(&error),
        }
    }

    fn learn(&mut self, lessons: &Lessons) {
        for observation in &lessons.observations {
            // The learner counts what it refuses.
            let _counted = self.learner.observe(observation);
        }
        for (observation, count) in &lessons.repeated {
            let _counted = self.learner.observe_times(observation, *count);
        }
        for (observation, rule) in &lessons.withheld {
            self.learner.withhold(observation, rule);
        }
    }

    fn answer(&self, request: Request) {
        let Some(table) = &self.table else { return };
        let _nobody_waits = request.reply.send(table.read(request.since, request.behaviours_max));
    }

    fn flush(&mut self) {
        self.unwritten.extend(self.learner.take_changed());
        if self.table.is_none() {
            self.open();
            // The file may be a new one.
            let known = self.learner.remembered().map(|(made, known)| (Arc::new(made.clone()), known));
            self.unwritten.extend(known);
        }
        let evicted = self.learner.counters().evicted;
        let gone = if evicted == self.evicted_written { Vec::new() } else { self.forgotten() };
        let Some(table) = self.table.as_mut().filter(|_| !self.unwritten.is_empty() || !gone.is_empty())
        else {
            return;
        };
        match table.write(&self.unwritten, &gone) {
            Ok(()) => {
                self.unwritten.clear();
                self.evicted_written = evicted;
                self.degraded = None;
            }
            Err(error) => {
                if is_damage(&error) {
                    self.table = None;
                }
                self.fail(&error);
            }
        }
    }

    /// What the table has and the learner has evicted.
    fn forgotten(&self) -> Vec<Arc<Behaviour>> {
        let Some(table) = &self.table else { return Vec::new() };
        table.written.keys().filter(|behaviour| !self.learner.knows(behaviour)).cloned().collect()
    }

    fn fail(&mut self, error: &rusqlite::Error) {
        let reason = format!("{}: {error}", self.path.display());
        if self.degraded.as_ref() != Some(&reason) {
            tracing::error!("learned behaviours are kept in memory only: {reason}");
        }
        self.degraded = Some(reason);
    }

    fn state(&self) -> LearnedState {
        LearnedState {
            mark: self.table.as_ref().map(|table| table.mark),
            behaviours: self.table.as_ref().map_or(0, |table| table.written.len() as u64),
            withheld: self.learner.withheld().count() as u64,
            counters: self.learner.counters(),
            degraded: self.degraded.clone(),
        }
    }
}

const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Batches from the drain thread; each holds the observations of one drain.
const QUEUE_BATCHES_MAX: usize = 256;
const REQUESTS_MAX: usize = 4;
/// Observations of rules that fired, which wait for room in the queue.
const WITHHELD_UNSENT_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use sensor_baseline::{Action, Object, Subject, Traits, UnixNs, Workload};

    fn observation(object: &str, time: u64) -> Observation {
        let behaviour = Behaviour {
            workload: Workload("unit:a.service".to_owned()),
            subject: Subject("/usr/bin/a".to_owned()),
            action: Action::Write,
            object: Object::path(object),
        };
        Observation { behaviour, traits: Traits::default(), time: UnixNs(time) }
    }

    fn observe(keeper: &mut LearnedKeeper, observations: &[Observation]) {
        keeper.learn(&Lessons { observations: observations.to_vec(), ..Lessons::default() });
    }

    /// Everything later than `since`, as (object, count), with the mark it ends at.
    fn changes(keeper: &LearnedKeeper, since: Revision) -> (Vec<(String, u64)>, Revision) {
        let chunk = keeper.table.as_ref().unwrap().read(since, 100).unwrap();
        let rows = chunk.rows.iter().map(|row| (row.behaviour.object.to_string(), row.count)).collect();
        (rows, chunk.mark.revision)
    }

    #[test]
    fn only_what_is_later_than_a_revision_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = LearnedKeeper::start(&folder.path().join("learned.db"));
        observe(&mut keeper, &[observation("/a", 1), observation("/b", 2), observation("/a", 3)]);
        keeper.flush();
        let (rows, revision) = changes(&keeper, Revision(0));
        assert_eq!(rows, [("/a".to_owned(), 2), ("/b".to_owned(), 1)]);
        assert_eq!(keeper.state().mark.unwrap().revision, revision);
        observe(&mut keeper, &[observation("/c", 4), observation("/a", 5)]);
        keeper.flush();
        let (rows, _) = changes(&keeper, revision);
        assert_eq!(rows, [("/c".to_owned(), 1)], "a count alone is not sent every second");
    }

    #[test]
    fn a_piece_ends_at_the_revision_of_its_last_row() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = LearnedKeeper::start(&folder.path().join("learned.db"));
        observe(&mut keeper, &(0..5).map(|n| observation(&format!("/dir{n}/x"), n + 1)).collect::<Vec<_>>());
        keeper.flush();
        let table = keeper.table.as_ref().unwrap();
        let first = table.read(Revision(0), 3).unwrap();
        assert_eq!((first.rows.len(), first.mark.revision.0 + 2), (3, table.mark.revision.0));
        let rest = table.read(first.mark.revision, 3).unwrap();
        assert_eq!((rest.rows.len(), rest.mark.revision), (2, table.mark.revision));
    }

    #[test]
    fn a_table_put_back_to_an_earlier_state_repeats_no_revision() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learned.db");
        let learn = |object: &str| {
            let mut keeper = LearnedKeeper::start(&path);
            observe(&mut keeper, &[observation(object, 1)]);
            keeper.flush();
            keeper.state().mark.unwrap().revision
        };
        learn("/a");
        let earlier = std::fs::read(&path).unwrap();
        let seen_by_the_collector = learn("/b");
        std::fs::write(&path, earlier).unwrap();
        assert!(learn("/c") >= seen_by_the_collector);
        let table = LearnedKeeper::start(&path).table.unwrap();
        assert_eq!(table.read(seen_by_the_collector, 9).unwrap().rows.len(), 1, "/c is read after it");
    }

    #[test]
    fn what_was_learned_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learned.db");
        let mut keeper = LearnedKeeper::start(&path);
        observe(&mut keeper, &[observation("/a", 1), observation("/a", 2)]);
        keeper.flush();
        let mark = keeper.state().mark;
        drop(keeper);
        let mut keeper = LearnedKeeper::start(&path);
        assert_eq!((keeper.state().mark, keeper.state().behaviours), (mark, 1));
        observe(&mut keeper, &[observation("/a", 3)]);
        keeper.flush();
        let (rows, _) = changes(&keeper, Revision(0));
        assert_eq!(rows, [("/a".to_owned(), 3)]);
    }

    #[test]
    fn what_is_withheld_stays_so_after_a_restart_and_goes_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learned.db");
        let withheld = |keeper: &LearnedKeeper| -> Vec<_> {
            let rows = keeper.table.as_ref().unwrap().read(Revision(0), 9).unwrap().rows;
            rows.into_iter().map(|row| (row.count, row.withheld_by)).collect()
        };
        let ran = |time, executable_is_fresh| {
            let mut one = observation("/srv/product", time);
            one.behaviour.action = Action::Exec;
            one.traits.executable_is_fresh = executable_is_fresh;
            one
        };
        let mut keeper = LearnedKeeper::start(&path);
        observe(&mut keeper, &[ran(1, false)]);
        keeper.flush();
        let (_, revision) = changes(&keeper, Revision(0));
        observe(&mut keeper, &[ran(2, true)]);
        keeper.learn(&Lessons {
            withheld: vec![(observation("/b", 1), "sigma:x".into())],
            ..Lessons::default()
        });
        keeper.flush();
        assert_eq!(changes(&keeper, revision).0.len(), 2, "being withheld is a change that goes out at once");
        drop(keeper);
        let mut keeper = LearnedKeeper::start(&path);
        let by = |rule: &str| Some(Arc::from(rule));
        assert_eq!(withheld(&keeper), [(2, by("fresh-exec")), (1, by("sigma:x"))]);
        assert_eq!(keeper.learner.to_baseline("web").entry_count(), 0);
        observe(&mut keeper, &[ran(3, false)]);
        keeper.flush();
        assert_eq!(withheld(&keeper).last(), Some(&(3, by("fresh-exec"))));
        assert_eq!((keeper.state().behaviours, keeper.state().withheld), (2, 2));
    }

    #[test]
    fn what_a_rule_fired_on_is_not_lost_with_a_full_queue() {
        let (lessons, waiting) = crossbeam_channel::bounded(1);
        let mut sender = LearnedSender { lessons, unsent: Vec::new(), dropped_count: Arc::default() };
        let mut offer = |count: usize| {
            let withheld = vec![(observation("/a", 1), Arc::from("r")); count];
            sender.observe(Lessons {
                observations: vec![observation("/b", 1)],
                withheld,
                ..Lessons::default()
            });
            (sender.unsent.len(), sender.dropped_count())
        };
        assert_eq!(offer(1), (0, 0));
        assert_eq!(offer(2), (2, 1));
        assert_eq!(offer(WITHHELD_UNSENT_MAX), (WITHHELD_UNSENT_MAX, 1 + 1 + 2));
        waiting.recv().unwrap();
        assert_eq!(offer(0), (0, 4));
        assert_eq!(waiting.recv().unwrap().withheld.len(), WITHHELD_UNSENT_MAX);
    }

    #[test]
    fn a_file_of_before_behaviours_were_withheld_is_brought_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learned.db");
        let mut keeper = LearnedKeeper::start(&path);
        observe(&mut keeper, &[observation("/a", 1)]);
        keeper.flush();
        let mark = keeper.state().mark;
        drop(keeper);
        let older = "ALTER TABLE behaviours DROP COLUMN withheld_by; PRAGMA user_version = 1;";
        rusqlite::Connection::open(&path).unwrap().execute_batch(older).unwrap();
        let mut keeper = LearnedKeeper::start(&path);
        assert_eq!((keeper.state().mark, keeper.state().degraded.clone()), (mark, None));
        keeper.learn(&Lessons { withheld: vec![(observation("/a", 2), "r".into())], ..Lessons::default() });
        keeper.flush();
        assert_eq!((keeper.state().behaviours, keeper.state().withheld), (1, 1));
    }

    #[test]
    fn its_files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learned.db");
        let mut keeper = LearnedKeeper::start(&path);
        observe(&mut keeper, &[observation("/a", 1)]);
        keeper.flush();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        }
    }

    #[test]
    fn a_damaged_file_is_replaced_under_a_new_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learned.db");
        for damage in ["not a database, and long enough to be read as one", ""] {
            std::fs::write(&path, damage).unwrap();
            let mut keeper = LearnedKeeper::start(&path);
            observe(&mut keeper, &[observation("/a", 1)]);
            keeper.flush();
            assert_eq!(keeper.state().degraded, None);
            assert_eq!(changes(&keeper, Revision(0)).0, [("/a".to_owned(), 1)]);
            drop(keeper);
            crate::spool::set_aside(&path, 1).unwrap();
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_said_and_nothing_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("learned.db");
        let mut keeper = LearnedKeeper::start(&path);
        observe(&mut keeper, &[observation("/a", 1)]);
        keeper.flush();
        assert!(keeper.state().degraded.unwrap().contains("learned.db"));
        std::fs::create_dir(folder.path().join("missing")).unwrap();
        keeper.flush();
        assert_eq!(keeper.state().degraded, None);
        assert_eq!(changes(&keeper, Revision(0)).0, [("/a".to_owned(), 1)]);
    }
}
