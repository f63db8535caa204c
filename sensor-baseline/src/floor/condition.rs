//! What makes a floor rule fire, or an object sensitive: a closed set of conditions on one observation. Not the rules,
//! and not how they are written (see `file`). May call: `matcher`, `model`, `object`, `pattern`.

use std::net::IpAddr;

use serde::Deserialize;

use crate::matcher::{NameMatcher, PathMatcher};
use crate::model::{Action, Behaviour, Observation, Traits, UnixNs};
use crate::object::{Endpoint, Object, ObjectError, PathText};
use crate::pattern::{Network, Ports};

/// What is done to a name or an endpoint: an action, with a rename taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    Exec,
    Connect,
    Listen,
    Write,
    Delete,
    /// A rename, seen from the old name.
    RenameFrom,
    /// A rename, seen from the name that gets new content.
    RenameTo,
}

impl Act {
    /// All, each at the place of its number.
    pub(crate) const ALL: [Self; 7] = [
        Self::Exec,
        Self::Connect,
        Self::Listen,
        Self::Write,
        Self::Delete,
        Self::RenameFrom,
        Self::RenameTo,
    ];

    /// Whether it is done to a path.
    pub(crate) fn is_of_path(self) -> bool {
        !self.is_of_endpoint()
    }

    /// Whether it is done to an endpoint.
    pub(crate) fn is_of_endpoint(self) -> bool {
        matches!(self, Self::Connect | Self::Listen)
    }

    /// What the observation does this to, if it does.
    fn target(self, observation: &Observation) -> Option<Target<'_>> {
        let behaviour = &observation.behaviour;
        match (self, behaviour.action, &behaviour.object) {
            (Self::Exec, Action::Exec, Object::Path(path))
            | (Self::Write, Action::Write, Object::Path(path))
            | (Self::Delete, Action::Delete, Object::Path(path)) => Some(Target::Path(path.as_str())),
            (Self::RenameFrom, Action::Rename, Object::Rename { from, .. }) => {
                Some(Target::Path(from.as_str()))
            }
            (Self::RenameTo, Action::Rename, Object::Rename { to, .. }) => Some(Target::Path(to.as_str())),
            (Self::Connect, Action::Connect, Object::Endpoint(endpoint))
            | (Self::Listen, Action::Listen, Object::Endpoint(endpoint)) => Some(Target::Endpoint(*endpoint)),
            _ => None,
        }
    }
}

/// The one thing that a condition looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    Path(&'a str),
    Endpoint(Endpoint),
}

impl<'a> Target<'a> {
    /// What a behaviour is done to: of a rename the name that gets new content.
    pub(crate) fn of(behaviour: &'a Behaviour) -> Self {
        match &behaviour.object {
            Object::Path(path) | Object::Rename { to: path, .. } => Self::Path(path.as_str()),
            Object::Endpoint(endpoint) => Self::Endpoint(*endpoint),
        }
    }
}

/// A trait by its name in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trait {
    Shell,
    Transparent,
    Fileless,
    Fresh,
    Ephemeral,
    FromCaller,
    Deleted,
}

impl Trait {
    fn is_in(self, traits: &Traits) -> bool {
        *self.place(&mut traits.clone())
    }

    /// Gives an observation the trait.
    pub(crate) fn set(self, traits: &mut Traits) {
        *self.place(traits) = true;
    }

    fn place(self, traits: &mut Traits) -> &mut bool {
        match self {
            Self::Shell => &mut traits.acting_is_shell,
            Self::Transparent => &mut traits.acting_is_transparent,
            Self::Fileless => &mut traits.fileless,
            Self::Fresh => &mut traits.executable_is_fresh,
            Self::Ephemeral => &mut traits.ephemeral,
            Self::FromCaller => &mut traits.object_from_caller,
            Self::Deleted => &mut traits.object_deleted,
        }
    }
}

/// A path template. One that begins with `~` is in any directory.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    matcher: PathMatcher,
    in_any_directory: bool,
}

impl Place {
    pub(crate) fn parse(text: &str) -> Result<Self, ObjectError> {
        let below = text.strip_prefix('~');
        let template = PathText::parse(below.unwrap_or(text))?;
        Ok(Self { matcher: PathMatcher::new(&template), in_any_directory: below.is_some() })
    }

    /// A text that stands in every path that is there, if there is one of more than a slash.
    pub(crate) fn needed_text(&self) -> Option<&str> {
        self.matcher.needed_text()
    }

    /// Whether the path is there, or, where another root counts, there below another directory.
    pub(crate) fn holds(&self, path: &str, is_other_root_counted: bool) -> bool {
        if self.in_any_directory || is_other_root_counted {
            self.matcher.matches_end(path)
        } else {
            self.matcher.matches(path)
        }
    }
}

/// All that is said must hold; a list that is empty says nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Condition {
    pub(crate) acts: Vec<Act>,
    pub(crate) places: Vec<Place>,
    /// The name, or a directory above it, begins with a dot.
    pub(crate) is_hidden: bool,
    pub(crate) ports: Vec<Ports>,
    pub(crate) networks: Vec<Network>,
    /// The address is not of this host alone.
    pub(crate) is_reachable: bool,
    pub(crate) subjects: Vec<Place>,
    pub(crate) workloads: Vec<NameMatcher>,
    pub(crate) except_workloads: Vec<NameMatcher>,
    pub(crate) traits: Vec<Trait>,
    pub(crate) without_traits: Vec<Trait>,
}

impl Condition {
    /// Whether it holds of the observation.
    pub(crate) fn holds(&self, observation: &Observation) -> bool {
        self.targets(observation).next().is_some()
    }

    /// What of the observation makes it hold; nothing when it does not.
    pub(crate) fn targets<'a>(&'a self, observation: &'a Observation) -> impl Iterator<Item = Target<'a>> {
        self.acts.iter().filter_map(|act| {
            let target = act.target(observation)?;
            let holds = self.holds_target(*act, target, observation) && self.holds_actor(observation);
            holds.then_some(target)
        })
    }

    /// Whether it looks at what this is done to, whoever does it.
    pub(crate) fn looks_at(&self, act: Act, behaviour: &Behaviour) -> bool {
        let traits = Traits { acting_is_shell: true, ..Traits::default() };
        let observation = Observation { behaviour: behaviour.clone(), traits, time: UnixNs::default() };
        let target = act.target(&observation).filter(|_| self.acts.contains(&act));
        target.is_some_and(|target| self.holds_target(act, target, &observation))
    }

    fn holds_target(&self, act: Act, target: Target<'_>, observation: &Observation) -> bool {
        match target {
            Target::Path(path) => {
                // What a shell writes may be another root, as of a mounted host; what it runs is everything.
                let is_other_root_counted = observation.traits.acting_is_shell && act != Act::Exec;
                let is_there = |place: &Place| place.holds(path, is_other_root_counted);
                (self.places.is_empty() || self.places.iter().any(is_there))
                    && (!self.is_hidden || path.contains("/."))
            }
            Target::Endpoint(Endpoint { address, port, .. }) => {
                (self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(port)))
                    && (self.networks.is_empty()
                        || self.networks.iter().any(|network| network.contains(address)))
                    && (!self.is_reachable || is_reachable(address))
            }
        }
    }

    fn holds_actor(&self, observation: &Observation) -> bool {
        let traits = &observation.traits;
        let (workload, subject) =
            (observation.behaviour.workload.0.as_str(), observation.behaviour.subject.0.as_str());
        self.traits.iter().all(|one| one.is_in(traits))
            && !self.without_traits.iter().any(|one| one.is_in(traits))
            && (self.workloads.is_empty() || self.workloads.iter().any(|one| one.matches(workload)))
            && !self.except_workloads.iter().any(|one| one.matches(workload))
            && (self.subjects.is_empty() || self.subjects.iter().any(|one| one.holds(subject, false)))
    }
}

/// Whether other hosts may reach, or are, this address.
fn is_reachable(address: IpAddr) -> bool {
    !address.to_canonical().is_loopback()
}
