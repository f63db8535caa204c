//! `cargo xtask compare`: `sensor-agent watch` beside Debian's `execsnoop` and `opensnoop` on one load. Fails when they show
//! something that is missing here; counts what they miss. Not a benchmark. It may start processes and mount a file system
//! in a namespace of its own.

mod events;
pub(crate) mod load;

use anyhow::{Context, Result, bail, ensure};
use events::{Event, Events, only_first};
use sensor_tests::wait_for;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long a tool may take to begin, or to end.
const LIMIT: Duration = Duration::from_secs(60);

/// Where the tools are, and how much is done.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder of execsnoop and opensnoop [default: PATH, /usr/sbin].
    #[arg(long)]
    tools: Option<PathBuf>,
    /// Rounds of the load: each some ten opens and three executions.
    #[arg(long, default_value_t = 1000)]
    rounds: u32,
}

/// Runs all three on the load, and compares.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (Some(execsnoop), Some(opensnoop)) = (tool(arguments, "execsnoop"), tool(arguments, "opensnoop"))
    else {
        bail!("no execsnoop and opensnoop here (Debian's package libbpf-tools)");
    };
    if let Some(reason) = sensor_tests::why_not_live()? {
        bail!("{reason}");
    }
    let scratch = tempfile::Builder::new().prefix("sensor-compare-").tempdir().context("making a folder")?;
    let folder = scratch.path().canonicalize().context("the folder is there")?;
    let agent = Watcher::agent(&folder)?;
    let execsnoop = Watcher::tool("execsnoop", &execsnoop, "PCOMM", &folder)?;
    let opensnoop = Watcher::tool("opensnoop", &opensnoop, "PID", &folder)?;
    let status = Command::new(std::env::current_exe()?)
        .args(["compare-load", &arguments.rounds.to_string()])
        .arg(&folder)
        .status()
        .context("starting the load")?;
    ensure!(status.success(), "the load: {status}");
    // How they end tells nothing: one says that it was interrupted.
    let ((_, execs), (_, opens)) = (execsnoop.end()?, opensnoop.end()?);
    let ours = end_agent(agent)?;
    report(&Events::ours(&ours, &folder)?, &Events::theirs(&execs, &opens, &folder))
}

fn report(ours: &Events, theirs: &Events) -> Result<()> {
    println!("executions: {} here, {} in execsnoop", ours.execs.len(), theirs.execs.len());
    println!("opens:      {} here, {} in opensnoop", ours.opens.len(), theirs.opens.len());
    let mut missing = 0;
    for (what, here, there) in
        [("execution", &ours.execs, &theirs.execs), ("open", &ours.opens, &theirs.opens)]
    {
        let (lacking, extra) = (only_first(there, here), only_first(here, there));
        println!(
            "{what}s missing here: {}; missing there: {}{}",
            lacking.len(),
            extra.len(),
            examples(&extra)
        );
        for event in lacking.iter().take(EXAMPLES) {
            println!("  missing here: {event}");
        }
        missing += lacking.len();
    }
    ensure!(
        !theirs.execs.is_empty() && !theirs.opens.is_empty(),
        "the other tools showed nothing of the load"
    );
    if missing > 0 { bail!("{missing} events that the other tools show are missing here") } else { Ok(()) }
}

fn examples(events: &[Event]) -> String {
    let shown: Vec<String> = events.iter().take(EXAMPLES).map(ToString::to_string).collect();
    if shown.is_empty() { String::new() } else { format!(", for example {}", shown.join(", ")) }
}

fn tool(arguments: &Arguments, name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = match &arguments.tools {
        Some(folder) => vec![folder.clone()],
        None => std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).collect(),
    };
    folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Ends the agent; gives what it printed, and prints what it lost.
fn end_agent(agent: Watcher) -> Result<String> {
    let errors = agent.errors.clone();
    let (status, ours) = agent.end()?;
    let errors = fs::read_to_string(&errors).context("reading what sensor-agent says")?;
    ensure!(status.success(), "sensor-agent: {status}: {errors}");
    for line in errors.lines().filter(|line| line.starts_with("lost")) {
        println!("here: {line}");
    }
    Ok(ours)
}

/// A program that watches, its output and its errors in files. It ends when dropped.
pub(crate) struct Watcher {
    name: &'static str,
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Watcher {
    /// Starts another tool, with the tracing file system it wants in a mount namespace of its own, and waits for its
    /// headline, which it prints when it traces.
    pub(crate) fn tool(name: &'static str, program: &Path, headline: &str, folder: &Path) -> Result<Self> {
        let script =
            "[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", "stdbuf", "-oL"]);
        Self::start(name, command.arg(program), folder, |watcher| {
            Ok(fs::read_to_string(&watcher.output)?.starts_with(headline))
        })
    }

    /// Starts the agent, and waits until it watches.
    fn agent(folder: &Path) -> Result<Self> {
        let mut command = Command::new(sensor_tests::binaries()?.join("sensor-agent"));
        command.args(["watch", "--json", "--reads", "--kind", "exec,file_open"]);
        Self::start("sensor-agent", &mut command, folder, |watcher| {
            Ok(fs::read_to_string(&watcher.errors)?.contains("watching"))
        })
    }

    fn start(
        name: &'static str,
        command: &mut Command,
        folder: &Path,
        has_begun: impl Fn(&Self) -> Result<bool>,
    ) -> Result<Self> {
        let (output, errors) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.err")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut watcher = Self { name, child, output, errors };
        wait_for(&format!("{name} to begin"), LIMIT, || {
            if let Some(status) = watcher.child.try_wait()? {
                bail!("{name}: {status}: {}", watcher.said());
            }
            Ok(has_begun(&watcher)?.then_some(()))
        })?;
        Ok(watcher)
    }

    /// Interrupts it; gives how it ended, and what it printed.
    pub(crate) fn end(mut self) -> Result<(ExitStatus, String)> {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)
            .with_context(|| format!("interrupting {}", self.name))?;
        let name = self.name;
        let status = wait_for(&format!("{name} to end"), LIMIT, || Ok(self.child.try_wait()?))?;
        let bytes = fs::read(&self.output).with_context(|| format!("reading what {name} prints"))?;
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What it wrote to its standard error.
    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.errors).unwrap_or_default()).into_owned()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It has ended already when these fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const EXAMPLES: usize = 3;
