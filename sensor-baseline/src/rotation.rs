//! What a rotation of numbered names implies: the last one is deleted, though only once there are as many as are kept.
//! Not the names themselves (see `template`). May call: `baseline`, `matcher`, `object`, `pattern`.
//!
//! Who keeps fourteen old logs deletes none on the first fourteen days, so learning for two weeks cannot show it: all it
//! shows is that each is renamed to the next number. What guards against too much: the same subject, exactly the template
//! that is moved up, one number in it and only in the last name, and letters beside the number.

use crate::baseline::Entry;
use crate::matcher::Class;
use crate::model::Action;
use crate::object::PathText;
use crate::pattern::Pattern;

/// The deletion that ends the rotation which this entry is a step of; `None` when it is none.
pub(crate) fn deletion(entry: &Entry) -> Option<Entry> {
    let Pattern::Rename { from, to } = &entry.pattern else { return None };
    let is_step = from == to && is_numbered(from);
    is_step.then(|| Entry { action: Action::Delete, pattern: Pattern::Path(from.clone()), ..entry.clone() })
}

/// Whether it is one number that tells the last names apart, behind or before letters that stay.
fn is_numbered(template: &PathText) -> bool {
    let number = Class::Num.name();
    let Some((folder, name)) = template.as_str().rsplit_once('/') else { return false };
    let Some((before, after)) = name.split_once(number) else { return false };
    let is_literal = |text: &str| !text.contains(['*', '<']);
    let has_letters = |text: &str| text.contains(|ch: char| ch.is_ascii_alphabetic());
    [folder, before, after].into_iter().all(is_literal) && (has_letters(before) || has_letters(after))
}

#[cfg(test)]
mod tests {
    use super::deletion;
    use crate::baseline::Entry;
    use crate::model::{Action, HostId, Seen, Traits, UnixNs};
    use crate::remembered::Remembered;
    use crate::template::template;
    use crate::testing::{behaviour, observation};
    use crate::{Floor, Verdict, merge};

    fn check(renamed: &str, expected: Option<&str>) {
        let implied = deletion(&Entry::allowing(&behaviour("rename", renamed)));
        assert!(implied.iter().all(|entry| entry.action == Action::Delete));
        assert_eq!(implied.map(|entry| entry.pattern.to_string()).as_deref(), expected, "{renamed}");
    }

    #[test]
    fn a_step_of_a_rotation_implies_the_deletion_of_the_last_and_nothing_else_does() {
        check("/var/log/a.log.<num>.gz -> /var/log/a.log.<num>.gz", Some("/var/log/a.log.<num>.gz"));
        check("/var/log/a.<num> -> /var/log/a.<num>", Some("/var/log/a.<num>"));
        for other in [
            "/var/log/a.log -> /var/log/a.log.<num>",
            "/var/log/a.<num> -> /var/log/b.<num>",
            "/var/log/a.<num> -> /srv/a.<num>",
            "/var/log/a.<num> -> /var/log/a.<num>.gz",
            "/spool/<num> -> /spool/<num>",
            "/srv/<num>/a -> /srv/<num>/a",
            "/srv/<num>/a.<num> -> /srv/<num>/a.<num>",
            "/srv/*/a.<num> -> /srv/*/a.<num>",
            "/srv/a*.<num> -> /srv/a*.<num>",
            "/srv/a.<hex> -> /srv/a.<hex>",
            "/srv/a.1 -> /srv/a.1",
            "/srv/a.<num>.<num> -> /srv/a.<num>.<num>",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn the_oldest_log_may_be_deleted_though_learning_was_shorter_than_it_is_kept() {
        let days = (1..14).map(|day| {
            let step = format!("/var/log/a.log.{day}.gz -> /var/log/a.log.{}.gz", day + 1);
            let step = template(&observation(behaviour("rename", &step), Traits::default()));
            (HostId(format!("{day:02}")), vec![(step, Remembered::learned(Seen::once(UnixNs(day))))])
        });
        let candidate = merge("web", &days.collect::<Vec<_>>());
        let supports: Vec<usize> = candidate.entries().map(|(_, support)| support.hosts).collect();
        assert_eq!(supports, [13, 13]);
        let baseline = candidate.baseline();
        let judge = |object: &str| {
            let deleted = observation(behaviour("delete", object), Traits::default());
            baseline.judge(&deleted, Floor::built_in())
        };
        assert_eq!(judge("/var/log/a.log.15.gz"), Verdict::Allowed);
        for other in ["/var/log/a.log.15", "/var/log/a.log", "/var/log/b.log.15.gz", "/var/log/a.log.x.gz"] {
            assert_ne!(judge(other), Verdict::Allowed, "{other}");
        }
    }
}
