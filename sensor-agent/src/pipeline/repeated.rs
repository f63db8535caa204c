//! Between the pipeline and the kernel that remembers its verdicts: what it is to remember, and what it has counted. Not
//! what is worth remembering: that is `verdicts`. It may call `event` and the baseline crate's types.

use super::verdicts::Verdicts;
use super::{Output, Pipeline, Remember};
use crate::event::Identity;
use sensor_baseline::{Object, Observation, UnixNs, Verdict};
use sensor_event::Hits;

/// An observation that the kernel counted instead of making a record of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeated {
    /// What was done; the time is the last.
    pub observation: Observation,
    /// What every one of them was judged.
    pub verdict: Verdict,
    /// How often.
    pub count: u64,
}

impl Pipeline {
    /// What the kernel is to remember, since the last call.
    pub fn remembered(&mut self) -> impl Iterator<Item = Remember> {
        self.verdicts.iter_mut().flat_map(Verdicts::changes)
    }

    /// Takes what the kernel counted since the last call; `read` reads a cell.
    pub fn take_hits(&mut self, read: &dyn Fn(u32) -> Hits, out: &mut Output) {
        let Some(verdicts) = &mut self.verdicts else { return };
        let (fresh_files, counters) = (&mut self.fresh_files, &mut self.counters);
        let offset_ns = self.config.boot_to_unix_offset_ns;
        verdicts.take_hits(read, |mut taken| {
            if let (Some(written), Object::Path(path)) =
                (&taken.file, &taken.repeated.observation.behaviour.object)
            {
                fresh_files.wrote_again(&written.workload, path.as_str(), written.file, taken.last);
            }
            counters.observations += taken.repeated.count;
            taken.repeated.observation.time = UnixNs(taken.last.0.saturating_add_signed(offset_ns));
            out.repeated.push(taken.repeated);
        });
    }

    /// The number of what is judged by after the next [`Self::set_baseline`]. The kernel is told before that, and what it
    /// has counted is taken, so that all of it was judged by what was in force.
    #[must_use]
    pub const fn next_policy(&self) -> u32 {
        self.policy.wrapping_add(1)
    }

    pub(super) fn process_changed(&mut self, identity: Identity) {
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.process_changed(identity, self.now);
        }
    }
}
