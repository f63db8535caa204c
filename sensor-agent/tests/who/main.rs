//! Who did it, on the running kernel: containers of a containerd of our own, a unit and a login session made of control
//! groups. Not the look-ups by themselves. It may call the agent's executable, containerd's, and the cgroup v2 mount.

#[path = "../cli_support/mod.rs"]
mod cli_support;

use cli_support::{Running, is_installed, is_permitted};
use sensor_tests::{Containerd, copy_program};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What `watch --json` prints while `act` runs.
fn watched(arguments: &[&str], act: impl FnOnce()) -> Vec<Value> {
    let all = ["watch", "--json", "--kind", "exec,file_open"].iter().chain(arguments);
    let watch = Running::start(all, "watching");
    act();
    let (status, stdout, stderr) = watch.stop();
    assert!(status.success(), "{stderr}");
    let text = String::from_utf8(stdout).expect("output is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// The last exec whose last argument is `mark`: programs that start it have it as theirs too.
fn exec_of<'a>(objects: &'a [Value], mark: &str) -> &'a Value {
    let last =
        |object: &&Value| object["unmapped"]["argv"].as_array()?.last()?.as_str().map(|last| last == mark);
    let found = objects.iter().rfind(|object| last(object) == Some(true));
    found.unwrap_or_else(|| panic!("no exec with the argument {mark}"))
}

#[test]
fn a_container_shows_its_image_its_name_and_both_names_of_its_files() {
    if !Containerd::PROGRAMS.iter().all(|program| is_installed(program)) || !is_permitted() {
        return;
    }
    let containerd = match Containerd::start() {
        Ok(containerd) => containerd,
        Err(reason) => {
            println!("skipped: {reason:#}");
            return;
        }
    };
    containerd.import_busybox(IMAGE).expect("the image is imported");
    let id = format!("web-{}", std::process::id());
    let state = containerd.state();
    let rootfs = state.join("io.containerd.runtime.v2.task/default").join(&id).join("rootfs");
    let objects = watched(&["--containerd", state.to_str().expect("UTF-8")], || {
        // It is there until all is looked up; who its first process is, is known some time after its start.
        let script = "for round in 1 2 3 4 5 6 7 8; do /bin/busybox touch /made; /bin/busybox sleep 0.1; done; \
                      /bin/busybox echo the-container-ran; /bin/busybox touch /ready; /bin/busybox sleep 60";
        let program = ["/bin/busybox", "sh", "-c", script];
        let run = ["run", "--detach", "--null-io", "--snapshotter", "native", IMAGE, &id];
        containerd.ctr(&run.iter().chain(&program).copied().collect::<Vec<_>>()).expect("it starts");
        let deadline = Instant::now() + READY_MAX;
        while !rootfs.join("ready").exists() {
            assert!(Instant::now() < deadline, "the container does not run");
            std::thread::yield_now();
        }
    });
    containerd.ctr(&["task", "rm", "--force", &id]).expect("it ends");

    let exec = exec_of(&objects, "the-container-ran");
    let container = &exec["process"]["container"];
    assert_eq!(container["uid"], *id, "{exec}");
    assert_eq!(container["name"], *id, "{exec}");
    assert_eq!(container["image"]["name"], IMAGE, "{exec}");
    assert_eq!(container["runtime"], "containerd", "{exec}");
    assert_eq!(exec["unmapped"]["workload"], "container:sensor.test/busybox", "{exec}");
    assert_eq!(exec["unmapped"]["origin"]["kind"], "container", "{exec}");
    let shim = exec["unmapped"]["origin"]["exe"].as_str().expect("the shim has a name");
    assert!(shim.ends_with("/containerd-shim-runc-v2"), "{exec}");
    assert_eq!(exec["process"]["user"]["name"], "root", "{exec}");
    let on_host = |path: &str| format!("{}{path}", rootfs.display());
    assert_eq!(exec["process"]["file"]["path"], "/bin/busybox", "{exec}");
    assert_eq!(exec["unmapped"]["exe_on_host"], on_host("/bin/busybox"), "{exec}");
    let made = objects.iter().rfind(|object| object["file"]["path"] == "/made").expect("the file is seen");
    assert_eq!(made["unmapped"]["path_on_host"], on_host("/made"), "{made}");
    let process = &made["actor"]["process"];
    assert_eq!(process["container"]["uid"], *id, "{made}");
    assert_eq!(process["parent_process"]["container"]["uid"], *id, "the shell is in it too: {made}");
}

#[test]
fn containers_of_one_image_are_one_workload_live_and_replayed() {
    if !Containerd::PROGRAMS.iter().all(|program| is_installed(program)) || !is_permitted() {
        return;
    }
    let containerd = match Containerd::start() {
        Ok(containerd) => containerd,
        Err(reason) => {
            println!("skipped: {reason:#}");
            return;
        }
    };
    containerd.import_busybox(IMAGE).expect("the image is imported");
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (baseline, recording) = (path("baseline.yaml"), path("recording"));
    std::fs::write(&baseline, "fleet: test\nworkloads:\n  container:sensor.test/busybox: {}\n")
        .expect("room");
    let state = containerd.state();
    let state = state.to_str().expect("UTF-8");
    let judge =
        Running::start(["judge", "--json", "--baseline", &baseline, "--containerd", state], "judging");
    let record = Running::start(["record", "--output", &recording, "--containerd", state], "recording");
    for number in 0..3 {
        // Each is over at once: it is known when it has long ended.
        let (id, made) = (format!("job-{}-{number}", std::process::id()), format!("/made-{number}.x"));
        let run =
            ["run", "--rm", "--null-io", "--snapshotter", "native", IMAGE, &id, "/bin/busybox", "touch"];
        let all: Vec<_> = run.iter().copied().chain([made.as_str()]).collect();
        containerd.ctr(&all).expect("it runs");
    }
    let (status, ..) = record.stop();
    assert!(status.success());
    let (_, live, told) = judge.stop();
    let replayed = Command::new(env!("CARGO_BIN_EXE_sensor-agent"))
        .args(["replay", "--json", "--baseline", &baseline, &recording])
        .output()
        .expect("the agent starts");
    for (how, found) in [("live", live), ("replayed", replayed.stdout)] {
        let text = String::from_utf8(found).expect("output is UTF-8");
        let findings: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        for number in 0..3 {
            let object = format!("/made-{number}.x");
            let made = findings.iter().find(|finding| finding["object"] == *object);
            let made = made.unwrap_or_else(|| panic!("{how}: nothing about {object} in {text}{told}"));
            assert_eq!(made["workload"], "container:sensor.test/busybox", "{how}: {made}");
        }
    }
    assert!(!told.contains("container:default/"), "a container was judged under its id: {told}");
}

#[test]
fn the_hash_is_that_of_the_program_though_it_is_gone() {
    if !is_permitted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for the test");
    let program = folder.path().join("short-lived");
    copy_program("/bin/true", &program);
    let sum = Command::new("sha256sum").arg(&program).output().expect("coreutils are installed");
    let expected = String::from_utf8(sum.stdout).expect("digits")[..64].to_owned();
    let objects = watched(&[], || {
        let status = Command::new(&program).arg("the-hashed").status().expect("the copy runs");
        assert!(status.success());
    });
    let exec = exec_of(&objects, "the-hashed");
    let hash = &exec["process"]["file"]["hashes"][0];
    let is_late = exec["unmapped"]["hash_missing"] == "not ready in time";
    if is_late {
        // A machine that is busy enough: the record says so, which is what it must do.
        println!("skipped: the machine was too busy to hash in time");
        return;
    }
    assert_eq!((&hash["algorithm_id"], &hash["value"]), (&3.into(), &expected.into()), "{exec}");
}

#[test]
fn a_unit_is_shown() {
    if !is_permitted() {
        return;
    }
    let unit = format!("sensor-test-{}.service", std::process::id());
    let Some(group) = ControlGroup::make(&format!("system.slice/{unit}")) else { return };
    let objects = watched(&[], || group.run(&["true", "in-the-unit"]));
    let exec = exec_of(&objects, "in-the-unit");
    assert_eq!(exec["unmapped"]["unit"], *unit, "{exec}");
    assert_eq!(exec["unmapped"]["workload"], format!("unit:{unit}"), "{exec}");
    assert_eq!(exec["process"]["container"], Value::Null, "{exec}");
}

#[test]
fn a_login_session_is_shown_with_its_user() {
    if !is_permitted() || !is_installed("setpriv") {
        return;
    }
    let session = format!("s{}", std::process::id());
    let path = format!("user.slice/user-65534.slice/session-{session}.scope");
    let Some(group) = ControlGroup::make(&path) else { return };
    let program = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true", "in-the-session"];
    let objects = watched(&[], || group.run(&program));
    let exec = exec_of(&objects, "in-the-session");
    assert_eq!(exec["process"]["session"]["uid"], *session, "{exec}");
    let user = &exec["process"]["user"];
    assert_eq!((&user["uid"], &user["name"]), (&"65534".into(), &"nobody".into()), "{exec}");
    assert_eq!(exec["unmapped"]["login_user"], "nobody", "{exec}");
    assert_eq!(exec["unmapped"]["origin"]["kind"], "login", "{exec}");
    assert_eq!(exec["unmapped"]["workload"], "session:user", "{exec}");
    if std::fs::metadata("/proc/self/loginuid").is_err() {
        println!("skipped: the kernel has no audit subsystem: the login is told by the control group only");
    }
}

/// A control group that is removed when it goes, with the folders that were made for it.
struct ControlGroup {
    path: PathBuf,
    made: Vec<PathBuf>,
}

impl ControlGroup {
    /// Below the cgroup v2 mount. Says `skipped:` and gives none where there is none, or it cannot be written to.
    fn make(below: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        let mount =
            mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let Some(mount) = mount else {
            println!("skipped: cgroup v2 is not mounted");
            return None;
        };
        let (mut path, mut made) = (PathBuf::from(mount), Vec::new());
        for component in Path::new(below).components() {
            path.push(component);
            if path.exists() {
                continue;
            }
            if let Err(error) = std::fs::create_dir(&path) {
                println!("skipped: {}: {error}", path.display());
                return None;
            }
            made.push(path.clone());
        }
        Some(Self { path, made })
    }

    /// Runs a program in it.
    fn run(&self, program: &[&str]) {
        let script = format!("echo $$ > '{}' && exec \"$@\"", self.path.join("cgroup.procs").display());
        let status =
            Command::new("sh").args(["-c", &script, "sh"]).args(program).status().expect("sh starts");
        assert!(status.success(), "{program:?}: {status}");
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            // One that somebody else has come to use stays.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Longest wait for the container's work.
const READY_MAX: Duration = Duration::from_secs(60);
const IMAGE: &str = "sensor.test/busybox:1";
