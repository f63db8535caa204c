//! `cargo xtask soak`: mixed load for minutes against a release-built agent and a collector on loopback, with samples of
//! what the agent holds. Fails when it leaks or meets a process that it does not know. Not a benchmark. It may start
//! processes, use loopback, and write to `target/soak`.

mod curve;
mod load;
mod sample;

use crate::workspace_root;
use anyhow::{Context, Result, bail, ensure};
use curve::{Curve, Fit};
use load::Load;
use sample::{Sample, Table};
use sensor_tests::{Agent, Fleet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// The part of the time in which caches and tables fill is no part of the curve, and at most so long: what the agent
/// remembers of files and processes it forgets after ten minutes at the latest.
const WARM_UP_SHARE: u32 = 3;
const WARM_UP_MAX: Duration = Duration::from_secs(600);
/// A memory leak is growth that is certain (the whole confidence interval is above nothing) and would in an hour be more
/// than this part of the memory. Tables that fill to their bounds grow less and less, and stay below.
const GROWTH_PER_HOUR_MAX: f64 = 0.05;
/// Descriptors may differ so much between two moments: a scan of /proc or a look-up is under way.
const DESCRIPTORS_SLACK: u64 = 4;

/// How long to soak, and where the samples go.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Minutes of load.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Folder for the samples [default: target/soak].
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Runs the load and judges the samples.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the soak loads kernel programs: run it as root");
    ensure!(arguments.minutes > 0, "--minutes 0: nothing would be measured");
    let folder = arguments.folder.clone().unwrap_or_else(|| workspace_root().join("target/soak"));
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    println!("building the release binaries");
    sensor_tests::use_release();
    let scratch = tempfile::Builder::new().prefix("sensor-soak-").tempdir().context("making a folder")?;
    let fleet = Fleet::start("soak", "127.0.0.1", scratch.path())?;
    let agent = fleet.agent("soak-host", fleet.first_token(), None)?;
    let duration = Duration::from_secs(60 * arguments.minutes);
    let load = Load::start(scratch.path())?;
    println!("load: {}", load.describe());
    let csv = folder.join("samples.csv");
    println!("samples: {}", csv.display());
    let samples = sample_for(duration, &fleet, &agent, Table::new(&csv))?;
    let (rounds, failed) = load.stop();
    let mut summary = judge(&samples, duration)?;
    summary.problems.extend(failed);
    let text = format!("load: {rounds}\n{}", summary.text);
    fs::write(folder.join("summary.txt"), &text).context("writing the summary")?;
    println!("{text}");
    if summary.problems.is_empty() { Ok(()) } else { bail!("{}", summary.problems.join("; ")) }
}

fn sample_for(duration: Duration, fleet: &Fleet, agent: &Agent, mut table: Table) -> Result<Vec<Sample>> {
    let pid = agent.id().context("the agent runs")?;
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < duration {
        samples.push(Sample::take(begun.elapsed(), pid, fleet)?);
        table.add_last(&samples)?;
        if let Some(latest) = samples.last().filter(|_| samples.len() % 12 == 1) {
            println!("{}", latest.line());
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    samples.push(Sample::take(begun.elapsed(), pid, fleet)?);
    table.add_last(&samples)?;
    Ok(samples)
}

/// What the samples say, for people, and what is wrong.
struct Summary {
    text: String,
    problems: Vec<String>,
}

fn judge(samples: &[Sample], duration: Duration) -> Result<Summary> {
    let warm_up = (duration / WARM_UP_SHARE).min(WARM_UP_MAX);
    let warm: Vec<&Sample> = samples.iter().filter(|sample| sample.at >= warm_up).collect();
    let (Some(first), Some(last)) = (warm.first(), warm.last()) else {
        bail!("no samples after the warm-up")
    };
    let points = warm.iter().map(|sample| (sample.at.as_secs_f64() / 60.0, sample.rss_kib as f64));
    let fit = Fit::of(&points.collect::<Vec<_>>()).context("too few samples for a line")?;
    let mut problems = Vec::new();
    let growth_per_hour = fit.slope_low() * 60.0;
    if growth_per_hour > GROWTH_PER_HOUR_MAX * fit.at_start {
        problems.push(format!("memory grows by at least {growth_per_hour:.0} KiB an hour"));
    }
    for (what, before, after) in [
        ("descriptors", first.descriptors, last.descriptors),
        ("BPF maps", first.maps, last.maps),
        ("BPF programs", first.programs, last.programs),
        ("BPF links", first.links, last.links),
    ] {
        let slack = if what == "descriptors" { DESCRIPTORS_SLACK } else { 0 };
        if after > before + slack {
            problems.push(format!("{what} grew from {before} to {after}"));
        }
    }
    for counter in UNKNOWN {
        match last.counter(counter) {
            Some(0) => {}
            Some(count) => problems.push(format!("{counter}={count}")),
            None => problems.push(format!("the agent has no counter {counter}")),
        }
    }
    if last.counter("records").unwrap_or_default() == 0 {
        problems.push("the agent has seen no record: nothing was measured".to_owned());
    }
    let text = describe(samples, &warm, &fit);
    Ok(Summary { text, problems })
}

fn describe(samples: &[Sample], warm: &[&Sample], fit: &Fit) -> String {
    let (first, last) = (warm[0], warm[warm.len() - 1]);
    let mut text = Curve::of(samples).to_string();
    text += &format!(
        "rss: {} KiB at the warm-up's end ({:.1} min), {} KiB at the end ({:.1} min), highest {} KiB\n",
        first.rss_kib,
        first.at.as_secs_f64() / 60.0,
        last.rss_kib,
        last.at.as_secs_f64() / 60.0,
        samples.iter().map(|sample| sample.rss_kib).max().unwrap_or_default(),
    );
    text += &format!(
        "rss fit: {:.0} KiB {:+.2} KiB/min (95%: {:+.2} to {:+.2}), {} samples\n",
        fit.at_start,
        fit.slope,
        fit.slope_low(),
        fit.slope_high(),
        warm.len(),
    );
    let of = |sample: &Sample| {
        format!("{}/{}/{}/{}", sample.descriptors, sample.maps, sample.programs, sample.links)
    };
    text += &format!("descriptors/maps/programs/links: first {}, last {}\n", of(first), of(last));
    text += &format!("records: {}\n", last.kinds());
    text += &format!("lost: {}\n", last.counters_named("records_lost"));
    let count = |name| last.counter(name).map_or("?".to_owned(), |count| count.to_string());
    let unknown: Vec<String> = UNKNOWN.iter().map(|name| format!("{name}={}", count(name))).collect();
    text + &format!("unknown: {}\n", unknown.join(" "))
}

/// Counters of processes of which an event told first.
const UNKNOWN: [&str; 2] = ["processes_unknown", "observations_of_unknown"];

/// A program of this host, if it is there.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    folders.map(|folder| folder.join(name)).find(|file: &PathBuf| Path::is_file(file))
}

#[cfg(test)]
mod tests {
    use super::judge;
    use super::sample::tests::sample;
    use std::time::Duration;

    /// Problems of a steady soak at whose end the agent has these counters.
    fn check(counters: &[(&str, u64)], expected: &[&str]) {
        let seconds = [0, 30, 60, 90, 120].map(Duration::from_secs);
        let samples = seconds.map(|at| sample(at, counters));
        let summary = judge(&samples, Duration::from_secs(120)).expect("enough samples");
        assert_eq!(summary.problems, expected);
    }

    #[test]
    fn soak_that_measures_nothing_fails() {
        check(&[("records", 9), ("processes_unknown", 0), ("observations_of_unknown", 0)], &[]);
        check(
            &[("records", 9), ("processes_unknown", 2)],
            &["processes_unknown=2", "the agent has no counter observations_of_unknown"],
        );
        check(
            &[("processes_unknown", 0), ("observations_of_unknown", 0)],
            &["the agent has seen no record: nothing was measured"],
        );
    }
}
