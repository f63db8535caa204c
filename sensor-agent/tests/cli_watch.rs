//! `watch --json` on the running kernel: every process counted right, every path the resolved truth. Skips where
//! loading is not permitted. It may call the agent's executable only.

mod cli_support;

use cli_support::{Running, is_installed, is_permitted};
use sensor_tests::copy_program;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn objects(stdout: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stdout).expect("output is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn is_exec(object: &Value) -> bool {
    object["class_uid"] == 1007 && object["launch_type"] == "Exec"
}

/// Last argument of an exec.
fn last_argument(object: &Value) -> &str {
    object["unmapped"]["argv"].as_array().and_then(|argv| argv.last()?.as_str()).unwrap_or_default()
}

#[test]
fn ten_thousand_processes_are_printed_whole() {
    if !is_permitted() {
        return;
    }
    let watch = Running::start(["watch", "--json", "--kind", "exec,exit"], "watching");
    let threads: Vec<_> = (0..2u32).map(|half| std::thread::spawn(move || spawn_many(half))).collect();
    for thread in threads {
        thread.join().expect("processes can be started");
    }
    let (status, stdout, stderr) = watch.stop();
    assert!(status.success(), "{stderr}");
    assert!(!stderr.contains("lost kind="), "{stderr}");

    let objects = objects(&stdout);
    let mut exits: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for exit in objects.iter().filter(|object| object["activity_name"] == "Terminate") {
        let identity = exit["process"]["uid"].as_str().expect("an exit names its process");
        exits.entry(identity).or_default().push(exit["exit_code"].as_u64().expect("an exit has a code"));
    }
    let mut seen = BTreeMap::new();
    for exec in objects.iter().filter(|object| is_exec(object) && last_argument(object).starts_with(MARK)) {
        let number: u32 = last_argument(exec)[MARK.len()..].parse().expect("the mark carries a number");
        *seen.entry(number).or_insert(0u32) += 1;
        let argv = [Value::from("sh"), "-c".into(), "exit $0".into(), code(number).to_string().into()];
        assert_eq!(exec["unmapped"]["argv"].as_array().expect("argv is a list")[..4], argv);
        assert_eq!(exec["process"]["parent_process"]["pid"], std::process::id());
        let identity = exec["process"]["uid"].as_str().expect("an exec names its process");
        assert_eq!(exits.get(identity).map(Vec::as_slice), Some(&[u64::from(code(number))][..]), "{number}");
    }
    assert_eq!(seen.len(), PROCESSES as usize);
    assert!(seen.values().all(|count| *count == 1));
}

fn spawn_many(half: u32) {
    let mut running = std::collections::VecDeque::new();
    for number in (half..PROCESSES).step_by(2) {
        let mut command = Command::new("/bin/sh");
        let arguments =
            ["-c".to_owned(), "exit $0".to_owned(), code(number).to_string(), format!("{MARK}{number}")];
        std::os::unix::process::CommandExt::arg0(&mut command, "sh");
        running.push_back(command.args(arguments).spawn().expect("sh starts"));
        if running.len() >= 32
            && let Some(mut oldest) = running.pop_front()
        {
            oldest.wait().expect("sh ends");
        }
    }
    for mut child in running {
        child.wait().expect("sh ends");
    }
}

fn code(number: u32) -> u32 {
    number % 256
}

/// `seen = delivered + cached + lost`, for each kind of an account.
fn assert_adds_up(account: &Value) {
    for (kind, row) in account.as_object().expect("an account is an object by kinds") {
        let lost: u64 =
            row["lost"].as_object().expect("losses have reasons").values().filter_map(Value::as_u64).sum();
        let number = |name: &str| row[name].as_u64().unwrap_or_else(|| panic!("{kind} has {name}"));
        assert_eq!(number("seen"), number("delivered") + number("cached") + lost, "{kind}: {row}");
        assert_eq!(row["in_flight"], 0, "{kind}: {row}");
    }
}

#[test]
fn the_account_of_a_watch_adds_up_and_its_reads_show() {
    if !is_permitted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let root = folder.path().canonicalize().expect("it exists");
    let watch =
        Running::start(["watch", "--json", "--kind", "process,file,privilege", "--reads"], "watching");
    let shown = |name: &str| format!("{}/{name}", root.display());
    fs::write(root.join("read"), b"x").expect("a file can be made");
    fs::read(root.join("read")).expect("it can be read");
    fs::read(root.join("missing")).expect_err("there is no such file");
    fs::create_dir(root.join("folder")).expect("a folder can be made");
    let (status, stdout, stderr) = watch.stop();
    assert!(status.success(), "{stderr}");

    let objects = objects(&stdout);
    let opened = |name: &str| {
        let path = shown(name);
        objects
            .iter()
            .find(|object| object["file"]["path"] == path.as_str() && object["unmapped"]["intent"] == "read")
    };
    assert_eq!(opened("read").expect("a read is shown")["status"], "Success");
    assert_eq!(opened("missing").expect("a failed open is shown")["status_code"], "ENOENT");
    let made = objects.iter().find(|object| object["file"]["path"] == shown("folder").as_str());
    assert_eq!(made.expect("a folder that was made is shown")["file"]["type_id"], 2);

    let account =
        stderr.lines().find_map(|line| line.strip_prefix("account ")).expect("stderr has the account");
    let account: Value = serde_json::from_str(account).expect("the account is JSON");
    assert!(account["file_open"]["delivered"].as_u64() > Some(0), "{account}");
    assert!(account.get("connect").is_none(), "it was not asked for: {account}");
    assert_adds_up(&account);
}

#[test]
fn check_accounts_for_its_trial_run() {
    if !is_permitted() {
        return;
    }
    let said = cli_support::run(["check", "--json"]);
    let report = said.objects().pop().expect("check prints an object");
    assert_adds_up(&report["account"]);
    assert_eq!(report["imbalances"], Value::from(Vec::<Value>::new()));
    let limits = report["limits"].as_array().expect("limits are a list");
    assert!(limits.iter().all(|limit| limit["what"].is_string() && limit["kernels"].is_string()));
}

#[test]
fn paths_are_the_resolved_truth() {
    if !is_permitted() || !is_installed("unshare") || !is_installed("chroot") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let root = folder.path().canonicalize().expect("it exists");
    let watch = Running::start(["watch", "--json", "--kind", "exec,file"], "watching");
    act_all(&root);
    let (status, stdout, stderr) = watch.stop();
    assert!(status.success(), "{stderr}");
    let objects = objects(&stdout);

    let exec = |mark: &str| {
        let found: Vec<_> =
            objects.iter().filter(|object| is_exec(object) && last_argument(object) == mark).collect();
        (*found.last().unwrap_or_else(|| panic!("no exec with argument {mark}"))).clone()
    };
    let exe =
        |mark: &str| exec(mark)["process"]["file"]["path"].as_str().map(str::to_owned).unwrap_or_default();
    let below = |name: &str| format!("{}/{name}", root.display());
    assert_eq!(exe("m-relative"), below("bin/prog"));
    assert_eq!(exe("m-symlink"), below("bin/prog"));
    assert_eq!(exe("m-dots"), below("bin/prog"));
    assert_eq!(exe("m-mount"), below("mnt/prog"));
    assert_eq!(exe("m-odd"), below(r"bin/a b\x0ac\xff"));
    assert_eq!(exec("m-relative")["process"]["working_directory"], below("bin"));
    let gone = exec("m-deleted");
    assert_eq!(gone["process"]["file"]["path"], below("bin/gone"));
    assert_eq!(gone["unmapped"]["path_flags"], Value::from(vec!["deleted"]));
    let jailed = exec("m-chroot");
    assert_eq!(jailed["process"]["file"]["path"], below("jail/prog"));
    assert_eq!(jailed["unmapped"]["exe_in_chroot"], "/prog");
    assert_eq!(exec("m-chroot")["process"]["working_directory"], below("jail"));

    let touched = |activity: &str, path: &str| {
        objects.iter().any(|object| object["activity_name"] == activity && object["file"]["path"] == path)
    };
    assert!(touched("Create", &below(r"files/x y\x0az\xfe")), "a created file shows its bytes");
    assert!(touched("Delete", &below(r"files/x y\x0az\xfe")), "a relative name is joined to its folder");
    let renamed = objects.iter().find(|object| object["file_result"]["path"] == below("files/new"));
    assert_eq!(renamed.expect("a rename shows both names")["file"]["path"], below("files/old"));
}

/// Does everything that the test looks for. Every program is a copy of `true`, told apart by its argument.
fn act_all(root: &Path) {
    for name in ["bin", "mnt", "jail", "files"] {
        fs::create_dir(root.join(name)).expect("a folder can be made");
    }
    let odd = OsString::from_vec(b"a b\nc\xff".to_vec());
    for name in [OsStr::new("prog"), OsStr::new("gone"), &odd] {
        copy_program("/bin/true", root.join("bin").join(name));
    }
    symlink(root.join("bin/prog"), root.join("link")).expect("a link can be made");
    succeed(Command::new("./prog").arg("m-relative").current_dir(root.join("bin")));
    succeed(Command::new(root.join("link")).arg("m-symlink"));
    succeed(Command::new(root.join("files/../bin/./prog")).arg("m-dots"));
    succeed(Command::new(root.join("bin").join(&odd)).arg("m-odd"));
    shell(root, "mount -t tmpfs none mnt && cp bin/prog mnt/prog && mnt/prog m-mount", &["unshare", "-m"]);
    shell(root, "exec 3<bin/gone && rm bin/gone && /proc/self/fd/3 m-deleted", &[]);
    make_jail(&root.join("jail"));
    succeed(Command::new("chroot").arg(root.join("jail")).args(["/prog", "m-chroot"]));
    let file = OsString::from_vec(b"x y\nz\xfe".to_vec());
    fs::write(root.join("files").join(&file), b"").expect("a file can be made");
    succeed(Command::new("rm").arg(&file).current_dir(root.join("files")));
    shell(root, "cd files && : >old && mv old ../files/new", &[]);
}

fn shell(root: &Path, script: &str, wrapper: &[&str]) {
    let words: Vec<&str> = wrapper.iter().copied().chain(["sh", "-c", script]).collect();
    succeed(Command::new(words[0]).args(&words[1..]).current_dir(root));
}

fn succeed(command: &mut Command) {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder that `true` can run in: with the libraries that `ldd` names.
fn make_jail(jail: &Path) {
    copy_program("/bin/true", jail.join("prog"));
    let output = Command::new("ldd").arg("/bin/true").output().expect("ldd runs");
    let text = String::from_utf8(output.stdout).expect("paths of libraries are text");
    for library in text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from) {
        let to = jail.join(OsStr::from_bytes(&library.as_os_str().as_bytes()[1..]));
        fs::create_dir_all(to.parent().expect("a library is in a folder")).expect("a folder can be made");
        fs::copy(&library, to).expect("a library can be copied");
    }
}

const PROCESSES: u32 = 10_000;
const MARK: &str = "mark-";

/// `watch --for 1s | sleep 1000`: the time is up although nobody reads what would be printed.
#[test]
fn an_output_that_nobody_reads_does_not_hold_up_the_end() {
    if !is_permitted() {
        return;
    }
    let mut child = cli_support::agent()
        .args(["watch", "--json", "--kind", "process", "--for", "1s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the agent starts");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let unread = child.stdout.take();
    let (sender, ended) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || sender.send(child.wait_with_output()));
    let since = Instant::now();
    let output = loop {
        // More than a pipe holds.
        Command::new("/bin/true").status().expect("a process can be started");
        match ended.try_recv() {
            Ok(output) => break output.expect("it can be waited for"),
            Err(_) if since.elapsed() > Duration::from_secs(120) => {
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
                panic!("the agent does not end");
            }
            Err(_) => {}
        }
    };
    drop(unread);
    waiting.join().expect("it waits").expect("somebody listens");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("output is stuck: ") && stderr.contains(" records that were read"), "{stderr}");
}
