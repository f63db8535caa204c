//! What is remembered of a behaviour on its way from a learner to a candidate. Not where it is kept. May call: `model`.

use std::sync::Arc;

use crate::model::Seen;

/// What a learner, or a host, remembers of a behaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// How often and when it was seen, whether a rule fired or not.
    pub seen: Seen,
    /// The rule that fired on it: it never enters a candidate. A floor rule by its id, a Sigma rule as `sigma:ID`.
    pub withheld_by: Option<Arc<str>>,
}

impl Remembered {
    /// No rule ever fired on it.
    #[must_use]
    pub const fn learned(seen: Seen) -> Self {
        Self { seen, withheld_by: None }
    }

    /// This rule fired on it.
    #[must_use]
    pub const fn withheld(seen: Seen, rule: Arc<str>) -> Self {
        Self { seen, withheld_by: Some(rule) }
    }
}
