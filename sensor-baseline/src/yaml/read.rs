//! The grammar of `baseline.yaml`. Not YAML itself (see `events`). May call: `baseline`, `pattern`.

use std::collections::BTreeMap;

use super::error::ParseError;
use super::events::{Node, Nodes, Place};
use crate::baseline::{Baseline, Disposition, Rules};
use crate::model::{Action, Subject, Workload};
use crate::pattern::Pattern;

/// Longest text that is read.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most entries that one baseline may have.
pub const ENTRIES_MAX: usize = 200_000;
/// Longest name of a fleet, a workload or a subject.
const NAME_BYTES_MAX: usize = 16 * 1024;

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
        const EXPECTED: &str = "a map with the keys fleet, version and workloads";
        let start = self.nodes.next()?;
        let place = start.place();
        match start {
            Node::Map(_) => {}
            Node::Scalar(scalar) if scalar.text.is_empty() => {
                return Err(place.error("a baseline with fleet and workloads", "an empty document"));
            }
            other => return Err(other.unexpected(EXPECTED)),
        }
        let (mut fleet, mut version, mut workloads) = (None, None, None);
        let mut keys = Keys::default();
        while let Some((key, place)) = self.key("one of the keys fleet, version and workloads")? {
            keys.add("key", &key, place)?;
            match key.as_str() {
                "fleet" => fleet = Some(self.text("the name of a fleet")?.0),
                "version" => version = Some(self.version()?),
                "workloads" => workloads = Some(self.workloads()?),
                other => {
                    return Err(
                        place.error("one of the keys fleet, version and workloads", format!("{other:?}"))
                    );
                }
            }
        }
        let fleet = fleet.ok_or_else(|| place.error("the key fleet", "a baseline without it"))?;
        let workloads = workloads.ok_or_else(|| place.error("the key workloads", "a baseline without it"))?;
        Ok(Baseline { fleet, version, workloads })
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
    let known = name == "host"
        || ["unit:", "session:", "container:", "cgroup:/", "command:"].iter().any(|class| {
            name.strip_prefix(class).is_some_and(|rest| !rest.is_empty() || *class == "cgroup:/")
        });
    if known {
        return Ok(());
    }
    let expected = "a workload: unit:NAME, session:NAME, container:ID, cgroup:/PATH, command:NAME or host";
    Err(place.error(expected, format!("{name:?}")))
}

fn entry_expected(action: Action) -> &'static str {
    match action {
        Action::Exec | Action::Write | Action::Delete => "an absolute path",
        Action::Rename => "/OLD/PATH -> /NEW/PATH",
        Action::Connect => "tcp ADDRESS-OR-CIDR PORT, PORT-PORT or ephemeral",
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
mod tests {
    use crate::baseline::Baseline;

    fn check(text: &str, line: usize, column: usize, message: &str) {
        let error = Baseline::parse(text).expect_err(text);
        assert_eq!((error.line, error.column), (line, column), "{text}\n{error}");
        assert_eq!(error.message(), message, "{text}");
    }

    /// A mistake below `unit:a.service`, `/usr/bin/a`: its text begins at line 5, column 7.
    fn check_rules(rules: &str, line: usize, column: usize, message: &str) {
        let text = format!("fleet: web\nworkloads:\n  unit:a.service:\n    /usr/bin/a:\n      {rules}\n");
        check(&text, line, column, message);
    }

    #[test]
    fn block_and_flow_lists_quotes_and_comments_are_read() {
        let text = "# header\nfleet: \"web\"\nversion: 7\nworkloads:\n  unit:a.service:\n    '/usr/bin/a b':\n      exec: [/bin/sh, '/bin/a b'] # two\n      connect:\n        - tcp 10.0.0.0/8 5432-5433\n      deny: {write: [/etc/**]}\n  host: {}\n";
        let baseline = Baseline::parse(text).unwrap();
        assert_eq!((baseline.fleet.as_str(), baseline.version, baseline.entry_count()), ("web", Some(7), 4));
        assert_eq!(baseline.workloads().count(), 2);
    }

    #[test]
    fn mistakes_at_the_top_are_named_with_their_place() {
        let top = "one of the keys fleet, version and workloads";
        for (text, line, column, message) in [
            ("", 1, 1, "expected a baseline with fleet and workloads, found an empty document".to_owned()),
            (
                "# only a comment\n",
                1,
                1,
                "expected a baseline with fleet and workloads, found an empty document".to_owned(),
            ),
            (
                "- a\n",
                1,
                1,
                "expected a map with the keys fleet, version and workloads, found a list".to_owned(),
            ),
            ("workloads: {}\n", 1, 1, "expected the key fleet, found a baseline without it".to_owned()),
            ("fleet: web\n", 1, 1, "expected the key workloads, found a baseline without it".to_owned()),
            ("fleet: web\nfleeet: x\n", 2, 1, format!("expected {top}, found \"fleeet\"")),
            (
                "fleet: web\nfleet: x\n",
                2,
                1,
                "expected every key once, found a second \"fleet\" (the first is on line 1)".to_owned(),
            ),
            (
                "fleet: 12\n",
                1,
                8,
                "expected the name of a fleet (in quotes, to make it a text), found the number 12".to_owned(),
            ),
            ("fleet:\nworkloads: {}\n", 1, 6, "expected the name of a fleet, found nothing".to_owned()),
            (
                "fleet: web\nversion: two\n",
                2,
                10,
                "expected a version number from 1, found \"two\"".to_owned(),
            ),
            (
                "fleet: web\nversion: 0\n",
                2,
                10,
                "expected a version number from 1, found the number 0".to_owned(),
            ),
            (
                "fleet: web\nversion: -1\n",
                2,
                10,
                "expected a version number from 1, found the number -1".to_owned(),
            ),
            (
                "fleet: web\nworkloads: []\n",
                2,
                12,
                "expected a map of workloads ({} for none), found a list".to_owned(),
            ),
            (
                "fleet: web\nworkloads: {}\n---\nfleet: x\n",
                3,
                1,
                "expected one document, found a second one".to_owned(),
            ),
            ("fleet: &a web\n", 1, 8, "expected everything written out, found an anchor (&NAME)".to_owned()),
            (
                "fleet: !!str web\n",
                1,
                8,
                "expected no type tags, found the tag tag:yaml.org,2002:!str".to_owned(),
            ),
            (
                "fleet: web\nworkloads:\n\tunit:a.service: {}\n",
                3,
                1,
                "expected spaces as indentation, found a tab".to_owned(),
            ),
        ] {
            check(text, line, column, &message);
        }
    }

    #[test]
    fn mistakes_in_names_are_named_with_their_place() {
        check(
            "fleet: web\nworkloads:\n  unti:a.service: {}\n",
            3,
            3,
            "expected a workload: unit:NAME, session:NAME, container:ID, cgroup:/PATH, command:NAME or host, found \"unti:a.service\"",
        );
        check(
            "fleet: web\nworkloads:\n  host: {}\n  host: {}\n",
            4,
            3,
            "expected every workload once, found a second \"host\" (the first is on line 3)",
        );
        check(
            "fleet: web\nworkloads:\n  host:\n    /a: {}\n    /a: {}\n",
            5,
            5,
            "expected every subject once, found a second \"/a\" (the first is on line 4)",
        );
        check(
            "fleet: web\nworkloads:\n  host:\n",
            3,
            7,
            "expected a map of subjects ({} for none), found nothing",
        );
        check(
            "fleet: web\nworkloads:\n  host: {/a: [/b]}\n",
            3,
            14,
            "expected a map of actions, such as {exec: [/bin/sh]}, found a list",
        );
    }

    #[test]
    fn mistakes_in_entries_are_named_with_their_place() {
        let actions = "one of exec, connect, listen, write, delete, rename, deny and retired";
        for (rules, line, column, message) in [
            ("exce: [/bin/sh]", 5, 7, format!("expected {actions}, found \"exce\"")),
            (
                "exec: /bin/sh",
                5,
                13,
                "expected a list of exec entries ([] for none), found \"/bin/sh\"".to_owned(),
            ),
            ("exec:", 5, 11, "expected a list of exec entries ([] for none), found nothing".to_owned()),
            ("exec: [bin/sh]", 5, 14, "expected an absolute path, found \"bin/sh\"".to_owned()),
            (
                "exec:\n        - /bin/sh\n        - bin/sh",
                7,
                11,
                "expected an absolute path, found \"bin/sh\"".to_owned(),
            ),
            ("exec: [{a: b}]", 5, 14, "expected an absolute path, found a map".to_owned()),
            (
                "listen: [80]",
                5,
                16,
                "expected tcp PORT or tcp ADDRESS PORT (in quotes, to make it a text), found the number 80"
                    .to_owned(),
            ),
            (
                "listen: [tcp 99999]",
                5,
                16,
                "expected a port from 1 to 65535, a range FIRST-LAST, or ephemeral, found \"99999\""
                    .to_owned(),
            ),
            (
                "connect: [tcp 10.0.0.1/8 1]",
                5,
                17,
                "expected a CIDR whose bits below the prefix are zero, found \"10.0.0.1/8\"".to_owned(),
            ),
            ("rename: [/a]", 5, 16, "expected /OLD/PATH -> /NEW/PATH, found \"/a\"".to_owned()),
            (
                "write: [/a, /a]",
                5,
                19,
                "expected every entry once, found \"/a\", which is listed under its action already"
                    .to_owned(),
            ),
            (
                "deny: {write: [/a]}\n      write: [/a]",
                6,
                15,
                "expected every entry once, found \"/a\", which is listed under deny already".to_owned(),
            ),
            (
                "deny: {deny: {}}",
                5,
                14,
                "expected one of exec, connect, listen, write, delete and rename, found \"deny\"".to_owned(),
            ),
            (
                "write: [*a]",
                5,
                15,
                "expected YAML, found while parsing node, found unknown anchor".to_owned(),
            ),
        ] {
            check_rules(rules, line, column, &message);
        }
    }

    #[test]
    fn bounds_hold() {
        let long = format!("fleet: web\nworkloads: {{}}\n#{}", "x".repeat(super::TEXT_BYTES_MAX));
        assert!(Baseline::parse(&long).unwrap_err().message().starts_with("expected at most 16777216 bytes"));
        let deep = format!("fleet: {}", "[".repeat(100_000));
        assert!(Baseline::parse(&deep).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[a-z:/ \\n\\t{}\\[\\]&*!#'\"<>-]{0,200}") {
            let _ = Baseline::parse(&text);
            let _ = Baseline::parse(&format!("fleet: web\nworkloads:\n  host:\n    /a:\n      {text}"));
        }
    }
}
