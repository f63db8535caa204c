//! `judge`: what the host, or one command, does that its baseline does not allow. Not the judging. It may call the
//! sibling modules, `pipeline` and the baseline crate.

use super::capture::{
    Batch, Capture, Consumer, Ended, boot_now, command_scope, print_imbalances, print_totals,
};
use super::live::{Wish, feed, feed_rest, pipeline, print_troubles};
use super::report::{ReportArguments, Told};
use super::sigma::SigmaArguments;
use super::who::{self, WhoArguments};
use super::{EXIT_FINDINGS, EXIT_TROUBLE, FloorArguments, Span, finding_text};
use crate::account::Delivered;
use crate::enrich::process_table::Scope;
use crate::finding::{Finding, Reason};
use crate::kernel::KindSet;
use crate::layer_files::{LayerFile, read_layers};
use crate::pipeline::{Output, Pipeline};
use crate::who::Stage;
use anyhow::Context as _;
use sensor_baseline::{Behaviour, Layers, Verdict, Workload};
use std::collections::{BTreeSet, HashMap};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct JudgeArguments {
    /// The baseline to judge by. Given several times, they are layers, the lowest first.
    #[arg(long, required = true, value_name = "[LAYER=]FILE")]
    baseline: Vec<LayerFile>,
    /// Print one JSON object per finding; the command's output then goes to stderr.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    floor: FloorArguments,
    #[command(flatten)]
    report: ReportArguments,
    #[command(flatten)]
    who: WhoArguments,
    #[command(flatten)]
    sigma: SigmaArguments,
    #[command(flatten)]
    span: Span,
}

pub(super) fn run(arguments: &JudgeArguments) -> anyhow::Result<ExitCode> {
    let baseline = read_layers(&arguments.baseline)?;
    // What a person would edit.
    let top = arguments.baseline.last().map(|file| file.path.as_path()).context("no baseline is given")?;
    let floor = arguments.floor.load()?;
    let scope = command_scope(&arguments.span.command);
    check_armed(&baseline, &scope, top)?;
    let rules = arguments.sigma.rules(&floor)?;
    let capture = Capture::begin(KindSet::DEFAULT)?.with_command_output_on_stderr(arguments.json);
    let hostname = capture.start.hostname.clone();
    let wish = Wish { baseline: Some(baseline), rules, ..Wish::new(floor, scope) };
    let mut judge = Judge {
        pipeline: pipeline(&capture.start, wish),
        output: Output::default(),
        stage: arguments.who.stage()?,
        verdicts: Verdicts::default(),
        // Only who waits for no end wants to hear of each finding at once.
        is_told_live: arguments.span.command.is_empty() && arguments.span.duration.is_none(),
    };
    say!("judging");
    let ended = capture.run(&arguments.span, &mut judge)?;
    if arguments.span.command.is_empty() {
        print_totals(&ended);
    }
    print_troubles(&judge.pipeline, judge.stage.counters());
    judge.verdicts.print_unarmed();
    judge.verdicts.print(arguments.json, &hostname)?;
    let is_troubled = !arguments.span.command.is_empty() && command_trouble(&ended, &judge.pipeline);
    let trouble = match ended.account.lost_total() {
        _ if is_troubled => Some("not everything could be seen, or the command failed: see the log"),
        0 => None,
        _ => Some("records were lost: something may have gone unseen"),
    };
    arguments.report.write(&judge.verdicts.told(top, trouble))?;
    Ok(match judge.verdicts.is_empty() {
        false => ExitCode::from(EXIT_FINDINGS),
        true if is_troubled => ExitCode::from(EXIT_TROUBLE),
        true => ExitCode::SUCCESS,
    })
}

/// A command that the baseline does not list would pass unjudged: better to say so before it runs.
fn check_armed(baseline: &Layers, scope: &Scope, path: &Path) -> anyhow::Result<()> {
    match scope {
        Scope::Command(workload) if !baseline.is_armed(workload) => {
            anyhow::bail!(
                "{}: does not list the workload {workload}: nothing would be judged",
                path.display()
            )
        }
        Scope::Command(_) | Scope::Host => Ok(()),
    }
}

/// Says what kept a quiet gate from meaning that nothing happened.
pub(super) fn command_trouble(ended: &Ended, pipeline: &Pipeline) -> bool {
    let running = pipeline.running_in_scope();
    if running > 0 {
        say!("sensor-agent: {running} processes that the command started still run and are not followed");
    }
    let lost = ended.account.lost_total();
    if lost > 0 {
        say!("sensor-agent: {lost} records were lost: something may have gone unseen");
    }
    let is_unbalanced = print_imbalances(ended);
    let is_misattributed = print_misattribution(ended, pipeline);
    let was_seen = pipeline.has_scope_started();
    if !was_seen {
        say!("sensor-agent: the command's start was not seen, so nothing of it was");
    }
    let has_failed = match ended.status {
        Some(status) if status.success() => false,
        Some(status) => {
            say!("sensor-agent: the command failed: {status}");
            true
        }
        None => {
            say!("sensor-agent: the command did not end by itself");
            true
        }
    };
    has_failed || lost > 0 || is_unbalanced || is_misattributed || !was_seen
}

/// Says what may have been put down to the wrong process, or to none. Whether anything was said.
fn print_misattribution(ended: &Ended, pipeline: &Pipeline) -> bool {
    let evicted = pipeline.counters().get("processes_evicted").copied().unwrap_or(0);
    if evicted > 0 {
        say!(
            "sensor-agent: {evicted} processes were forgotten for want of room: their doings may have no name"
        );
    }
    let unordered = ended.rounds_unordered;
    if unordered > 0 {
        say!(
            "sensor-agent: records came out of order {unordered} times: some may be put down to the wrong program"
        );
    }
    evicted > 0 || unordered > 0
}

struct Judge {
    pipeline: Pipeline,
    output: Output,
    stage: Stage<Finding>,
    verdicts: Verdicts,
    is_told_live: bool,
}

impl Consumer for Judge {
    fn delivered(&self) -> &Delivered {
        self.pipeline.delivered()
    }

    fn take(&mut self, batch: &Batch) -> anyhow::Result<bool> {
        feed(&mut self.pipeline, &mut self.stage, batch, &mut self.output);
        self.pass_on();
        self.idle()
    }

    fn idle(&mut self) -> anyhow::Result<bool> {
        let now = boot_now();
        while let Some(finding) = self.stage.pop(now) {
            self.verdicts.keep(finding);
        }
        Ok(true)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        feed_rest(&mut self.pipeline, &mut self.stage, &mut self.output);
        self.pass_on();
        let verdicts = &mut self.verdicts;
        who::drain(&mut self.stage, |finding| verdicts.keep(finding));
        Ok(())
    }
}

impl Judge {
    fn pass_on(&mut self) {
        if self.is_told_live {
            for finding in &self.output.findings {
                say!("finding: {}: {}", finding.reason.name(), finding.explanation.summary);
            }
        }
        let now = boot_now();
        for finding in self.output.findings.drain(..) {
            self.stage.push(finding, now);
        }
        self.verdicts.count_all(&mut self.output);
    }
}

/// Findings, each once, with how often its behaviour was seen.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    findings: Vec<Finding>,
    counts: HashMap<(Behaviour, &'static str), u64>,
    findings_dropped: u64,
    unarmed: BTreeSet<Workload>,
}

impl Verdicts {
    /// Takes a pipeline's output, of a host that can be asked nothing.
    pub(super) fn add(&mut self, output: &mut Output) {
        self.count_all(output);
        for mut finding in output.findings.drain(..) {
            who::tell_place(&mut finding);
            self.keep(finding);
        }
    }

    /// Counts what was observed.
    fn count_all(&mut self, output: &mut Output) {
        for (observation, verdict) in output.observations.drain(..) {
            match Reason::of(&verdict) {
                Some(reason) => self.count(observation.behaviour, reason.name()),
                None if verdict == Verdict::Learning && self.unarmed.len() < UNARMED_MAX => {
                    self.unarmed.insert(observation.behaviour.workload);
                }
                None => {}
            }
        }
        for found in output.matches.drain(..) {
            self.count(found.behaviour, Reason::Sigma.name());
        }
    }

    /// Keeps a finding, when there is room.
    fn keep(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_dropped += 1;
        }
    }

    fn count(&mut self, behaviour: Behaviour, reason: &'static str) {
        let key = (behaviour, reason);
        let has_room = self.counts.len() < FINDINGS_MAX;
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
        } else if has_room {
            self.counts.insert(key, 1);
        }
    }

    /// What there is to report.
    pub(super) fn told<'a>(&'a self, baseline: &'a Path, trouble: Option<&'static str>) -> Told<'a> {
        let findings = self.findings.iter().map(|finding| (finding, self.count_of(finding))).collect();
        Told {
            findings,
            dropped_count: self.findings_dropped,
            trouble,
            unlisted: self.unarmed_names(),
            baseline,
        }
    }

    fn count_of(&self, finding: &Finding) -> u64 {
        let key = (finding.behaviour.clone(), finding.reason.name());
        self.counts.get(&key).copied().unwrap_or(1)
    }

    /// Whether nothing was found.
    pub(super) const fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// 0 for no findings, 2 for some.
    pub(super) fn exit_code(&self) -> ExitCode {
        if self.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FINDINGS) }
    }

    /// Prints every finding to stdout, and how many there are to stderr.
    pub(super) fn print(&self, json: bool, hostname: &str) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        for finding in &self.findings {
            let count = self.count_of(finding);
            let text = if json {
                finding_text::json_line(finding, count, hostname)
            } else {
                finding_text::block(finding, count) + "\n"
            };
            match stdout.write_all(text.as_bytes()) {
                // The reader has seen enough; the exit code still tells.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                written => written.context("cannot write to stdout")?,
            }
        }
        say!("{} findings", self.findings.len());
        if self.findings_dropped > 0 {
            say!("not shown: {} more findings", self.findings_dropped);
        }
        Ok(())
    }

    /// Says which workloads went unjudged.
    pub(super) fn print_unarmed(&self) {
        if let Some(names) = self.unarmed_names() {
            say!("not judged, the baseline does not list: {names}");
        }
    }

    fn unarmed_names(&self) -> Option<String> {
        let names: Vec<_> = self.unarmed.iter().map(ToString::to_string).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

/// Findings shown at most; more are counted.
const FINDINGS_MAX: usize = 16_384;
/// Workloads named at most.
const UNARMED_MAX: usize = 64;
