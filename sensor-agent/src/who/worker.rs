//! The threads that look things up: one for names, containers and timers, one for hashes and names of files, so that
//! a file that cannot be read for minutes holds up these only. Not what is done with the answers. It does I/O; whoever asks does not.

use super::container::{Container, Containers, Missing, Roots};
use super::hash::{Clock, Hash, HashKey, Hasher, HostName, Wanted};
use super::names::{NameFiles, Names};
use super::place::ContainerRef;
use super::timers::Timers;
use crate::event::BootNs;
use crate::kernel::boot_to_unix_offset_ns;
use anyhow::Context as _;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sensor_baseline::UnixNs;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What can be asked for, besides what concerns files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The names of users and groups, as they are now: `asked` comes back with them.
    Names {
        /// When it was asked.
        asked: BootNs,
    },
    /// A container.
    Container(ContainerRef),
    /// The timer of a unit.
    Timer(UnitRef),
}

/// What can be asked about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileRequest {
    /// The hash of a program.
    Hash(Wanted),
    /// Whether a file has a name.
    Name(HostName),
}

/// A unit of a service manager.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnitRef {
    /// Its name.
    pub name: String,
    /// Whether a user's own manager runs it.
    pub is_user: bool,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Names as of a time.
    Names {
        /// When they were asked for: they are no older.
        asked: BootNs,
        /// The names.
        names: Arc<Names>,
    },
    /// A container, or why not.
    Container(ContainerRef, Result<Arc<Container>, Missing>),
    /// The timer, if there is one.
    Timer(UnitRef, Option<Arc<str>>),
    /// A hash, or why not.
    Hash(HashKey, Hash),
    /// Whether the file has the name.
    Name(HostName, bool),
}

/// The end that asks: it never waits.
#[derive(Debug)]
pub struct Lookups {
    requests: Sender<Request>,
    files: Sender<FileRequest>,
    answers: Receiver<Answer>,
}

impl Lookups {
    /// Starts the threads. They end when this is dropped, once they have done what they are at.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(roots: Roots) -> anyhow::Result<Self> {
        let (requests, asked) = bounded(REQUESTS_MAX);
        let (files, asked_files) = bounded(FILES_MAX);
        let (answer, answers) = bounded(ANSWERS_MAX);
        let answer_files_to = answer.clone();
        std::thread::Builder::new()
            .name("who".to_owned())
            .spawn(move || answer_all(&asked, &answer, roots))
            .context("starting the thread that looks up names")?;
        std::thread::Builder::new()
            .name("who-hash".to_owned())
            .spawn(move || answer_files(&asked_files, &answer_files_to))
            .context("starting the thread that hashes programs")?;
        Ok(Self { requests, files, answers })
    }

    /// The ends of the channels, for tests that answer themselves.
    #[cfg(test)]
    pub(super) const fn of(
        requests: Sender<Request>,
        files: Sender<FileRequest>,
        answers: Receiver<Answer>,
    ) -> Self {
        Self { requests, files, answers }
    }

    /// Asks. `false` when there is no room.
    #[must_use]
    pub fn ask(&self, request: Request) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// Asks about a file. `false` when there is no room.
    #[must_use]
    pub fn ask_file(&self, request: FileRequest) -> bool {
        self.files.try_send(request).is_ok()
    }

    /// The next answer that has come.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// The next answer, waited for.
    #[must_use]
    pub fn answer_within(&self, timeout: Duration) -> Option<Answer> {
        self.answers.recv_timeout(timeout).ok()
    }
}

fn answer_all(requests: &Receiver<Request>, answers: &Sender<Answer>, roots: Roots) {
    let mut names = NameFiles::new(&roots.host);
    let timers = Timers::new(&roots.host);
    let mut containers = Containers::new(roots);
    for request in requests {
        let answer = match request {
            Request::Names { asked } => Answer::Names { asked, names: names.current() },
            Request::Container(wanted) => {
                let found = containers.find(&wanted).map(Arc::new);
                Answer::Container(wanted, found)
            }
            Request::Timer(unit) => {
                let timer = timers.of(&unit.name, unit.is_user).map(Arc::from);
                Answer::Timer(unit, timer)
            }
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

fn answer_files(requests: &Receiver<FileRequest>, answers: &Sender<Answer>) {
    let mut hasher = Hasher::default();
    loop {
        let asked = match hasher.next_in() {
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => requests.recv_timeout(wait),
        };
        // Whatever is asked for is opened first, while it is there.
        let known = match asked {
            Ok(FileRequest::Hash(program)) => hasher.add(&program, clock()),
            Ok(FileRequest::Name(name)) => {
                let is_so = name.is_so();
                if answers.send(Answer::Name(name, is_so)).is_err() {
                    return;
                }
                continue;
            }
            Err(RecvTimeoutError::Timeout) => hasher.step(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for (key, hash) in known {
            if answers.send(Answer::Hash(key, hash)).is_err() {
                return;
            }
        }
    }
}

fn clock() -> Clock {
    let boot_to_unix_ns = boot_to_unix_offset_ns();
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.ok().and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or_default();
    Clock { now: UnixNs(now), boot_to_unix_ns }
}

/// Questions that wait at most; more are refused, and counted by whoever asks.
const REQUESTS_MAX: usize = 1_024;
/// Questions about files that wait at most.
const FILES_MAX: usize = 1_024;
/// Answers that wait at most: then the threads do.
const ANSWERS_MAX: usize = 1_024;
