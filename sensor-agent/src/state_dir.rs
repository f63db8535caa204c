//! The folder that holds everything the agent must not lose, and the lock that gives it to one agent at a time. Not
//! what the files in it mean. It may call the file system.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};

/// A state folder that this process owns until the value is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl StateDir {
    /// Creates the folder if it is absent, closes it to everyone else, and takes its lock.
    ///
    /// # Errors
    /// `state folder DIR: already in use by pid N` when another agent has it, or what the system said.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("state folder {}", path.display());
        create_private(path).with_context(context)?;
        let name = path.join("lock");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&name);
        let mut file = file.with_context(|| name.display().to_string())?;
        let mut holder = String::new();
        file.read_to_string(&mut holder).with_context(|| name.display().to_string())?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let holder = holder.trim();
                let pid = if holder.is_empty() { "unknown" } else { holder };
                bail!("state folder {}: already in use by pid {pid}", path.display());
            }
            Err((_, errno)) => return Err(errno).with_context(context),
        };
        // A full disk must not stop the agent: the pid is for people only.
        let emptied = lock.set_len(0).and_then(|()| lock.rewind());
        let noted = emptied.and_then(|()| writeln!(lock, "{}", std::process::id()));
        if let Err(error) = noted {
            tracing::warn!("{}: cannot note the pid: {error}", name.display());
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where certificates and keys are.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.path.join("identity")
    }

    /// The spool's database.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool.db")
    }

    /// The learned behaviours' database.
    #[must_use]
    pub fn learned(&self) -> PathBuf {
        self.path.join("learned.db")
    }

    /// The last good baseline.
    #[must_use]
    pub fn baseline(&self) -> PathBuf {
        self.path.join("baseline.yaml")
    }

    /// Version and hash of the last good baseline.
    #[must_use]
    pub fn baseline_meta(&self) -> PathBuf {
        self.path.join("baseline.meta.toml")
    }
}

impl StateDir {
    /// Removes the last good baseline: it belongs to a fleet that this host has left.
    ///
    /// # Errors
    /// What the system said.
    pub fn forget_baseline(&self) -> anyhow::Result<()> {
        for path in [self.baseline(), self.baseline_meta()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| path.display().to_string());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Creates a folder that only its owner may enter, or closes the one that is there.
///
/// # Errors
/// What the system said.
pub fn create_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Creates a file that only its owner may read, or closes the one that is there. SQLite gives the files it makes beside
/// a database the mode of the database.
///
/// # Errors
/// What the system said.
pub fn close_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Replaces a file whole or not at all, readable by its owner only, durable when it returns.
///
/// # Errors
/// What the system said; the old content is still there then.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

/// Makes renames in a folder durable.
///
/// # Errors
/// What the system said.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_told_who_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = StateDir::open(&path).unwrap();
        let error = StateDir::open(&path).expect_err("it is in use");
        let expected =
            format!("state folder {}: already in use by pid {}", path.display(), std::process::id());
        assert_eq!(error.to_string(), expected);
        drop(first);
        let _again = StateDir::open(&path).expect("it is free again");
        let noted = fs::read_to_string(path.join("lock")).unwrap();
        assert_eq!(noted, format!("{}\n", std::process::id()));
    }

    #[test]
    fn the_folder_and_its_files_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let _state = StateDir::open(&path).unwrap();
        write_private(&path.join("key"), b"secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("lock")), 0o600);
        assert_eq!(mode(&path.join("key")), 0o600);
    }

    #[test]
    fn a_baseline_is_forgotten_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        state.forget_baseline().expect("there is none");
        for path in [state.baseline(), state.baseline_meta(), state.spool()] {
            fs::write(path, "x").unwrap();
        }
        state.forget_baseline().unwrap();
        assert!(!state.baseline().exists() && !state.baseline_meta().exists() && state.spool().exists());
    }

    #[test]
    fn a_file_in_the_way_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, "").unwrap();
        let error = StateDir::open(&path).expect_err("it is a file");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}
