//! The grammar of `baseline.yaml`. Not YAML itself (see `events`). May call: `baseline`, `pattern`.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ParseError;
use super::events::{Node, Nodes, Place};
use crate::baseline::{Baseline, Disposition, Rules};
use crate::model::{Action, NAME_BYTES_MAX, Subject, Workload};
use crate::pattern::Pattern;

/// Longest text that is read.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most entries that one baseline may have.
pub const ENTRIES_MAX: usize = 200_000;

impl Baseline {
    /// Reads `baseline.yaml`.
    ///
    /// # Errors
    /// With the place of the first thing that is wrong, what was expected there and what was found.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > TEXT_BYTES_MAX {
            let found = format!("{} bytes", text.len());
            return Err(Place::START.error(format!("at most {TEXT_BYTES_MAX} bytes"), found));
        }
        let mut reader = Reader { nodes: Nodes::open(text)?, entry_count: 0 };
        let baseline = reader.document()?;
        reader.nodes.close()?;
        Ok(baseline)
    }
}

struct Reader<'a> {
    nodes: Nodes<'a>,
    entry_count: usize,
}

/// Keys of one map with the lines they stand on.
#[derive(Default)]
struct Keys(BTreeMap<String, usize>);

impl Keys {
    fn add(&mut self, what: &str, key: &str, place: Place) -> Result<(), ParseError> {
        match self.0.insert(key.to_owned(), place.line()) {
            None => Ok(()),
            Some(line) => Err(place.error(
                format!("every {what} once"),
                format!("a second {key:?} (the first is on line {line})"),
            )),
        }
    }
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Baseline, ParseError> {
        const EXPECTED: &str = "a map with the keys fleet, version, workloads and learning";
        const KEYS: &str = "one of the keys fleet, version, workloads and learning";
        let start = self.nodes.next()?;
        let place = start.place();
        match start {
            Node::Map(_) => {}
            Node::Scalar(scalar) if scalar.text.is_empty() => {
                return Err(place.error("a baseline with fleet and workloads", "an empty document"));
            }
            other => return Err(other.unexpected(EXPECTED)),
        }
        let (mut fleet, mut version, mut workloads, mut learning) = (None, None, None, Vec::new());
        let mut keys = Keys::default();
        while let Some((key, place)) = self.key(KEYS)? {
            keys.add("key", &key, place)?;
            match key.as_str() {
                "fleet" => fleet = Some(self.text("the name of a fleet")?.0),
                "version" => version = Some(self.version()?),
                "workloads" => workloads = Some(self.workloads()?),
                "learning" => learning = self.learning()?,
                other => return Err(place.error(KEYS, format!("{other:?}"))),
            }
        }
        let fleet = fleet.ok_or_else(|| place.error("the key fleet", "a baseline without it"))?;
        let workloads = workloads.ok_or_else(|| place.error("the key workloads", "a baseline without it"))?;
        let mut baseline = Baseline { fleet, version, workloads, ..Baseline::default() };
        for (workload, actions, place) in learning {
            if !baseline.is_armed(&workload) {
                let found = format!("{workload}, which is not there: it is learned as a whole");
                return Err(place.error("a workload that is listed under workloads", found));
            }
            actions.into_iter().for_each(|action| baseline.leave_learning(workload.clone(), action));
        }
        Ok(baseline)
    }

    /// What is left to be learned: workload and actions, with the place of the workload.
    fn learning(&mut self) -> Result<Vec<(Workload, BTreeSet<Action>, Place)>, ParseError> {
        const EXPECTED: &str = "one of exec, connect, listen, write, delete and rename";
        self.open_map("a map of workloads, such as {unit:a.service: [write]}")?;
        let (mut learning, mut keys) = (Vec::new(), Keys::default());
        while let Some((name, place)) = self.key("a workload")? {
            check_workload(&name, place)?;
            keys.add("workload", &name, place)?;
            let start = self.nodes.next()?;
            if !matches!(start, Node::List(_)) {
                return Err(start.unexpected("a list of actions, such as [write, delete]"));
            }
            let mut actions = BTreeSet::new();
            loop {
                let scalar = match self.nodes.next()? {
                    Node::End(_) => break,
                    Node::Scalar(scalar) => scalar,
                    other => return Err(other.unexpected(EXPECTED)),
                };
                let (text, at) = scalar.into_text(EXPECTED)?;
                let action = Action::parse(&text).ok_or_else(|| at.error(EXPECTED, format!("{text:?}")))?;
                if !actions.insert(action) {
                    return Err(at.error("every action once", format!("a second {text:?}")));
                }
            }
            learning.push((Workload(name), actions, place));
        }
        Ok(learning)
    }

    fn version(&mut self) -> Result<u64, ParseError> {
        const EXPECTED: &str = "a version number from 1";
        let node = self.nodes.next()?;
        let Node::Scalar(scalar) = &node else { return Err(node.unexpected(EXPECTED)) };
        let is_number = !scalar.text.is_empty() && scalar.text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if is_number { scalar.text.parse().ok() } else { None };
        number.filter(|version| *version > 0).ok_or_else(|| node.unexpected(EXPECTED))
    }

    fn workloads(&mut self) -> Result<BTreeMap<Workload, BTreeMap<Subject, Rules>>, ParseError> {
        self.open_map("a map of workloads ({} for none)")?;
        let (mut workloads, mut keys) = (BTreeMap::new(), Keys::default());
        while let Some((name, place)) = self.key("a workload")? {
            check_workload(&name, place)?;
            keys.add("workload", &name, place)?;
            workloads.insert(Workload(name), self.subjects()?);
        }
        Ok(workloads)
    }

    fn subjects(&mut self) -> Result<BTreeMap<Subject, Rules>, ParseError> {
        self.open_map("a map of subjects ({} for none)")?;
        let (mut subjects, mut keys) = (BTreeMap::new(), Keys::default());
        while let Some((name, place)) = self.key("a subject, such as /usr/sbin/nginx")? {
            keys.add("subject", &name, place)?;
            subjects.insert(Subject(name), self.rules()?);
        }
        Ok(subjects)
    }

    fn rules(&mut self) -> Result<Rules, ParseError> {
        const EXPECTED: &str = "one of exec, connect, listen, write, delete, rename, deny and retired";
        self.open_map("a map of actions, such as {exec: [/bin/sh]}")?;
        let (mut rules, mut keys) = (Rules::default(), Keys::default());
        while let Some((key, place)) = self.key(EXPECTED)? {
            keys.add("key", &key, place)?;
            match (key.as_str(), Action::parse(&key)) {
                (_, Some(action)) => self.entries(&mut rules, Disposition::Allow, action)?,
                ("deny", _) => self.actions(&mut rules, Disposition::Deny)?,
                ("retired", _) => self.actions(&mut rules, Disposition::Retired)?,
                (other, _) => return Err(place.error(EXPECTED, format!("{other:?}"))),
            }
        }
        Ok(rules)
    }

    fn actions(&mut self, rules: &mut Rules, disposition: Disposition) -> Result<(), ParseError> {
        const EXPECTED: &str = "one of exec, connect, listen, write, delete and rename";
        self.open_map("a map of actions, such as {exec: [/bin/sh]}")?;
        let mut keys = Keys::default();
        while let Some((key, place)) = self.key(EXPECTED)? {
            keys.add("key", &key, place)?;
            let action = Action::parse(&key).ok_or_else(|| place.error(EXPECTED, format!("{key:?}")))?;
            self.entries(rules, disposition, action)?;
        }
        Ok(())
    }

    fn entries(
        &mut self,
        rules: &mut Rules,
        disposition: Disposition,
        action: Action,
    ) -> Result<(), ParseError> {
        let start = self.nodes.next()?;
        // What a person leaves who takes the last entry away. A subject or workload without anything stays an error:
        // there, more than entries may be missing.
        if matches!(&start, Node::Scalar(scalar) if scalar.is_nothing()) {
            return Ok(());
        }
        if !matches!(start, Node::List(_)) {
            return Err(start.unexpected(&format!("a list of {action} entries ([] for none)")));
        }
        loop {
            let node = self.nodes.next()?;
            let scalar = match node {
                Node::End(_) => return Ok(()),
                Node::Scalar(scalar) => scalar,
                other => return Err(other.unexpected(entry_expected(action))),
            };
            let (text, place) = scalar.into_text(entry_expected(action))?;
            let pattern = Pattern::parse(action, &text)
                .map_err(|error| place.error(error.expected, format!("{:?}", error.found)))?;
            self.entry_count += 1;
            if self.entry_count > ENTRIES_MAX {
                return Err(place.error(format!("at most {ENTRIES_MAX} entries"), "one more"));
            }
            if let Some(listed) = rules.listed(action, &pattern) {
                let found = format!("{text:?}, which is listed under {} already", listed_under(listed));
                return Err(place.error("every entry once", found));
            }
            rules.insert(disposition, action, pattern);
        }
    }

    fn open_map(&mut self, expected: &str) -> Result<(), ParseError> {
        let node = self.nodes.next()?;
        if matches!(node, Node::Map(_)) { Ok(()) } else { Err(node.unexpected(expected)) }
    }

    /// The next key of the open map; none at its end.
    fn key(&mut self, expected: &str) -> Result<Option<(String, Place)>, ParseError> {
        match self.nodes.next()? {
            Node::End(_) => Ok(None),
            Node::Scalar(scalar) => checked_name(scalar.into_text(expected)?).map(Some),
            other => Err(other.unexpected(expected)),
        }
    }

    fn text(&mut self, expected: &str) -> Result<(String, Place), ParseError> {
        match self.nodes.next()? {
            Node::Scalar(scalar) => checked_name(scalar.into_text(expected)?),
            other => Err(other.unexpected(expected)),
        }
    }
}

fn checked_name((name, place): (String, Place)) -> Result<(String, Place), ParseError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(
            place.error(format!("a name of at most {NAME_BYTES_MAX} bytes"), format!("{} bytes", name.len()))
        );
    }
    Ok((name, place))
}

fn check_workload(name: &str, place: Place) -> Result<(), ParseError> {
    if Workload(name.to_owned()).is_nameable() {
        return Ok(());
    }
    let expected = "a workload: unit:NAME, session:NAME, container:IMAGE, cgroup:/PATH, command:NAME or host";
    Err(place.error(expected, format!("{name:?}")))
}

fn entry_expected(action: Action) -> &'static str {
    match action {
        Action::Exec | Action::Write | Action::Delete => "an absolute path",
        Action::Rename => "/OLD/PATH -> /NEW/PATH",
        Action::Connect => crate::pattern::CONNECT_EXPECTED,
        Action::Listen => "tcp PORT or tcp ADDRESS PORT",
    }
}

fn listed_under(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Allow => "its action",
        Disposition::Deny => "deny",
        Disposition::Retired => "retired",
    }
}

#[cfg(test)]
mod tests;
