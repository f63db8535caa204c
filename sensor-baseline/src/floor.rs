//! Floor rules: what is a finding whatever has been learned; and the objects that make novelty worse. Not the rules
//! themselves: those are in `rules/*.toml`, and in files of users. May call: its own files, `model`, `severity`.

mod condition;
mod error;
mod file;
mod index;
mod silence;

use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use crate::model::{Behaviour, Observation};
use crate::severity::Severity;
use condition::{Act, Condition, Target};
pub use error::{FloorCause, FloorError};
pub use file::FLOOR_TEXT_BYTES_MAX;
use index::Index;
pub use silence::Silence;

/// An ATT&CK technique.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Technique {
    /// For example `T1053.003`.
    pub id: String,
    /// For example `Scheduled Task/Job: Cron`.
    pub name: String,
}

/// A rule that no learning silences.
#[derive(Debug)]
pub struct FloorRule {
    /// Stable name, for example `fileless-exec`.
    pub id: String,
    /// For a person, for example `program executed from memory`.
    pub title: String,
    /// What intruders do it for.
    pub techniques: Vec<Technique>,
    /// The ATT&CK release that the techniques are of.
    pub attack_version: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whether an explicit allow entry, which only a person can make, silences it.
    pub yields_to_allow: bool,
    /// The file it stands in.
    pub file: String,
    conditions: Vec<Condition>,
    /// Observations on which it fires, from its file.
    pub examples: Vec<Observation>,
}

impl FloorRule {
    /// The ids of its techniques.
    pub fn technique_ids(&self) -> impl Iterator<Item = &str> {
        self.techniques.iter().map(|technique| technique.id.as_str())
    }

    /// What of the observation makes it fire; nothing when it does not.
    fn targets<'a>(&'a self, observation: &'a Observation) -> impl Iterator<Item = Target<'a>> {
        self.conditions.iter().flat_map(|condition| condition.targets(observation))
    }

    fn fires(&self, observation: &Observation) -> bool {
        self.targets(observation).next().is_some()
    }
}

/// Ids are unique among the rules of a floor.
impl PartialEq for FloorRule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for FloorRule {}

/// Objects that intruders go for, so that what is new about them is worse.
#[derive(Debug)]
pub struct Sensitive {
    /// Stable name, for example `logs`.
    pub id: String,
    /// Why they matter.
    pub why: String,
    /// What intruders touch them for.
    pub techniques: Vec<Technique>,
    /// The file it stands in.
    pub file: String,
    conditions: Vec<Condition>,
}

/// What the floor says of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<'a> {
    /// The rule that fires.
    pub rule: Option<&'a Arc<FloorRule>>,
    /// The first rule that would fire, but is silenced here.
    pub silenced: Option<&'a Arc<FloorRule>>,
    /// A silence stands in for the entry that a rule keeps from being learned: that it is not listed is not news.
    pub is_excused: bool,
}

/// Every floor rule, sensitive object and silence in force.
#[derive(Debug, Clone)]
pub struct Floor {
    rules: Vec<Arc<FloorRule>>,
    sensitive: Vec<Arc<Sensitive>>,
    silences: Vec<Silence>,
    /// Of the rules.
    index: Index,
}

impl Default for Floor {
    fn default() -> Self {
        Self::clone(Self::built_in())
    }
}

impl Floor {
    /// The rules that come with the sensor, and no others.
    #[must_use]
    pub fn built_in() -> &'static Arc<Self> {
        &BUILT_IN
    }

    /// The built-in rules and those of users' files, each with the name and the text of it. Silences may be of rules in
    /// any of them.
    ///
    /// # Errors
    /// When a text is no file of floor rules, an id is taken, an example fails, or a silence goes too far.
    pub fn with_files(files: &[(String, String)]) -> Result<Self, FloorError> {
        Self::built_in().extended(files)
    }

    fn extended(&self, files: &[(String, String)]) -> Result<Self, FloorError> {
        let mut floor = self.clone();
        for (name, text) in files {
            floor.add(name, file::read(name, text)?)?;
        }
        // What yields comes last, so that a rule that fires yields only when every one that fires does.
        floor.rules.sort_by_key(|rule| rule.yields_to_allow);
        floor.index = Index::new(&floor.rules);
        for silence in &floor.silences {
            floor.check(silence)?;
        }
        Ok(floor)
    }

    fn add(&mut self, name: &str, file: file::File) -> Result<(), FloorError> {
        let taken = |of: String, by: &str| FloorError {
            file: name.to_owned(),
            cause: FloorCause::Taken { of, by: by.to_owned() },
        };
        for rule in file.rules {
            if let Some(other) = self.rule(&rule.id) {
                return Err(taken(format!("rule {}", rule.id), &other.file));
            }
            self.rules.push(Arc::new(rule));
        }
        for object in file.sensitive {
            if let Some(other) = self.sensitive.iter().find(|other| other.id == object.id) {
                return Err(taken(format!("sensitive {}", object.id), &other.file));
            }
            self.sensitive.push(Arc::new(object));
        }
        self.silences.extend(file.silences);
        Ok(())
    }

    /// A silence is of a rule that there is, or may be a Sigma rule; one that yields to nothing is silent in one workload
    /// only.
    fn check(&self, silence: &Silence) -> Result<(), FloorError> {
        let of = format!("silence of {}", silence.rule);
        let rule = self.rule(&silence.rule);
        let cause = if rule.is_none() && !file::may_be_of_sigma(&silence.rule) {
            FloorCause::UnknownRule { of }
        } else if rule.is_none_or(|rule| !rule.yields_to_allow) && !silence.scope.workload.is_literal() {
            FloorCause::NotNamed { of, workload: silence.scope.text.clone() }
        } else {
            return Ok(());
        };
        Err(FloorError { file: silence.file.clone(), cause })
    }

    /// The first rule that fires and is not silenced, and the first that is.
    #[must_use]
    pub fn held(&self, observation: &Observation) -> Held<'_> {
        let mut held = Held { rule: None, silenced: None, is_excused: false };
        if !self.index.may_fire(observation) {
            return held;
        }
        for rule in self.rules.iter().filter(|rule| rule.fires(observation)) {
            if !self.is_silent(rule, observation, |_| true) {
                held.rule = Some(rule);
                break;
            }
            held.silenced = held.silenced.or(Some(rule));
            held.is_excused |=
                rule.yields_to_allow && self.is_silent(rule, observation, Silence::stands_for_an_entry);
        }
        held
    }

    /// Whether some silences cover all that makes the rule fire: of a rename that may be both names.
    fn is_silent(
        &self,
        rule: &FloorRule,
        observation: &Observation,
        is_meant: impl Fn(&Silence) -> bool + Copy,
    ) -> bool {
        let of_rule = |silence: &&Silence| silence.rule == rule.id && is_meant(silence);
        let mut of_rule = self.silences.iter().filter(of_rule).peekable();
        of_rule.peek().is_some()
            && rule
                .targets(observation)
                .all(|target| of_rule.clone().any(|silence| silence.holds(observation, target)))
    }

    /// The silence of a Sigma rule that covers what was done, if there is one; of a rename by the new name.
    #[must_use]
    pub fn silence_of_sigma(&self, id: &str, observation: &Observation) -> Option<&Silence> {
        let target = Target::of(&observation.behaviour);
        self.sigma_silences().find(|silence| silence.rule == id && silence.holds(observation, target))
    }

    /// Of a rename, whether the rule looks at the old name and at the new one, whoever does it. Sigma rules look at the new.
    pub(crate) fn looks_at(&self, id: &str, behaviour: &Behaviour) -> (bool, bool) {
        let Some(rule) = self.rule(id) else { return (false, true) };
        let looks = |act| rule.conditions.iter().any(|condition| condition.looks_at(act, behaviour));
        (looks(Act::RenameFrom), looks(Act::RenameTo))
    }

    /// The silences of what is no floor rule.
    pub fn sigma_silences(&self) -> impl Iterator<Item = &Silence> {
        self.silences.iter().filter(|silence| self.rule(&silence.rule).is_none())
    }

    /// The first rule that fires, silenced or not.
    #[must_use]
    pub fn firing(&self, observation: &Observation) -> Option<&Arc<FloorRule>> {
        self.index
            .may_fire(observation)
            .then(|| self.rules.iter().find(|rule| rule.fires(observation)))
            .flatten()
    }

    /// The first sensitive object that the observation is about.
    #[must_use]
    pub fn sensitive(&self, observation: &Observation) -> Option<&Sensitive> {
        let holds =
            |object: &&Arc<Sensitive>| object.conditions.iter().any(|condition| condition.holds(observation));
        self.sensitive.iter().find(holds).map(Arc::as_ref)
    }

    /// Every rule, in order of precedence.
    #[must_use]
    pub fn rules(&self) -> &[Arc<FloorRule>] {
        &self.rules
    }

    /// Every sensitive object.
    pub fn sensitive_objects(&self) -> impl Iterator<Item = &Sensitive> {
        self.sensitive.iter().map(Arc::as_ref)
    }

    /// Every silence, also those that have ended.
    #[must_use]
    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    /// The rule with that id.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&Arc<FloorRule>> {
        self.rules.iter().find(|rule| rule.id == id)
    }
}

/// Reads a file without asking whether there are the rules that it silences.
pub(crate) fn check_text(name: &str, text: &str) -> Result<(), FloorError> {
    file::read(name, text).map(|_| ())
}

/// The files that come with the sensor, by what errors call them.
const FILES: [(&str, &str); 2] = [
    ("built-in floor.toml", include_str!("../rules/floor.toml")),
    ("built-in sensitive.toml", include_str!("../rules/sensitive.toml")),
];

static BUILT_IN: LazyLock<Arc<Floor>> = LazyLock::new(|| {
    let files = FILES.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let nothing =
        Floor { rules: Vec::new(), sensitive: Vec::new(), silences: Vec::new(), index: Index::default() };
    Arc::new(nothing.extended(&files).expect("a test reads the files that come with the sensor"))
});

#[cfg(test)]
mod tests;
