//! The workloads that a subcommand is asked for. Not the recordings that they are looked for in. It may call the baseline
//! crate.

use sensor_baseline::Workload;
use std::collections::BTreeSet;

/// The workloads that `--workload` names, all when it names none; and those of which nothing was recorded.
pub(super) struct Wanted<'a> {
    names: &'a [String],
    missing: BTreeSet<&'a str>,
}

impl<'a> Wanted<'a> {
    /// None of them was met yet.
    pub(super) fn new(names: &'a [String]) -> Self {
        Self { names, missing: names.iter().map(String::as_str).collect() }
    }

    /// Something was recorded of this workload.
    pub(super) fn meet(&mut self, workload: &Workload) {
        self.missing.remove(workload.0.as_str());
    }

    /// Whether this workload, of which something was recorded, is wanted.
    pub(super) fn has(&mut self, workload: &Workload) -> bool {
        self.meet(workload);
        self.names.is_empty() || self.names.contains(&workload.0)
    }

    /// A name that nothing was recorded of is a misspelt one.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let missing: Vec<_> = self.missing.iter().copied().collect();
        anyhow::ensure!(missing.is_empty(), "--workload {}: in no recording", missing.join(", "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Wanted;
    use sensor_baseline::Workload;

    #[test]
    fn workloads_are_chosen_by_name_and_a_name_of_none_is_refused() {
        let of = |name: &str| Workload(name.to_owned());
        let names = ["unit:a", "unit:b"].map(str::to_owned);
        let mut wanted = Wanted::new(&names);
        assert!(wanted.has(&of("unit:a")) && !wanted.has(&of("host")));
        assert_eq!(wanted.check().unwrap_err().to_string(), "--workload unit:b: in no recording");
        assert!(wanted.has(&of("unit:b")));
        wanted.check().unwrap();
        let mut all = Wanted::new(&[]);
        assert!(all.has(&of("host")));
        all.check().unwrap();
    }
}
