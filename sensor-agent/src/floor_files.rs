//! Files of floor rules, read from disk. Not what they mean: that is the baseline crate's. It may read the files that it
//! is given.

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
    let read = |path: &PathBuf| {
        let text = text(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path.display().to_string(), text))
    };
    let texts: Vec<_> = files.iter().map(read).collect::<anyhow::Result<_>>()?;
    Ok(Arc::new(Floor::with_files(&texts)?))
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
