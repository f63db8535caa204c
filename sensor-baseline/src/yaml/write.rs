//! The canonical text of a baseline: sorted, one entry a line, so that a diff of two texts is a diff of two
//! baselines. Not reading (see `read`). May call: `baseline`, `events` for what a word would be read as.

use std::fmt::Write as _;

use super::events::{Kind, plain_kind};
use crate::baseline::{Baseline, Disposition, Entry, Rules};
use crate::model::{Action, Subject, Workload};

/// Comments to write beside entries.
pub(crate) trait Notes {
    /// Lines above everything, without their `#`.
    fn header(&self) -> Vec<String>;
    /// A remark behind an entry.
    fn entry(&self, entry: &Entry) -> Option<String>;
}

/// No comments.
struct Bare;

impl Notes for Bare {
    fn header(&self) -> Vec<String> {
        Vec::new()
    }

    fn entry(&self, _: &Entry) -> Option<String> {
        None
    }
}

impl Baseline {
    /// The canonical text: parsing it gives this baseline again. Comments of a text it was read from are not kept.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        write(self, &Bare)
    }
}

/// The canonical text with comments.
pub(crate) fn write(baseline: &Baseline, notes: &dyn Notes) -> String {
    let mut out = String::new();
    for line in notes.header() {
        push_line(&mut out, 0, format_args!("# {}", line.replace(char::is_control, " ")));
    }
    push_line(&mut out, 0, format_args!("fleet: {}", quoted(&baseline.fleet)));
    if let Some(version) = baseline.version {
        push_line(&mut out, 0, format_args!("version: {version}"));
    }
    if baseline.workloads.is_empty() {
        out.push_str("workloads: {}\n");
        return out;
    }
    out.push_str("workloads:\n");
    for (workload, subjects) in &baseline.workloads {
        let empty = if subjects.is_empty() { " {}" } else { "" };
        push_key(&mut out, 1, &workload.0, empty);
        for (subject, rules) in subjects {
            write_rules(&mut out, notes, workload, subject, rules);
        }
    }
    if !baseline.learning.is_empty() {
        out.push_str("learning:\n");
    }
    for (workload, actions) in &baseline.learning {
        let actions: Vec<&str> = actions.iter().map(|action| action.name()).collect();
        push_key(&mut out, 1, &workload.0, &format!(" [{}]", actions.join(", ")));
    }
    out
}

fn write_rules(out: &mut String, notes: &dyn Notes, workload: &Workload, subject: &Subject, rules: &Rules) {
    let dispositions = [Disposition::Allow, Disposition::Deny, Disposition::Retired];
    let is_empty = |disposition| Action::ALL.iter().all(|action| rules.set(disposition, *action).is_none());
    let nothing = if dispositions.into_iter().all(is_empty) { " {}" } else { "" };
    push_key(out, 2, &subject.0, nothing);
    for disposition in dispositions.into_iter().filter(|disposition| !is_empty(*disposition)) {
        let mut indent = 3;
        if disposition != Disposition::Allow {
            push_line(out, indent, format_args!("{disposition}:"));
            indent += 1;
        }
        for action in Action::ALL {
            let Some(set) = rules.set(disposition, action) else { continue };
            push_line(out, indent, format_args!("{action}:"));
            for pattern in set.iter() {
                let note = notes.entry(&Entry {
                    workload: workload.clone(),
                    subject: subject.clone(),
                    disposition,
                    action,
                    pattern: pattern.clone(),
                });
                let note = note.map(|note| format!(" # {}", note.replace(char::is_control, " ")));
                let note = note.unwrap_or_default();
                push_line(out, indent + 1, format_args!("- {}{note}", quoted(&pattern.to_string())));
            }
        }
    }
}

/// The lines that add one entry, from `workloads:` down.
pub(crate) fn snippet(entry: &Entry) -> String {
    let mut alone = Baseline::empty("x");
    alone.insert(entry.clone());
    let text = alone.to_yaml();
    text.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned())
}

fn push_line(out: &mut String, indent: usize, line: std::fmt::Arguments<'_>) {
    for _ in 0..indent {
        out.push_str("  ");
    }
    writeln!(out, "{line}").expect("writing to a string cannot fail");
}

/// A key with what stands behind its colon. YAML takes one of more than 1024 characters in its explicit form only.
fn push_key(out: &mut String, indent: usize, key: &str, rest: &str) {
    const SIMPLE_KEY_CHARS_MAX: usize = 1024;
    let key = quoted(key);
    if key.chars().count() < SIMPLE_KEY_CHARS_MAX {
        push_line(out, indent, format_args!("{key}:{rest}"));
    } else {
        push_line(out, indent, format_args!("? {key}"));
        push_line(out, indent, format_args!(":{rest}"));
    }
}

/// The text as a YAML word that is read back as this text: plain where that is safe, else in quotes.
pub(crate) fn quoted(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    if !text.chars().any(needs_escape) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            plain if !needs_escape(plain) => out.push(plain),
            other => write!(out, "\\U{:08x}", u32::from(other)).expect("writing to a string cannot fail"),
        }
    }
    out.push('"');
    out
}

/// Words that other readers, of YAML 1.1, take for truth values.
const OTHER_TRUTHS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];

/// Whether the text is read as itself in block and in flow context without quotes.
fn is_plain(text: &str) -> bool {
    // No digit first: YAML 1.1 takes some such words for dates, times and numbers.
    let first_is_safe =
        text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/' || first == '_');
    let rest_is_safe = text
        .chars()
        .all(|character| character.is_ascii_alphanumeric() || " /_.+=@%~^$*<>();!|&\\-:".contains(character));
    first_is_safe
        && rest_is_safe
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains("  ")
        && !OTHER_TRUTHS.iter().any(|truth| truth.eq_ignore_ascii_case(text))
        && plain_kind(text) == Kind::Text
}

/// Characters that YAML does not take as they are, or that hide in a review.
fn needs_escape(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}')
        || (u32::from(character) & 0xfffe) == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::quoted;
    use crate::baseline::Baseline;
    use crate::testing::{any_baseline, baseline};

    #[test]
    fn the_text_is_canonical() {
        let read = baseline(
            "{write: [/b, /a, '/c d: #'], exec: [/bin/sh], deny: {exec: [/x]}, retired: {rename: ['/a -> /b']}}",
        );
        let text = "fleet: web\nworkloads:\n  unit:a.service:\n    /usr/bin/a:\n      exec:\n        - /bin/sh\n      write:\n        - /a\n        - /b\n        - '/c d: #'\n      deny:\n        exec:\n          - /x\n      retired:\n        rename:\n          - /a -> /b\n";
        assert_eq!(read.to_yaml(), text);
        assert_eq!(Baseline::parse(text).unwrap().to_yaml(), text);
    }

    #[test]
    fn words_that_yaml_reads_otherwise_are_quoted() {
        for (text, expected) in [
            ("web", "web"),
            ("12", "'12'"),
            ("1e3", "'1e3'"),
            ("0x1f", "'0x1f'"),
            ("true", "'true'"),
            ("null", "'null'"),
            ("No", "'No'"),
            ("2026-11-23", "'2026-11-23'"),
            ("", "''"),
            ("-a", "'-a'"),
            ("a: b", "'a: b'"),
            ("a #b", "'a #b'"),
            ("it's", "'it''s'"),
            ("a,b", "'a,b'"),
            ("a\nb", "\"a\\U0000000ab\""),
            ("/var/log/*.log", "/var/log/*.log"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn the_example_of_the_manual_is_canonical() {
        let manual = include_str!("../../../docs/baseline-format.md");
        let example = manual.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert_eq!(Baseline::parse(example).unwrap().to_yaml(), example);
    }

    #[test]
    fn a_key_of_any_length_is_read_back() {
        for name in [format!("/{}", "a".repeat(1023)), "é".repeat(4000), "\u{1}".repeat(1000)] {
            let mut made = Baseline::empty("web");
            let mut rules = baseline("exec: [/bin/sh]").workloads.into_values().next().unwrap();
            let rules = rules.pop_first().unwrap().1;
            made.workloads.insert(
                crate::Workload(format!("cgroup:/{name}")),
                [
                    (crate::Subject(name.clone()), rules),
                    (crate::Subject(name + "b"), crate::baseline::Rules::default()),
                ]
                .into(),
            );
            assert_eq!(Baseline::parse(&made.to_yaml()).unwrap(), made);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_baseline_is_read_back_the_same(made in any_baseline()) {
            let text = made.to_yaml();
            let read = Baseline::parse(&text).map_err(|error| {
                proptest::test_runner::TestCaseError::fail(format!("{error}\n{text}"))
            })?;
            proptest::prop_assert_eq!(&read, &made, "{}", text);
            proptest::prop_assert_eq!(read.to_yaml(), text);
        }
    }
}
