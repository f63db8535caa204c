//! What the agent holds at one moment: memory, descriptors, kernel objects, and its own counters. Not what that means. It
//! may read /proc and ask the collector.

use anyhow::{Context, Result};
use sensor_tests::Fleet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

/// One look at the agent.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Since the load began.
    pub(super) at: Duration,
    /// `VmRSS`.
    pub(super) rss_kib: u64,
    /// Open descriptors.
    pub(super) descriptors: u64,
    /// Of these, BPF maps.
    pub(super) maps: u64,
    /// BPF programs.
    pub(super) programs: u64,
    /// BPF links.
    pub(super) links: u64,
    /// As of the last heartbeat.
    counters: BTreeMap<String, u64>,
}

impl Sample {
    /// Looks at a process that is an agent of the fleet's.
    pub(super) fn take(at: Duration, pid: u32, fleet: &Fleet) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent has ended")?;
        let rss_kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .context("no VmRSS in the agent's status")?;
        let mut sample = Self {
            at,
            rss_kib,
            descriptors: 0,
            maps: 0,
            programs: 0,
            links: 0,
            counters: counters(&fleet.sensorctl_json(&["agents", "list"])?),
        };
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).context("the agent has ended")? {
            // A descriptor that is closed meanwhile has no target.
            let Ok(target) = fs::read_link(entry.context("listing descriptors")?.path()) else { continue };
            sample.descriptors += 1;
            match target.to_str() {
                Some("anon_inode:bpf-map") => sample.maps += 1,
                Some("anon_inode:bpf-prog") => sample.programs += 1,
                Some("anon_inode:bpf_link") => sample.links += 1,
                _ => {}
            }
        }
        Ok(sample)
    }

    /// A counter; 0 before the first heartbeat.
    pub(super) fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }

    /// Counters of a family that are not zero.
    pub(super) fn counters_named(&self, family: &str) -> String {
        let shown: Vec<String> = self
            .counters
            .iter()
            .filter(|(name, count)| name.starts_with(family) && **count > 0)
            .map(|(name, count)| format!("{}={count}", name.trim_start_matches(family)))
            .collect();
        if shown.is_empty() { "nothing".to_owned() } else { shown.join(" ") }
    }

    /// Records seen, by kind.
    pub(super) fn kinds(&self) -> String {
        self.counters_named("records_seen")
    }

    /// For people who wait.
    pub(super) fn line(&self) -> String {
        format!(
            "{:5.1} min: rss {} KiB, {} descriptors, {} records, {} processes, {} unknown",
            self.at.as_secs_f64() / 60.0,
            self.rss_kib,
            self.descriptors,
            self.counter("records"),
            self.counter("processes"),
            self.counter("processes_unknown"),
        )
    }
}

/// The counters of the only agent.
fn counters(agents: &Value) -> BTreeMap<String, u64> {
    match agents {
        Value::Array(items) => items.iter().map(counters).find(|found| !found.is_empty()).unwrap_or_default(),
        Value::Object(members) => match members.get("counters") {
            Some(Value::Object(counters)) => {
                counters.iter().filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect()
            }
            _ => members.values().map(counters).find(|found| !found.is_empty()).unwrap_or_default(),
        },
        _ => BTreeMap::new(),
    }
}

/// All samples as a table.
pub(super) fn csv(samples: &[Sample]) -> String {
    let names: Vec<&String> = samples.last().map(|last| last.counters.keys().collect()).unwrap_or_default();
    let mut text = "seconds,rss_kib,descriptors,maps,programs,links".to_owned();
    for name in &names {
        // Names of counters have commas in their labels.
        write!(text, ",\"{name}\"").expect("a String takes everything");
    }
    for sample in samples {
        let Sample { rss_kib, descriptors, maps, programs, links, .. } = sample;
        let seconds = sample.at.as_secs();
        write!(text, "\n{seconds},{rss_kib},{descriptors},{maps},{programs},{links}")
            .expect("a String takes everything");
        for name in &names {
            write!(text, ",{}", sample.counter(name)).expect("a String takes everything");
        }
    }
    text.push('\n');
    text
}
