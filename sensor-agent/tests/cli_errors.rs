//! Bad input on the command line: the message names what is wrong. It may call the agent's executable only, and
//! needs no permission but for the last test.

mod cli_support;

use cli_support::{is_installed, is_permitted, run};
use sensor_tests::copy_program;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

#[test]
fn a_malformed_baseline_is_named_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("b.yaml");
    let check = |yaml: &str, place: &str, expected: &str| {
        fs::write(&path, yaml).expect("it can be written");
        let said = run(["judge", "--baseline", path.to_str().expect("it is text"), "--", "true"]);
        assert_eq!(said.status, Some(1));
        assert!(said.stderr.contains(&format!("b.yaml:{place}")), "{}", said.stderr);
        assert!(said.stderr.contains(expected), "{}", said.stderr);
    };
    check("fleet: x\nworkloads:\n  host:\n    /bin/x:\n      listen: [tcp 99999]\n", "5:", "99999");
    check("fleet: x\nworkloads:\n  host:\n    /bin/x:\n      lisen: [tcp 1]\n", "5:", "lisen");
    check("fleet: [\n", "", "expected");
}

#[test]
fn a_bad_layer_is_named_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("it can be written");
        path.to_str().expect("it is text").to_owned()
    };
    let good = write("good.yaml", "fleet: x\nworkloads:\n  host: {}\n");
    let bad = write("bad.yaml", "fleet: x\nworkloads: 1\n");
    let layers = |lower: &str, upper: &str| {
        let said = run(["replay", "/nowhere/x", "--baseline", lower, "--baseline", upper]);
        assert_eq!(said.status, Some(1));
        said.stderr
    };
    let said = layers(&good, &format!("host={bad}"));
    assert!(said.contains("bad.yaml:2:12: expected"), "{said}");
    let said = layers(&format!("host={good}"), &format!("host={good}"));
    assert!(said.contains("good.yaml: layer host is given twice"), "{said}");
    let said = layers(&format!("fleet={good}"), &format!("host={good}"));
    assert!(said.contains("cannot open /nowhere/x"), "both are read: {said}");
    let config =
        write("agent.toml", &format!("state_dir = {:?}\nlayers.host = {bad:?}\n", folder.path().join("s")));
    let said = run(["run", "--config", &config]);
    assert_eq!(said.status, Some(1));
    assert!(
        said.stderr.contains("layers.host: ") && said.stderr.contains("bad.yaml:2:12:"),
        "{}",
        said.stderr
    );
    assert!(!folder.path().join("s").exists());
}

#[test]
fn files_that_are_missing_or_foreign_are_named() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (baseline, foreign) = (folder.path().join("b.yaml"), folder.path().join("foreign"));
    fs::write(&baseline, "fleet: x\nworkloads: {}\n").expect("it can be written");
    fs::write(&foreign, "#!/bin/sh\nexit 0\n").expect("it can be written");
    let [baseline, foreign] = [&baseline, &foreign].map(|path| path.to_str().expect("it is text"));
    let replayed = run(["replay", foreign, "--baseline", baseline]);
    assert_eq!(replayed.status, Some(1));
    assert!(replayed.stderr.contains("foreign: not a sensor recording"), "{}", replayed.stderr);
    let missing = run(["replay", "/nowhere/x", "--baseline", baseline]);
    assert!(missing.stderr.contains("cannot open /nowhere/x: No such file"), "{}", missing.stderr);
    let missing = run(["judge", "--baseline", "/nowhere/b.yaml"]);
    assert!(missing.stderr.contains("cannot read /nowhere/b.yaml: No such file"), "{}", missing.stderr);
    let folder = run(["replay", "/", "--baseline", baseline]);
    assert_eq!(folder.stderr, "sensor-agent: /: at byte 0: cannot read on: Is a directory (os error 21)\n");
}

#[test]
fn learn_says_that_it_cannot_write_before_it_learns() {
    for (place, why) in [("/", "is a directory"), ("/nowhere/b.yaml", "No such file")] {
        let learned = run(["learn", "-o", place, "--", "true"]);
        assert_eq!(learned.status, Some(1));
        assert!(learned.stderr.contains(&format!("cannot write {place}: {why}")), "{}", learned.stderr);
        assert!(!learned.stderr.contains("learning"), "{}", learned.stderr);
    }
}

#[test]
fn wrong_arguments_are_named() {
    let duration = run(["watch", "--for", "10"]);
    assert!(duration.stderr.contains("expected a number and ms, s, m or h"), "{}", duration.stderr);
    let kind = run(["watch", "--kind", "execs"]);
    assert!(kind.stderr.contains("execs"), "{}", kind.stderr);
    // 2 would mean findings.
    let misspelt = run(["judge", "--basline", "b.yaml", "--", "true"]);
    assert!(misspelt.stderr.contains("--basline"), "{}", misspelt.stderr);
    assert_eq!([duration.status, kind.status, misspelt.status], [Some(1); 3]);
    assert_eq!(run(["judge", "--help"]).status, Some(0));
}

#[test]
fn a_reader_of_messages_that_went_away_does_not_change_the_exit_code() {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sensor-agent"));
    let status = command.args(["judge", "--baseline", "/nowhere/b.yaml"]).stderr(writer).status();
    assert_eq!(status.expect("the agent starts").code(), Some(1));
}

#[test]
fn without_privilege_the_missing_capability_is_named() {
    // Nobody can reach the build folder; anybody can reach this one.
    let folder = tempfile::tempdir().expect("a folder can be made");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let agent = folder.path().join("sensor-agent");
    copy_program(env!("CARGO_BIN_EXE_sensor-agent"), &agent);
    let mut command = Command::new(&agent);
    command.args(["watch", "--for", "1s"]);
    if nix::unistd::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().expect("the agent starts");
    let stderr = String::from_utf8(output.stderr).expect("messages are text");
    if output.status.success() {
        println!("skipped: an ordinary user may load programs here");
        return;
    }
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("missing capability CAP_"), "{stderr}");
}

#[test]
fn another_pid_namespace_is_refused_with_the_way_out() {
    if !is_permitted() || !is_installed("unshare") {
        return;
    }
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--fork",
        "--mount-proc",
        env!("CARGO_BIN_EXE_sensor-agent"),
        "watch",
        "--for",
        "1s",
    ]);
    let output = command.output().expect("unshare starts");
    let stderr = String::from_utf8(output.stderr).expect("messages are text");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("pid:[") && stderr.contains("--pid=host"), "{stderr}");
}
