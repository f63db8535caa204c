//! `replay`: a recording through the same pipeline as live records. Not another pipeline. It may call the sibling
//! modules, `pipeline` and `recording`.

use super::FloorArguments;
use super::judge::Verdicts;
use super::live::{Wish, pipeline, print_troubles};
use super::report::ReportArguments;
use super::sigma::SigmaArguments;
use crate::enrich::process_table::Scope;
use crate::event::BootNs;
use crate::layer_files::{LayerFile, read_layers};
use crate::ocsf::{Host, Ocsf};
use crate::pipeline::{Output, Pipeline, Telling};
use crate::recording::{Part, RecordingReader, Start};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArguments {
    /// A file that `record` made.
    file: PathBuf,
    /// The baseline to judge by. Given several times, they are layers, the lowest first.
    #[arg(long, required = true, value_name = "[LAYER=]FILE")]
    baseline: Vec<LayerFile>,
    /// Print one JSON object per finding.
    #[arg(long)]
    json: bool,
    /// Tell a finding again in each incident, not once in all.
    #[arg(long)]
    per_incident: bool,
    /// Also write every event, as `watch --json` prints it.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    #[command(flatten)]
    floor: FloorArguments,
    #[command(flatten)]
    report: ReportArguments,
    #[command(flatten)]
    sigma: SigmaArguments,
}

pub(super) fn run(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let baseline = read_layers(&arguments.baseline)?;
    // What a person would edit.
    let top = arguments.baseline.last().map(|file| file.path.as_path()).context("no baseline is given")?;
    let mut verdicts = Verdicts::default();
    let begun = Instant::now();
    let floor = arguments.floor.load()?;
    let wish = Wish {
        baseline: Some(baseline),
        rules: arguments.sigma.rules(&floor)?,
        telling: if arguments.per_incident { Telling::PerIncident } else { Telling::Once },
        emit_events: arguments.events.is_some(),
        ..Wish::new(floor, Scope::Host)
    };
    let mut replay = Replay::open(&arguments.file, wish)?;
    let mut events = match &arguments.events {
        Some(path) => Some(EventFile::create(path, &replay.start)?),
        None => None,
    };
    let replayed = replay.run(|output| {
        verdicts.add(output);
        events.as_mut().map_or(Ok(()), |events| events.write(output))
    })?;
    if let Some(events) = events {
        events.finish()?;
    }
    let (count, spent) = (replayed.observations, begun.elapsed());
    say!("judged {count} observations in {:.3} ms", spent.as_secs_f64() * 1e3);
    verdicts.print_unarmed();
    verdicts.print(arguments.json, &replayed.hostname)?;
    let trouble = replayed.has_losses.then_some("records were lost when this was recorded");
    arguments.report.write(&verdicts.told(top, trouble))?;
    Ok(verdicts.exit_code())
}

/// The events of a recording as a file of OCSF objects, one a line.
struct EventFile {
    path: PathBuf,
    file: BufWriter<File>,
    ocsf: Ocsf,
    lines: Vec<u8>,
}

impl EventFile {
    fn create(path: &Path, start: &Start) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let host = Host { hostname: start.hostname.clone(), kernel_release: start.kernel_release.clone() };
        let ocsf = Ocsf::new(host, start.boot_to_unix_offset_ns);
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), ocsf, lines: Vec::new() })
    }

    fn write(&mut self, output: &Output) -> anyhow::Result<()> {
        self.lines.clear();
        for event in &output.events {
            self.ocsf.write_line(event, &mut self.lines);
        }
        self.file.write_all(&self.lines).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.file.flush().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// What was recorded.
pub(super) struct Replayed {
    /// The host's name.
    pub(super) hostname: String,
    /// Whether records were lost.
    pub(super) has_losses: bool,
    /// What was done that a baseline has words for.
    pub(super) observations: u64,
}

/// A recording that is about to go through a pipeline.
pub(super) struct Replay {
    name: String,
    reader: RecordingReader<BufReader<File>>,
    start: Start,
    pipeline: Pipeline,
}

impl Replay {
    /// Opens it.
    pub(super) fn open(path: &Path, wish: Wish) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let reader = RecordingReader::new(BufReader::new(file)).with_context(|| name.clone())?;
        let start = reader.start().clone();
        let pipeline = pipeline(&start, wish);
        Ok(Self { name, reader, start, pipeline })
    }

    /// Judges it; `take` gets what each record makes. Tells what was lost, and how much there was.
    pub(super) fn run(
        &mut self,
        mut take: impl FnMut(&mut Output) -> anyhow::Result<()>,
    ) -> anyhow::Result<Replayed> {
        let mut output = Output::default();
        let end = loop {
            output.clear();
            match self.reader.read_part().with_context(|| self.name.clone())? {
                Part::Record(record) => self.pipeline.handle(&record, &mut output),
                Part::Container(image) => self.pipeline.name(&image, &mut output),
                Part::End(end) => break end,
            }
            take(&mut output)?;
        };
        output.clear();
        self.pipeline.give_up_naming(&mut output);
        self.pipeline.tick(BootNs(u64::MAX), &mut output);
        take(&mut output)?;
        for (what, count) in &end.lost {
            say!("lost when recorded {what} count={count}");
        }
        print_troubles(&self.pipeline, BTreeMap::new());
        let hostname = self.start.hostname.clone();
        say!("replayed {} records of {hostname}", end.records);
        let observations = self.pipeline.counters().get("observations").copied().unwrap_or(0);
        Ok(Replayed { hostname, has_losses: end.lost.values().any(|count| *count > 0), observations })
    }
}
