//! What the agent and the other tools say, as events that can be compared. Pure but for symbolic links, which the other
//! tools show as given and the agent resolved.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// What both sides say of one event: the process, and what it did.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pid: u32,
    what: String,
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {} {}", self.pid, self.what)
    }
}

/// Events of the load.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) execs: Vec<Event>,
    pub(super) opens: Vec<Event>,
}

impl Events {
    /// From the agent's lines.
    pub(super) fn ours(text: &str, folder: &Path) -> Result<Self> {
        let mut events = Self::default();
        let folder = folder.to_string_lossy();
        let mut of_load = BTreeSet::new();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
            if value["class_uid"] == 1007 {
                let pid = number(&value["process"]["pid"]);
                if value["process"]["cmd_line"].as_str().is_some_and(|words| words.contains(&*folder)) {
                    of_load.insert(pid);
                    events.execs.push(Event { pid, what: "executes".to_owned() });
                }
            } else if value["class_uid"] == 1001 {
                let pid = number(&value["actor"]["process"]["pid"]);
                let path = value["file"]["path"].as_str().unwrap_or_default();
                if of_load.contains(&pid) || path.contains(&*folder) {
                    let is_failed = value["status_id"] == 2;
                    events.opens.push(open(pid, path, is_failed));
                }
            }
        }
        Ok(events)
    }

    /// From the lines of execsnoop (`PCOMM PID PPID RET ARGS`) and opensnoop (`PID COMM FD ERR PATH`).
    pub(super) fn theirs(execs: &str, opens: &str, folder: &Path) -> Self {
        let mut events = Self::default();
        let folder = folder.to_string_lossy();
        let mut of_load = BTreeSet::new();
        for line in execs.lines().skip(1).filter(|line| line.contains(&*folder)) {
            // A name may have spaces: the columns are counted from the first number.
            let words: Vec<&str> = line.split_whitespace().collect();
            let numbers = words.windows(3).find_map(|window| {
                let pid: u32 = window[0].parse().ok()?;
                let _parent: u32 = window[1].parse().ok()?;
                let result: i32 = window[2].parse().ok()?;
                Some((pid, result))
            });
            if let Some((pid, 0)) = numbers {
                of_load.insert(pid);
                events.execs.push(Event { pid, what: "executes".to_owned() });
            }
        }
        for line in opens.lines().skip(1) {
            let Some((pid, fd, path)) = opened(line) else { continue };
            if of_load.contains(&pid) || path.contains(&*folder) {
                let resolved = std::fs::canonicalize(path).ok();
                let resolved = resolved.as_deref().and_then(Path::to_str).filter(|_| fd >= 0);
                events.opens.push(open(pid, resolved.unwrap_or(path), fd < 0));
            }
        }
        events
    }
}

/// Process, descriptor and path of a line of opensnoop: `%-6d %-16s %3d %3d %s`. A name may have spaces, so the numbers
/// are looked for before the path.
fn opened(line: &str) -> Option<(u32, i32, &str)> {
    let (pid, rest) = line.trim_start().split_once(' ')?;
    let path = rest.find('/')?;
    let mut numbers = rest[..path].split_whitespace().rev();
    let _errno: i32 = numbers.next()?.parse().ok()?;
    let fd = numbers.next()?.parse().ok()?;
    Some((pid.parse().ok()?, fd, &rest[path..]))
}

/// Paths are compared by their last name: the agent shows where a file is, opensnoop what was asked for.
fn open(pid: u32, path: &str, is_failed: bool) -> Event {
    let name = path.rsplit('/').next().unwrap_or_default();
    let verb = if is_failed { "fails to open" } else { "opens" };
    Event { pid, what: format!("{verb} {name}") }
}

/// Events that are more often in the first list than in the second, as often as they are.
pub(super) fn only_first(first: &[Event], second: &[Event]) -> Vec<Event> {
    let mut left: BTreeMap<&Event, usize> = BTreeMap::new();
    for event in second {
        *left.entry(event).or_default() += 1;
    }
    let mut only = Vec::new();
    for event in first {
        match left.get_mut(event).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            None => only.push(event.clone()),
        }
    }
    only
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Events, only_first};
    use std::path::Path;

    #[test]
    fn lines_of_all_three_are_the_same_events() {
        let ours = concat!(
            r#"{"class_uid":1007,"process":{"pid":7,"cmd_line":"/bin/cat /load/a"}}"#,
            "\n",
            r#"{"class_uid":1001,"actor":{"process":{"pid":7}},"file":{"path":"/load/a"},"status_id":1}"#,
            "\n",
            r#"{"class_uid":1001,"actor":{"process":{"pid":8}},"file":{"path":"/else"},"status_id":1}"#,
        );
        let execs =
            "PCOMM            PID    PPID   RET ARGS\na b              7      1        0 /bin/cat /load/a\n";
        let opens = "PID    COMM              FD ERR PATH\n7      a b                3   0 /load/a\n\
                     7      a b               -1   2 /load/none\n";
        let folder = Path::new("/load");
        let (ours, theirs) =
            (Events::ours(ours, folder).expect("JSON"), Events::theirs(execs, opens, folder));
        assert_eq!(ours.execs, theirs.execs);
        assert_eq!(ours.opens.len(), 1);
        let missing = only_first(&theirs.opens, &ours.opens);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].to_string(), "process 7 fails to open none");
        assert!(only_first(&ours.opens, &theirs.opens).is_empty());
    }
}
