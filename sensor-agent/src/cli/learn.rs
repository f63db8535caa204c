//! `learn`: a baseline from what the host, or one command, does. Not the learning. It may call the sibling modules,
//! `pipeline` and the baseline crate.

use super::capture::{Batch, Capture, Consumer, command_scope, print_totals};
use super::judge::command_trouble;
use super::live::{Wish, feed, feed_rest, pipeline, print_troubles};
use super::sigma::SigmaArguments;
use super::who::WhoArguments;
use super::{FloorArguments, Span, finding_text};
use crate::account::Delivered;
use crate::enrich::process_table::Scope;
use crate::finding::{Finding, Reason};
use crate::kernel::KindSet;
use crate::pipeline::{Output, Pipeline};
use crate::who::Stage;
use anyhow::Context as _;
use sensor_baseline::{Candidate, Entry, Learned, Learner, LearnerLimits, Refusal, Verdict};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(super) struct LearnArguments {
    /// The file to write; one that is there is replaced.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Name of the fleet that the baseline is for.
    #[arg(long, value_name = "NAME", default_value = "local")]
    fleet: String,
    #[command(flatten)]
    floor: FloorArguments,
    #[command(flatten)]
    sigma: SigmaArguments,
    #[command(flatten)]
    who: WhoArguments,
    #[command(flatten)]
    span: Span,
}

pub(super) fn run(arguments: &LearnArguments) -> anyhow::Result<ExitCode> {
    let is_command = !arguments.span.command.is_empty();
    let floor = arguments.floor.load()?;
    let unwritable = || format!("cannot write {}", arguments.output.display());
    check_place(&arguments.output).with_context(unwritable)?;
    let rules = arguments.sigma.rules(&floor)?;
    let capture = Capture::begin(KindSet::DEFAULT)?;
    let scope = command_scope(&arguments.span.command);
    let wish = Wish { rules, ..Wish::new(Arc::clone(&floor), scope.clone()) };
    let mut student = Student {
        pipeline: pipeline(&capture.start, wish),
        stage: arguments.who.stage()?,
        output: Output::default(),
        learner: Learner::new(LearnerLimits::default()).with_floor(floor),
        refused: 0,
        held: Held::default(),
        // Only who waits for no end wants to hear of each finding at once.
        is_told_live: !is_command && arguments.span.duration.is_none(),
    };
    say!("learning");
    let ended = capture.run(&arguments.span, &mut student)?;
    if !is_command {
        print_totals(&ended);
    }
    print_troubles(&student.pipeline, BTreeMap::new());
    let is_troubled = is_command && command_trouble(&ended, &student.pipeline);
    let candidate = student.learner.candidate(&arguments.fleet);
    let mut baseline = candidate.baseline();
    if let Scope::Command(workload) = scope {
        // Also a command that does nothing has a baseline: anything it does later is new.
        baseline.arm(workload);
    }
    write_whole(&arguments.output, &candidate.text_of(&baseline)).with_context(unwritable)?;
    let count = student.learner.behaviours().count();
    say!("learned {count} behaviours into {}", arguments.output.display());
    if student.refused > 0 {
        say!("not learned: {} observations (refused)", student.refused);
    }
    student.held.print(&arguments.output);
    print_withheld(&candidate, &arguments.output);
    Ok(if is_troubled { ExitCode::from(super::EXIT_TROUBLE) } else { ExitCode::SUCCESS })
}

struct Student {
    pipeline: Pipeline,
    /// Tells the images of containers; nothing waits in it.
    stage: Stage<Finding>,
    output: Output,
    learner: Learner,
    refused: u64,
    held: Held,
    is_told_live: bool,
}

/// What rules found. What they kept from being learned, `judge` will report again.
#[derive(Default)]
struct Held {
    findings: Vec<Finding>,
    /// Of Sigma rules.
    matches: Vec<Finding>,
    observations_count: u64,
    /// Held by Sigma rules.
    matches_held_count: u64,
    unshown_count: u64,
}

impl Held {
    fn add(&mut self, finding: Finding) {
        let kept = if finding.reason == Reason::Sigma { &mut self.matches } else { &mut self.findings };
        if kept.len() < HELD_MAX {
            kept.push(finding);
        } else {
            self.unshown_count += 1;
        }
    }

    fn print(&self, baseline: &Path) {
        if self.observations_count > 0 {
            say!(
                "not learned: {} observations that floor rules hold; judging by this baseline will report them:",
                self.observations_count
            );
        }
        for finding in &self.findings {
            say!("{}", finding_text::held(finding, baseline).trim_end());
        }
        if self.matches_held_count > 0 {
            say!("not learned: {} observations that Sigma rules hold", self.matches_held_count);
        }
        if !self.matches.is_empty() {
            say!("matched by Sigma rules, which no baseline silences:");
        }
        for finding in &self.matches {
            say!("{}", finding_text::matched(finding).trim_end());
        }
        if self.unshown_count > 0 {
            say!("not shown: {} more", self.unshown_count);
        }
    }
}

impl Consumer for Student {
    fn delivered(&self) -> &Delivered {
        self.pipeline.delivered()
    }

    fn take(&mut self, batch: &Batch) -> anyhow::Result<bool> {
        feed(&mut self.pipeline, &mut self.stage, batch, &mut self.output);
        self.study();
        Ok(true)
    }

    fn idle(&mut self) -> anyhow::Result<bool> {
        Ok(true)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        feed_rest(&mut self.pipeline, &mut self.stage, &mut self.output);
        self.study();
        Ok(())
    }
}

impl Student {
    fn study(&mut self) {
        for finding in self.output.findings.drain(..) {
            if self.is_told_live {
                say!("finding: {}: {}", finding.reason.name(), finding.explanation.summary);
            }
            self.held.add(finding);
        }
        self.held.matches_held_count +=
            self.output.matches.iter().filter(|found| found.is_held).count() as u64;
        for (observation, verdict) in &self.output.observations {
            match (self.learner.observe(observation), verdict) {
                (_, Verdict::Floor(_)) => self.held.observations_count += 1,
                // Told as what is withheld.
                (Learned::Refused(Refusal::Withheld(_)) | Learned::New | Learned::Known, _) => {}
                (Learned::Refused(_), _) => self.refused += 1,
            }
        }
        for (observation, rule) in &self.output.withheld {
            self.learner.withhold(observation, rule);
        }
    }
}

/// Says what rules keep out of a baseline, though it may have been seen without them too.
pub(super) fn print_withheld(candidate: &Candidate, baseline: &Path) {
    let count = candidate.withheld().count();
    if count > 0 {
        say!("withheld {count} behaviours on which rules fired: retired in {}", baseline.display());
    }
    for (entry, rule) in candidate.withheld().take(HELD_MAX) {
        let Entry { workload, subject, action, pattern, .. } = entry;
        say!("withheld by {rule}: {workload} {subject} {action} {pattern}");
    }
}

/// Fails when a file could not be written there, so that nobody learns for an hour to be told so at its end.
fn check_place(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let new = new_name(path);
    std::fs::File::create(&new)?;
    std::fs::remove_file(&new)
}

/// What the file is called while it is written.
fn new_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

/// Replaces the file in one step: nobody reads half a baseline.
pub(super) fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let new = new_name(path);
    let written = std::fs::File::create(&new).and_then(|mut file| {
        if let Ok(before) = std::fs::metadata(path) {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&new, path)).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&new);
    })
}

/// Held behaviours that are told one by one at most; more are counted.
const HELD_MAX: usize = 256;
