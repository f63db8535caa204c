//! `record`: what the kernel tells, into a file. Not the file's format. It may call the sibling modules and
//! `recording`.

use super::Span;
use super::capture::{Batch, Capture, Consumer, print_totals};
use crate::account::Delivered;
use crate::kernel::KindSet;
use crate::recording::RecordingWriter;
use anyhow::Context as _;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct RecordArguments {
    /// The file to write; one that is there is replaced.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How long, for example 500ms, 60s, 5m [default: until interrupted].
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration::parse)]
    duration: Option<Duration>,
}

pub(super) fn run(arguments: &RecordArguments) -> anyhow::Result<ExitCode> {
    let doing = || format!("cannot write {}", arguments.output.display());
    let capture = Capture::begin(KindSet::DEFAULT)?;
    let file = File::create(&arguments.output).with_context(doing)?;
    let writer = RecordingWriter::new(BufWriter::new(file), &capture.start).with_context(doing)?;
    let mut recorder = Recorder { writer, output: arguments.output.clone(), delivered: Delivered::default() };
    say!("recording");
    let span = Span { duration: arguments.duration, command: Vec::new() };
    let ended = capture.run(&span, &mut recorder)?;
    print_totals(&ended);
    let records = recorder.writer.finish(ended.lost()).with_context(doing)?;
    say!("recorded {records} records to {}", arguments.output.display());
    Ok(ExitCode::SUCCESS)
}

struct Recorder {
    writer: RecordingWriter<BufWriter<File>>,
    output: PathBuf,
    delivered: Delivered,
}

impl Consumer for Recorder {
    fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    fn take(&mut self, batch: &Batch) -> anyhow::Result<bool> {
        for record in batch.records() {
            // A record that cannot be decoded is written all the same, and counted.
            let _ = self.delivered.decode(record);
            self.writer.record(record).with_context(|| format!("cannot write {}", self.output.display()))?;
        }
        Ok(true)
    }

    fn idle(&mut self) -> anyhow::Result<bool> {
        Ok(true)
    }
}
