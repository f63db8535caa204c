//! Remembered verdicts: what is known is counted and makes no record, and nothing else differs. Not what they cost. It may
//! call the agent's pipeline.

use crate::support::{Capture, Folder, actor};
use crate::verdicts_acts;
use sensor_agent::enrich::seed;
use sensor_agent::kernel::{Kernel, KernelOptions, boot_to_unix_offset_ns};
use sensor_agent::pipeline::{Output, Pipeline, PipelineConfig, Telling, VerdictOptions};
use sensor_baseline::{Baseline, Behaviour, Layer, Layers, Learner, LearnerLimits, Verdict};
use sensor_event::{Kind, LossReason};
use sensor_tests::write_script;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The kernel side and the pipeline, driven as the agent does, with a learner behind it.
pub(crate) struct Sensor {
    capture: Capture,
    pipeline: Pipeline,
    output: Output,
    learner: Learner,
    records: u64,
    /// Findings of the equivalence test: how often each.
    found: BTreeMap<String, u64>,
}

impl Sensor {
    /// With nothing remembered, or so many verdicts.
    pub(crate) fn start(entries_max: Option<u32>) -> Option<Self> {
        let verdicts = entries_max.map(|entries_max| VerdictOptions { entries_max, secret: [17, 4] });
        let capture = Capture::start_with(KernelOptions { verdicts, ..KernelOptions::default() })?;
        let mut pipeline = Pipeline::new(PipelineConfig {
            boot_to_unix_offset_ns: boot_to_unix_offset_ns(),
            verdicts,
            telling: Telling::Always,
            ..PipelineConfig::default()
        });
        pipeline.seed(seed::scan().expect("/proc can be listed"));
        Some(Self {
            capture,
            pipeline,
            output: Output::default(),
            learner: Learner::new(LearnerLimits::default()),
            records: 0,
            found: BTreeMap::new(),
        })
    }

    /// Handles what there is; returns whether that was all.
    pub(crate) fn turn(&mut self) -> bool {
        let (pipeline, output, records) = (&mut self.pipeline, &mut self.output, &mut self.records);
        let kernel: &mut Kernel = &mut self.capture.kernel;
        let drained = kernel.drain(Duration::from_millis(5), 4096, &mut |record| {
            *records += 1;
            pipeline.handle(record, output);
        });
        kernel.remember(pipeline.remembered());
        pipeline.take_hits(&|cell| kernel.hits(cell), output);
        for (observation, verdict) in output.observations.drain(..) {
            if verdict == Verdict::Learning {
                self.learner.observe(&observation);
            }
        }
        for repeated in output.repeated.drain(..).filter(|repeated| repeated.verdict == Verdict::Learning) {
            self.learner.observe_times(&repeated.observation, repeated.count);
        }
        for (observation, rule) in output.withheld.drain(..) {
            self.learner.withhold(&observation, &rule);
        }
        for finding in output.findings.drain(..) {
            let line =
                format!("{} {} {}", finding.reason.name(), line(&finding.behaviour), finding.severity.name());
            if is_compared(&line) {
                *self.found.entry(line).or_default() += 1;
            }
        }
        drained.expect("draining works").is_empty
    }

    /// Judges by another baseline, as the agent does when it is given one.
    fn judge_by(&mut self, baseline: Option<Baseline>) {
        self.capture.kernel.set_policy(self.pipeline.next_policy()).expect("the map can be written");
        let kernel = &self.capture.kernel;
        self.pipeline.take_hits(&|cell| kernel.hits(cell), &mut self.output);
        let layers = baseline.map(|baseline| Layers::new(vec![Layer::new("fleet", baseline)]));
        self.pipeline.set_baseline(layers, &mut self.output);
    }

    /// Goes on until a child has ended, and everything it did has been handled.
    pub(crate) fn run(&mut self, child: &mut Child) {
        while child.try_wait().expect("it is ours").is_none() {
            self.turn();
        }
        while !self.turn() {}
    }

    /// What was learned with this in the text: lines of workload, subject, action and object, with the count.
    fn learned(&self, text: &str) -> BTreeMap<String, u64> {
        self.lines(|line| line.contains(text))
    }

    /// What was learned of the equivalence test.
    fn compared(&self) -> BTreeMap<String, u64> {
        self.lines(is_compared)
    }

    fn lines(&self, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, u64> {
        let lines = self.learner.behaviours().map(|(made, seen)| (line(made), seen.count));
        lines.filter(|(line, _)| is_wanted(line)).collect()
    }
}

/// Whether a line is of the equivalence test's actor: a file of its own, or a port that nobody else connects to.
fn is_compared(line: &str) -> bool {
    line.contains("/eqv/")
        || verdicts_acts::CLOSED_PORTS.iter().any(|port| line.contains(&format!(" tcp 127.0.0.1 {port}")))
}

fn line(made: &Behaviour) -> String {
    format!("{} {} {} {}", made.workload.0, made.subject.0, made.action.name(), made.object)
}

#[test]
fn a_known_write_is_counted_and_makes_no_record() {
    const OPENS: u64 = 20_000;
    let folder = Folder::new();
    std::fs::write(folder.join("known"), "").expect("writable");
    let Some(mut sensor) = Sensor::start(Some(1024)) else { return };
    let cached_before = sensor.capture.kernel.counters().expect("counters").cached(Kind::FILE_OPEN);
    let mut child = actor("verdicts/write", &folder.path).spawn().expect("the child starts");
    sensor.run(&mut child);
    let counters = sensor.capture.kernel.counters().expect("counters");
    let cached = counters.cached(Kind::FILE_OPEN) - cached_before;
    let learned = sensor.learned("/known");
    assert_eq!(learned.values().copied().collect::<Vec<_>>(), [OPENS], "{learned:?}");
    assert!(cached > OPENS / 2, "{cached} of {OPENS} were known");
}

/// A program that writes far more files than verdicts are remembered, each thrice, takes none from another, and hides
/// nothing.
#[test]
fn a_flood_of_objects_takes_no_verdict_of_another_and_hides_nothing() {
    const FILES: u64 = 1_000;
    const ENTRIES: u32 = 64;
    let folder = Folder::new();
    std::fs::create_dir(folder.join("flood")).expect("a folder can be made");
    for number in 0..FILES {
        std::fs::write(folder.join(format!("flood/f{number}")), "").expect("writable");
    }
    std::fs::write(folder.join("quiet"), "").expect("writable");
    let script = folder.join("flooder");
    let text = "#!/bin/sh\ni=0\nwhile [ $i -lt $2 ]; do\n  : >>\"$1/f$i\"; : >>\"$1/f$i\"; : >>\"$1/f$i\"\n  i=$((i + 1))\ndone\n";
    write_script(&script, text);
    let Some(mut sensor) = Sensor::start(Some(ENTRIES)) else { return };
    let mut quiet = Acting::start("verdicts/quiet", &folder);
    quiet.wait_for_pause(|| {
        sensor.turn();
    });
    while !sensor.turn() {}

    let mut flooder = Command::new(&script);
    let mut flooder = flooder.arg(folder.join("flood")).arg(FILES.to_string()).spawn().expect("it starts");
    sensor.run(&mut flooder);
    let flooded = sensor.learned("/flood/f");
    assert_eq!(flooded.values().sum::<u64>(), 3 * FILES, "{flooded:?}");
    assert_eq!(flooded.len() as u64, FILES);

    let before = sensor.records;
    quiet.go_on();
    quiet.wait_for_pause(|| {
        sensor.turn();
    });
    while !sensor.turn() {}
    let known = sensor.learned("/quiet");
    assert_eq!(known.values().copied().collect::<Vec<_>>(), [2 * QUIET_WRITES], "{known:?}");
    // Other processes of the host make records too.
    let records = sensor.records - before;
    assert!(records < QUIET_WRITES / 2, "{records} records: its verdict was gone");
    let counters = sensor.pipeline.counters();
    println!(
        "flood of {FILES} files: {} verdicts evicted, {} remembered",
        counters["verdicts_evicted"], counters["verdicts_remembered"]
    );
    assert!(counters["verdicts_evicted"] > 0, "{counters:?}");
    quiet.go_on();
    quiet.end();
}

/// Writes between two pauses of the quiet actor.
const QUIET_WRITES: u64 = 5_000;

/// The same operations seen with and without remembered verdicts, by two sensors at once: baselines change in between.
#[test]
fn what_is_learned_and_found_is_the_same_without_remembered_verdicts() {
    let folder = Folder::new();
    verdicts_acts::furnish(&folder.path);
    // Few entries: some have to go.
    let Some(mut with) = Sensor::start(Some(256)) else { return };
    let Some(mut without) = Sensor::start(None) else { return };
    let mut act = Acting::start("verdicts/operations", &folder);
    for part in 1..=PARTS {
        let done = act.wait_for_pause(|| {
            with.turn();
            without.turn();
        });
        for sensor in [&mut with, &mut without] {
            while !sensor.turn() {}
        }
        assert_eq!(with.compared(), without.compared(), "learned after {done}, part {part}");
        assert_eq!(with.found, without.found, "found after {done}, part {part}");
        let baseline = match part % 3 {
            // Everything that was done, and then half of it.
            1 => Some(without.learner.to_baseline("eqv")),
            2 => Some(half(&without.learner.to_baseline("eqv"))),
            _ => None,
        };
        for sensor in [&mut with, &mut without] {
            sensor.judge_by(baseline.clone());
        }
        act.go_on();
    }
    act.end();
    let counters = with.pipeline.counters();
    println!(
        "{} operations: {} records without remembered verdicts, {} with; {} hits, {} evicted; {} behaviours, {} findings",
        operations(),
        without.records,
        with.records,
        counters["verdict_hits"],
        counters["verdicts_evicted"],
        with.compared().len(),
        with.found.values().sum::<u64>(),
    );
    assert!(counters["verdict_hits"] > operations() / 20, "{counters:?}");
    for sensor in [&with, &without] {
        let counters = sensor.capture.kernel.counters().expect("counters");
        let lost: u64 = LossReason::ALL.iter().map(|reason| counters.lost(Kind::FILE_OPEN, *reason)).sum();
        assert_eq!(lost, 0, "records were lost: the sensors have not seen the same");
    }
}

/// Operations of the equivalence test, unless [`OPERATIONS_VARIABLE`] says otherwise.
const OPERATIONS: u64 = 200_000;

/// Overrides [`OPERATIONS`], for machines that are emulated.
const OPERATIONS_VARIABLE: &str = "SENSOR_TEST_ROUNDS";

/// Baselines that they are judged by, one after another.
const PARTS: u64 = 7;

fn operations() -> u64 {
    match std::env::var(OPERATIONS_VARIABLE) {
        Ok(text) => text.parse().expect("SENSOR_TEST_ROUNDS is a number"),
        Err(_) => OPERATIONS,
    }
}

/// The actor, and what it says.
struct Acting {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Acting {
    fn start(action: &str, folder: &Folder) -> Self {
        let mut command = actor(action, &folder.path);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the child starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Self { child, stdin, lines }
    }

    /// Waits until the actor pauses, and returns what it said.
    fn wait_for_pause(&mut self, mut meanwhile: impl FnMut()) -> String {
        loop {
            match self.lines.try_recv() {
                Ok(line) if line.starts_with("paused") => return line,
                Ok(_) => {}
                Err(mpsc::TryRecvError::Empty) => meanwhile(),
                Err(mpsc::TryRecvError::Disconnected) => {
                    panic!("the actor has ended: {:?}", self.child.wait())
                }
            }
        }
    }

    fn go_on(&mut self) {
        self.stdin.write_all(b"\n").expect("the actor reads");
    }

    fn end(mut self) {
        drop(self.stdin);
        assert!(self.child.wait().expect("it is ours").success());
    }
}

/// A baseline without every second of its entries.
fn half(baseline: &Baseline) -> Baseline {
    let mut half = baseline.clone();
    for entry in baseline.entries().step_by(2) {
        half.remove(&entry);
    }
    half
}

/// Does what the parent asked for.
pub(crate) fn act(action: &str, folder: &Path) {
    match action {
        "write" => {
            for _ in 0..20_000 {
                drop(OpenOptions::new().write(true).open(folder.join("known")).expect("it is there"));
            }
        }
        "quiet" => {
            for _ in 0..2 {
                for _ in 0..QUIET_WRITES {
                    drop(OpenOptions::new().write(true).open(folder.join("quiet")).expect("it is there"));
                }
                verdicts_acts::pause("written");
            }
        }
        "operations" => verdicts_acts::act(folder, operations(), PARTS),
        _ => panic!("no action {action}"),
    }
}
