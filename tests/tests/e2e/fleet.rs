//! Two hosts in one fleet: learning with host counts, pushing to both, refusing a broken file. Not delivery.

use crate::noise::armed;
use crate::{require_live_kernel, scratch};
use anyhow::Result;
use sensor_tests::{Fleet, Kept, NetworkNamespace, Workload, wait_for};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn two_agents_learn_together_and_get_every_version() -> Result<()> {
    require_live_kernel!();
    if let Some(reason) = NetworkNamespace::why_not() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let scratch = scratch()?;
    let namespace = NetworkNamespace::new()?;
    let fleet = Fleet::start("pair", NetworkNamespace::HOST_ADDRESS, scratch.path())?;
    let near = fleet.agent("near", fleet.first_token(), None)?;
    let far = fleet.agent("far", &fleet.new_token()?, Some(&namespace))?;

    // Both agents run on this kernel, so both learn what this workload does.
    let group = Workload::new("sensor-pair")?;
    let workload = group.name();
    let script = "while :; do echo > \"$1/steady\"; sleep 0.05; done";
    let mut command = group.shell(script, &[scratch.path()]);
    let shell = Kept::start("steady", &mut command, &scratch.path().join("steady.log"))?;
    let candidate = wait_for("both hosts in the candidate", LIMIT, || {
        let candidate = fleet.candidate()?;
        Ok((candidate.contains("/steady") && candidate.contains("# 2 of 2 hosts")).then_some(candidate))
    })?;
    assert!(candidate.contains(&workload), "{candidate}");

    // `push` fails unless every agent reports APPLIED within its five seconds.
    let version = fleet.push(&armed("pair", &workload))?;
    let evidence = wait_for("findings of both agents", LIMIT, || {
        let evidence = fleet.evidence_of(&workload)?;
        let agents: std::collections::BTreeSet<_> =
            evidence.iter().map(|piece| piece.text("agent")).collect();
        Ok((agents.len() == 2).then(|| evidence.clone()))
    })?;
    let written =
        evidence.iter().find(|piece| piece.action() == "write" && piece.object().ends_with("/steady"));
    let written = written.cloned();

    let broken = scratch.path().join("broken.yaml");
    std::fs::write(
        &broken,
        "fleet: pair\nworkloads:\n  unit:x.service:\n    /bin/x:\n      conect: [tcp 10.0.0.1 1]\n",
    )?;
    let refusal = fleet.sensorctl(&["baseline", "push", "--fleet", "pair", &broken.to_string_lossy()]);
    let refusal = format!("{:#}", refusal.expect_err("a misspelt key is refused"));
    assert!(refusal.contains("broken.yaml:5:") && refusal.contains("conect"), "{refusal}");
    let rollout = fleet.sensorctl_json(&["baseline", "status", "--fleet", "pair"])?;
    assert_eq!(rollout["version"].as_u64(), Some(version), "a refused file changes nothing");

    if let Some(written) = written {
        assert_eq!(fleet.approve(written.id())?, version + 1);
    }
    drop((shell, near, far));
    Ok(())
}
