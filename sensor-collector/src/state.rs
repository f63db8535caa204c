//! The files of a collector's state directory: their names, and writing them so that no half file and no readable
//! secret is ever left. It knows no format. It may call the file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Where each file is.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The directory; nothing is touched.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// CA certificate, PEM.
    pub fn ca_certificate(&self) -> PathBuf {
        self.root.join("ca.pem")
    }

    /// CA key, PEM.
    pub fn ca_key(&self) -> PathBuf {
        self.root.join("ca.key")
    }

    /// Server chain, PEM.
    pub fn server_certificate(&self) -> PathBuf {
        self.root.join("server.pem")
    }

    /// Server key, PEM.
    pub fn server_key(&self) -> PathBuf {
        self.root.join("server.key")
    }

    /// The store.
    pub fn database(&self) -> PathBuf {
        self.root.join("collector.db")
    }

    /// What sensorctl reads.
    pub fn sensorctl(&self) -> PathBuf {
        self.root.join("sensorctl.toml")
    }

    /// Configuration, unless another path was asked for.
    pub fn config(&self) -> PathBuf {
        self.root.join("collector.toml")
    }

    /// Takes the directory for this process until the file is dropped: two collectors on one state would both think
    /// that they have the agents' live streams.
    pub fn lock(&self) -> anyhow::Result<File> {
        let path = self.root.join("lock");
        let file =
            OpenOptions::new().append(true).create(true).mode(MODE_SECRET).open(&path).with_context(
                || format!("opening {}: has sensor-collector init been run?", path.display()),
            )?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                bail!("{} is in use by another collector", self.root.display())
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("locking {}", path.display()))
            }
        }
    }

    /// Makes the directory, for its owner only.
    pub fn create(&self) -> anyhow::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .with_context(|| format!("creating {}", self.root.display()))
    }

    /// The first file that an earlier `init` left.
    pub fn first_existing(&self) -> Option<PathBuf> {
        [
            self.ca_certificate(),
            self.ca_key(),
            self.server_certificate(),
            self.server_key(),
            self.database(),
            self.sensorctl(),
            self.config(),
        ]
        .into_iter()
        .find(|path| path.exists())
    }
}

/// Writes a new file, durably. Fails when it exists.
pub fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Replaces a file: whoever reads it sees the old text or the new one.
pub fn replace(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let scratch = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&scratch)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&scratch, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Mode of a file with a secret in it.
pub const MODE_SECRET: u32 = 0o600;
/// Mode of a file that anybody may read.
pub const MODE_PUBLIC: u32 = 0o644;
