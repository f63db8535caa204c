//! Names of users and groups, from the host's `passwd` and `group` files. Not a name service: users of a directory
//! server, and those that systemd makes up for a unit, have no name here. A container's own files are never asked:
//! whoever made the container wrote them. It reads the two files.

use sensor_baseline::text::escape;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    users: HashMap<u32, Arc<str>>,
    groups: HashMap<u32, Arc<str>>,
}

impl Names {
    /// From the text of the two files.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: parse(passwd), groups: parse(group) }
    }

    /// A user's name.
    #[must_use]
    pub fn user(&self, uid: u32) -> Option<&Arc<str>> {
        self.users.get(&uid)
    }

    /// A group's name.
    #[must_use]
    pub fn group(&self, gid: u32) -> Option<&Arc<str>> {
        self.groups.get(&gid)
    }
}

/// `NAME:x:ID:...`, one a line; the first line with a number wins, as it does for `getpwuid`. Lines of another form
/// are passed over.
fn parse(text: &[u8]) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(_password), Some(id)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let id: Option<u32> = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        // Compatibility entries of NIS begin with a sign and name nobody.
        let is_name = !name.is_empty() && !matches!(name[0], b'#' | b'+' | b'-');
        if let Some(id) = id.filter(|_| is_name && names.len() < NAMES_MAX) {
            names.entry(id).or_insert_with(|| Arc::from(escape(name)));
        }
    }
    names
}

/// The two files, read again when they have changed.
#[derive(Debug)]
pub struct NameFiles {
    passwd: PathBuf,
    group: PathBuf,
    stamps: [Option<Stamp>; 2],
    names: Arc<Names>,
}

/// What tells one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    dev: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl NameFiles {
    /// Below `root`, which is `/` but in tests. Reads nothing yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            passwd: root.join("etc/passwd"),
            group: root.join("etc/group"),
            stamps: [None, None],
            names: Arc::default(),
        }
    }

    /// The names as they are now. A file that cannot be read names nobody.
    pub fn current(&mut self) -> Arc<Names> {
        let stamps = [stamp(&self.passwd), stamp(&self.group)];
        if stamps != self.stamps {
            self.stamps = stamps;
            self.names = Arc::new(Names::parse(&read(&self.passwd), &read(&self.group)));
        }
        Arc::clone(&self.names)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        dev: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read before an error is still worth having.
    let _read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    bytes
}

/// Users, and groups, known at most.
const NAMES_MAX: usize = 65_536;
/// Bytes of either file read at most.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_line_by_line_and_the_first_of_a_number_wins() {
        let names = Names::parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n# no:x:7:\nshort:x\nbad:x:-1:\n:x:8:\n+nis:x:9:\nl\xe9on:x:1000:1000::/:/bin/sh\n",
            b"root:x:0:\nadm:x:4:a,b\n",
        );
        let user = |uid| names.user(uid).map(AsRef::as_ref);
        assert_eq!((user(0), user(7), user(8), user(9)), (Some("root"), None, None, None));
        assert_eq!(user(1000), Some("l\\xe9on"), "a name is bytes");
        assert_eq!((names.group(4).map(AsRef::as_ref), names.group(5)), (Some("adm"), None));
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_missing_one_names_nobody() {
        let root = tempfile::tempdir().unwrap();
        let mut files = NameFiles::new(root.path());
        assert_eq!(*files.current(), Names::default());
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = root.path().join("etc/passwd");
        std::fs::write(&passwd, "ann:x:1:\n").unwrap();
        assert_eq!(files.current().user(1).map(AsRef::as_ref), Some("ann"));
        // As `useradd` does it: a new file under the old name.
        std::fs::write(root.path().join("new"), "bob:x:1:\n").unwrap();
        std::fs::rename(root.path().join("new"), &passwd).unwrap();
        assert_eq!(files.current().user(1).map(AsRef::as_ref), Some("bob"));
        let (before, after) = (files.current(), files.current());
        assert!(Arc::ptr_eq(&before, &after), "unchanged files are not read again");
    }
}
