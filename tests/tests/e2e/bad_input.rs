//! What an operator gets wrong, and what the product answers: a message that names the value, and no harm. Not
//! parsing rules: the crates test those.

use crate::noise::Noise;
use crate::{require_live_kernel, scratch};
use anyhow::{Context, Result};
use sensor_tests::{Fleet, binaries, copy_program, output, wait_for};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Runs `command`, which must fail, and checks that its words hold every one of `expected`.
fn refused(command: &mut Command, expected: &[&str]) {
    let words = match output(command) {
        Ok(words) => panic!("{command:?} succeeded: {words}"),
        Err(error) => format!("{error:#}"),
    };
    for part in expected {
        assert!(words.contains(part), "expected {part:?} in: {words}");
    }
}

fn agent_command() -> Result<Command> {
    Ok(Command::new(binaries()?.join("sensor-agent")))
}

fn enroll(grpc: &str, token: &str, state: &Path) -> Result<Command> {
    let mut command = agent_command()?;
    command.args(["enroll", "--collector", grpc, "--token", token]).arg("--state-dir").arg(state);
    Ok(command)
}

#[test]
fn tokens_work_once_and_only_for_their_collector() -> Result<()> {
    let scratch = scratch()?;
    let (first, second) = (scratch.path().join("1"), scratch.path().join("2"));
    std::fs::create_dir(&first)?;
    std::fs::create_dir(&second)?;
    let fleet = Fleet::start("one", "127.0.0.1", &first)?;
    let other = Fleet::start("two", "127.0.0.1", &second)?;

    output(&mut enroll(fleet.grpc(), fleet.first_token(), &scratch.path().join("a"))?)?;
    refused(&mut enroll(fleet.grpc(), fleet.first_token(), &scratch.path().join("b"))?, &["used"]);
    let pin = other.first_token().rsplit('.').next().context("a token has a pin")?;
    // The token pins the other collector's CA: this collector cannot prove that it is that one.
    refused(&mut enroll(fleet.grpc(), other.first_token(), &scratch.path().join("c"))?, &[pin]);
    refused(&mut enroll(fleet.grpc(), "sensor1.short", &scratch.path().join("d"))?, &["token"]);
    refused(&mut enroll("127.0.0.1:1", &fleet.new_token()?, &scratch.path().join("e"))?, &["127.0.0.1:1"]);
    Ok(())
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() -> Result<()> {
    let scratch = scratch()?;
    let config = scratch.path().join("agent.toml");
    std::fs::write(&config, "state_dir = \"/nonexistent\"\nspool_sise = 1\n")?;
    refused(agent_command()?.arg("run").arg("--config").arg(&config), &["agent.toml", "spool_sise", "2"]);
    let config = scratch.path().join("collector.toml");
    std::fs::write(&config, "listen_gprc = \"127.0.0.1:0\"\n")?;
    let mut collector = Command::new(binaries()?.join("sensor-collector"));
    refused(collector.arg("run").arg("--config").arg(&config), &["collector.toml", "listen_gprc"]);
    Ok(())
}

#[test]
fn a_malformed_baseline_is_named_with_file_line_and_what_was_expected() -> Result<()> {
    let scratch = scratch()?;
    let baseline = scratch.path().join("baseline.yaml");
    std::fs::write(&baseline, "fleet: x\nworkloads:\n  host:\n    /bin/x:\n      listen: [tcp 99999]\n")?;
    let mut judge = agent_command()?;
    judge.arg("judge").arg("--baseline").arg(&baseline).args(["--", "true"]);
    refused(&mut judge, &["baseline.yaml:5:", "99999"]);
    Ok(())
}

#[test]
fn without_privileges_the_missing_capability_is_named() -> Result<()> {
    require_live_kernel!();
    // The build folder may be closed to other users.
    let scratch = scratch()?;
    let program = scratch.path().join("sensor-agent");
    copy_program(binaries()?.join("sensor-agent"), &program);
    output(Command::new("chmod").arg("0755").arg(scratch.path()).arg(&program))?;
    let mut watch = Command::new("setpriv");
    watch.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]);
    refused(watch.arg(&program).args(["watch", "--for", "1s"]), &["CAP_BPF"]);
    Ok(())
}

#[test]
fn a_second_agent_with_the_same_state_folder_is_refused() -> Result<()> {
    require_live_kernel!();
    let scratch = scratch()?;
    let fleet = Fleet::start("lock", "127.0.0.1", scratch.path())?;
    let agent = fleet.agent("only", fleet.first_token(), None)?;
    let pid = agent.id().context("the agent runs")?.to_string();
    let state = agent.state().display().to_string();
    refused(agent_command()?.arg("run").arg("--config").arg(agent.config()), &["in use", &state, &pid]);
    Ok(())
}

#[test]
fn a_damaged_spool_is_set_aside_and_declared() -> Result<()> {
    require_live_kernel!();
    let scratch = scratch()?;
    let fleet = Fleet::start("damage", "127.0.0.1", scratch.path())?;
    let mut agent = fleet.agent("hurt", fleet.first_token(), None)?;
    agent.stop();
    std::fs::write(agent.state().join("spool.db"), b"this is not a database, and not empty either")?;
    agent.start()?;
    wait_for("the gap at the collector", LIMIT, || {
        let gaps = fleet.sensorctl(&["gaps", "list", "--json"])?;
        Ok(gaps.contains("spool_damaged").then_some(()))
    })?;
    let names = std::fs::read_dir(agent.state())?.filter_map(Result::ok).map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    // With it go the journals that it had, if any.
    let is_database = |name: &String| !name.ends_with("-wal") && !name.ends_with("-shm");
    let set_aside = names.filter(|name| name.starts_with("spool.db.damaged")).filter(is_database);
    assert_eq!(set_aside.count(), 1, "the damaged file is kept for a person to look at");
    Ok(())
}

#[test]
fn a_full_disk_degrades_and_recovers() -> Result<()> {
    require_live_kernel!();
    let scratch = scratch()?;
    let fleet = Fleet::start("full", "127.0.0.1", scratch.path())?;
    let state = scratch.path().join("small");
    std::fs::create_dir(&state)?;
    output(Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "small"]).arg(&state))?;
    let _unmount = Unmount(&state);
    let mut agent = fleet.agent("small", fleet.first_token(), None)?;
    let noise = Noise::start("sensor-full", scratch.path())?;
    fleet.push(&noise.baseline("full"))?;
    let filler = state.join("filler");
    let mut file = std::fs::File::create(&filler)?;
    // The error is the point: it says that the disk is full now.
    let full = std::io::copy(&mut std::io::repeat(0), &mut file);
    assert!(full.is_err(), "the small disk must fill up");
    // An open file would keep the room when its name goes.
    drop(file);
    wait_for("the agent to say that it is degraded", LIMIT, || {
        let agents = fleet.sensorctl_json(&["agents", "list"])?.to_string();
        Ok((agents.contains("degraded") && agents.contains("full")).then_some(()))
    })?;
    let before = fleet.count_of(&noise.workload())?;
    std::fs::remove_file(&filler)?;
    wait_for("findings after the disk has room again", LIMIT, || {
        Ok((fleet.count_of(&noise.workload())? > before).then_some(()))
    })?;
    drop(noise);
    agent.stop();
    Ok(())
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = output(Command::new("umount").arg("--lazy").arg(self.0));
    }
}
