//! What rules found while learning, as silences for a person to review. Not whether they are right: nobody but a person
//! can say that. May call: `floor`, `model`, `object`, `pattern`, `severity`,
//! `template`.
//!
//! A silence is proposed for one rule, workload, subject and object, the object as learning would have put it, when that
//! was found in several recordings: what happens every day is a habit, what happened once may have been an intrusion.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::floor::{Floor, FloorError, check_text};
use crate::model::{Behaviour, Observation, Traits, UnixNs};
use crate::object::Object;
use crate::pattern::Pattern;
use crate::severity::Severity;
use crate::template::template;

/// A rule that found something: of the floor, or a Sigma rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiredRule {
    /// Its id.
    pub id: String,
    /// What it looks for.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// A floor rule that yields to no entry.
    pub is_hard: bool,
}

/// Who answers for silences, why, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    owner: String,
    reason: String,
    expires: String,
}

impl Terms {
    /// Checks them as a file of silences does.
    ///
    /// # Errors
    /// When the owner or the reason is no text on one line, or `expires` is no day.
    pub fn new(owner: &str, reason: &str, expires: &str) -> Result<Self, FloorError> {
        let (owner, reason, expires) = (owner.to_owned(), reason.to_owned(), expires.to_owned());
        let terms = Self { owner, reason, expires };
        check_text("the silences to propose", &terms.silence(("rule", "host", "/x", "/x"))).map(|()| terms)
    }

    fn silence(&self, (rule, workload, subject, object): (&str, &str, &str, &str)) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let texts = [
            ("rule", rule),
            ("workload", workload),
            ("subject", subject),
            ("object", object),
            ("owner", &self.owner),
            ("reason", &self.reason),
        ];
        let mut text = "[[silence]]\n".to_owned();
        text.extend(texts.map(|(key, value)| format!("{key} = {}\n", quoted(value))));
        // What is no day stays one text, and is refused as that.
        let is_plain = self.expires.chars().all(|ch| ch.is_ascii_digit() || ch == '-');
        let expires = if is_plain { self.expires.clone() } else { quoted(&self.expires) };
        text + &format!("expires = {expires}\n")
    }
}

/// Where a rule fired: rule, workload, subject, object.
type Scope = (String, String, String, String);

/// How often it fired there.
#[derive(Debug, Clone)]
struct Hits {
    rule: FiredRule,
    count: u64,
    /// The numbers of the recordings.
    recordings: BTreeSet<usize>,
    /// The first ones that differ.
    examples: Vec<String>,
}

/// What rules found in some recordings.
#[derive(Debug, Clone, Default)]
pub struct Review {
    hits: BTreeMap<Scope, Hits>,
}

impl Review {
    /// Takes what a rule found in the recording of this number. A rule of `floor` tells which names it looks at. Of an
    /// exec `arguments` are shown: a silence does not look at them, so a person has to.
    pub fn add(
        &mut self,
        recording: usize,
        floor: &Floor,
        rule: &FiredRule,
        (behaviour, arguments): (&Behaviour, &str),
    ) {
        let example = example(behaviour, arguments);
        for object in objects(floor, rule, behaviour) {
            let scope = (rule.id.clone(), behaviour.workload.0.clone(), behaviour.subject.0.clone(), object);
            let hits = self.hits.entry(scope).or_insert_with(|| Hits {
                rule: rule.clone(),
                count: 0,
                recordings: BTreeSet::new(),
                examples: Vec::new(),
            });
            if hits.examples.len() < EXAMPLES_MAX && !hits.examples.contains(&example) {
                hits.examples.push(example.clone());
            }
            hits.count += 1;
            hits.recordings.insert(recording);
        }
    }

    /// Takes from a review of the same recordings, with silences, what this one has not: rules behind rules.
    pub fn extend(&mut self, later: Self) {
        for (scope, hits) in later.hits {
            self.hits.entry(scope).or_insert(hits);
        }
    }

    /// How many silences are proposed of what was found in at least so many recordings.
    #[must_use]
    pub fn proposed(&self, recordings_min: usize) -> usize {
        self.hits.iter().filter(|(scope, hits)| why_not(scope, hits, recordings_min).is_none()).count()
    }

    /// What no silence is proposed for, with the reason, one a line.
    #[must_use]
    pub fn left(&self, recordings_min: usize) -> Vec<String> {
        let left = self.hits.iter().filter_map(|(scope, hits)| {
            let why = why_not(scope, hits, recordings_min)?;
            let (rule, workload, subject, _) = scope;
            let (times, example) = (times(hits), hits.examples.first().map_or("", String::as_str));
            Some(format!("{rule}, {workload}, {subject}: {example}, {times}: {why}"))
        });
        left.collect()
    }

    /// The silences as a file of floor rules, to be reviewed.
    #[must_use]
    pub fn to_toml(&self, recordings_min: usize, recordings: usize, terms: &Terms) -> String {
        let mut text = String::from(HEAD);
        for (scope, hits) in &self.hits {
            if why_not(scope, hits, recordings_min).is_some() {
                continue;
            }
            let (rule, workload, subject, object) = scope;
            let Hits { rule: FiredRule { title, severity, .. }, recordings: seen, examples, .. } = hits;
            let (title, times) = (one_line(title), times(hits));
            writeln!(
                text,
                "\n# {title}, {}: {times} in {} of {recordings} recordings",
                severity.name(),
                seen.len()
            )
            .expect("writing to memory does not fail");
            text.extend(examples.iter().map(|example| format!("# for example: {example}\n")));
            text += &terms.silence((rule, workload, subject, object));
        }
        let left = self.left(recordings_min);
        if !left.is_empty() {
            text += "\n# Not proposed:\n";
            text.extend(left.iter().map(|line| format!("# {}\n", one_line(line))));
        }
        text
    }
}

/// Why a silence is not proposed; `None` when it is.
fn why_not((rule, workload, subject, object): &Scope, hits: &Hits, recordings_min: usize) -> Option<String> {
    if hits.rule.is_hard {
        return Some("the rule yields to nothing".to_owned());
    }
    if hits.rule.severity == Severity::Critical {
        return Some("the rule is critical".to_owned());
    }
    if hits.recordings.len() < recordings_min {
        let count = hits.recordings.len();
        return Some(format!("in {count} of at least {recordings_min} recordings"));
    }
    let terms = Terms { owner: "x".to_owned(), reason: "x".to_owned(), expires: "2100-01-01".to_owned() };
    let checked = check_text("it cannot be named", &terms.silence((rule, workload, subject, object)));
    checked.err().map(|error| error.to_string())
}

/// The objects that a silence has to name, as learning would have put them.
fn objects(floor: &Floor, rule: &FiredRule, behaviour: &Behaviour) -> BTreeSet<String> {
    let seen =
        Observation { behaviour: behaviour.clone(), traits: Traits::default(), time: UnixNs::default() };
    match &template(&seen).object {
        Object::Rename { from, to } => {
            let (is_old, is_new) = floor.looks_at(&rule.id, behaviour);
            let names = [(is_old, from), (is_new, to)].into_iter();
            names
                .filter(|(is_looked_at, _)| *is_looked_at)
                .map(|(_, name)| name.as_str().to_owned())
                .collect()
        }
        object => BTreeSet::from([Pattern::of(behaviour.action, object).to_string()]),
    }
}

/// What was done, and with which arguments, on one line that is not too long.
fn example(behaviour: &Behaviour, arguments: &str) -> String {
    let mut text = format!("{} {}", behaviour.action, behaviour.object);
    if !arguments.is_empty() {
        let shown: String = arguments.chars().take(ARGUMENTS_CHARS_MAX).collect();
        let more = if shown.len() < arguments.len() { " ..." } else { "" };
        text += &format!(" [{shown}{more}]");
    }
    one_line(&text)
}

fn times(hits: &Hits) -> String {
    if hits.count == 1 { "once".to_owned() } else { format!("{} times", hits.count) }
}

/// A comment has no line break: titles are anybody's text.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Examples of what is silenced that are shown at most.
const EXAMPLES_MAX: usize = 3;
/// Characters of their arguments that are shown at most.
const ARGUMENTS_CHARS_MAX: usize = 160;

const HEAD: &str = "# Silences of what rules found while learning. Each is a person's word that it is harmless: read it, take out what is
# not, then give the file to the agent (floor.files) or to --floor.
";

#[cfg(test)]
mod tests {
    use super::{FiredRule, Review, Terms};
    use crate::floor::Floor;
    use crate::model::{Behaviour, Traits};
    use crate::object::Object;
    use crate::severity::Severity;
    use crate::testing::{behaviour, observation};

    const SIGMA: &str = "123e4567-e89b-12d3-a456-426614174000";

    fn rule(id: &str) -> FiredRule {
        let of_floor = Floor::built_in().rule(id);
        FiredRule {
            id: id.to_owned(),
            title: "a \"title\"\nof two lines".to_owned(),
            severity: of_floor.map_or(Severity::Medium, |rule| rule.severity),
            is_hard: of_floor.is_some_and(|rule| !rule.yields_to_allow),
        }
    }

    fn review(found: &[(usize, &FiredRule, Behaviour)]) -> Review {
        let mut review = Review::default();
        for (recording, rule, behaviour) in found {
            review.add(*recording, Floor::built_in(), rule, (behaviour, ""));
        }
        review
    }

    fn terms() -> Terms {
        Terms::new("ops", "seen \"daily\"", "2100-01-01").unwrap()
    }

    #[test]
    fn what_was_found_in_two_recordings_is_proposed_and_nothing_else_is() {
        let (cron, hard, sigma) = (rule("cron"), rule("fileless-exec"), rule(SIGMA));
        let critical = FiredRule { id: "A Title".to_owned(), severity: Severity::Critical, ..rule(SIGMA) };
        let does = |does: &str| {
            let (action, object) = does.split_once(' ').unwrap();
            behaviour(action, object)
        };
        let in_memory = Behaviour { object: Object::path("memfd:x"), ..behaviour("exec", "/x") };
        let review = review(&[
            (0, &cron, does("write /etc/cron.d/job-1")),
            (1, &cron, does("write /etc/cron.d/job-2")),
            (1, &cron, does("write /etc/cron.d/once")),
            (1, &cron, does("write /etc/cron.d/once")),
            (0, &cron, does("rename /srv/a -> /etc/cron.d/b")),
            (1, &cron, does("rename /srv/a -> /etc/cron.d/b")),
            (0, &hard, does("exec /x")),
            (1, &hard, does("exec /x")),
            (0, &critical, does("exec /x")),
            (1, &critical, does("exec /x")),
            (0, &sigma, does("rename /tmp/a -> /etc/b")),
            (2, &sigma, does("rename /tmp/c -> /etc/b")),
            (2, &sigma, in_memory.clone()),
            (3, &sigma, in_memory),
        ]);
        let text = review.to_toml(2, 4, &terms());
        let floor = Floor::with_files(&[("proposed.toml".to_owned(), text.clone())]).expect(&text);
        let scopes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("object = ")).collect();
        assert_eq!(scopes, ["\"/etc/b\"", "\"/etc/cron.d/b\"", "\"/etc/cron.d/job-<num>\""]);
        assert_eq!((review.proposed(2), floor.silences().len()), (3, 3));
        let comment = "# a \"title\" of two lines, high: 2 times in 2 of 4 recordings\n# for example: write /etc/cron.d/job-1\n";
        assert!(text.contains(comment), "{text}");
        let seen = observation(behaviour("write", "/etc/cron.d/job-77"), Traits::default());
        assert_eq!(floor.held(&seen).silenced.map(|rule| rule.id.as_str()), Some("cron"));
        let left = review.left(2);
        for (line, expected) in left.iter().zip([
            "exec memfd:x, 2 times: it cannot be named: silence of 123e4567-e89b-12d3-a456-426614174000: object: ",
            "A Title, unit:a.service, /usr/bin/a: exec /x, 2 times: the rule is critical",
            "write /etc/cron.d/once, 2 times: in 1 of at least 2 recordings",
            "fileless-exec, unit:a.service, /usr/bin/a: exec /x, 2 times: the rule yields to nothing",
        ]) {
            assert!(line.contains(expected), "{line}");
            assert!(text.contains(&format!("# {line}\n")), "{line}");
        }
        assert_eq!(left.len(), 4, "{left:?}");
    }

    #[test]
    fn what_is_behind_a_silenced_rule_is_added_and_what_is_known_keeps_its_count() {
        let (cron, sigma) = (rule("cron"), rule(SIGMA));
        let write = behaviour("write", "/etc/cron.d/a");
        let twice = [(0, &cron, write.clone()), (1, &cron, write.clone())];
        let mut first = review(&twice);
        first.extend(review(&[(0, &cron, write.clone()), (0, &sigma, write.clone()), (1, &sigma, write)]));
        assert_eq!(first.proposed(2), 2);
        assert_eq!(first.to_toml(2, 2, &terms()).matches(": 2 times in 2 of 2").count(), 2);
    }

    #[test]
    fn three_examples_are_shown_with_their_arguments() {
        let (sigma, sed) = (rule(SIGMA), behaviour("exec", "/usr/bin/sed"));
        let mut review = Review::default();
        let long = format!("sed {}", "x".repeat(200));
        for (at, arguments) in ["sed a", "sed a", "sed\nb", &long, "sed c"].into_iter().enumerate() {
            review.add(at, Floor::built_in(), &sigma, (&sed, arguments));
        }
        let text = review.to_toml(2, 5, &terms());
        let examples: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# for example: ")).collect();
        assert_eq!(examples[..2], ["exec /usr/bin/sed [sed a]", "exec /usr/bin/sed [sed b]"]);
        assert!(examples.len() == 3 && examples[2].ends_with("xx ...]"), "{examples:?}");
    }

    #[test]
    fn terms_that_a_file_would_refuse_are_refused() {
        let check = |owner: &str, reason: &str, expires: &str, expected: &str| {
            let error = Terms::new(owner, reason, expires).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(" ", "x", "2100-01-01", "owner: expected a text on one line, found \" \"");
        check("ops", "two\nlines", "2100-01-01", "reason: expected a text on one line");
        check("ops", "x", "soon", "the silences to propose:8:");
        check("ops", "x", "2100-01-01 # for good", "the silences to propose:");
    }
}
