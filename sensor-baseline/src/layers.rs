//! Baselines in layers, such as vendor < fleet < host group < host: merged for judging, and each kept as it is, so that an
//! explanation can say where an entry stands. Not where layers come from. May call: `baseline`, `explain`, `judge`.
//!
//! | layers say | what holds |
//! |---|---|
//! | one denies it | it is denied, whatever the others say |
//! | one allows it, a higher one retired it | it is not allowed |
//! | one retired it, a higher one allows it | it is allowed |
//! | one lists the workload | it is armed |
//! | several leave actions of it to be learned | those that the highest of them leaves |
//!
//! Within one layer a retired entry takes back what an allow entry gives, as ever.

use std::sync::Arc;

use crate::baseline::Baseline;
use crate::explain::{Explanation, View};
use crate::floor::{Floor, Held};
use crate::judge::Verdict;
use crate::model::{Observation, Workload};

/// A baseline that has a place above or below others.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// What explanations call it, for example `fleet`.
    pub name: String,
    /// What it says.
    pub baseline: Arc<Baseline>,
}

impl Layer {
    /// A layer of that name.
    #[must_use]
    pub fn new(name: &str, baseline: Baseline) -> Self {
        Self { name: name.to_owned(), baseline: Arc::new(baseline) }
    }
}

/// Layers, and what judging by all of them comes to. It is worked out once, when they are put together; one layer alone
/// takes no second copy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layers {
    /// The lowest first.
    layers: Vec<Layer>,
    merged: Arc<Baseline>,
}

impl From<Baseline> for Layers {
    /// One layer that needs no name.
    fn from(baseline: Baseline) -> Self {
        Self::new(vec![Layer::new("", baseline)])
    }
}

impl Layers {
    /// These layers, the lowest first.
    #[must_use]
    pub fn new(layers: Vec<Layer>) -> Self {
        let merged = match layers.as_slice() {
            [] => Arc::default(),
            [alone] => Arc::clone(&alone.baseline),
            [below @ .., top] => {
                let mut merged = Baseline::clone(&top.baseline);
                below.iter().rev().for_each(|layer| merged.put_below(&layer.baseline));
                Arc::new(merged)
            }
        };
        Self { layers, merged }
    }

    /// These layers on top of others.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self::new(lower.layers.into_iter().chain(self.layers).collect())
    }

    /// Every layer, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The collector's number for the highest layer that has one.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.layers.iter().rev().find_map(|layer| layer.baseline.version)
    }

    /// Whether a layer lists the workload.
    #[must_use]
    pub fn is_armed(&self, workload: &Workload) -> bool {
        self.merged.is_armed(workload)
    }

    /// Judges one observation. Same layers, floor and observation, same verdict.
    #[must_use]
    pub fn judge(&self, observation: &Observation, floor: &Floor) -> Verdict {
        self.merged.judge(observation, floor)
    }

    /// Judges one observation of which the floor says this.
    #[must_use]
    pub fn judge_held(&self, observation: &Observation, held: Held<'_>) -> Verdict {
        self.merged.judge_held(observation, held)
    }

    /// Explains the verdict that [`Self::judge`] gave on the observation. Where there are several layers, entries are named
    /// with theirs, and the edit begins with that which it is meant for: the highest that lists the workload, so that
    /// none above says otherwise.
    #[must_use]
    pub fn explain(&self, observation: &Observation, verdict: &Verdict) -> Explanation {
        let layers = self.layers.iter().rev().map(|layer| (layer.name.as_str(), &*layer.baseline));
        View::of(layers).explain(observation, verdict)
    }
}

#[cfg(test)]
mod tests;
