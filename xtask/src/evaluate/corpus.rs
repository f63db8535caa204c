//! The corpus of attacks: a table of tab-separated values, one attack a line. Not how attacks are run. It calls nothing.
//!
//! In a cell `\n` stands for a newline, `\t` for a tab and `\\` for a backslash. The columns are found by name.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

/// One attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attack {
    /// ATT&CK technique.
    pub(super) technique: String,
    pub(super) name: String,
    /// What is run.
    pub(super) command: String,
    /// Which shell runs it.
    pub(super) shell: Shell,
    /// What is run before, outside of what is judged; may be empty.
    pub(super) before: String,
    /// Debian packages it needs.
    pub(super) packages: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shell {
    Sh,
    Bash,
}

impl Shell {
    pub(super) const ALL: [Self; 2] = [Self::Sh, Self::Bash];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sh => "sh",
            Self::Bash => "bash",
        }
    }
}

impl Attack {
    /// An attack that does nothing: what is left is what the context does.
    pub(super) fn control(shell: Shell) -> Self {
        Self {
            technique: "control".to_owned(),
            name: format!("nothing, by {}", shell.name()),
            command: ":".to_owned(),
            shell,
            before: String::new(),
            packages: Vec::new(),
        }
    }

    pub(super) fn is_control(&self) -> bool {
        self.technique == "control"
    }
}

/// Reads a corpus.
///
/// # Errors
/// When a column or a cell is missing, or a shell is unknown; the message names the line.
pub(super) fn parse(text: &str) -> Result<Vec<Attack>> {
    let mut lines = text.lines();
    let header = lines.next().context("line 1: no header")?;
    let columns: BTreeMap<&str, usize> =
        header.split('\t').enumerate().map(|(index, name)| (name, index)).collect();
    for name in ["technique", "name", "command", "executor", "prereq_command", "debian_packages"] {
        ensure!(columns.contains_key(name), "line 1: no column {name}");
    }
    let rows = lines.enumerate().filter(|(_, line)| !line.is_empty());
    rows.map(|(index, line)| row(line, &columns).with_context(|| format!("line {}", index + 2))).collect()
}

fn row(line: &str, columns: &BTreeMap<&str, usize>) -> Result<Attack> {
    let cells: Vec<&str> = line.split('\t').collect();
    let cell = |name: &str| {
        let text = cells.get(columns[name]).with_context(|| format!("no cell for {name}"))?;
        Ok::<_, anyhow::Error>(unescaped(text))
    };
    let shell = cell("executor")?;
    let shell = Shell::ALL.into_iter().find(|known| known.name() == shell);
    Ok(Attack {
        technique: cell("technique")?,
        name: cell("name")?,
        command: cell("command")?,
        shell: shell.with_context(|| format!("executor {:?}: not sh or bash", cell("executor")))?,
        before: cell("prereq_command")?,
        packages: packages(&cell("debian_packages")?),
    })
}

/// Names of packages; what stands in parentheses is a remark, and `user session` is none.
fn packages(cell: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_usize;
    for word in cell.split([' ', ',']).filter(|word| !word.is_empty()) {
        let is_remark = depth > 0 || word.starts_with('(');
        depth = (depth + word.matches('(').count()).saturating_sub(word.matches(')').count());
        if !is_remark && !REMARKS.contains(&word) {
            names.push(word.to_owned());
        }
    }
    names
}

/// Words in the column of packages that are no packages.
const REMARKS: [&str; 2] = ["user", "session"];

fn unescaped(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    let mut characters = cell.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('\\') | None => text.push('\\'),
                Some(other) => text.extend(['\\', other]),
            },
            (plain, false) => text.push(plain),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Shell, packages, parse, unescaped};

    const HEADER: &str = "technique\tname\tcommand\texecutor\tprereq_command\tdebian_packages\n";

    #[test]
    fn a_row_is_an_attack() {
        let attacks =
            parse(&format!("{HEADER}T1018\tarp\tarp -a\\n| x\tbash\t\tnet-tools at (atd running)\n"))
                .unwrap();
        assert_eq!(attacks.len(), 1);
        assert_eq!((attacks[0].technique.as_str(), attacks[0].shell), ("T1018", Shell::Bash));
        assert_eq!(attacks[0].command, "arp -a\n| x");
        assert_eq!(attacks[0].packages, ["net-tools", "at"]);
        assert!(!attacks[0].is_control());
    }

    #[test]
    fn bad_input_names_its_line_and_value() {
        for (text, words) in [
            (String::new(), "no header"),
            ("technique\tname\n".to_owned(), "no column command"),
            (format!("{HEADER}T1\tn\n"), "line 2: no cell for"),
            (format!("{HEADER}T1\tn\tc\tperl\t\t\n"), "perl"),
        ] {
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn escapes_stand_for_what_a_line_cannot_hold() {
        for (cell, expected) in
            [("a\\nb", "a\nb"), ("a\\\\nb", "a\\nb"), ("\\t", "\t"), ("\\$x", "\\$x"), ("\\", "\\")]
        {
            assert_eq!(unescaped(cell), expected, "{cell}");
        }
    }

    #[test]
    fn remarks_are_no_packages() {
        assert_eq!(packages("systemd (PID 1)"), ["systemd"]);
        assert_eq!(packages("systemd user session"), ["systemd"]);
        assert!(packages("").is_empty());
    }
}
