//! `watch`: events as they happen, for people or as OCSF lines. Not what an event is. It may call the sibling modules,
//! `pipeline` and `ocsf`.

use super::Span;
use super::capture::{Batch, Capture, Consumer, boot_now, print_account_json, print_totals};
use super::live::{Wish, feed, pipeline, print_troubles};
use super::watch_kinds::{self, KindWord, Selection};
use super::watch_text;
use super::who::{self, WhoArguments};
use crate::account::Delivered;
use crate::enrich::process_table::Scope;
use crate::event::BootNs;
use crate::ocsf::{Host, Ocsf};
use crate::pipeline::{EnrichedEvent, Output, Pipeline};
use crate::who::Stage;
use anyhow::Context as _;
use sensor_baseline::Floor;
use std::io::{ErrorKind, Stdout, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct WatchArguments {
    /// Print OCSF 1.8 objects, one a line.
    #[arg(long)]
    json: bool,
    /// Which events: names of kinds (exec, connect, file_open, ...) and of families (process, network, file, privilege)
    /// [default: all but fork, process, cgroup and exec_map].
    #[arg(long, value_delimiter = ',', value_name = "KINDS", value_parser = watch_kinds::parse)]
    kind: Vec<KindWord>,
    /// Also opens that only read, and opens that fail: many.
    #[arg(long)]
    reads: bool,
    /// How long, for example 500ms, 60s, 5m [default: until interrupted].
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration::parse)]
    duration: Option<Duration>,
    #[command(flatten)]
    who: WhoArguments,
}

pub(super) fn run(arguments: &WatchArguments) -> anyhow::Result<ExitCode> {
    let selection = Selection::new(&arguments.kind, arguments.reads);
    let capture = Capture::begin(selection.captured())?;
    let floor = Arc::clone(Floor::built_in());
    let wish = Wish { emit_events: true, are_containers_named: false, ..Wish::new(floor, Scope::Host) };
    let host = Host {
        hostname: capture.start.hostname.clone(),
        kernel_release: capture.start.kernel_release.clone(),
    };
    let ocsf = arguments.json.then(|| Ocsf::new(host, capture.start.boot_to_unix_offset_ns));
    let mut watcher = Watcher {
        pipeline: pipeline(&capture.start, wish),
        selection,
        stage: arguments.who.stage()?,
        ocsf,
        output: Output::default(),
        lines: Vec::new(),
        stdout: std::io::stdout(),
    };
    // Whoever waits for this line knows that everything from now on is seen.
    say!("watching");
    let span = Span { duration: arguments.duration, command: Vec::new() };
    let ended = capture.run(&span, &mut watcher)?;
    print_totals(&ended);
    if arguments.json {
        print_account_json(&ended);
    }
    print_troubles(&watcher.pipeline, watcher.stage.counters());
    Ok(ExitCode::SUCCESS)
}

struct Watcher {
    pipeline: Pipeline,
    selection: Selection,
    stage: Stage<EnrichedEvent>,
    ocsf: Option<Ocsf>,
    output: Output,
    lines: Vec<u8>,
    stdout: Stdout,
}

impl Consumer for Watcher {
    fn delivered(&self) -> &Delivered {
        self.pipeline.delivered()
    }

    fn take(&mut self, batch: &Batch) -> anyhow::Result<bool> {
        feed(&mut self.pipeline, &mut self.stage, batch, &mut self.output);
        let now = boot_now();
        for event in
            self.output.events.drain(..).filter(|event| self.selection.shows(event.event.body.kind()))
        {
            self.stage.push(event, now);
        }
        self.print_ready(now)
    }

    fn idle(&mut self) -> anyhow::Result<bool> {
        Ok(self.print_ready(boot_now())? && self.flush()?)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let (ocsf, lines) = (&self.ocsf, &mut self.lines);
        who::drain(&mut self.stage, |event| print(ocsf.as_ref(), &event, lines));
        self.flush().map(|_| ())
    }
}

impl Watcher {
    fn print_ready(&mut self, now: BootNs) -> anyhow::Result<bool> {
        while let Some(event) = self.stage.pop(now) {
            print(self.ocsf.as_ref(), &event, &mut self.lines);
            if self.lines.len() >= LINE_BYTES_MAX && !self.flush()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn flush(&mut self) -> anyhow::Result<bool> {
        if self.lines.is_empty() {
            return Ok(true);
        }
        let written = self.stdout.write_all(&self.lines).and_then(|()| self.stdout.flush());
        self.lines.clear();
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("cannot write to stdout"),
        }
    }
}

fn print(ocsf: Option<&Ocsf>, event: &EnrichedEvent, lines: &mut Vec<u8>) {
    match ocsf {
        Some(ocsf) => ocsf.write_line(event, lines),
        None => watch_text::write_line(event, lines),
    }
}

/// Lines held back at most while records keep coming: bounds the time to print them, well below 200 ms.
const LINE_BYTES_MAX: usize = 64 * 1024;
