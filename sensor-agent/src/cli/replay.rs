//! `replay`: a recording through the same pipeline as live records. Not another pipeline. It may call the sibling
//! modules, `pipeline` and `recording`.

use super::judge::Verdicts;
use super::live::{Wish, pipeline, print_troubles};
use super::report::ReportArguments;
use super::sigma::SigmaArguments;
use super::{FloorArguments, read_baseline};
use crate::enrich::process_table::Scope;
use crate::event::BootNs;
use crate::pipeline::Output;
use crate::recording::{Part, RecordingReader};
use crate::sigma::Rules;
use anyhow::Context as _;
use sensor_baseline::{Baseline, Floor};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArguments {
    /// A file that `record` made.
    file: PathBuf,
    /// The baseline to judge by.
    #[arg(long, value_name = "FILE")]
    baseline: PathBuf,
    /// Print one JSON object per finding.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    floor: FloorArguments,
    #[command(flatten)]
    report: ReportArguments,
    #[command(flatten)]
    sigma: SigmaArguments,
}

pub(super) fn run(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let baseline = read_baseline(&arguments.baseline)?;
    let floor = arguments.floor.load()?;
    let mut verdicts = Verdicts::default();
    let rules = arguments.sigma.rules()?;
    let standard = Standard { baseline, floor, rules };
    let replayed = replay(&arguments.file, standard, |output| verdicts.add(output))?;
    verdicts.print_unarmed();
    verdicts.print(arguments.json, &replayed.hostname)?;
    let trouble = replayed.has_losses.then_some("records were lost when this was recorded");
    arguments.report.write(&verdicts.told(&arguments.baseline, trouble))?;
    Ok(verdicts.exit_code())
}

/// What was recorded.
pub(super) struct Replayed {
    /// The host's name.
    pub(super) hostname: String,
    /// Whether records were lost.
    pub(super) has_losses: bool,
}

/// What a recording is judged by.
pub(super) struct Standard {
    pub(super) baseline: Baseline,
    pub(super) floor: Arc<Floor>,
    pub(super) rules: Rules,
}

/// Judges a recording; `take` gets what each record makes. Tells what was lost, and how much there was.
pub(super) fn replay(
    path: &Path,
    standard: Standard,
    mut take: impl FnMut(&mut Output),
) -> anyhow::Result<Replayed> {
    let name = || path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot open {}", name()))?;
    let mut reader = RecordingReader::new(BufReader::new(file)).with_context(name)?;
    let Standard { baseline, floor, rules } = standard;
    let wish = Wish {
        baseline: Some(baseline),
        floor,
        scope: Scope::Host,
        emit_events: false,
        are_containers_named: true,
        rules,
    };
    let mut pipeline = pipeline(reader.start(), wish);
    let mut output = Output::default();
    let end = loop {
        output.clear();
        match reader.read_part().with_context(name)? {
            Part::Record(record) => pipeline.handle(&record, &mut output),
            Part::Container(image) => pipeline.name(&image, &mut output),
            Part::End(end) => break end,
        }
        take(&mut output);
    };
    output.clear();
    pipeline.give_up_naming(&mut output);
    pipeline.tick(BootNs(u64::MAX), &mut output);
    take(&mut output);
    for (what, count) in &end.lost {
        say!("lost when recorded {what} count={count}");
    }
    print_troubles(&pipeline, BTreeMap::new());
    let hostname = &reader.start().hostname;
    say!("replayed {} records of {hostname}", end.records);
    Ok(Replayed { hostname: hostname.clone(), has_losses: end.lost.values().any(|count| *count > 0) })
}
