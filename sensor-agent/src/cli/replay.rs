//! `replay`: a recording through the same pipeline as live records. Not another pipeline. It may call the sibling
//! modules, `pipeline` and `recording`.

use super::judge::Verdicts;
use super::live::{Wish, pipeline, print_troubles};
use super::read_baseline;
use crate::enrich::process_table::Scope;
use crate::event::BootNs;
use crate::pipeline::Output;
use crate::recording::{Part, RecordingReader};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

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
}

pub(super) fn run(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let baseline = read_baseline(&arguments.baseline)?;
    let name = || arguments.file.display().to_string();
    let file = File::open(&arguments.file).with_context(|| format!("cannot open {}", name()))?;
    let mut reader = RecordingReader::new(BufReader::new(file)).with_context(name)?;
    let wish = Wish { baseline: Some(baseline), scope: Scope::Host, emit_events: false };
    let mut pipeline = pipeline(reader.start(), wish);
    let mut verdicts = Verdicts::default();
    let mut output = Output::default();
    let end = loop {
        output.clear();
        match reader.read_part().with_context(name)? {
            Part::Record(record) => pipeline.handle(&record, &mut output),
            Part::End(end) => break end,
        }
        verdicts.add(&mut output);
    };
    output.clear();
    pipeline.tick(BootNs(u64::MAX), &mut output);
    verdicts.add(&mut output);
    for (what, count) in &end.lost {
        say!("lost when recorded {what} count={count}");
    }
    print_troubles(&pipeline, BTreeMap::new());
    say!("replayed {} records of {}", end.records, reader.start().hostname);
    verdicts.print(arguments.json, &reader.start().hostname)?;
    Ok(verdicts.exit_code())
}
