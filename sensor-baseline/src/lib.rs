//! Behaviour baselines: learn, judge, explain, merge, diff, and their text form. Pure: no clock, no file, no task.
//! May call: nothing of the other crates.

mod baseline;
mod classes;
mod diff;
mod entries;
mod ephemeral;
mod explain;
mod floor;
mod judge;
mod layers;
mod learner;
mod lifecycle;
mod lint;
mod matcher;
mod merge;
mod model;
mod object;
mod path_tree;
mod pattern;
mod remembered;
mod review;
mod rotation;
mod severity;
mod siblings;
mod template;
pub mod text;
mod union;
mod yaml;

#[cfg(test)]
mod testing;

pub use baseline::{ApprovalError, Baseline, Disposition, Entry};
pub use diff::{Diff, diff};
pub use explain::{Explanation, NEAREST_MAX};
pub use floor::{
    FLOOR_TEXT_BYTES_MAX, Floor, FloorCause, FloorError, FloorRule, Held, Sensitive, Silence, Technique,
};
pub use judge::Verdict;
pub use layers::{Layer, Layers};
pub use learner::{Learned, Learner, LearnerCounters, LearnerLimits, Refusal};
pub use lifecycle::{Circumstances, Criteria, Dimension, Lack, State, expected};
pub use lint::{LayerLint, Lint, Oddity, lint, lint_layers};
pub use merge::{Candidate, Support, merge};
pub use model::{Action, Behaviour, HostId, Observation, Seen, Subject, Traits, UnixNs, Workload};
pub use object::{Endpoint, Object, ObjectError, PATH_TEXT_BYTES_MAX, PathText, Protocol};
pub use pattern::{EPHEMERAL_PORT_MIN, Network, Pattern, Ports};
pub use remembered::Remembered;
pub use review::{FiredRule, Review, Terms};
pub use severity::Severity;
pub use union::{settle, union};
pub use yaml::{ENTRIES_MAX, ParseError, TEXT_BYTES_MAX};
