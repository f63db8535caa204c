//! A stored finding as the collector's API shows it. Not the collector's type: an operator sees JSON, so do the
//! tests. Pure.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fmt::Write as _;

/// One finding or one piece of its evidence, as JSON of the HTTP API: they have the same fields but few.
#[derive(Clone, Debug)]
pub struct Finding(pub Value);

impl Finding {
    /// A text field; empty when it is missing.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// The collector's id of the finding.
    #[must_use]
    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// What was done: exec, connect, write, ...
    #[must_use]
    pub fn action(&self) -> &str {
        self.text("action")
    }

    /// To what it was done.
    #[must_use]
    pub fn object(&self) -> &str {
        self.text("object")
    }

    /// How often all of it was done.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0["count"].as_u64().unwrap_or_default()
    }

    /// Its evidence, in the order stored. A finding that is listed, not shown, has none.
    #[must_use]
    pub fn evidence(&self) -> Vec<Self> {
        self.0["evidence"].as_array().into_iter().flatten().cloned().map(Self).collect()
    }

    /// Whether both are of one line of a baseline.
    #[must_use]
    pub fn same_behaviour(&self, other: &Self) -> bool {
        ["workload", "subject", "action", "object"].iter().all(|key| self.text(key) == other.text(key))
    }

    /// Milliseconds from the system call to the collector's commit.
    ///
    /// # Errors
    /// When the field is missing.
    pub fn latency_ms(&self) -> Result<f64> {
        self.0["latency_ms"].as_f64().with_context(|| format!("finding {} without latency_ms", self.id()))
    }

    /// A line for a person.
    ///
    /// # Errors
    /// As [`Self::describe`].
    pub fn line(&self) -> Result<String> {
        self.describe()?;
        let (severity, reason) = (self.text("severity"), self.text("reason"));
        let times = if self.count() > 1 { format!(", {} times", self.count()) } else { String::new() };
        Ok(format!("{severity} {reason}{}: {} {}{times}", self.floor_rule()?, self.action(), self.object()))
    }

    /// A block for a person.
    ///
    /// # Errors
    /// When something is missing that every finding must have: process, parent, workload, object, reason, and for a
    /// floor rule its ATT&CK technique.
    pub fn describe(&self) -> Result<String> {
        for key in ["id", "workload", "subject", "action", "object", "reason", "severity"] {
            ensure!(!self.text(key).is_empty(), "finding {} has no {key}", self.id());
        }
        let (process, parent) = (&self.0["process"], &self.0["ancestors"][0]);
        let exe = exe_of(process).with_context(|| format!("finding {} has no process", self.id()))?;
        let parent_exe =
            exe_of(parent).with_context(|| format!("finding {} has no parent process", self.id()))?;
        let mut text = format!("{} [{}]\n", self.id(), self.text("severity"));
        writeln!(text, "process   {exe} ({}), parent {parent_exe} ({})", process["pid"], parent["pid"])?;
        writeln!(text, "workload  {}, subject {}", self.text("workload"), self.text("subject"))?;
        writeln!(text, "object    {} {}", self.action(), self.object())?;
        writeln!(text, "reason    {}{}", self.text("reason"), self.floor_rule()?)?;
        let summary = self.0["explanation"]["summary"].as_str().filter(|summary| !summary.is_empty());
        let summary = summary.with_context(|| format!("finding {} has no explanation", self.id()))?;
        writeln!(text, "why       {summary}")?;
        writeln!(text, "stored    {:.0} ms after the system call", self.latency_ms()?)?;
        Ok(text)
    }

    fn floor_rule(&self) -> Result<String> {
        if self.text("reason") != "floor" {
            return Ok(String::new());
        }
        let rule = &self.0["floor_rule"];
        let techniques = rule["techniques"].as_array().filter(|techniques| !techniques.is_empty());
        let techniques = techniques.with_context(|| format!("finding {} has no technique", self.id()))?;
        let names: Vec<_> = techniques.iter().filter_map(Value::as_str).collect();
        Ok(format!(": {} (ATT&CK {})", rule["title"].as_str().unwrap_or_default(), names.join(", ")))
    }
}

fn exe_of(process: &Value) -> Option<&str> {
    process["exe"].as_str().filter(|exe| !exe.is_empty())
}
