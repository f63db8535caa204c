//! Sigma rules beside the baseline: which of them an event meets. Not where they are read from (`load`), and not what
//! becomes of a match (`pipeline`). It may call the rule engine, `event` and the baseline crate's types; only `load`
//! does I/O.

mod admit;
mod facts;
mod load;

pub use admit::Refusal;
pub use facts::{Doing, Facts, Parent};
pub use load::{Loaded, Refused, Unreadable, load};

use rsigma_eval::{CompiledRule, Engine};
use sensor_baseline::Severity;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What findings tell of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id; its title where it has none.
    pub id: Arc<str>,
    /// What it looks for.
    pub title: String,
    /// How bad a match is.
    pub level: Severity,
    /// ATT&CK technique ids, for example T1053.003.
    pub techniques: Vec<String>,
}

/// What an event has to be for a rule to look at it: a log source's category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// A program was executed.
    ProcessCreation,
    /// A file was made, written or renamed.
    FileEvent,
    /// A connection was begun.
    NetworkConnection,
}

impl Category {
    /// Each.
    pub const ALL: [Self; 3] = [Self::ProcessCreation, Self::FileEvent, Self::NetworkConnection];

    /// As rules call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProcessCreation => "process_creation",
            Self::FileEvent => "file_event",
            Self::NetworkConnection => "network_connection",
        }
    }

    /// The fields of its events.
    #[must_use]
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::ProcessCreation => &[
                "Image",
                "CommandLine",
                "ParentImage",
                "ParentCommandLine",
                "User",
                "LogonId",
                "CurrentDirectory",
                "ProcessId",
                "ParentProcessId",
            ],
            Self::FileEvent => &["TargetFilename", "Image", "User", "ProcessId"],
            Self::NetworkConnection => {
                &["DestinationIp", "DestinationPort", "Initiated", "Protocol", "Image", "User", "ProcessId"]
            }
        }
    }
}

/// Rules that are in force. Without any, a match costs nothing.
#[derive(Default)]
pub struct Rules {
    /// One engine for each category that has rules: nothing is asked of the others.
    engines: Vec<(Category, Engine)>,
    /// What the engines' numbers stand for.
    rules: Vec<(Category, Arc<Rule>)>,
    refused_count: u64,
    /// Ids of rules that were found and are not in force.
    idle: BTreeSet<String>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Rules").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Rules {
    /// Puts rules in force. What an engine gives back is the place in `admitted`.
    fn new(admitted: Vec<Admitted>, refused_count: u64, idle: BTreeSet<String>) -> Self {
        let mut rules = Self { refused_count, idle, ..Self::default() };
        let mut compiled = Category::ALL.map(|category| (category, Vec::new()));
        for rule in admitted {
            let of = compiled.iter_mut().find(|(category, _)| *category == rule.category);
            of.expect("every category is listed").1.push(rule.compiled);
            rules.rules.push((rule.category, Arc::new(rule.rule)));
        }
        for (category, compiled) in compiled.into_iter().filter(|(_, compiled)| !compiled.is_empty()) {
            let mut engine = Engine::new();
            engine.extend_compiled_rules(compiled);
            rules.engines.push((category, engine));
        }
        rules
    }

    /// Rules in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether there is one of a category.
    #[must_use]
    pub fn has_any(&self, category: Category) -> bool {
        self.engines.iter().any(|(of, _)| *of == category)
    }

    /// Each that is in force.
    pub fn iter(&self) -> impl Iterator<Item = (Category, &Rule)> {
        self.rules.iter().map(|(category, rule)| (*category, &**rule))
    }

    /// Whether a rule has this id, in force or not.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.idle.contains(id) || self.rules.iter().any(|(_, rule)| &*rule.id == id)
    }

    /// Rules in force of a category.
    #[must_use]
    pub fn count_of(&self, category: Category) -> usize {
        self.rules.iter().filter(|(of, _)| *of == category).count()
    }

    /// Rules that were found and are not in force, those below the level that was asked for left out.
    #[must_use]
    pub const fn refused_count(&self) -> u64 {
        self.refused_count
    }

    /// The rules that the event meets, worst first.
    #[must_use]
    pub fn met(&self, facts: &Facts<'_>) -> Vec<Arc<Rule>> {
        let Some((_, engine)) = self.engines.iter().find(|(of, _)| *of == facts.category()) else {
            return Vec::new();
        };
        let results = engine.evaluate(facts);
        let mut met: Vec<_> = results
            .iter()
            .filter_map(|result| result.header.rule_id.as_ref()?.parse::<usize>().ok())
            .filter_map(|number| self.rules.get(number))
            .map(|(_, rule)| Arc::clone(rule))
            .collect();
        met.sort_by_key(|rule| std::cmp::Reverse(rule.level));
        met
    }
}

/// A rule that can be put in force.
struct Admitted {
    category: Category,
    rule: Rule,
    /// Its id is its place among those that are admitted: so a match tells which it is.
    compiled: CompiledRule,
}

#[cfg(test)]
mod tests;
