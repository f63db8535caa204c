//! More than the agent can take, and an agent that is stopped meanwhile: what is lost is accounted for, processes are lost
//! last, and what the agent knows of processes is right again afterwards. Skips where loading is not permitted. It may
//! call the agent's program, its kernel module and its pipeline.

use crate::support::{Capture, Folder, actor};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sensor_agent::enrich::process_table::TICK_NS;
use sensor_agent::enrich::seed;
use sensor_agent::enrich::subject::FileId;
use sensor_agent::event::BootNs;
use sensor_agent::kernel::{Kernel, KernelOptions};
use sensor_agent::pipeline::{Output, Pipeline, PipelineConfig};
use sensor_agent::rescan::Rescanner;
use sensor_tests::copy_program;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The agent, where this test is built; not there when only this program was copied.
const AGENT: &str = env!("CARGO_BIN_EXE_sensor-agent");

/// How long the agent is stopped at least.
const STOPPED: Duration = Duration::from_secs(1);

/// Opens that the storm must have made while the agent is stopped: they and their removals are several rings full.
const OPENS_WHILE_STOPPED: u64 = 150_000;

/// Opens of the storm for each of its processes, so that it is one of files on every machine.
const OPENS_PER_PROCESS: u64 = 200;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(120);

/// Files by which the storm is told to begin, and says how much it made.
const BEGIN: &str = "begin";
const MADE: &str = "made";

/// Executions that the agent must have shown before it is stopped, and again before the storm ends.
const EXECS_SHOWN: u64 = 100;

/// Marks of the kinds in the agent's output.
const MARKS: [(&str, &str); 4] = [
    ("exec", r#""launch_type":"Exec""#),
    ("fork", r#""launch_type":"Fork""#),
    ("exit", r#""type_uid":100702"#),
    ("file", r#""class_uid":1001"#),
];

/// Lines of the agent's output, by kind, while they come.
#[derive(Default)]
struct Lines {
    by_mark: [AtomicU64; MARKS.len()],
    /// Executions of children of the storm.
    of_storm: AtomicU64,
}

impl Lines {
    fn count(&self, name: &str) -> u64 {
        let at = MARKS.iter().position(|(mark, _)| *mark == name).expect("one of the marks");
        self.by_mark[at].load(Ordering::Relaxed)
    }

    fn read(&self, output: ChildStdout, storm: u32) {
        let parent = format!(r#""parent_process":{{"pid":{storm},"#);
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while output.read_line(&mut line).expect("the agent's output is text") > 0 {
            for ((name, mark), count) in MARKS.iter().zip(&self.by_mark) {
                if line.contains(mark) {
                    count.fetch_add(1, Ordering::Relaxed);
                    let is_of_storm = *name == "exec" && line.contains(&parent);
                    self.of_storm.fetch_add(u64::from(is_of_storm), Ordering::Relaxed);
                }
            }
            line.clear();
        }
    }
}

/// Waits for a condition.
fn until(what: &str, is_met: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_met() {
        assert!(since.elapsed() < DEADLINE, "no {what}");
        std::thread::yield_now();
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).expect("the child is there");
}

/// Stops a process for [`STOPPED`], and until the storm has made more than it can take.
fn stop_a_while(child: &Child, folder: &Folder) {
    let since = Instant::now();
    let before = made(folder)[1];
    signal(child, Signal::SIGSTOP);
    until("storm", || since.elapsed() >= STOPPED && made(folder)[1] >= before + OPENS_WHILE_STOPPED);
    signal(child, Signal::SIGCONT);
}

fn watching_agent() -> (Child, BufReader<ChildStderr>) {
    let kinds = "exec,fork,exit,file_open,file_unlink,connect";
    let mut agent = Command::new(AGENT)
        .args(["watch", "--json", "--kind", kinds])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the agent starts");
    let mut errors = BufReader::new(agent.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("watching") {
        line.clear();
        assert!(errors.read_line(&mut line).expect("readable") > 0, "the agent ended");
    }
    (agent, errors)
}

#[test]
fn a_stopped_agent_accounts_for_every_record_and_loses_processes_last() {
    // Whether loading is permitted; and nobody else's programs meanwhile.
    let Some(capture) = Capture::start_alone() else { return };
    let _turn = capture.into_turn();
    if !Path::new(AGENT).exists() {
        return println!("skipped: no sensor-agent here, only this test's program");
    }
    let folder = Folder::new();
    let mut storm = actor("overload/storm", &folder.path).stdin(Stdio::piped()).spawn().expect("it starts");
    let (mut agent, mut errors) = watching_agent();
    let lines = Lines::default();
    let (output, storm_pid) = (agent.stdout.take().expect("piped"), storm.id());
    let said = std::thread::scope(|scope| {
        scope.spawn(|| lines.read(output, storm_pid));
        let said = scope.spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).expect("the agent speaks text");
            text
        });
        fs::write(folder.join(BEGIN), "").expect("writable");
        until("execs", || lines.count("exec") >= EXECS_SHOWN);
        stop_a_while(&agent, &folder);
        let shown = lines.count("exec");
        until("more execs", || lines.count("exec") >= shown + EXECS_SHOWN);
        drop(storm.stdin.take());
        assert!(storm.wait().expect("it ends").success());
        signal(&agent, Signal::SIGINT);
        assert!(agent.wait().expect("it ends").success());
        said.join().expect("no panic")
    });
    let account = account_of(&said);
    let [processes, opens] = made(&folder);
    let totals =
        |kinds: &[&str], field: fn(&Row) -> u64| kinds.iter().map(|kind| field(&account[*kind])).sum::<u64>();
    println!(
        "overload: made {processes} processes and {opens} opens; file records seen {}, lost {}; process records seen {}, lost {}",
        totals(&["file_open", "file_unlink"], |row| row.seen),
        totals(&["file_open", "file_unlink"], |row| row.lost),
        totals(&["exec", "fork", "exit"], |row| row.seen),
        totals(&["exec", "fork", "exit"], |row| row.lost),
    );
    for (kind, row) in &account {
        assert_eq!(row.seen, row.delivered + row.cached + row.lost, "{kind}");
    }
    for kind in ["exec", "fork", "exit"] {
        assert_eq!(lines.count(kind), account[kind].delivered, "{kind}: what is told was delivered");
        assert_eq!(account[kind].lost, 0, "{kind}: lost although the storm was of files");
    }
    let files = totals(&["file_open", "file_unlink"], |row| row.delivered);
    assert_eq!(lines.count("file"), files, "what is told was delivered");
    assert!(totals(&["file_open", "file_unlink"], |row| row.lost) > 0, "the storm was too weak: {account:?}");
    assert!(account["file_open"].seen >= opens, "every open is seen, told or counted as lost");
    assert_eq!(lines.of_storm.load(Ordering::Relaxed), processes, "every process of the storm is told");
}

/// One kind's account.
#[derive(Debug)]
struct Row {
    seen: u64,
    delivered: u64,
    cached: u64,
    lost: u64,
}

fn account_of(said: &str) -> BTreeMap<String, Row> {
    let json = said.lines().find_map(|line| line.strip_prefix("account ")).expect("the agent accounts");
    let account: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    let rows = account.as_object().expect("an object by kind").iter();
    rows.map(|(kind, row)| {
        let lost = row["lost"].as_object().expect("by reason").values().map(number).sum();
        let (seen, delivered, cached) = (&row["seen"], &row["delivered"], &row["cached"]);
        let row = Row { seen: number(seen), delivered: number(delivered), cached: number(cached), lost };
        (kind.clone(), row)
    })
    .collect()
}

/// Processes and opens that the storm says it made so far.
fn made(folder: &Folder) -> [u64; 2] {
    let text = fs::read_to_string(folder.join(MADE)).expect("the storm says what it did");
    let mut numbers = text.split_whitespace().map(|number| number.parse().expect("a number"));
    [numbers.next().expect("processes"), numbers.next().expect("opens")]
}

/// The program that the children of the other test run: another file than the shell.
fn waiting(folder: &Folder) -> PathBuf {
    let program = folder.join("waiting");
    copy_program(std::env::current_exe().expect("the test program has a path"), &program);
    program
}

/// A shell that, told to, ends or becomes another program. It runs: its own exec is over, which the end of its parent's
/// `vfork()` does not say.
fn shell(folder: &Folder, then: &str) -> Child {
    let template = actor("overload/wait", &folder.path);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("echo; read line; {then}"), "sh"]).args(template.get_args());
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
    shell.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("the shell says when it runs");
    shell
}

#[test]
fn what_is_known_of_processes_is_right_again_after_losses() {
    let Some(capture) = Capture::start_alone() else { return };
    let _turn = capture.into_turn();
    let folder = Folder::new();
    let program = waiting(&folder);
    let exec = format!("exec {} \"$@\"", program.display());
    let ending: Vec<Child> = (0..CHILDREN).map(|_| shell(&folder, "exit")).collect();
    let mut changing: Vec<Child> = (0..CHILDREN).map(|_| shell(&folder, &exec)).collect();
    let mut agent =
        actor("overload/agent", &folder.path).stdout(Stdio::inherit()).spawn().expect("it starts");
    until("agent", || folder.join("ready").exists());
    signal(&agent, Signal::SIGSTOP);
    // The ring is full when these have run.
    for _ in 0..FILLERS {
        Command::new("/bin/true").arg("x".repeat(500)).status().expect("`true` runs");
    }
    for mut child in ending {
        drop(child.stdin.take());
        child.wait().expect("the shell ends");
    }
    for child in &mut changing {
        std::io::Write::write_all(child.stdin.as_mut().expect("piped"), b"go\n").expect("it listens");
    }
    for child in &changing {
        let exe = PathBuf::from(format!("/proc/{}/exe", child.id()));
        until("exec", || exe.read_link().is_ok_and(|exe| exe == program));
    }
    let mut new: Vec<Child> = (0..CHILDREN).map(|_| shell(&folder, "exit")).collect();
    signal(&agent, Signal::SIGCONT);
    fs::write(folder.join("over"), "").expect("writable");
    let status = agent.wait().expect("it ends");
    for child in changing.iter_mut().chain(&mut new) {
        drop(child.stdin.take());
        child.wait().expect("the child ends");
    }
    assert!(status.success(), "the agent knows processes wrong");
}

/// What the actors of this module do.
pub(crate) fn act(action: &str, folder: &Path) {
    match action {
        "storm" => storm(folder),
        "agent" => agent(folder),
        "wait" => {
            let mut nothing = Vec::new();
            std::io::stdin().read_to_end(&mut nothing).expect("standard input can be read");
        }
        _ => panic!("no action {action}"),
    }
}

/// Files, connections and processes as fast as they can be made, until standard input ends.
fn storm(folder: &Path) {
    until("begin", || folder.join(BEGIN).exists());
    let said = fs::File::create(folder.join(MADE)).expect("writable");
    let is_over = AtomicBool::new(false);
    let (processes, opens) = (AtomicU64::new(0), AtomicU64::new(0));
    let address =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let is_on = || !is_over.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let (is_on, opens, file) = (&is_on, &opens, folder.join(format!("file{number}")));
            scope.spawn(move || {
                while is_on() {
                    let open = OpenOptions::new().write(true).create(true).truncate(true).open(&file);
                    drop(open.expect("the file can be made"));
                    opens.fetch_add(1, Ordering::Relaxed);
                    fs::remove_file(&file).expect("the file was made");
                }
            });
        }
        // Nobody listens any more: the kernel refuses at once.
        scope.spawn(|| while is_on() && TcpStream::connect(address).is_err() {});
        let told = &said;
        let (is_on, processes, opens) = (&is_on, &processes, &opens);
        scope.spawn(move || {
            while is_on() {
                let made = processes.load(Ordering::Relaxed);
                if opens.load(Ordering::Relaxed) < made * OPENS_PER_PROCESS {
                    std::thread::yield_now();
                    continue;
                }
                Command::new("/bin/true").status().expect("`true` runs");
                processes.store(made + 1, Ordering::Relaxed);
                tell(told, processes, opens);
            }
        });
        let mut nothing = Vec::new();
        std::io::stdin().read_to_end(&mut nothing).expect("standard input can be read");
        is_over.store(true, Ordering::Relaxed);
    });
    tell(&said, &processes, &opens);
}

/// Says in a file what was made so far; always as long, so that it is replaced in one go.
fn tell(file: &fs::File, processes: &AtomicU64, opens: &AtomicU64) {
    let text = format!("{:20} {:20}", processes.load(Ordering::Relaxed), opens.load(Ordering::Relaxed));
    file.write_all_at(text.as_bytes(), 0).expect("writable");
}

/// An agent of kernel side, pipeline and new scans, with a ring for processes that is soon full. When all is over, it
/// compares what it knows with /proc.
fn agent(folder: &Path) {
    let options = KernelOptions { lifecycle_ring_bytes: 64 << 10, ..KernelOptions::default() };
    let mut kernel = Kernel::load(&options).expect("it could be loaded before");
    let own = seed::own_identity().ok();
    let mut pipeline = Pipeline::new(PipelineConfig { own, ..PipelineConfig::default() });
    pipeline.seed(seed::scan().expect("/proc can be listed"));
    let mut rescanner = Rescanner::start().expect("a thread can be started");
    fs::write(folder.join("ready"), "").expect("writable");
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < DEADLINE, "the agent does not settle");
        let lost = kernel.counters().expect("readable").process_records_lost();
        rescanner.note_lost(lost);
        drain(&mut kernel, &mut pipeline, &mut rescanner);
        if !folder.join("over").exists() || lost == 0 || !rescanner.is_settled(lost) {
            continue;
        }
        let since_ns = boot_now().0;
        let before = host();
        drain(&mut kernel, &mut pipeline, &mut rescanner);
        let problems = differences(&pipeline, since_ns, &before, &host());
        if kernel.counters().expect("readable").process_records_lost() != lost {
            // Others keep the host busy, and this agent's ring is small.
            continue;
        }
        assert_eq!(problems, Vec::<String>::new());
        return report(&pipeline, lost, before.len());
    }
}

fn drain(kernel: &mut Kernel, pipeline: &mut Pipeline, rescanner: &mut Rescanner) {
    let mut output = Output::default();
    loop {
        if let Some(rescan) = rescanner.take() {
            pipeline.reconcile(rescan);
        }
        let upto = boot_now();
        let drained = kernel
            .drain(Duration::from_millis(20), usize::MAX, &mut |record| pipeline.handle(record, &mut output))
            .expect("draining works");
        output.clear();
        if drained.is_empty {
            return pipeline.tick(upto, &mut output);
        }
    }
}

fn report(pipeline: &Pipeline, lost: u64, processes: usize) {
    let counters = pipeline.counters();
    let [forks, execs, exits] =
        ["fork", "exec", "exit"].map(|lost| counters[format!("processes_repaired{{lost={lost}}}").as_str()]);
    println!(
        "overload: {lost} process records lost; repaired {forks} forks, {execs} execs, {exits} exits; \
         the agent knows the {processes} processes of /proc"
    );
    let children = u64::try_from(CHILDREN).expect("a small number");
    assert!(forks >= children && execs >= children && exits >= children, "every loss was repaired");
}

/// A process as /proc shows it: start in ticks, and which file it runs where that can be read.
type Shown = (u64, Option<FileId>);

/// Every process but kernel threads and those that have ended.
fn host() -> BTreeMap<u32, Shown> {
    let pids = fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, shown(pid)?))).collect()
}

fn shown(pid: u32) -> Option<Shown> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    // proc(5): state, flags and start time, the third, ninth and twenty-second field.
    let (state, flags) = (fields[0], fields[6].parse::<u64>().ok()?);
    let start = fields[19].parse().ok()?;
    if matches!(state, "Z" | "X") || flags & PF_KTHREAD != 0 {
        return None;
    }
    let exe = fs::metadata(format!("/proc/{pid}/exe")).ok();
    Some((start, exe.map(|exe| FileId { dev: seed::kernel_dev(exe.dev()), inode: exe.ino() })))
}

/// What the agent knows otherwise than /proc, which was read twice from `since_ns` on, before and after the agent took
/// what its rings had.
fn differences(
    pipeline: &Pipeline,
    since_ns: u64,
    before: &BTreeMap<u32, Shown>,
    after: &BTreeMap<u32, Shown>,
) -> Vec<String> {
    let known: BTreeMap<u32, _> = pipeline
        .processes()
        .filter(|process| process.image.exe != sensor_agent::enrich::Image::kernel().exe)
        .map(|process| (process.identity.pid, process))
        .collect();
    let mut problems = Vec::new();
    for (pid, (start, file)) in before.iter().filter(|(pid, shown)| after.get(*pid) == Some(*shown)) {
        match known.get(pid) {
            Some(process) if process.identity.start_time_ns / TICK_NS != *start => {
                problems.push(format!("process {pid} is known with another start"));
            }
            Some(process) if file.is_some() && process.image.file != *file => {
                problems.push(format!("process {pid} is known with another program: {}", process.image.exe));
            }
            Some(_) => {}
            None => problems.push(format!("process {pid} is not known")),
        }
    }
    for (pid, process) in &known {
        let start = process.identity.start_time_ns / TICK_NS;
        let is_there = [before, after].iter().any(|host| host.get(pid).is_some_and(|shown| shown.0 == start));
        if !is_there && process.identity.start_time_ns < since_ns {
            problems.push(format!("process {pid} ({}) is no more", process.comm));
        }
    }
    problems
}

fn boot_now() -> BootNs {
    let clock = nix::time::ClockId::CLOCK_BOOTTIME;
    let now = nix::time::clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    BootNs(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// `include/linux/sched.h`.
const PF_KTHREAD: u64 = 0x20_0000;
/// Processes of each sort: that end, change their program, or begin while the agent loses everything.
const CHILDREN: usize = 20;
/// Processes whose records fill the ring.
const FILLERS: usize = 200;
