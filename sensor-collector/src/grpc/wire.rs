//! Protocol messages to the collector's own types and back. It keeps no state and calls nothing but the types on
//! both sides.

use sensor_baseline::{Action, Behaviour, Object, Subject, Workload};
use sensor_proto::v1;

use crate::clock::UnixNs;
use crate::store::agents::Claims;
use crate::store::learned::LearnedRow;

/// What an agent says about itself, cut to a size that fits a table.
pub fn claims(hostname: &str, agent_version: &str, kernel_release: &str) -> Claims {
    let cut = |text: &str| text.chars().filter(|c| !c.is_control()).take(CLAIM_CHARS_MAX).collect();
    Claims { hostname: cut(hostname), agent_version: cut(agent_version), kernel_release: cut(kernel_release) }
}

/// The behaviour that a message describes; `None` when it is not one.
pub fn behaviour(message: &v1::Behaviour) -> Option<Behaviour> {
    let action = action(message.action)?;
    if message.workload.is_empty() || message.subject.is_empty() {
        return None;
    }
    Some(Behaviour {
        workload: Workload(message.workload.clone()),
        subject: Subject(message.subject.clone()),
        action,
        object: Object::parse(action, &message.object).ok()?,
    })
}

/// The action with this number.
pub fn action(number: i32) -> Option<Action> {
    match v1::Action::try_from(number).ok()? {
        v1::Action::Unspecified => None,
        v1::Action::Exec => Some(Action::Exec),
        v1::Action::Connect => Some(Action::Connect),
        v1::Action::Listen => Some(Action::Listen),
        v1::Action::Write => Some(Action::Write),
        v1::Action::Delete => Some(Action::Delete),
        v1::Action::Rename => Some(Action::Rename),
    }
}

/// A learned behaviour as a row; `None` when it is not a behaviour or its texts are too long.
pub fn learned_row(message: &v1::LearnedBehaviour) -> Option<LearnedRow> {
    let described = message.behaviour.as_ref()?;
    let behaviour = behaviour(described)?;
    let texts = [&described.workload, &described.subject, &described.object];
    if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX) {
        return None;
    }
    Some(LearnedRow {
        workload: behaviour.workload.0,
        subject: behaviour.subject.0,
        action: described.action,
        object: behaviour.object.to_string(),
        count: message.count,
        first: UnixNs::from_claimed(message.first_seen_unix_ns),
        last: UnixNs::from_claimed(message.last_seen_unix_ns),
        withheld_by: None,
    })
}

/// A withheld behaviour as a row; `None` when it is not one. A rule's name is cut: that it is withheld counts.
pub fn withheld_row(message: &v1::WithheldBehaviour) -> Option<LearnedRow> {
    let rule = message.rule.chars().filter(|c| !c.is_control()).take(CLAIM_CHARS_MAX).collect();
    Some(LearnedRow { withheld_by: Some(rule), ..learned_row(message.seen.as_ref()?)? })
}

/// Longest claimed name.
const CLAIM_CHARS_MAX: usize = 255;
/// Longest text of a behaviour: two paths of 4 KiB, each byte of them escaped to four.
const TEXT_BYTES_MAX: usize = 2 * 4 * 4096 + 16;

#[cfg(test)]
mod tests {
    use sensor_proto::v1;

    use super::{claims, learned_row, withheld_row};

    fn learned(action: v1::Action, object: &str) -> v1::LearnedBehaviour {
        v1::LearnedBehaviour {
            behaviour: Some(v1::Behaviour {
                workload: "unit:a.service".to_owned(),
                subject: "/usr/bin/a".to_owned(),
                action: action.into(),
                object: object.to_owned(),
            }),
            count: 1,
            first_seen_unix_ns: 1,
            last_seen_unix_ns: 2,
        }
    }

    #[test]
    fn an_object_that_does_not_fit_its_action_is_no_row() {
        assert!(learned_row(&learned(v1::Action::Connect, "tcp 10.0.0.1 5432")).is_some());
        assert!(learned_row(&learned(v1::Action::Connect, "/etc/passwd")).is_none());
        assert!(learned_row(&learned(v1::Action::Write, "relative")).is_none());
        assert!(learned_row(&learned(v1::Action::Unspecified, "/a")).is_none());
        assert!(learned_row(&v1::LearnedBehaviour::default()).is_none());
    }

    #[test]
    fn a_withheld_behaviour_is_so_whatever_its_rule_is_called() {
        let seen = Some(learned(v1::Action::Exec, "/a"));
        for (rule, expected) in [("fresh-exec", "fresh-exec"), ("", ""), ("a\nb", "ab")] {
            let row = withheld_row(&v1::WithheldBehaviour { seen: seen.clone(), rule: rule.to_owned() });
            assert_eq!(row.unwrap().withheld_by.as_deref(), Some(expected));
        }
        assert!(withheld_row(&v1::WithheldBehaviour::default()).is_none());
    }

    #[test]
    fn an_oversized_text_is_no_row() {
        assert!(learned_row(&learned(v1::Action::Write, &format!("/{}", "a".repeat(40_000)))).is_none());
    }

    #[test]
    fn claims_are_cut_and_hold_no_control_characters() {
        let claims = claims(&"x".repeat(1000), "a\nb\u{1b}[2J", "");
        assert_eq!(claims.hostname.len(), 255);
        assert_eq!(claims.agent_version, "ab[2J");
    }
}
