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
use std::process::{Child, Command, Stdio};
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
        println!("skipped: no execsnoop and opensnoop here (Debian's package libbpf-tools)");
        return Ok(());
    };
    if let Some(reason) = sensor_tests::why_not_live()? {
        println!("skipped: {reason}");
        return Ok(());
    }
    let scratch = tempfile::Builder::new().prefix("sensor-compare-").tempdir().context("making a folder")?;
    let folder = scratch.path().canonicalize().context("the folder is there")?;
    let agent = Agent::start(&folder)?;
    let tools = [
        Tool::start("execsnoop", &execsnoop, &[], "PCOMM", &folder)?,
        Tool::start("opensnoop", &opensnoop, &[], "PID", &folder)?,
    ];
    let status = Command::new(std::env::current_exe()?)
        .args(["compare-load", &arguments.rounds.to_string()])
        .arg(&folder)
        .status()
        .context("starting the load")?;
    ensure!(status.success(), "the load: {status}");
    let [execs, opens] = tools.map(Tool::end);
    let (execs, opens) = (execs?, opens?);
    let ours = agent.end()?;
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

/// One of the other tools, its output in a file.
struct Tool {
    name: &'static str,
    child: Child,
    output: PathBuf,
}

impl Tool {
    /// Starts it, with the tracing file system it wants in a mount namespace of its own, and waits for its headline, which
    /// it prints when it traces.
    fn start(
        name: &'static str,
        program: &Path,
        arguments: &[&str],
        headline: &str,
        folder: &Path,
    ) -> Result<Self> {
        let output = folder.join(format!("{name}.out"));
        let errors = folder.join(format!("{name}.err"));
        let script =
            "[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing; exec \"$@\"";
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", "stdbuf", "-oL"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut tool = Self { name, child, output };
        wait_for(&format!("{name} to begin"), LIMIT, || {
            if let Some(status) = tool.child.try_wait()? {
                bail!("{name}: {status}: {}", fs::read_to_string(&errors)?);
            }
            Ok(fs::read_to_string(&tool.output)?.starts_with(headline).then_some(()))
        })?;
        Ok(tool)
    }

    fn end(mut self) -> Result<String> {
        interrupt(self.child.id())?;
        self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        let bytes = fs::read(&self.output).with_context(|| format!("reading what {} says", self.name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The agent, its output in a file.
struct Agent {
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Agent {
    fn start(folder: &Path) -> Result<Self> {
        let (output, errors) = (folder.join("agent.out"), folder.join("agent.err"));
        let child = Command::new(sensor_tests::binaries()?.join("sensor-agent"))
            .args(["watch", "--json", "--reads", "--kind", "exec,file_open"])
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()
            .context("starting sensor-agent")?;
        wait_for("the agent to begin", LIMIT, || {
            Ok(fs::read_to_string(&errors)?.contains("watching").then_some(()))
        })?;
        Ok(Self { child, output, errors })
    }

    fn end(mut self) -> Result<String> {
        interrupt(self.child.id())?;
        let status = self.child.wait().context("waiting for sensor-agent")?;
        let errors = fs::read_to_string(&self.errors)?;
        ensure!(status.success(), "sensor-agent: {status}: {errors}");
        for line in errors.lines().filter(|line| line.starts_with("lost")) {
            println!("here: {line}");
        }
        fs::read_to_string(&self.output).context("reading what sensor-agent says")
    }
}

fn interrupt(pid: u32) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).context("ending a tool")
}

const EXAMPLES: usize = 3;
