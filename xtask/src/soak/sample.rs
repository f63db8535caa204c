//! What the agent holds at one moment: memory, descriptors, kernel objects, and its own counters. Not what that means. It
//! may read /proc and ask the collector.

use anyhow::{Context, Result};
use sensor_tests::Fleet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
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

    /// A counter; `None` before the first heartbeat, and if the agent has none of this name.
    pub(super) fn counter(&self, name: &str) -> Option<u64> {
        self.counters.get(name).copied()
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
        let counter = |name| self.counter(name).unwrap_or_default();
        format!(
            "{:5.1} min: rss {} KiB, {} descriptors, {} records, {} processes, {} unknown",
            self.at.as_secs_f64() / 60.0,
            self.rss_kib,
            self.descriptors,
            counter("records"),
            counter("processes"),
            counter("processes_unknown"),
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

/// The samples as a table in a file, in which each stands as soon as it is taken.
pub(super) struct Table {
    path: PathBuf,
    /// Counters that have a column.
    names: Vec<String>,
}

impl Table {
    /// An empty table.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), names: Vec::new() }
    }

    /// Adds the last of these samples. Writes all of them again when it has counters that those before had not.
    pub(super) fn add_last(&mut self, samples: &[Sample]) -> Result<()> {
        let Some(last) = samples.last() else { return Ok(()) };
        let written = if samples.len() > 1 && last.counters.keys().eq(&self.names) {
            let file = fs::File::options().append(true).open(&self.path);
            file.and_then(|mut file| file.write_all(self.row(last).as_bytes()))
        } else {
            self.names = last.counters.keys().cloned().collect();
            let rows: String = samples.iter().map(|sample| self.row(sample)).collect();
            fs::write(&self.path, self.heading() + &rows)
        };
        written.with_context(|| format!("writing {}", self.path.display()))
    }

    fn heading(&self) -> String {
        let mut text = "seconds,rss_kib,descriptors,maps,programs,links".to_owned();
        for name in &self.names {
            // Names of counters have commas in their labels.
            write!(text, ",\"{name}\"").expect("a String takes everything");
        }
        text.push('\n');
        text
    }

    fn row(&self, sample: &Sample) -> String {
        let Sample { rss_kib, descriptors, maps, programs, links, .. } = sample;
        let seconds = sample.at.as_secs();
        let mut text = format!("{seconds},{rss_kib},{descriptors},{maps},{programs},{links}");
        for name in &self.names {
            write!(text, ",{}", sample.counter(name).unwrap_or_default()).expect("a String takes everything");
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Sample, Table};
    use std::fs;
    use std::time::Duration;

    /// A sample of an agent that holds 100 KiB.
    pub(in super::super) fn sample(at: Duration, counters: &[(&str, u64)]) -> Sample {
        let counters = counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Sample { at, rss_kib: 100, descriptors: 1, maps: 2, programs: 3, links: 4, counters }
    }

    #[test]
    fn table_holds_every_sample_as_it_is_taken() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("samples.csv");
        let mut table = Table::new(&path);
        let mut samples = Vec::new();
        for (at, counters, expected) in [
            (0, &[][..], "seconds,rss_kib,descriptors,maps,programs,links\n0,100,1,2,3,4\n"),
            (5, &[("a{x=1,y=2}", 7)][..], ",\"a{x=1,y=2}\"\n0,100,1,2,3,4,0\n5,100,1,2,3,4,7\n"),
            (10, &[("a{x=1,y=2}", 8)][..], "\n5,100,1,2,3,4,7\n10,100,1,2,3,4,8\n"),
        ] {
            samples.push(sample(Duration::from_secs(at), counters));
            table.add_last(&samples).expect("a file that can be written");
            let text = fs::read_to_string(&path).expect("the table");
            assert!(text.ends_with(expected), "{text}");
        }
    }
}
