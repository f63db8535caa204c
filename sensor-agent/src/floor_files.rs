//! Files of floor rules, read from disk. Not what they mean: that is the baseline crate's. It may read the files that it
//! is given, and ask `sigma` which rules there are.

use crate::sigma::Rules;
use anyhow::Context as _;
use sensor_baseline::{FLOOR_TEXT_BYTES_MAX, Floor, Silence, UnixNs};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The built-in floor and what stands in these files.
///
/// # Errors
/// When a file cannot be read, or is refused: the message names file, rule and value.
pub fn load(files: &[PathBuf]) -> anyhow::Result<Arc<Floor>> {
    if files.is_empty() {
        return Ok(Arc::clone(Floor::built_in()));
    }
    Ok(Arc::new(Floor::with_files(&texts(files)?)?))
}

/// The same with one more text, of this name.
///
/// # Errors
/// As [`load`].
pub fn load_with(files: &[PathBuf], (name, text): (&str, &str)) -> anyhow::Result<Arc<Floor>> {
    let mut texts = texts(files)?;
    texts.push((name.to_owned(), text.to_owned()));
    Ok(Arc::new(Floor::with_files(&texts)?))
}

/// Name and text of each file.
fn texts(files: &[PathBuf]) -> anyhow::Result<Vec<(String, String)>> {
    let read = |path: &PathBuf| {
        let text = text(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path.display().to_string(), text))
    };
    files.iter().map(read).collect()
}

/// Refuses silences of Sigma rules that there are not: with no rules at all nobody can tell.
///
/// # Errors
/// When there is one: the message names file and rule.
pub fn check_sigma(floor: &Floor, rules: &Rules) -> anyhow::Result<()> {
    let unknown = floor.sigma_silences().find(|silence| !rules.is_empty() && !rules.has(&silence.rule));
    match unknown {
        Some(Silence { file, rule, .. }) => {
            anyhow::bail!("{file}: silence of {rule}: there is no such Sigma rule, and no such floor rule")
        }
        None => Ok(()),
    }
}

/// What to tell an operator of the silences that have ended by now.
pub fn expired(floor: &Floor, now: UnixNs) -> impl Iterator<Item = String> {
    let has_ended = move |silence: &&Silence| silence.is_expired(now);
    floor.silences().iter().filter(has_ended).map(|silence| {
        let Silence { rule, expires, owner, file, .. } = silence;
        format!("{file}: silence of {rule}: expired on {expires}, owner {owner}: the rule is in force")
    })
}

/// A byte more than is allowed, so that a file that is too long is refused and not cut.
fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FLOOR_TEXT_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigma;
    use sensor_baseline::Severity;

    #[test]
    fn a_silence_of_a_sigma_rule_that_there_is_not_is_refused_when_rules_are_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let rule = |title: &str, level: &str, field: &str| {
            format!(
                "title: {title}\nlevel: {level}\nlogsource: {{ category: file_event }}\ndetection:\n    a:\n        \
                 {field}: /x\n    condition: a\n"
            )
        };
        let rules = [
            ("In Force", "high", "TargetFilename"),
            ("Below", "low", "TargetFilename"),
            ("Refused", "high", "Hashes"),
        ];
        for (title, level, field) in rules {
            std::fs::write(folder.path().join(format!("{title}.yml")), rule(title, level, field)).unwrap();
        }
        let rules = sigma::load(&[folder.path().to_owned()], Severity::Medium).unwrap().rules;
        assert_eq!((rules.len(), rules.refused_count()), (1, 1));
        let checked = |id: &str, rules: &Rules| {
            let text = format!(
                "[[silence]]\nrule = \"{id}\"\nworkload = \"host\"\nowner = \"ops\"\nreason = \"known\"\n\
                 expires = 2100-01-01\n"
            );
            check_sigma(&Floor::with_files(&[("site.toml".to_owned(), text)]).unwrap(), rules)
        };
        for id in ["In Force", "Below", "Refused", "cron"] {
            checked(id, &rules).unwrap();
        }
        assert_eq!(
            checked("No Such", &rules).unwrap_err().to_string(),
            "site.toml: silence of No Such: there is no such Sigma rule, and no such floor rule"
        );
        checked("No Such", &Rules::default()).unwrap();
    }
}
