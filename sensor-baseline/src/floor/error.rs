//! Why a file of floor rules is refused. Not how it is read (see `file`). May call: `object`.

use std::fmt;

use crate::object::ObjectError;

/// A file of floor rules that is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloorError {
    /// The file, as it was named.
    pub file: String,
    /// What is wrong with it.
    pub cause: FloorCause,
}

/// What is wrong with a file of floor rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FloorCause {
    /// It is no TOML, or a key or a type is wrong.
    Text {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What was expected and what was found.
        message: String,
    },
    /// A value makes no sense.
    Value {
        /// `rule cron`, `sensitive logs`, `silence of cron`.
        of: String,
        /// The key.
        key: &'static str,
        /// What was expected and what was found.
        error: ObjectError,
    },
    /// Another rule, or sensitive object, has that id.
    Taken {
        /// `rule cron`.
        of: String,
        /// The file that the other one stands in.
        by: String,
    },
    /// Without an example that fires and one that does not, nobody knows what the condition means.
    NoExample {
        /// `rule cron`.
        of: String,
        /// `fires_on` or `quiet_on`.
        key: &'static str,
    },
    /// An example says otherwise than the condition.
    ExampleFails {
        /// `rule cron`.
        of: String,
        /// `fires_on` or `quiet_on`.
        key: &'static str,
        /// What it does.
        example: String,
    },
    /// A silence of a rule that there is not.
    UnknownRule {
        /// `silence of cron`.
        of: String,
    },
    /// A rule that does not yield is silenced for more than one workload.
    NotNamed {
        /// `silence of cron`.
        of: String,
        /// The template.
        workload: String,
    },
}

impl fmt::Display for FloorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, cause } = self;
        match cause {
            FloorCause::Text { line, column, message } => {
                write!(formatter, "{file}:{line}:{column}: {message}")
            }
            FloorCause::Value { of, key, error } => write!(formatter, "{file}: {of}: {key}: {error}"),
            FloorCause::Taken { of, by } => write!(formatter, "{file}: {of}: the id is taken, in {by}"),
            FloorCause::NoExample { of, key } => {
                write!(formatter, "{file}: {of}: {key}: at least one example is needed")
            }
            FloorCause::ExampleFails { of, key, example } => {
                let wrong = if *key == FIRES_ON { "does not fire" } else { "fires" };
                write!(formatter, "{file}: {of}: {key}: the rule {wrong} on {example:?}")
            }
            FloorCause::UnknownRule { of } => write!(formatter, "{file}: {of}: there is no such rule"),
            FloorCause::NotNamed { of, workload } => write!(
                formatter,
                "{file}: {of}: workload: the rule yields to nothing, so its workload must be named exactly, \
                 found {workload:?}"
            ),
        }
    }
}

impl std::error::Error for FloorError {}

/// The key of examples on which a rule fires.
pub(crate) const FIRES_ON: &str = "fires_on";
/// The key of examples on which a rule does not fire.
pub(crate) const QUIET_ON: &str = "quiet_on";
