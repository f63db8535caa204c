//! The text of a file of floor rules, sensitive objects and silences, as values. Not their order, and not what they mean
//! together (see `floor`). May call: the other files of `floor`, `model`, `object`, `pattern`.

use serde::Deserialize;
use toml::value::Datetime;

use super::condition::{Act, Condition, Place, Trait};
use super::error::{FIRES_ON, FloorCause, FloorError, QUIET_ON};
use super::silence::{ObjectScope, Scope, Silence};
use super::{FloorRule, Sensitive, Technique};
use crate::matcher::{Class, NameMatcher};
use crate::model::{Action, Behaviour, Observation, Subject, Traits, UnixNs, Workload};
use crate::object::{Object, ObjectError};
use crate::pattern::{Network, Ports};
use crate::severity::Severity;

/// What stands in one file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) rules: Vec<FloorRule>,
    pub(super) sensitive: Vec<Sensitive>,
    pub(super) silences: Vec<Silence>,
}

/// Reads a file whose name is `file`, and tries its examples.
pub(super) fn read(file: &str, text: &str) -> Result<File, FloorError> {
    let refused = |cause| FloorError { file: file.to_owned(), cause };
    if text.len() > FLOOR_TEXT_BYTES_MAX {
        let message = format!("expected at most {FLOOR_TEXT_BYTES_MAX} bytes, found {}", text.len());
        return Err(refused(FloorCause::Text { line: 1, column: 1, message }));
    }
    let parsed: FileText = toml::from_str(text).map_err(|error| refused(text_cause(text, &error)))?;
    parsed.check(file).map_err(refused)
}

fn text_cause(text: &str, error: &toml::de::Error) -> FloorCause {
    let before = &text[..error.span().map_or(0, |span| span.start)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    FloorCause::Text {
        line: 1 + before.matches('\n').count(),
        column: 1 + before[line_start..].chars().count(),
        message: error.message().replace('\n', ", "),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    attack_version: Option<String>,
    #[serde(default)]
    rule: Vec<RuleText>,
    #[serde(default)]
    sensitive: Vec<SensitiveText>,
    #[serde(default)]
    silence: Vec<SilenceText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    id: String,
    title: String,
    #[serde(default)]
    techniques: Vec<Technique>,
    severity: Severity,
    yields_to_allow: bool,
    when: Vec<ConditionText>,
    #[serde(default)]
    fires_on: Vec<ExampleText>,
    #[serde(default)]
    quiet_on: Vec<ExampleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SensitiveText {
    id: String,
    why: String,
    #[serde(default)]
    techniques: Vec<Technique>,
    when: Vec<ConditionText>,
    #[serde(default)]
    fires_on: Vec<ExampleText>,
    #[serde(default)]
    quiet_on: Vec<ExampleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionText {
    actions: Vec<Act>,
    places: Option<Vec<String>>,
    #[serde(default)]
    hidden: bool,
    ports: Option<Vec<String>>,
    networks: Option<Vec<String>>,
    #[serde(default)]
    reachable: bool,
    subjects: Option<Vec<String>>,
    workloads: Option<Vec<String>>,
    except_workloads: Option<Vec<String>>,
    #[serde(default)]
    traits: Vec<Trait>,
    #[serde(default)]
    without_traits: Vec<Trait>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExampleText {
    does: String,
    workload: Option<String>,
    subject: Option<String>,
    #[serde(default)]
    traits: Vec<Trait>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SilenceText {
    rule: String,
    workload: String,
    subject: Option<String>,
    object: Option<String>,
    owner: String,
    reason: String,
    expires: Datetime,
}

impl FileText {
    fn check(self, file: &str) -> Result<File, FloorCause> {
        let version = self.attack_version.unwrap_or_default();
        let has_version = !version.is_empty();
        Ok(File {
            rules: (self.rule.into_iter())
                .map(|rule| {
                    let (attack_version, file) = (version.clone(), file.to_owned());
                    Ok(FloorRule { attack_version, file, ..rule.check(has_version)? })
                })
                .collect::<Result<_, _>>()?,
            sensitive: (self.sensitive.into_iter())
                .map(|object| Ok(Sensitive { file: file.to_owned(), ..object.check(has_version)? }))
                .collect::<Result<_, _>>()?,
            silences: (self.silence.into_iter())
                .map(|silence| silence.check(file))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl RuleText {
    fn check(self, has_version: bool) -> Result<FloorRule, FloorCause> {
        let of = Of(format!("rule {}", self.id));
        of.id(&self.id)?;
        of.filled("title", &self.title)?;
        of.techniques(&self.techniques, has_version)?;
        if self.severity == Severity::Informational {
            return Err(of.wrong("severity", "low, medium, high or critical", self.severity.name()));
        }
        let conditions = of.conditions(self.when)?;
        of.examples(&conditions, &self.fires_on, &self.quiet_on)?;
        Ok(FloorRule {
            id: self.id,
            title: self.title,
            techniques: self.techniques,
            attack_version: String::new(),
            severity: self.severity,
            yields_to_allow: self.yields_to_allow,
            file: String::new(),
            conditions,
            examples: self.fires_on.iter().map(|example| example.observe(&of)).collect::<Result<_, _>>()?,
        })
    }
}

impl SensitiveText {
    fn check(self, has_version: bool) -> Result<Sensitive, FloorCause> {
        let of = Of(format!("sensitive {}", self.id));
        of.id(&self.id)?;
        of.filled("why", &self.why)?;
        of.techniques(&self.techniques, has_version)?;
        let conditions = of.conditions(self.when)?;
        of.examples(&conditions, &self.fires_on, &self.quiet_on)?;
        let Self { id, why, techniques, .. } = self;
        Ok(Sensitive { id, why, techniques, file: String::new(), conditions })
    }
}

impl SilenceText {
    fn check(self, file: &str) -> Result<Silence, FloorCause> {
        let of = Of(format!("silence of {}", self.rule));
        of.filled("rule", &self.rule)?;
        of.filled("owner", &self.owner)?;
        of.filled("reason", &self.reason)?;
        if !Workload(self.workload.clone()).is_nameable() {
            return Err(of.wrong("workload", WORKLOAD_EXPECTED, &self.workload));
        }
        let place = |text: &String| Place::parse(text).map_err(|error| of.value("subject", error));
        let object = |text: &String| ObjectScope::parse(text).map_err(|error| of.value("object", error));
        let scope = Scope {
            workload: NameMatcher::new(&self.workload),
            subject: self.subject.as_ref().map(place).transpose()?,
            object: self.object.as_ref().map(object).transpose()?,
            text: self.workload,
        };
        let expires = self.expires.to_string();
        let until = day(self.expires).ok_or_else(|| of.wrong("expires", DAY_EXPECTED, &expires))?;
        let (rule, owner, reason) = (self.rule, self.owner, self.reason);
        Ok(Silence { rule, owner, reason, expires, file: file.to_owned(), until, scope })
    }
}

impl ExampleText {
    fn observe(&self, of: &Of) -> Result<Observation, FloorCause> {
        let wrong = || of.wrong("does", "ACTION OBJECT such as exec /bin/sh", &self.does);
        let (action, object) = self.does.split_once(' ').ok_or_else(wrong)?;
        let action = Action::parse(action).ok_or_else(wrong)?;
        let object = Object::parse(action, object).map_err(|error| of.value("does", error))?;
        let is_literal = match &object {
            Object::Path(path) => path.is_literal(),
            Object::Rename { from, to } => from.is_literal() && to.is_literal(),
            Object::Endpoint(_) => true,
        };
        if !is_literal {
            return Err(of.wrong("does", "a name without wildcards", &self.does));
        }
        let mut traits = Traits::default();
        self.traits.iter().for_each(|one| one.set(&mut traits));
        let workload = self.workload.clone().unwrap_or_else(|| WORKLOAD_DEFAULT.to_owned());
        if !Workload(workload.clone()).is_nameable() {
            return Err(of.wrong("workload", WORKLOAD_EXPECTED, &workload));
        }
        let subject = self.subject.clone().unwrap_or_else(|| SUBJECT_DEFAULT.to_owned());
        let behaviour = Behaviour { workload: Workload(workload), subject: Subject(subject), action, object };
        Ok(Observation { behaviour, traits, time: UnixNs::default() })
    }
}

/// What is being read, for errors.
struct Of(String);

impl Of {
    fn value(&self, key: &'static str, error: ObjectError) -> FloorCause {
        FloorCause::Value { of: self.0.clone(), key, error }
    }

    fn wrong(&self, key: &'static str, expected: &'static str, found: &str) -> FloorCause {
        self.value(key, ObjectError::new(expected, found))
    }

    fn id(&self, id: &str) -> Result<(), FloorCause> {
        if is_floor_id(id) {
            return Ok(());
        }
        Err(self.wrong("id", "lower-case letters, digits and hyphens, at most 64", id))
    }

    fn filled(&self, key: &'static str, text: &str) -> Result<(), FloorCause> {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err(self.wrong(key, "a text on one line", text));
        }
        Ok(())
    }

    fn techniques(&self, techniques: &[Technique], has_version: bool) -> Result<(), FloorCause> {
        for technique in techniques {
            self.filled("techniques", &technique.name)?;
            if !is_technique(&technique.id) {
                let expected = "an ATT&CK technique such as T1053 or T1053.003";
                return Err(self.wrong("techniques", expected, &technique.id));
            }
            if !has_version {
                let expected = "attack_version at the top of the file, for the release that the id is of";
                return Err(self.wrong("techniques", expected, &technique.id));
            }
        }
        Ok(())
    }

    fn conditions(&self, texts: Vec<ConditionText>) -> Result<Vec<Condition>, FloorCause> {
        if texts.is_empty() {
            return Err(self.wrong("when", "at least one condition", "[]"));
        }
        texts.into_iter().map(|text| self.condition(text)).collect()
    }

    fn condition(&self, text: ConditionText) -> Result<Condition, FloorCause> {
        if text.actions.is_empty() {
            return Err(self.wrong("actions", "at least one action", "[]"));
        }
        let condition = Condition {
            places: self.list("places", text.places.as_deref(), Place::parse)?,
            is_hidden: text.hidden,
            ports: self.list("ports", text.ports.as_deref(), Ports::parse)?,
            networks: self.list("networks", text.networks.as_deref(), Network::parse)?,
            is_reachable: text.reachable,
            subjects: self.list("subjects", text.subjects.as_deref(), Place::parse)?,
            workloads: self.list("workloads", text.workloads.as_deref(), workload)?,
            except_workloads: self.list("except_workloads", text.except_workloads.as_deref(), workload)?,
            traits: text.traits,
            without_traits: text.without_traits,
            acts: text.actions,
        };
        self.fitting(&condition)?;
        Ok(condition)
    }

    /// A condition that says nothing, or of places where there are ports, is a mistake.
    fn fitting(&self, condition: &Condition) -> Result<(), FloorCause> {
        let of_path = !condition.places.is_empty() || condition.is_hidden;
        let of_endpoint =
            !condition.ports.is_empty() || !condition.networks.is_empty() || condition.is_reachable;
        if of_path && !condition.acts.iter().all(|act| act.is_of_path()) {
            return Err(self.wrong(
                "actions",
                "exec, write, delete, rename_from and rename_to only, with places or hidden",
                "connect or listen",
            ));
        }
        if of_endpoint && !condition.acts.iter().all(|act| act.is_of_endpoint()) {
            return Err(self.wrong(
                "actions",
                "connect and listen only, with ports, networks or reachable",
                "an action on paths",
            ));
        }
        if of_path || of_endpoint || !condition.subjects.is_empty() || !condition.traits.is_empty() {
            return Ok(());
        }
        let expected = "places, hidden, ports, networks, reachable, subjects or traits beside the actions";
        Err(self.wrong("when", expected, "a condition that holds for every object"))
    }

    fn list<T>(
        &self,
        key: &'static str,
        texts: Option<&[String]>,
        parse: impl Fn(&str) -> Result<T, ObjectError>,
    ) -> Result<Vec<T>, FloorCause> {
        let Some(texts) = texts else { return Ok(Vec::new()) };
        if texts.is_empty() {
            return Err(self.wrong(key, "at least one", "[]"));
        }
        texts.iter().map(|text| parse(text).map_err(|error| self.value(key, error))).collect()
    }

    /// Tries every example.
    fn examples(
        &self,
        conditions: &[Condition],
        fires_on: &[ExampleText],
        quiet_on: &[ExampleText],
    ) -> Result<(), FloorCause> {
        for (key, examples, expected) in [(FIRES_ON, fires_on, true), (QUIET_ON, quiet_on, false)] {
            if examples.is_empty() {
                return Err(FloorCause::NoExample { of: self.0.clone(), key });
            }
            for example in examples {
                let observation = example.observe(self)?;
                let fires = conditions.iter().any(|condition| condition.holds(&observation));
                if fires != expected {
                    let (of, example) = (self.0.clone(), example.does.clone());
                    return Err(FloorCause::ExampleFails { of, key, example });
                }
            }
        }
        Ok(())
    }
}

fn is_floor_id(id: &str) -> bool {
    let is_word = |ch: char| ch.is_ascii_lowercase() || ch.is_ascii_digit() || ch == '-';
    id.len() <= ID_BYTES_MAX && id.starts_with(|ch: char| ch.is_ascii_lowercase()) && id.chars().all(is_word)
}

/// Whether a Sigma rule may be called so: its id is a UUID, or its title where it has none. What looks like the id of a
/// floor rule is one.
pub(super) fn may_be_of_sigma(id: &str) -> bool {
    Class::Uuid.match_len(id) == Some(id.len()) || !is_floor_id(id)
}

fn workload(text: &str) -> Result<NameMatcher, ObjectError> {
    if Workload(text.to_owned()).is_nameable() {
        return Ok(NameMatcher::new(text));
    }
    Err(ObjectError::new(WORKLOAD_EXPECTED, text))
}

/// `T` and four digits, and three more behind a dot for a sub-technique.
fn is_technique(id: &str) -> bool {
    let Some(rest) = id.strip_prefix('T') else { return false };
    let is_number = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    match rest.split_once('.') {
        Some((technique, sub)) => is_number(technique, 4) && is_number(sub, 3),
        None => is_number(rest, 4),
    }
}

/// When a day begins, in UTC; `None` for what is not only a day, or before 1970.
fn day(written: Datetime) -> Option<UnixNs> {
    let Datetime { date: Some(date), time: None, offset: None } = written else { return None };
    let (year, month, day) = (u64::from(date.year), u64::from(date.month), u64::from(date.day));
    // Years that begin in March, so that the day that some have more is their last.
    let year = year.checked_sub(u64::from(month <= 2))?;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    days.checked_sub(DAYS_TO_1970)?.checked_mul(DAY_NS).map(UnixNs)
}

/// From the first of March of the year 0 to 1970.
const DAYS_TO_1970: u64 = 719_468;
const DAY_NS: u64 = 24 * 60 * 60 * 1_000_000_000;
const ID_BYTES_MAX: usize = 64;
/// Longest text of a file of floor rules.
pub const FLOOR_TEXT_BYTES_MAX: usize = 1024 * 1024;
const WORKLOAD_EXPECTED: &str = "a workload such as unit:NAME, container:ID, session:user or host";
const DAY_EXPECTED: &str = "a day from 1970 to 2553, such as 2027-01-31";
const WORKLOAD_DEFAULT: &str = "unit:example.service";
const SUBJECT_DEFAULT: &str = "/usr/bin/example";
