//! The command line: what each subcommand is called and takes, and its exit code. Not what they do: one file each
//! below. It may call everything in this crate.

/// Prints a line for a person to standard error. A terminal that is gone is no trouble: the exit code stays right.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        // Nobody is left to tell.
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod baseline;
mod capture;
mod check;
mod duration;
mod finding_text;
mod finding_who;
mod judge;
mod learn;
mod live;
mod outlet;
mod record;
mod replay;
mod report;
mod sigma;
mod signals;
mod watch;
mod watch_kinds;
mod watch_text;
mod who;

use crate::enroll::{EnrollArgs, enroll};
use crate::floor_files;
use crate::layer_files::{LayerFile, read_layers};
use clap::{Parser, Subcommand};
use sensor_baseline::{Floor, Layers, UnixNs};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Host sensor: sees every program start, TCP connection and file change, and finds what is not normal.
#[derive(Debug, Parser)]
#[command(name = "sensor-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what this kernel can and cannot see.
    Check(check::CheckArguments),
    /// Print events as they happen.
    Watch(watch::WatchArguments),
    /// Learn a baseline from the host, or from one command.
    Learn(learn::LearnArguments),
    /// Judge the host, or one command, by a baseline: exit 0 when nothing was found, 2 when something was.
    Judge(judge::JudgeArguments),
    /// Run as a service: judge, keep findings until they are delivered, take baselines from the collector.
    Run(RunArguments),
    /// Get this host's identity from a collector.
    Enroll(EnrollArgs),
    /// Write what the kernel tells to a file.
    Record(record::RecordArguments),
    /// Judge a recording by a baseline, as `judge` would have.
    Replay(replay::ReplayArguments),
    /// Look at baselines, compare, merge, try and edit them.
    #[command(subcommand)]
    Baseline(baseline::BaselineCommand),
    /// Look at Sigma rules.
    #[command(subcommand)]
    Sigma(sigma::SigmaCommand),
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// For how long to capture, and what to run meanwhile.
#[derive(Debug, clap::Args)]
struct Span {
    /// How long, for example 500ms, 60s, 5m [default: until the command ends, or interrupted].
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// A command: only its process tree is looked at, until it ends.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What is a finding whatever the baseline says.
#[derive(Debug, Default, clap::Args)]
struct FloorArguments {
    /// A file of floor rules and silences, besides the built-in rules; may be given more than once.
    #[arg(id = "floor", long = "floor", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl FloorArguments {
    /// Reads the files, and tells of silences that have ended.
    fn load(&self) -> anyhow::Result<Arc<Floor>> {
        let floor = floor_files::load(&self.files)?;
        for line in floor_files::expired(&floor, unix_now()) {
            say!("sensor-agent: {line}");
        }
        Ok(floor)
    }
}

/// What stands below and above a baseline.
#[derive(Debug, Default, clap::Args)]
struct AroundArguments {
    /// A baseline that stands below as a layer, the lowest first; may be given more than once.
    #[arg(long, value_name = "[LAYER=]FILE")]
    below: Vec<LayerFile>,
    /// A baseline that stands above as a layer, the highest last; may be given more than once.
    #[arg(long, value_name = "[LAYER=]FILE")]
    above: Vec<LayerFile>,
}

impl AroundArguments {
    /// Reads the layers, with this one between them.
    fn read(&self, file: &LayerFile) -> anyhow::Result<Layers> {
        read_layers(self.below.iter().chain([file]).chain(&self.above))
    }
}

fn unix_now() -> UnixNs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNs(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Parses the arguments, runs the subcommand, and turns its result into an exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell when printing fails.
            let _ = error.print();
            // Not the 2 that a wrong argument usually ends with: that means findings.
            return if error.use_stderr() { ExitCode::from(EXIT_TROUBLE) } else { ExitCode::SUCCESS };
        }
    };
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            say!("sensor-agent: {error:#}");
            ExitCode::from(EXIT_TROUBLE)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Watch(arguments) => watch::run(&arguments),
        Command::Learn(arguments) => learn::run(&arguments),
        Command::Judge(arguments) => judge::run(&arguments),
        Command::Run(arguments) => crate::runtime::run(&arguments.config),
        Command::Enroll(arguments) => enroll(arguments),
        Command::Record(arguments) => record::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Baseline(command) => baseline::run(&command),
        Command::Sigma(command) => sigma::run(&command),
    }
}

/// Something kept the command from doing its work.
const EXIT_TROUBLE: u8 = 1;
/// There are findings.
const EXIT_FINDINGS: u8 = 2;
