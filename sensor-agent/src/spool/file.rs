//! Names around the spool file: creation that is whole or absent, and setting a damaged file aside. Not its content.
//! It may call the file system.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `path` with `.suffix` appended to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Renames and makes the rename durable.
pub(super) fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder_of(to)
}

/// Removes a database file and its journals, if they exist.
pub(super) fn remove_with_journals(path: &Path) -> io::Result<()> {
    for name in [path.to_owned(), journal(path, "-journal"), journal(path, "-wal"), journal(path, "-shm")] {
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Moves a damaged database to `NAME.damaged-TIME` with its write-ahead log, so that a person can look at it, and
/// keeps the newest [`DAMAGED_KEPT_MAX`] of them.
pub(crate) fn set_aside(path: &Path, unix_seconds: u64) -> io::Result<PathBuf> {
    let mut target = beside(path, &format!("damaged-{unix_seconds}"));
    for attempt in 1..DAMAGED_NAMES_MAX {
        if !target.exists() {
            break;
        }
        target = beside(path, &format!("damaged-{unix_seconds}-{attempt}"));
    }
    // The journals first: were the agent to stop in between, the rest would still be found damaged.
    for suffix in ["-wal", "-shm"] {
        match fs::rename(journal(path, suffix), journal(&target, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    rename_durably(path, &target)?;
    remove_oldest_damaged(path)?;
    Ok(target)
}

fn remove_oldest_damaged(path: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let prefix = format!("{}.damaged-", name.to_string_lossy());
    let mut kept: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|candidate| {
            let name = candidate.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| {
                name.starts_with(&prefix) && !name.ends_with("-wal") && !name.ends_with("-shm")
            })
        })
        .collect();
    kept.sort();
    let surplus = kept.len().saturating_sub(DAMAGED_KEPT_MAX);
    kept.iter().take(surplus).try_for_each(|old| remove_with_journals(old))
}

fn journal(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// Damaged files kept for a person to look at; each may be as large as the spool's limit.
const DAMAGED_KEPT_MAX: usize = 3;
/// Names tried for files damaged within one second.
const DAMAGED_NAMES_MAX: u32 = 100;
