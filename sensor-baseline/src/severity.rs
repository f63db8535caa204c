//! How bad a verdict is. Not whether it is a finding (see `judge`). May call: `judge`, `matcher`, `model`.
//!
//! | verdict | severity |
//! |---|---|
//! | allowed, learning | informational |
//! | novel | low: novelty alone is no attack |
//! | novel, and a shell acts, or the object is sensitive | medium |
//! | floor | the rule's |
//! | denied | high, or the severity of a floor rule that also fires, when higher |
//!
//! Sensitive objects: exec from a directory that anyone can write to, of a hidden file, or of a fresh or deleted
//! file; write, delete or rename of configuration, programs, boot files or logs; a listener that other hosts reach.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::floor::floor;
use crate::judge::Verdict;
use crate::model::{Action, Observation};
use crate::object::Object;

/// How bad; the numbers are those of OCSF `severity_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Not a finding.
    Informational = 1,
    /// New, and nothing else speaks against it.
    Low = 2,
    /// New, in a place that matters.
    Medium = 3,
    /// A technique of intruders.
    High = 4,
    /// A technique of intruders that has hardly another use.
    Critical = 5,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// How bad this verdict on this observation is.
#[must_use]
pub fn severity(observation: &Observation, verdict: &Verdict) -> Severity {
    match verdict {
        Verdict::Allowed | Verdict::Learning => Severity::Informational,
        Verdict::Novel if observation.traits.acting_is_shell || is_sensitive(observation) => Severity::Medium,
        Verdict::Novel => Severity::Low,
        Verdict::Floor(rule) => rule.severity,
        Verdict::Denied => {
            floor(observation).map_or(Severity::High, |rule| rule.severity.max(Severity::High))
        }
    }
}

/// Whether the object is one that intruders go for.
fn is_sensitive(observation: &Observation) -> bool {
    let traits = &observation.traits;
    match (&observation.behaviour.object, observation.behaviour.action) {
        (Object::Path(path), Action::Exec) => {
            let path = path.as_str();
            traits.executable_is_fresh
                || traits.object_deleted
                || is_below(path, ANYONE_WRITES)
                || path.contains("/.")
        }
        (Object::Path(path), _) => is_below(path.as_str(), SENSITIVE_FILES),
        (Object::Rename { from, to }, _) => {
            is_below(from.as_str(), SENSITIVE_FILES) || is_below(to.as_str(), SENSITIVE_FILES)
        }
        (Object::Endpoint(endpoint), action) => action == Action::Listen && is_reachable(endpoint.address),
    }
}

fn is_below(path: &str, directories: &[&str]) -> bool {
    directories.iter().any(|directory| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')))
}

/// Whether other hosts may reach a listener on this address.
fn is_reachable(address: IpAddr) -> bool {
    !address.to_canonical().is_loopback()
}

/// Directories in which anyone may leave a program.
const ANYONE_WRITES: &[&str] = &["/tmp", "/var/tmp", "/dev/shm", "/run/user", "/run/lock"];

/// Directories whose content decides what a host does, or tells what it did.
const SENSITIVE_FILES: &[&str] = &[
    "/etc",
    "/boot",
    "/root",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/libexec",
    "/usr/local",
    "/var/log",
    "/proc",
    "/sys",
];

#[cfg(test)]
mod tests {
    use super::{Severity, severity};
    use crate::judge::Verdict;
    use crate::model::Traits;
    use crate::testing::{behaviour, observation};

    fn check(action: &str, object: &str, traits: Traits, expected: Severity) {
        let observation = observation(behaviour(action, object), traits);
        assert_eq!(severity(&observation, &Verdict::Novel), expected, "{action} {object}");
    }

    #[test]
    fn novelty_alone_is_low_and_a_sensitive_object_makes_it_medium() {
        let none = Traits::default();
        check("exec", "/usr/bin/id", none, Severity::Low);
        check("exec", "/tmp/x", none, Severity::Medium);
        check("exec", "/tmpfiles/x", none, Severity::Low);
        check("exec", "/opt/.x/y", none, Severity::Medium);
        check("exec", "/opt/x", Traits { executable_is_fresh: true, ..none }, Severity::Medium);
        check("exec", "/usr/bin/id", Traits { acting_is_shell: true, ..none }, Severity::Medium);
        check("write", "/srv/x", none, Severity::Low);
        check("write", "/etc/hosts", none, Severity::Medium);
        check("delete", "/var/log/auth.log", none, Severity::Medium);
        check("rename", "/srv/a -> /usr/bin/ls", none, Severity::Medium);
        check("connect", "tcp 8.8.8.8 443", none, Severity::Low);
        check("listen", "tcp 127.0.0.1 80", none, Severity::Low);
        check("listen", "tcp 0.0.0.0 80", none, Severity::Medium);
    }

    #[test]
    fn a_denied_floor_technique_keeps_the_higher_severity() {
        let shell = observation(behaviour("exec", "/bin/sh"), Traits::default());
        assert_eq!(severity(&shell, &Verdict::Denied), Severity::High);
        let fileless = Traits { fileless: true, ..Traits::default() };
        let memory = observation(behaviour("exec", "/memfd:x"), fileless);
        assert_eq!(severity(&memory, &Verdict::Denied), Severity::Critical);
        assert_eq!(severity(&memory, &Verdict::Allowed), Severity::Informational);
    }
}
