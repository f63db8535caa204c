//! What is wrong with a baseline's text, and where. Not the detection (see `read`). May call: nothing.

use thiserror::Error;

/// A text that is not a baseline.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: expected {expected}, found {found}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What would have been right.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl ParseError {
    /// The error without its place: `expected ..., found ...`.
    #[must_use]
    pub fn message(&self) -> String {
        format!("expected {}, found {}", self.expected, self.found)
    }
}
