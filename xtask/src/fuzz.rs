//! `cargo xtask fuzz`: builds the fuzz targets with coverage of our crates and runs them on the committed corpora. Not
//! the targets, and not a fuzzer: libFuzzer is. It may run cargo, the targets, and git.

mod seeds;

use crate::ci::Step;
use crate::{btf, target_folder, workspace_root};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which targets to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// One target; all if it is left out.
    target: Option<String>,
    /// How long to fuzz each.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Make the seeds again, then merge everything that was found into the committed corpora.
    #[arg(long)]
    merge: bool,
    /// Add records of this recording (`sensor-agent record`) to the seeds.
    #[arg(long, requires = "merge")]
    recording: Option<PathBuf>,
}

/// A fuzz target.
struct Target {
    name: &'static str,
    /// Longest input: above that, mutating and reading take longer than they find.
    input_bytes_max: usize,
}

const TARGETS: [Target; 2] = [
    Target { name: "btf", input_bytes_max: 16 << 10 },
    Target { name: "decode", input_bytes_max: sensor_event::RECORD_BYTES_MAX + 1 },
];

/// One input may take this long, in seconds, and this much memory, in MiB.
const INPUT_SECONDS_MAX: u32 = 10;
const MEMORY_MIB_MAX: u32 = 1024;

/// How names of inputs begin that merging leaves in the committed corpora: those that made a target fail once.
const KEPT_PREFIX: &str = "kept-";

/// What CI runs, where there is a compiler for it.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_in_ci() -> Result<Step> {
    if let Some(reason) = why_not() {
        return Ok(Step::Skipped(reason));
    }
    run(&Arguments { target: None, seconds: 15, merge: false, recording: None })?;
    Ok(Step::Done)
}

/// Fuzzes.
///
/// # Errors
/// When the targets cannot be built, or an input makes one of them fail: the input is kept and named.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(name) = &arguments.target {
        let known = TARGETS.map(|target| target.name);
        ensure!(known.contains(&name.as_str()), "no fuzz target {name}: there are {}", known.join(", "));
    }
    if let Some(reason) = why_not() {
        bail!("{reason}");
    }
    let root = workspace_root();
    let binaries = build(&root)?;
    if arguments.merge {
        seed(&root, arguments.recording.as_deref())?;
    }
    let wanted = |target: &&Target| arguments.target.as_deref().is_none_or(|name| name == target.name);
    for target in TARGETS.iter().filter(wanted) {
        let folders = Folders::of(&root, target)?;
        if arguments.merge {
            merge(&binaries, target, &folders)?;
        } else {
            fuzz(&binaries, target, &folders, arguments.seconds)?;
        }
    }
    Ok(())
}

/// Why the targets cannot be built here.
fn why_not() -> Option<String> {
    let compiler = std::env::var("CXX").ok().filter(|compiler| !compiler.trim().is_empty());
    let compiler = compiler.unwrap_or_else(|| "c++".to_owned());
    // There may be a wrapper before it: `ccache g++`.
    let mut words = compiler.split_whitespace();
    let found = Command::new(words.next()?)
        .args(words)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let has_compiler = found.is_ok_and(|status| status.success());
    (!has_compiler).then(|| {
        format!("fuzzing needs a C++ compiler, for libFuzzer: `{compiler}` does not run (apt-get install g++, or set CXX)")
    })
}

/// Builds the targets and gives their folder. `fuzz/rustc.sh` says what is special about it.
fn build(root: &Path) -> Result<PathBuf> {
    let folder = root.join("fuzz");
    let target = target_folder()?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&folder).env("RUSTC_WRAPPER", folder.join("rustc.sh"));
    cargo.args(["build", "--bins", "--target-dir"]).arg(&target);
    sensor_tests::run(&mut cargo).context("building the fuzz targets")?;
    Ok(target.join("debug"))
}

/// Where a target's inputs lie.
struct Folders {
    /// Committed.
    corpus: PathBuf,
    /// Found on this machine and not committed.
    found: PathBuf,
    /// Inputs that made the target fail, and what merging leaves over.
    artifacts: PathBuf,
}

impl Folders {
    fn of(root: &Path, target: &Target) -> Result<Self> {
        let work = root.join("target/fuzz/inputs").join(target.name);
        let folders = Self {
            corpus: root.join("fuzz/corpus").join(target.name),
            found: work.join("found"),
            artifacts: work.join("artifacts"),
        };
        for folder in [&folders.corpus, &folders.found, &folders.artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        Ok(folders)
    }
}

fn fuzz(binaries: &Path, target: &Target, folders: &Folders, seconds: u32) -> Result<()> {
    let mut command = libfuzzer(binaries, target, folders);
    command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
    command.args([&folders.found, &folders.corpus]);
    let name = target.name;
    let output =
        command.stdout(Stdio::inherit()).output().with_context(|| format!("running the target {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!("{name}: {}", Summary::of(&said));
        return Ok(());
    }
    match failing_input(&said) {
        Some(input) => bail!(
            "{said}\n{name} fails on {input}\nkeep it: copy it to {}/{KEPT_PREFIX}WHY: other names go when the \
             corpus is merged",
            folders.corpus.display()
        ),
        None => bail!("{said}\n{name}: {}, but not on an input", output.status),
    }
}

/// The file that libFuzzer wrote the input to that made the target fail.
fn failing_input(said: &str) -> Option<&str> {
    said.lines().find_map(|line| Some(line.split_once("Test unit written to ")?.1))
}

/// What libFuzzer says at the end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    executions: u64,
    per_second: u64,
    new_inputs: u64,
    /// Edges reached.
    coverage: u64,
}

impl Summary {
    fn of(said: &str) -> Self {
        let mut summary = Self::default();
        for line in said.lines() {
            let last =
                || line.split_whitespace().last().and_then(|word| word.parse().ok()).unwrap_or_default();
            match line.split(':').nth(2) {
                _ if !line.starts_with("stat::") => {}
                Some("number_of_executed_units") => summary.executions = last(),
                Some("average_exec_per_sec") => summary.per_second = last(),
                Some("new_units_added") => summary.new_inputs = last(),
                _ => {}
            }
            if let Some((_, rest)) = line.split_once("cov: ") {
                let edges = rest.split_whitespace().next().and_then(|edges| edges.parse().ok());
                summary.coverage = edges.unwrap_or(summary.coverage);
            }
        }
        summary
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { executions, per_second, new_inputs, coverage } = self;
        write!(
            out,
            "{executions} executions, {per_second} a second, {coverage} edges reached, {new_inputs} inputs found, \
             no failure"
        )
    }
}

/// Makes the seeds, from nothing but the contract, the BTF fixtures and the recording.
fn seed(root: &Path, recording: Option<&Path>) -> Result<()> {
    let [btf, decode] = TARGETS;
    let mut records = seeds::records();
    if let Some(recording) = recording {
        records.extend(seeds::recorded(recording)?);
    }
    for (target, seeds) in [(btf, btf::seeds()?), (decode, records)] {
        let folder = Folders::of(root, &target)?.found;
        println!("{}: {} seeds", target.name, seeds.len());
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}

/// Replaces the committed corpus by the smallest part of it, and of what was found here, that reaches as much. What is
/// kept for another reason stays.
fn merge(binaries: &Path, target: &Target, folders: &Folders) -> Result<()> {
    let merged = folders.artifacts.with_file_name("merged");
    if merged.exists() {
        fs::remove_dir_all(&merged)?;
    }
    fs::create_dir_all(&merged)?;
    let mut command = libfuzzer(binaries, target, folders);
    command.arg("-merge=1").arg(&merged).args([&folders.corpus, &folders.found]).stderr(Stdio::null());
    sensor_tests::run(&mut command).with_context(|| format!("merging the corpus of {}", target.name))?;
    clear(&folders.corpus)?;
    let (mut count, mut bytes) = (0, 0);
    for entry in fs::read_dir(&merged)? {
        let entry = entry?;
        bytes += fs::copy(entry.path(), folders.corpus.join(entry.file_name()))?;
        count += 1;
    }
    println!("{}: corpus of {count} inputs, {bytes} bytes", target.name);
    Ok(())
}

/// Removes the inputs of a corpus, but those that are kept.
fn clear(corpus: &Path) -> Result<()> {
    for entry in fs::read_dir(corpus).with_context(|| format!("listing {}", corpus.display()))? {
        let path = entry.with_context(|| format!("listing {}", corpus.display()))?.path();
        if !is_kept(&path) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

fn is_kept(input: &Path) -> bool {
    let name = input.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default();
    name.starts_with(KEPT_PREFIX.as_bytes())
}

fn libfuzzer(binaries: &Path, target: &Target, folders: &Folders) -> Command {
    let mut command = Command::new(binaries.join(target.name));
    command
        .arg(format!("-artifact_prefix={}/", folders.artifacts.display()))
        .arg(format!("-max_len={}", target.input_bytes_max))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    command
}

#[cfg(test)]
mod tests {
    use super::{Summary, clear, failing_input};
    use std::fs;

    #[test]
    fn input_of_a_fixed_bug_outlives_a_merge() {
        let corpus = tempfile::tempdir().expect("a temporary folder can be made");
        for name in ["kept-overflow", "0a4d55a8d778e5022fab701977c5d840bbc486d0"] {
            fs::write(corpus.path().join(name), name).expect("a file");
        }
        clear(corpus.path()).expect("a folder of files");
        let left: Vec<_> =
            fs::read_dir(corpus.path()).expect("a folder").map(|entry| entry.expect("a file")).collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].file_name(), "kept-overflow");
    }

    #[test]
    fn failure_without_an_input_names_none() {
        let said =
            "==7== ERROR: libFuzzer: deadly signal\nartifact_prefix='/a/'; Test unit written to /a/crash-1\n";
        assert_eq!(failing_input(said), Some("/a/crash-1"));
        assert_eq!(failing_input("ERROR: no such option"), None);
    }

    #[test]
    fn summary_takes_the_last_figures() {
        let lines = [
            "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#4096\tpulse  cov: 450 ft: 900 corp: 80/12Kb lim: 4096 exec/s: 2048 rss: 40Mb",
            "Done 8000 runs in 4 second(s)",
            "stat::number_of_executed_units: 8000",
            "stat::average_exec_per_sec:     2000",
            "stat::new_units_added:          17",
        ];
        let expected = Summary { executions: 8000, per_second: 2000, new_inputs: 17, coverage: 450 };
        assert_eq!(Summary::of(&lines.join("\n")), expected);
    }
}
