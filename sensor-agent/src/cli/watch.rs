//! `watch`: events as they happen, for people or as OCSF lines. Not what an event is. It may call the sibling modules,
//! `pipeline` and `ocsf`.

use super::Span;
use super::capture::{Batch, Capture, Consumer, boot_now, print_totals};
use super::live::{Wish, feed, pipeline, print_troubles};
use super::watch_text;
use super::who::{self, WhoArguments};
use crate::enrich::process_table::Scope;
use crate::event::{Body, BootNs};
use crate::kernel::KindSet;
use crate::ocsf::{Host, Ocsf};
use crate::pipeline::{EnrichedEvent, Output, Pipeline};
use crate::who::Stage;
use anyhow::Context as _;
use clap::ValueEnum;
use std::io::{ErrorKind, Stdout, Write};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct WatchArguments {
    /// Print OCSF 1.8 objects, one a line.
    #[arg(long)]
    json: bool,
    /// Which events [default: exec,exit,connect,listen,file].
    #[arg(long, value_delimiter = ',', value_name = "KINDS")]
    kind: Vec<WatchKind>,
    /// How long, for example 500ms, 60s, 5m [default: until interrupted].
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration::parse)]
    duration: Option<Duration>,
    #[command(flatten)]
    who: WhoArguments,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WatchKind {
    Exec,
    Fork,
    Exit,
    Connect,
    Listen,
    File,
}

pub(super) fn run(arguments: &WatchArguments) -> anyhow::Result<ExitCode> {
    let kinds = if arguments.kind.is_empty() { DEFAULT_KINDS.to_vec() } else { arguments.kind.clone() };
    let capture = Capture::begin(KindSet::DEFAULT)?;
    let wish = Wish { baseline: None, scope: Scope::Host, emit_events: true };
    let host = Host {
        hostname: capture.start.hostname.clone(),
        kernel_release: capture.start.kernel_release.clone(),
    };
    let ocsf = arguments.json.then(|| Ocsf::new(host, capture.start.boot_to_unix_offset_ns));
    let mut watcher = Watcher {
        pipeline: pipeline(&capture.start, wish),
        kinds,
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
    print_totals(&ended.counters);
    print_troubles(&watcher.pipeline, watcher.stage.counters());
    Ok(ExitCode::SUCCESS)
}

struct Watcher {
    pipeline: Pipeline,
    kinds: Vec<WatchKind>,
    stage: Stage<EnrichedEvent>,
    ocsf: Option<Ocsf>,
    output: Output,
    lines: Vec<u8>,
    stdout: Stdout,
}

impl Consumer for Watcher {
    fn take(&mut self, batch: &Batch) -> anyhow::Result<bool> {
        feed(&mut self.pipeline, batch, &mut self.output);
        let now = boot_now();
        for event in self.output.events.drain(..).filter(|event| is_wanted(&self.kinds, event)) {
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

fn is_wanted(kinds: &[WatchKind], event: &EnrichedEvent) -> bool {
    let kind = match event.event.body {
        Body::Exec(_) => WatchKind::Exec,
        Body::Fork(_) => WatchKind::Fork,
        Body::Exit(_) => WatchKind::Exit,
        Body::Connect(_) | Body::ConnectResult(_) => WatchKind::Connect,
        Body::Listen(_) => WatchKind::Listen,
        Body::FileOpen(_) | Body::Unlink(_) | Body::Rename(_) => WatchKind::File,
        _ => return false,
    };
    kinds.contains(&kind)
}

const DEFAULT_KINDS: [WatchKind; 5] =
    [WatchKind::Exec, WatchKind::Exit, WatchKind::Connect, WatchKind::Listen, WatchKind::File];
/// Lines held back at most while records keep coming: bounds the time to print them, well below 200 ms.
const LINE_BYTES_MAX: usize = 64 * 1024;
