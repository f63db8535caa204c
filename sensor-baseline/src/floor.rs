//! Floor rules: what is a finding whatever has been learned. Not the table itself (see `floor_rules`). May call:
//! `floor_rules`, `matcher`, `model`.

use std::sync::LazyLock;

use crate::floor_rules::FLOOR_RULES;
use crate::matcher::PathMatcher;
use crate::model::{Action, Observation};
use crate::object::{Object, PathText};
use crate::severity::Severity;

/// The ATT&CK release that technique ids are of.
pub const ATTACK_VERSION: &str = "19.1";

/// What makes a rule fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// Exec of a program that has no file.
    FilelessExec,
    /// Exec of a file that the same workload has just written, outside a command that a person asked to watch.
    FreshExec,
    /// A connection that a shell itself opens.
    ShellConnect,
    /// A port that a shell itself listens on.
    ShellListen,
    /// A write to, or a rename onto, one of these places. A place that begins with `~` is in any directory. Others
    /// are from the root; a shell's write is also matched below any other directory, as of a mounted host root.
    Place(&'static [&'static str]),
}

/// A rule that no learning silences.
#[derive(Debug, PartialEq, Eq)]
pub struct FloorRule {
    /// Stable name, for example `fileless-exec`.
    pub id: &'static str,
    /// For a person, for example `program executed from memory`.
    pub title: &'static str,
    /// ATT&CK technique ids of [`ATTACK_VERSION`].
    pub techniques: &'static [&'static str],
    /// How bad it is.
    pub severity: Severity,
    /// Whether an explicit allow entry, which only a person can make, silences it.
    pub yields_to_allow: bool,
    pub(crate) trigger: Trigger,
}

/// The first rule that the observation triggers. Rules that do not yield come first in the table, so what this
/// returns yields only when every triggered rule does.
#[must_use]
pub fn floor(observation: &Observation) -> Option<&'static FloorRule> {
    FLOOR_RULES
        .iter()
        .zip(PLACES.iter())
        .find(|(rule, places)| fires(rule, places, observation))
        .map(|(rule, _)| rule)
}

/// Every rule, in order of precedence.
#[must_use]
pub fn floor_rules() -> &'static [FloorRule] {
    FLOOR_RULES
}

/// The rule with that id.
#[must_use]
pub fn floor_rule(id: &str) -> Option<&'static FloorRule> {
    FLOOR_RULES.iter().find(|rule| rule.id == id)
}

fn fires(rule: &FloorRule, places: &[Place], observation: &Observation) -> bool {
    let traits = &observation.traits;
    let action = observation.behaviour.action;
    match rule.trigger {
        Trigger::FilelessExec => action == Action::Exec && traits.fileless,
        Trigger::FreshExec => {
            let is_watched_command = observation.behaviour.workload.0.starts_with(COMMAND_WORKLOAD);
            action == Action::Exec && traits.executable_is_fresh && !is_watched_command
        }
        Trigger::ShellConnect => action == Action::Connect && traits.acting_is_shell,
        Trigger::ShellListen => action == Action::Listen && traits.acting_is_shell,
        Trigger::Place(_) => written_path(observation)
            .is_some_and(|path| places.iter().any(|place| place.holds(path, traits.acting_is_shell))),
    }
}

/// A build or test that a person watches makes programs and runs them: that is its job.
const COMMAND_WORKLOAD: &str = "command:";

/// The name that gets new content.
fn written_path(observation: &Observation) -> Option<&str> {
    match (observation.behaviour.action, &observation.behaviour.object) {
        (Action::Write, Object::Path(path)) => Some(path.as_str()),
        (Action::Rename, Object::Rename { to, .. }) => Some(to.as_str()),
        _ => None,
    }
}

/// A place made ready for matching.
struct Place {
    matcher: PathMatcher,
    in_any_directory: bool,
}

impl Place {
    fn new(text: &str) -> Self {
        let in_any_directory = text.starts_with('~');
        let template = PathText::parse(text.trim_start_matches('~')).expect("the table holds valid paths");
        Self { matcher: PathMatcher::new(&template), in_any_directory }
    }

    fn holds(&self, path: &str, acting_is_shell: bool) -> bool {
        if self.matcher.matches(path) {
            return true;
        }
        let elsewhere = self.in_any_directory || acting_is_shell;
        elsewhere && path.match_indices('/').skip(1).any(|(at, _)| self.matcher.matches(&path[at..]))
    }
}

/// The places of each rule, in the order of the table.
static PLACES: LazyLock<Vec<Vec<Place>>> = LazyLock::new(|| {
    let places = |rule: &FloorRule| match rule.trigger {
        Trigger::Place(places) => places.iter().map(|text| Place::new(text)).collect(),
        _ => Vec::new(),
    };
    FLOOR_RULES.iter().map(places).collect()
});

#[cfg(test)]
mod tests {
    use super::{floor, floor_rules};
    use crate::model::{Traits, Workload};
    use crate::testing::{behaviour, observation};

    const NONE: Traits = Traits {
        fileless: false,
        acting_is_shell: false,
        executable_is_fresh: false,
        ephemeral: false,
        object_from_caller: false,
        object_deleted: false,
    };
    const SHELL: Traits = Traits { acting_is_shell: true, ..NONE };

    fn check(action: &str, object: &str, traits: Traits, expected: Option<&str>) {
        let fired = floor(&observation(behaviour(action, object), traits)).map(|rule| rule.id);
        assert_eq!(fired, expected, "{action} {object}");
    }

    #[test]
    fn fileless_exec_fires_for_memory_only() {
        check("exec", "/memfd:x (deleted)", Traits { fileless: true, ..NONE }, Some("fileless-exec"));
        check("exec", "/usr/bin/x", NONE, None);
        check("write", "/memfd:x", Traits { fileless: true, ..NONE }, None);
    }

    #[test]
    fn fresh_exec_fires_outside_watched_commands() {
        let fresh = Traits { executable_is_fresh: true, ..NONE };
        check("exec", "/tmp/x", fresh, Some("fresh-exec"));
        check("exec", "/tmp/x", NONE, None);
        let mut build = observation(behaviour("exec", "/src/target/test"), fresh);
        build.behaviour.workload = Workload("command:make".to_owned());
        assert_eq!(floor(&build), None);
    }

    #[test]
    fn shell_network_fires_for_shells_only() {
        check("connect", "tcp 10.0.0.1 4444", SHELL, Some("shell-connect"));
        check("connect", "tcp 10.0.0.1 4444", NONE, None);
        check("listen", "tcp 0.0.0.0 4444", SHELL, Some("shell-listen"));
        check("listen", "tcp 0.0.0.0 4444", NONE, None);
    }

    #[test]
    fn each_place_fires_and_its_neighbour_does_not() {
        for (rule, hit, miss) in [
            ("ld-preload", "/etc/ld.so.preload", "/etc/ld.so.cache"),
            ("cron", "/etc/cron.d/x", "/etc/cron.deny"),
            ("cron", "/etc/crontab", "/etc/crontab2"),
            ("cron", "/var/spool/cron/crontabs/root", "/var/spool/mail/root"),
            ("systemd-unit", "/etc/systemd/system/x.service", "/run/systemd/journal/x"),
            ("systemd-unit", "/home/u/.config/systemd/user/x.service", "/home/u/.config/x.service"),
            ("ssh-keys", "/home/u/.ssh/authorized_keys", "/home/u/.ssh/known_hosts"),
            ("shell-profile", "/root/.bashrc", "/root/.bash_history"),
            ("shell-profile", "/etc/profile.d/x.sh", "/etc/profiles"),
            ("accounts", "/etc/passwd", "/etc/passwd-"),
            ("sudoers", "/etc/sudoers.d/x", "/etc/sudo.conf"),
            ("pam", "/etc/pam.d/sshd", "/etc/pam.conf.bak"),
            ("init-script", "/etc/rc.local", "/etc/rc.conf"),
            ("kernel-module-load", "/etc/modules-load.d/x.conf", "/etc/modprobe.d/x.conf"),
            ("udev-rule", "/etc/udev/rules.d/x.rules", "/etc/udev/hwdb.bin"),
        ] {
            check("write", hit, NONE, Some(rule));
            check("rename", &format!("/tmp/a -> {hit}"), NONE, Some(rule));
            check("delete", hit, NONE, None);
            check("rename", &format!("{hit} -> /tmp/a"), NONE, None);
            check("write", miss, NONE, None);
        }
    }

    #[test]
    fn another_root_counts_for_a_shell_only() {
        check("write", "/mnt/host/etc/cron.d/x", SHELL, Some("cron"));
        check("write", "/mnt/host/etc/cron.d/x", NONE, None);
    }

    #[test]
    fn the_manual_lists_every_rule_as_it_is() {
        let manual = include_str!("../../docs/baseline-format.md");
        for rule in floor_rules() {
            let row = manual.lines().find(|line| line.starts_with(&format!("| `{}` |", rule.id)));
            let row = row.unwrap_or_else(|| panic!("{} is not in the manual", rule.id));
            let yields = if rule.yields_to_allow { "yes" } else { "no" };
            let end = format!("| {} | {} | {yields} |", rule.techniques.join(", "), rule.severity.name());
            assert!(row.ends_with(&end), "{row}: expected {end}");
        }
        assert_eq!(
            manual.matches("| high | yes |").count() + manual.matches("| critical | no |").count(),
            floor_rules().len()
        );
    }

    #[test]
    fn every_rule_is_well_formed_and_hard_rules_come_first() {
        let mut yields = false;
        for rule in floor_rules() {
            assert!(rule.yields_to_allow || !yields, "{} must come before rules that yield", rule.id);
            yields = rule.yields_to_allow;
            assert!(!rule.techniques.is_empty() && rule.techniques.iter().all(|id| id.starts_with('T')));
            assert_eq!(floor_rules().iter().filter(|other| other.id == rule.id).count(), 1);
        }
    }
}
