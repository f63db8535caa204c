//! A person's word that one rule is not to be reported in one scope, for a time. Not what a rule is. May call:
//! `condition`, `matcher`, `model`, `pattern`.

use crate::floor::condition::{Place, Target};
use crate::matcher::NameMatcher;
use crate::model::{Action, Observation, UnixNs};
use crate::object::ObjectError;
use crate::pattern::Pattern;

/// One rule, silent in one scope until a day.
#[derive(Debug, Clone)]
pub struct Silence {
    /// Id of the rule: of the floor's, or of a Sigma rule.
    pub rule: String,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// The day that ends it, as written: `2027-01-31`.
    pub expires: String,
    /// The file it stands in.
    pub file: String,
    pub(crate) until: UnixNs,
    pub(crate) scope: Scope,
}

impl Silence {
    /// Whether it has ended.
    #[must_use]
    pub fn is_expired(&self, now: UnixNs) -> bool {
        now >= self.until
    }

    /// Whether it names subject and object too, as an entry of a baseline does: then it stands in for the entry that
    /// cannot be learned.
    #[must_use]
    pub fn stands_for_an_entry(&self) -> bool {
        self.scope.subject.is_some() && self.scope.object.is_some()
    }

    /// Whether the rule's hit on this target is silent.
    pub(crate) fn holds(&self, observation: &Observation, target: Target<'_>) -> bool {
        !self.is_expired(observation.time) && self.scope.holds(observation, target)
    }
}

/// Where a rule is silent.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// The workload as written.
    pub(crate) text: String,
    pub(crate) workload: NameMatcher,
    pub(crate) subject: Option<Place>,
    pub(crate) object: Option<ObjectScope>,
}

impl Scope {
    fn holds(&self, observation: &Observation, target: Target<'_>) -> bool {
        let behaviour = &observation.behaviour;
        self.workload.matches(&behaviour.workload.0)
            && self.subject.as_ref().is_none_or(|subject| subject.holds(&behaviour.subject.0, false))
            && self.object.as_ref().is_none_or(|object| object.holds(target))
    }
}

/// Which objects are meant: of a rename the name that the rule looks at.
#[derive(Debug, Clone)]
pub(crate) enum ObjectScope {
    Place(Place),
    Endpoints(Pattern),
}

impl ObjectScope {
    /// Reads a path template, or what an entry of connect or listen looks like.
    pub(crate) fn parse(text: &str) -> Result<Self, ObjectError> {
        if text.starts_with(['/', '~']) {
            return Place::parse(text).map(Self::Place);
        }
        let endpoints =
            Pattern::parse(Action::Listen, text).or_else(|_| Pattern::parse(Action::Connect, text));
        endpoints.map(Self::Endpoints)
    }

    fn holds(&self, target: Target<'_>) -> bool {
        match (self, target) {
            (Self::Place(place), Target::Path(path)) => place.holds(path, false),
            (Self::Endpoints(endpoints), Target::Endpoint(endpoint)) => endpoints.holds_endpoint(&endpoint),
            _ => false,
        }
    }
}
