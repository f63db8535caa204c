//! `record`: what the kernel tells, into a file. Not the file's format. It may call the sibling modules,
//! `recording`, and `pipeline` and `who` for the images of containers.

use super::Span;
use super::capture::{Batch, Capture, Consumer, boot_now, print_totals};
use super::live::{Wish, pipeline};
use super::who::WhoArguments;
use crate::account::Delivered;
use crate::enrich::process_table::Scope;
use crate::finding::Finding;
use crate::kernel::KindSet;
use crate::pipeline::{Output, Pipeline};
use crate::recording::RecordingWriter;
use crate::who::{self, Stage};
use anyhow::Context as _;
use sensor_baseline::Floor;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct RecordArguments {
    /// The file to write; one that is there is replaced.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How long, for example 500ms, 60s, 5m [default: until interrupted].
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration::parse)]
    duration: Option<Duration>,
    #[command(flatten)]
    who: WhoArguments,
}

pub(super) fn run(arguments: &RecordArguments) -> anyhow::Result<ExitCode> {
    let doing = || format!("cannot write {}", arguments.output.display());
    let capture = Capture::begin(KindSet::DEFAULT)?;
    let file = File::create(&arguments.output).with_context(doing)?;
    let writer = RecordingWriter::new(BufWriter::new(file), &capture.start).with_context(doing)?;
    let wish = Wish::new(Arc::clone(Floor::built_in()), Scope::Host);
    let mut recorder = Recorder {
        writer,
        output: arguments.output.clone(),
        pipeline: pipeline(&capture.start, wish),
        made: Output::default(),
        stage: arguments.who.stage()?,
    };
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
    /// Says which containers there are. What it makes of the records is nobody's.
    pipeline: Pipeline,
    made: Output,
    /// Tells their images; nothing waits in it.
    stage: Stage<Finding>,
}

impl Recorder {
    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.output.display())
    }

    fn write_images(&mut self) -> anyhow::Result<()> {
        for image in who::images(&self.pipeline, &mut self.stage, boot_now()) {
            self.pipeline.name(&image, &mut self.made);
            self.writer.container(&image).with_context(|| self.cannot_write())?;
        }
        self.made.clear();
        Ok(())
    }
}

impl Consumer for Recorder {
    fn delivered(&self) -> &Delivered {
        self.pipeline.delivered()
    }

    fn take(&mut self, batch: &Batch) -> anyhow::Result<bool> {
        if let Some(rescan) = &batch.rescan {
            self.pipeline.reconcile(rescan.clone());
        }
        for record in batch.records() {
            // A record that cannot be decoded is written all the same, and counted.
            self.pipeline.handle(record, &mut self.made);
            self.made.clear();
            self.writer.record(record).with_context(|| self.cannot_write())?;
        }
        self.pipeline.tick(batch.upto, &mut self.made);
        self.write_images()?;
        Ok(true)
    }

    fn idle(&mut self) -> anyhow::Result<bool> {
        Ok(true)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let mut told = Vec::new();
        let (pipeline, stage) = (&mut self.pipeline, &mut self.stage);
        who::name_rest(pipeline, stage, boot_now, &mut self.made, |image| told.push(image.clone()));
        told.iter().try_for_each(|image| self.writer.container(image)).with_context(|| self.cannot_write())
    }
}
