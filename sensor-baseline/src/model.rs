//! The words of a baseline as types: workload, subject, action, behaviour, observation. Not their text form (see
//! `object`) and not what a baseline thinks of them (see `judge`). May call: `object`.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::object::{Object, ObjectError, PathText, Protocol};

/// What owns a baseline, for example `unit:nginx.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Workload(pub String);

/// The program acting inside a workload, for example `/usr/sbin/nginx`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(pub String);

/// Who reported a learned behaviour: one host of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub String);

/// Wall-clock nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixNs(pub u64);

/// Longest name of a fleet, a workload or a subject in a baseline.
pub(crate) const NAME_BYTES_MAX: usize = 16 * 1024;

impl Workload {
    /// Whether a baseline can list it: one of the known classes, so that a misspelt one is not silently idle.
    #[must_use]
    pub(crate) fn is_nameable(&self) -> bool {
        let name = self.0.as_str();
        let of_class = |class: &str| name.strip_prefix(class).is_some_and(|rest| !rest.is_empty());
        let is_known = name == "host"
            || name == "cgroup:/"
            || ["unit:", "session:", "container:", "cgroup:/", "command:"].into_iter().any(of_class);
        is_known && name.len() <= NAME_BYTES_MAX
    }
}

impl Subject {
    /// Whether a baseline can list it.
    #[must_use]
    pub(crate) fn is_nameable(&self) -> bool {
        (1..=NAME_BYTES_MAX).contains(&self.0.len())
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a subject does; the order is the order of the text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Starts a program.
    Exec,
    /// Opens a connection to a peer.
    Connect,
    /// Accepts connections on a port.
    Listen,
    /// Opens a file for writing, creates or truncates it.
    Write,
    /// Removes a file.
    Delete,
    /// Renames a file.
    Rename,
}

impl Action {
    /// Every action, in the order of the text form.
    pub const ALL: [Self; 6] =
        [Self::Exec, Self::Connect, Self::Listen, Self::Write, Self::Delete, Self::Rename];

    /// The word for it in every text: `exec`, `connect`, `listen`, `write`, `delete`, `rename`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Connect => "connect",
            Self::Listen => "listen",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Rename => "rename",
        }
    }

    /// The action with that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Subject + action + object inside a workload: one line of a baseline. In an observation the object is literal; in
/// what a [`crate::Learner`] yields, a path may be a template.
///
/// Serialised with the object as its text, for example
/// `{"workload":"unit:a.service","subject":"/usr/bin/a","action":"exec","object":"/bin/sh"}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "BehaviourText", into = "BehaviourText")]
pub struct Behaviour {
    /// What owns the baseline.
    pub workload: Workload,
    /// Who acts.
    pub subject: Subject,
    /// What it does.
    pub action: Action,
    /// To what.
    pub object: Object,
}

impl fmt::Display for Behaviour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {} {}", self.workload, self.subject, self.action, self.object)
    }
}

impl Behaviour {
    /// Whether a baseline has a text for it that is read back as the same.
    #[must_use]
    pub(crate) fn is_nameable(&self) -> bool {
        let is_path = |path: &PathText| PathText::parse(path.as_str()).is_ok();
        let has_object = match (&self.object, self.action) {
            (Object::Path(path), Action::Exec | Action::Write | Action::Delete) => is_path(path),
            (Object::Rename { from, to }, Action::Rename) => is_path(from) && is_path(to),
            (Object::Endpoint(endpoint), Action::Connect) => endpoint.port > 0,
            (Object::Endpoint(endpoint), Action::Listen) => {
                endpoint.port > 0 && endpoint.protocol == Protocol::Tcp
            }
            _ => false,
        };
        has_object && self.workload.is_nameable() && self.subject.is_nameable()
    }
}

/// The serialised shape of [`Behaviour`]: the object is text, and its grammar follows from the action.
#[derive(Serialize, Deserialize)]
struct BehaviourText {
    workload: Workload,
    subject: Subject,
    action: Action,
    object: String,
}

/// A serialised behaviour whose object does not fit its action.
#[derive(Debug, Error)]
#[error("object of {action}: {cause}")]
struct BehaviourTextError {
    action: Action,
    cause: ObjectError,
}

impl TryFrom<BehaviourText> for Behaviour {
    type Error = BehaviourTextError;

    fn try_from(text: BehaviourText) -> Result<Self, Self::Error> {
        let object = Object::parse(text.action, &text.object)
            .map_err(|cause| BehaviourTextError { action: text.action, cause })?;
        Ok(Self { workload: text.workload, subject: text.subject, action: text.action, object })
    }
}

impl From<Behaviour> for BehaviourText {
    fn from(behaviour: Behaviour) -> Self {
        Self {
            object: behaviour.object.to_string(),
            workload: behaviour.workload,
            subject: behaviour.subject,
            action: behaviour.action,
        }
    }
}

/// Facts that floor rules, templates and severities need, gathered by the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Traits {
    /// Exec of a memfd or of a file that was already deleted.
    pub fileless: bool,
    /// The acting process itself runs a shell: not so for what a shell started.
    pub acting_is_shell: bool,
    /// The acting process itself runs a program that stands for who started it: a shell, a core utility, an interpreter
    /// without a script.
    pub acting_is_transparent: bool,
    /// Exec of a file that this agent saw written or created within the last ten minutes by the same workload.
    pub executable_is_fresh: bool,
    /// The object is a name that was created with `O_EXCL`: on the creating open itself and, where the agent still
    /// remembers the creation, on a later open, delete or rename of that name.
    pub ephemeral: bool,
    /// Which names of the object's path are folders that the same workload made a short while ago: bit 0 for the first name
    /// below `/`, bit 63 for the 64th. Of a rename the old path.
    pub folders_made: u64,
    /// The same of a rename's new path.
    pub target_folders_made: u64,
    /// The object's text is the caller's word (memory it could rewrite), not the kernel's.
    pub object_from_caller: bool,
    /// The object no longer had a name when it was seen.
    pub object_deleted: bool,
}

/// An event with who did it, as the baseline judges it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Observation {
    /// What was done by whom; the object is literal.
    pub behaviour: Behaviour,
    /// What else is known about it.
    pub traits: Traits,
    /// When.
    pub time: UnixNs,
}

/// How often and when a behaviour was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seen {
    /// Number of observations.
    pub count: u64,
    /// Time of the earliest.
    pub first: UnixNs,
    /// Time of the latest.
    pub last: UnixNs,
}

impl Seen {
    /// Seen once, at `time`.
    #[must_use]
    pub fn once(time: UnixNs) -> Self {
        Self { count: 1, first: time, last: time }
    }

    /// Both sightings together; the count saturates.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Behaviour};

    #[test]
    fn action_names_parse_back() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.name()), Some(action));
        }
        assert_eq!(Action::parse("Exec"), None);
    }

    #[test]
    fn a_behaviour_is_serialised_with_its_object_as_text() {
        let json = r#"{"workload":"host","subject":"/a","action":"rename","object":"/x -> /y"}"#;
        let behaviour: Behaviour = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&behaviour).unwrap(), json);
        let wrong = r#"{"workload":"host","subject":"/a","action":"connect","object":"/x"}"#;
        let message = serde_json::from_str::<Behaviour>(wrong).unwrap_err().to_string();
        assert!(
            message.starts_with(
                "object of connect: expected tcp ADDRESS PORT or udp ADDRESS PORT, found \"/x\""
            ),
            "{message}"
        );
    }
}
