//! What the kernel tests share: a loaded kernel side whose records can be waited for, children that act on request,
//! and the lines that say what was asserted. Not a test. It may call the agent's kernel module and sensor-event.

use sensor_agent::kernel::{Counters, HookState, Kernel, KernelError, KernelOptions};
use sensor_event::{Header, Kind, LossReason, PathSection, Record, RecordBody, decode};
use std::ops::{Deref, DerefMut};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// How long a test waits for what must come, unless it says otherwise.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long one drain waits: short, so that tests are quick.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(10);

const ACTION: &str = "SENSOR_TEST_ACTION";
const FOLDER: &str = "SENSOR_TEST_FOLDER";

/// Names the best tier that the tests may use: `tracepoint`, or anything else for the best there is.
const TIER: &str = "SENSOR_TEST_TIER";

/// Captures see the whole host, so one that floods the rings of all runs alone.
static TURNS: RwLock<()> = RwLock::new(());

/// Held by a capture while it lives.
pub(crate) enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// Loaded kernel sides that no capture uses, with their options: to load one takes seconds on an emulated CPU.
static IDLE: Mutex<Vec<(String, Kernel)>> = Mutex::new(Vec::new());

/// A loaded kernel side on loan: the next capture with the same options gets it.
pub(crate) struct Lent {
    options: String,
    kernel: Option<Kernel>,
    /// Runs of programs that the kernel had skipped when the loan began.
    missed_before: u64,
}

impl Lent {
    /// An idle kernel side with these options, freed of what it saw meanwhile, or a new one.
    fn load(options: &KernelOptions) -> Result<Self, KernelError> {
        let name = format!("{options:?}");
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.iter().position(|(options, _)| *options == name);
        let kernel = found.map(|index| idle.swap_remove(index).1);
        drop(idle);
        let Some(mut kernel) = kernel else { return Self::load_new(options) };
        while !kernel.drain(Duration::ZERO, usize::MAX, &mut |_| ())?.is_empty {}
        Ok(Self { options: name, missed_before: missed(&kernel), kernel: Some(kernel) })
    }

    fn load_new(options: &KernelOptions) -> Result<Self, KernelError> {
        let kernel = Kernel::load(options)?;
        Ok(Self { options: format!("{options:?}"), missed_before: missed(&kernel), kernel: Some(kernel) })
    }
}

impl Deref for Lent {
    type Target = Kernel;

    fn deref(&self) -> &Kernel {
        self.kernel.as_ref().expect("it is there until the drop")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Kernel {
        self.kernel.as_mut().expect("it is there until the drop")
    }
}

/// Runs of programs that the kernel skipped so far.
fn missed(kernel: &Kernel) -> u64 {
    let counters = kernel.counters().expect("the counters can be read");
    Kind::ALL.iter().map(|kind| counters.lost(*kind, LossReason::Missed)).sum()
}

impl Drop for Lent {
    /// Of a test that failed it says how many runs the kernel skipped meanwhile: then the records are not all there, and
    /// the test says nothing about the programs. `cargo xtask vm` runs such a test again.
    fn drop(&mut self) {
        let Some(kernel) = self.kernel.take() else { return };
        if std::thread::panicking() {
            println!("missed: {}", missed(&kernel).saturating_sub(self.missed_before));
        } else if kernel.is_attached() {
            let options = std::mem::take(&mut self.options);
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push((options, kernel));
        }
    }
}

/// A loaded kernel side and every record it has given so far.
pub(crate) struct Capture {
    pub(crate) kernel: Lent,
    pub(crate) records: Vec<Vec<u8>>,
    /// How long it waits for what must come.
    pub(crate) deadline: Duration,
    _turn: Turn,
}

impl Capture {
    /// Loads everything; `None`, and says `skipped: <reason>`, where that is not permitted.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(KernelOptions::default())
    }

    /// As [`Self::start`], with a kernel side that has not seen anything yet: processes from before it are records.
    pub(crate) fn start_new() -> Option<Self> {
        let turn = Turn::Shared { _guard: TURNS.read().unwrap_or_else(PoisonError::into_inner) };
        Self::load_with(KernelOptions::default(), turn, Lent::load_new)
    }

    /// As [`Self::start`], while no other capture of this run lives.
    pub(crate) fn start_alone() -> Option<Self> {
        let turn = Turn::Alone { _guard: TURNS.write().unwrap_or_else(PoisonError::into_inner) };
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Self::load(KernelOptions::default(), turn)
    }

    /// Ends the capture; no other begins while what is returned lives.
    pub(crate) fn into_turn(self) -> Turn {
        self._turn
    }

    /// As [`Self::start`], with other options.
    pub(crate) fn start_with(options: KernelOptions) -> Option<Self> {
        let turn = Turn::Shared { _guard: TURNS.read().unwrap_or_else(PoisonError::into_inner) };
        Self::load(options, turn)
    }

    fn load(options: KernelOptions, turn: Turn) -> Option<Self> {
        Self::load_with(options, turn, Lent::load)
    }

    fn load_with(
        options: KernelOptions,
        turn: Turn,
        load: impl Fn(&KernelOptions) -> Result<Lent, KernelError>,
    ) -> Option<Self> {
        let options = KernelOptions { tracepoint_only: is_tracepoint_only(), ..options };
        match load(&options) {
            Ok(kernel) => Some(Self { kernel, records: Vec::new(), deadline: DEADLINE, _turn: turn }),
            Err(
                error @ (KernelError::Capability { .. }
                | KernelError::NoBtf { .. }
                | KernelError::PidNamespace { .. }),
            ) => {
                println!("skipped: {error}");
                None
            }
            // A container or a locked-down kernel may refuse although the capabilities are there.
            Err(error) if error.to_string().contains("Operation not permitted") => {
                println!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Drains until a record satisfies `wanted`, and returns what `wanted` makes of it.
    pub(crate) fn wait<T>(&mut self, what: &str, wanted: impl Fn(&Record<'_>) -> Option<T>) -> T {
        let since = Instant::now();
        let mut looked_at = 0;
        loop {
            for record in &self.records[looked_at..] {
                if let Some(found) = wanted(&decode(record).expect("the kernel side writes valid records")) {
                    return found;
                }
            }
            looked_at = self.records.len();
            assert!(since.elapsed() < self.deadline, "no {what} among {looked_at} records");
            self.drain();
        }
    }

    /// Drains once.
    pub(crate) fn drain(&mut self) -> bool {
        let records = &mut self.records;
        self.kernel
            .drain(DRAIN_TIMEOUT, usize::MAX, &mut |record| records.push(record.to_vec()))
            .expect("draining works")
            .is_empty
    }

    /// Runs a child, drains until its exit has been seen, and returns its pid. Everything it caused before is then
    /// among the records.
    pub(crate) fn run(&mut self, command: &mut Command) -> u32 {
        let mut child = command.spawn().expect("the child starts");
        let pid = child.id();
        child.wait().expect("the child ends");
        self.wait_for_exit(pid);
        pid
    }

    /// Drains until the exit of a process has been seen.
    pub(crate) fn wait_for_exit(&mut self, pid: u32) {
        self.wait("exit", |record| {
            (record.header.pid == pid && matches!(record.body, RecordBody::Exit(_))).then_some(())
        });
    }

    /// What `wanted` makes of every record so far.
    pub(crate) fn all<T>(&self, wanted: impl Fn(&Header, &RecordBody<'_>) -> Option<T>) -> Vec<T> {
        self.records
            .iter()
            .map(|record| decode(record).expect("the kernel side writes valid records"))
            .filter_map(|record| wanted(&record.header, &record.body))
            .collect()
    }

    /// Says that the content of a kind was asserted, with the hook and the tier that it got here. `what` completes
    /// "asserted: ", for the table of docs/kernel-support.md.
    pub(crate) fn cell(&self, kind: Kind, what: &str) {
        let hook = self.kernel.hooks().iter().find(|hook| hook.event == kind.name());
        let hook = hook.unwrap_or_else(|| panic!("no hook for {}", kind.name()));
        assert_eq!(hook.state, HookState::Attached, "{}", kind.name());
        cell(kind, hook.tier, &hook.hook, what);
    }

    /// The counters.
    pub(crate) fn counters(&self) -> Counters {
        self.kernel.counters().expect("the counters can be read")
    }
}

/// A walked path, absolute, as bytes.
pub(crate) fn absolute(section: PathSection<'_>) -> Vec<u8> {
    let mut path = Vec::new();
    for component in section.leaf_first().rev() {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

/// A path as bytes.
pub(crate) fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    path.as_ref().as_os_str().as_bytes().to_vec()
}

/// A folder that is removed afterwards, with symlinks in its own path resolved.
pub(crate) struct Folder {
    _guard: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let guard = tempfile::tempdir().expect("a temporary folder can be made");
        let path = guard.path().canonicalize().expect("the folder is there");
        Self { _guard: guard, path }
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

/// Whether this run is to use no better tier than tracepoints.
pub(crate) fn is_tracepoint_only() -> bool {
    std::env::var(TIER).is_ok_and(|tier| tier == "tracepoint")
}

/// Says that the content of a kind was asserted at a tier and hook. [`Capture::cell`] looks both up.
pub(crate) fn cell(kind: Kind, tier: &str, hook: &str, what: &str) {
    let line = serde_json::json!({ "kind": kind.name(), "tier": tier, "hook": hook, "what": what });
    println!("cell: {line}");
}

/// Says that the content of a kind cannot be asserted on this kernel and tier, and why.
pub(crate) fn no_cell(kind: Kind, reason: &str) {
    println!("cell: {}", serde_json::json!({ "kind": kind.name(), "reason": reason }));
}

/// This test program again, to do `action`, which is `module/what`, in `folder`: that module's `act` gets it.
pub(crate) fn actor(action: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test program has a path"));
    command.args(["--exact", "acting_child", "--nocapture"]).env(ACTION, action).env(FOLDER, folder);
    // Its test runner's lines are not this run's; what goes wrong is said on stderr.
    command.stdout(Stdio::null());
    command
}

/// Runs an actor whose result matters.
pub(crate) fn output(action: &str, folder: &Path) -> Output {
    actor(action, folder).output().expect("the actor runs")
}

/// In a child made by [`actor`]: what was asked, and where. In the test run itself: nothing.
pub(crate) fn requested() -> Option<(String, PathBuf)> {
    Some((std::env::var(ACTION).ok()?, std::env::var_os(FOLDER)?.into()))
}
