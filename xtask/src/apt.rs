//! apt with sources and state of its own: Debian's archive as this machine's apt knows it, in other suites, without
//! a change to the machine. Not an installer: it downloads. It may run apt and write to the folder it is given.

use crate::setup::stdout;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Keys of Debian's archive.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Something cannot be had from here: this machine has no source of packages, or no way to it. A source that answers
/// and lacks what it should have is another error.
#[derive(Debug)]
pub(crate) struct Unavailable(pub(crate) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// apt with sources and state of its own, so that nothing of the machine's changes.
pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Sources of the suites, with their lists still to be read: [`Self::update`].
    ///
    /// # Errors
    /// [`Unavailable`] when this machine has no apt, or its apt no Debian archive; others when files cannot be written.
    pub(crate) fn prepare(folder: &Path, suites: &[&str]) -> Result<Self> {
        for name in ["state/lists/partial", "cache/archives/partial"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        // What apt would fetch, rather than what it has: its lists may not have been read yet.
        let uris = stdout(Command::new("apt-get").args(["update", "--print-uris"])).map_err(|error| {
            Unavailable(format!("this machine has no apt to ask for its archive: {error:#}"))
        })?;
        let archive = debian_archive(&uris).ok_or_else(|| {
            Unavailable(
                "no Debian archive (a URI that ends in /debian) in this machine's apt sources".to_owned(),
            )
        })?;
        let source: String = suites
            .iter()
            .map(|suite| format!("deb [signed-by={DEBIAN_KEYRING}] {archive} {suite} main\n"))
            .collect();
        let list = folder.join("sources.list");
        fs::write(&list, source).with_context(|| format!("writing {}", list.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Reads the suites' lists.
    ///
    /// # Errors
    /// [`Unavailable`] when the archive cannot be reached; others when it lacks a suite.
    pub(crate) fn update(&self) -> Result<()> {
        fetch(self.command("apt-get").args(["-qq", "-o", "APT::Update::Error-Mode=any", "update"]))
    }

    /// Downloads packages (`name` or `name=version`) into `folder`.
    ///
    /// # Errors
    /// [`Unavailable`] when the archive cannot be reached; others when it lacks a package.
    pub(crate) fn download(&self, packages: &[String], folder: &Path) -> Result<()> {
        fetch(self.command("apt-get").args(["-qq", "download"]).args(packages).current_dir(folder))
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

/// Runs a command of apt's that uses the network; its errors are shown, and tell what kind of failure it is.
///
/// # Errors
/// [`Unavailable`] when the archive cannot be reached; others when it lacks what was asked for.
pub(crate) fn fetch(command: &mut Command) -> Result<()> {
    // The reasons are read below.
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("running {command:?}"))?;
    let output = child.wait_with_output().with_context(|| format!("running {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    eprint!("{errors}");
    if output.status.success() {
        return Ok(());
    }
    match errors.lines().find(|line| is_unreachable(line)) {
        Some(reason) => Err(Unavailable(reason.trim_start_matches("E: ").to_owned()).into()),
        None => bail!("{command:?} failed: {}", output.status),
    }
}

/// How apt says that it finds no way to an archive.
const UNREACHABLE: [&str; 8] = [
    "Could not resolve",
    "failure resolving",
    "happened resolving",
    "Could not connect",
    "Unable to connect",
    "Cannot initiate the connection",
    "Connection failed",
    "onnection timed out",
];

fn is_unreachable(line: &str) -> bool {
    UNREACHABLE.iter().any(|words| line.contains(words))
}

/// The first archive that is Debian's own, by the last part of its path, among what `apt-get update --print-uris`
/// says: `'URI' FILE SIZE`.
fn debian_archive(uris: &str) -> Option<&str> {
    let mut archives =
        uris.lines().filter_map(|line| Some(line.strip_prefix('\'')?.split_once("/dists/")?.0));
    archives.find(|archive| archive.ends_with("/debian"))
}

#[cfg(test)]
mod tests {
    use super::{debian_archive, is_unreachable};

    #[test]
    fn archive_is_debians_own_and_not_another() {
        let uris = "'http://packages.example/other/dists/x/InRelease' a 0 \n\
                    'http://mirror.example/debian-security/dists/x/InRelease' b 0 \n\
                    'http://mirror.example/debian/dists/x/InRelease' c 0 \n";
        assert_eq!(debian_archive(uris), Some("http://mirror.example/debian"));
        assert_eq!(debian_archive("'http://mirror.example/ubuntu/dists/x/InRelease' a 0"), None);
        assert_eq!(debian_archive(""), None);
    }

    #[test]
    fn only_an_archive_without_an_answer_is_unreachable() {
        for (line, expected) in [
            ("E: Failed to fetch http://a/debian/dists/x/InRelease  Could not resolve 'a'", true),
            ("E: Failed to fetch http://a/x  Temporary failure resolving 'a'", true),
            ("E: Failed to fetch http://a/x  Could not connect to a:80 (192.0.2.1). - connect (111)", true),
            ("E: The repository 'http://a/debian x Release' does not have a Release file.", false),
            ("E: Failed to fetch http://a/x  404  Not Found [IP: 192.0.2.1 80]", false),
            ("E: Failed to fetch http://a/x  Hash Sum mismatch", false),
            ("E: You don't have enough free space in /var/cache/apt/archives/.", false),
        ] {
            assert_eq!(is_unreachable(line), expected, "{line}");
        }
    }
}
