//! apt with sources and state of its own: Debian's archive as this machine's apt knows it, in other suites, without
//! a change to the machine. Not an installer: it downloads. It may run apt and write to the folder it is given.

use crate::setup::stdout;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Keys of Debian's archive.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with sources and state of its own, so that nothing of the machine's changes.
pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Sources of the suites, with their lists still to be read: `apt-get update`.
    ///
    /// # Errors
    /// When this machine has no apt, or its apt no Debian archive.
    pub(crate) fn prepare(folder: &Path, suites: &[&str]) -> Result<Self> {
        for name in ["state/lists/partial", "cache/archives/partial"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        let targets = stdout(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))
            .context("this machine has no apt to ask for its archive")?;
        let archive =
            debian_archive(&targets).context("no Debian archive among this machine's apt sources")?;
        let source: String = suites
            .iter()
            .map(|suite| format!("deb [signed-by={DEBIAN_KEYRING}] {archive} {suite} main\n"))
            .collect();
        let list = folder.join("sources.list");
        fs::write(&list, source).with_context(|| format!("writing {}", list.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// A command of apt's that uses these sources and this state.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        for option in [
            format!("Dir::Etc::SourceList={folder}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State={folder}/state"),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::Cache={folder}/cache"),
            // Its unprivileged user may not write to this user's cache.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// The first archive that is Debian's own, by the last part of its path.
fn debian_archive(targets: &str) -> Option<&str> {
    targets.lines().map(str::trim).find(|uri| uri.trim_end_matches('/').ends_with("/debian"))
}

#[cfg(test)]
mod tests {
    use super::debian_archive;

    #[test]
    fn archive_is_debians_own_and_not_another() {
        let targets = "http://packages.example/other/\nhttp://mirror.example/debian-security/\nhttp://mirror.example/debian/\n";
        assert_eq!(debian_archive(targets), Some("http://mirror.example/debian/"));
        assert_eq!(debian_archive("http://mirror.example/ubuntu/"), None);
        assert_eq!(debian_archive(""), None);
    }
}
