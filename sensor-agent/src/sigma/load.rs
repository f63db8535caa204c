//! Reads every rule below some folders, once. Not which can be put in force (`admit`). It reads those folders.
//!
//! A link to a file is followed, as a mounted Kubernetes ConfigMap needs it; a link to a folder is not, so that no loop
//! and no other tree is walked. Names that begin with a dot are left out.

use super::admit::{Refusal, admit, shown};
use super::{Admitted, Rules};
use rsigma_parser::{SigmaRule, parse_sigma_yaml};
use sensor_baseline::Severity;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The rules that are in force.
    pub rules: Rules,
    /// The ones that are not, and files that could not be read.
    pub refused: Vec<Refused>,
    /// Rules whose level is below the one asked for.
    pub below_level_count: usize,
}

/// A rule, or a file of them, that is not in force.
#[derive(Debug)]
pub struct Refused {
    /// Where it stands.
    pub file: PathBuf,
    /// What it is called, control characters escaped; empty when that is not known.
    pub title: String,
    /// Why.
    pub reason: Refusal,
}

/// A folder of rules that cannot be looked into.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", folder.display())]
pub struct Unreadable {
    /// The folder.
    pub folder: PathBuf,
    /// Why.
    pub error: std::io::Error,
}

/// Reads the rules below `folders` that are at least as bad as `level_min`. What cannot be put in force stops nothing.
///
/// # Errors
/// When one of the folders itself cannot be listed: nobody means to run without all of its rules.
pub fn load(folders: &[PathBuf], level_min: Severity) -> Result<Loaded, Unreadable> {
    let mut loader = Loader { level_min, ..Loader::default() };
    for folder in folders {
        loader.folder(folder, DEPTH_MAX).map_err(|error| Unreadable { folder: folder.clone(), error })?;
    }
    Ok(loader.finish())
}

struct Loader {
    level_min: Severity,
    files_read: usize,
    admitted: Vec<Admitted>,
    /// Where each of those stands.
    files: Vec<PathBuf>,
    /// The places of those by id.
    ids: HashMap<Arc<str>, usize>,
    /// Ids of rules that are not in force.
    idle: BTreeSet<String>,
    loaded: Loaded,
}

impl Default for Loader {
    fn default() -> Self {
        Self {
            level_min: Severity::Informational,
            files_read: 0,
            admitted: Vec::new(),
            files: Vec::new(),
            ids: HashMap::new(),
            idle: BTreeSet::new(),
            loaded: Loaded::default(),
        }
    }
}

impl Loader {
    /// Reads the rules of a folder in the order of their names, so that the same folder always gives the same.
    fn folder(&mut self, folder: &Path, depth_left: usize) -> std::io::Result<()> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                paths.push((entry.path(), entry.file_type()?.is_dir()));
            }
        }
        paths.sort();
        for (path, is_folder) in paths {
            match is_folder {
                true if depth_left == 0 => self.refuse(&path, "", Refusal::TooDeep(DEPTH_MAX)),
                true => {
                    if let Err(error) = self.folder(&path, depth_left - 1) {
                        self.refuse(&path, "", error.into());
                    }
                }
                false if self.files_read > FILES_MAX => {}
                false if is_rule_file(&path) => self.file(&path),
                false => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) {
        self.files_read += 1;
        if self.files_read > FILES_MAX {
            self.refuse(path, "", Refusal::TooMany(FILES_MAX));
            return;
        }
        let collection =
            read(path).and_then(|text| parse_sigma_yaml(&text).map_err(|error| Refusal::parse(&error)));
        let collection = match collection {
            Ok(collection) => collection,
            Err(reason) => return self.refuse(path, "", reason),
        };
        for error in &collection.errors {
            self.refuse(path, "", Refusal::parse(error));
        }
        for correlation in &collection.correlations {
            self.refuse(path, &correlation.title, Refusal::Kind("correlation"));
        }
        for filter in &collection.filters {
            self.refuse(path, &filter.title, Refusal::Kind("filter"));
        }
        for rule in collection.rules {
            let title = rule.title.clone();
            let id = rule.id.clone().unwrap_or_else(|| title.clone());
            if let Err(reason) = self.rule(path, rule) {
                self.refuse(path, &title, reason);
                self.idle.insert(id);
            }
        }
    }

    fn rule(&mut self, path: &Path, rule: SigmaRule) -> Result<(), Refusal> {
        let place = self.admitted.len();
        let admitted = admit(rule, place)?;
        if admitted.rule.level < self.level_min {
            self.loaded.below_level_count += 1;
            self.idle.insert(admitted.rule.id.to_string());
            return Ok(());
        }
        let id = Arc::clone(&admitted.rule.id);
        if let Some(other) = self.ids.get(&id) {
            return Err(Refusal::Repeated { id, file: self.files[*other].clone() });
        }
        self.ids.insert(id, place);
        self.admitted.push(admitted);
        self.files.push(path.to_owned());
        Ok(())
    }

    fn refuse(&mut self, file: &Path, title: &str, reason: Refusal) {
        self.loaded.refused.push(Refused { file: file.to_owned(), title: shown(title), reason });
    }

    fn finish(mut self) -> Loaded {
        self.loaded.rules = Rules::new(self.admitted, self.loaded.refused.len() as u64, self.idle);
        self.loaded
    }
}

fn is_rule_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
}

/// Reads a file that may be anything.
fn read(path: &Path) -> Result<String, Refusal> {
    // Asked before it is opened: a pipe would keep whoever opens it waiting.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a file").into());
    }
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Refusal::TooLarge(FILE_BYTES_MAX));
    }
    Ok(text)
}

/// Files that are read at most.
const FILES_MAX: usize = 20_000;
/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Folders below the one that was named, at most.
const DEPTH_MAX: usize = 16;
