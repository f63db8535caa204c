//! `cargo xtask bench`: what the sensor costs a host. Paired runs of work without and with it, in the order A B B A, with
//! confidence intervals; what the agent uses, loses and holds. Not a test of what it finds. It may start processes, use
//! loopback, make a control group, and write `docs/performance.md`.

mod account;
mod foreign;
mod learn;
mod measure;
mod report;
mod sensor;
mod stats;
pub(crate) mod work;
mod worker;

use anyhow::{Context, Result, ensure};
use measure::{Against, Site};
use report::Report;
use sensor::{Sensors, Variant};
use sensor_tests::Workload;
use std::path::{Path, PathBuf};
use work::Work;

/// Blocks of a whole run, of work that takes seconds, and of a quick one.
const BLOCKS: usize = 10;
const BLOCKS_LONG: usize = 5;
const BLOCKS_QUICK: usize = 4;
/// What a quick run does.
const QUICK: [Work; 5] =
    [Work::OpenRead, Work::OpenWrite, Work::Spawn, Work::ConnectOpen, Work::ConnectClosed];
/// Processes that sleep while the agent's memory is looked at.
const PROCESSES: usize = 1_000;
/// Opens a second of which none may be lost.
const FLOOD_RATE: u64 = 200_000;

/// What is measured.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Only this work: open-read, open-write, create-unlink, spawn, connect-open, connect-closed, git, cargo, nginx [default: all].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    work: Vec<Work>,
    /// Only beside these: steady, cache-off, learning, execsnoop, opensnoop, execsnoop.bt, opensnoop.bt [default: all].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    against: Vec<Against>,
    /// Blocks of four runs each [default: 10; 5 of git and cargo; 4 with --quick].
    #[arg(long, value_name = "N")]
    blocks: Option<usize>,
    /// A minute, as in CI: small work beside `steady`; fails when a ratio is certainly above its limit.
    #[arg(long)]
    quick: bool,
    /// The report to write [default: docs/performance.md of a whole run, none of a part].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Measures, and tells.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.blocks != Some(0), "--blocks 0: nothing would be measured; at least 1");
    if let Some(reason) = measure_all(arguments)? {
        println!("skipped: {reason}");
    }
    Ok(())
}

/// As `cargo xtask bench --quick`.
pub(crate) fn run_in_ci() -> Result<crate::ci::Step> {
    let skipped = measure_all(&Arguments { quick: true, ..Arguments::default() })?;
    Ok(skipped.map_or(crate::ci::Step::Done, crate::ci::Step::Skipped))
}

/// Gives the reason when nothing can be measured here.
fn measure_all(arguments: &Arguments) -> Result<Option<String>> {
    ensure!(nix::unistd::geteuid().is_root(), "the bench loads kernel programs: run it as root");
    if !arguments.quick {
        sensor_tests::use_release();
    }
    if let Some(reason) = sensor_tests::why_not_live()? {
        return Ok(Some(reason));
    }
    let (works, against) = wanted(arguments);
    let scratch = tempfile::Builder::new().prefix("sensor-bench-").tempdir().context("making a folder")?;
    let group = Workload::new("sensor-bench")?;
    let baseline = learn::baseline(&works, &group, scratch.path())?;
    let sensors = Sensors::prepare(&Variant::ALL, &baseline, scratch.path())?;
    let mut site = Site { group: &group, scratch: scratch.path(), sensors };
    let mut report = Report::default();
    for work in &works {
        let blocks = if work.is_long() { BLOCKS_LONG } else { BLOCKS };
        let blocks = if arguments.quick { BLOCKS_QUICK } else { blocks };
        for pair in site.measure(*work, &against, arguments.blocks.unwrap_or(blocks))? {
            println!("bench: {}", report::line(&pair));
            report.pairs.push(pair);
        }
    }
    if arguments.quick {
        report.check()?;
        return Ok(None);
    }
    report.flood = Some(site.flood(FLOOD_RATE)?);
    report.memory = Some(site.memory(PROCESSES)?);
    report.programs = site.programs(&works)?;
    report.findings = site.sensors.findings(&group)?;
    let is_whole = arguments.work.is_empty() && arguments.against.is_empty();
    let default = is_whole.then(|| crate::workspace_root().join("docs/performance.md"));
    let text = report.text()?;
    match arguments.output.clone().or(default) {
        Some(file) => {
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            println!("bench: wrote {}", file.display());
        }
        None => println!("{text}"),
    }
    Ok(None)
}

/// The work, and what it is measured beside: as asked for, without what cannot be had here, which is told.
fn wanted(arguments: &Arguments) -> (Vec<Work>, Vec<Against>) {
    let all = |quick: &[Work]| if arguments.quick { quick.to_vec() } else { Work::ALL.to_vec() };
    let mut works = if arguments.work.is_empty() { all(&QUICK) } else { arguments.work.clone() };
    let mut against = match (&arguments.against[..], arguments.quick) {
        ([], true) => vec![Against::Sensor(Variant::Steady)],
        ([], false) => Against::all().collect(),
        (asked, _) => asked.to_vec(),
    };
    works.retain(|work| is_there(work.name(), work.why_not().as_deref()));
    against.retain(|against| is_there(against.name(), against.why_not().as_deref()));
    (works, against)
}

fn is_there(name: &str, why_not: Option<&str>) -> bool {
    if let Some(reason) = why_not {
        println!("skipped: {name}: {reason}");
    }
    why_not.is_none()
}

/// A program of this host, if it is there.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    folders.map(|folder| folder.join(name)).find(|file: &PathBuf| Path::is_file(file))
}
