//! Which units a timer of systemd starts. Not when. It looks for unit files, without asking systemd.

use super::place::has_unit_characters;
use std::path::{Path, PathBuf};

/// Where unit files lie.
#[derive(Debug)]
pub struct Timers {
    system: Vec<PathBuf>,
    user: Vec<PathBuf>,
}

impl Timers {
    /// Below `root`, which is `/` but in tests.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let below = |folders: &[&str]| folders.iter().map(|folder| root.join(folder)).collect();
        Self { system: below(&SYSTEM_FOLDERS), user: below(&USER_FOLDERS) }
    }

    /// The timer of `unit`: `X.timer` of `X.service`; of an instance its own or that of its template. Only one of the
    /// same name is found: a timer may start any unit, and that is written inside. Nor does it tell that the timer is
    /// on, or started it this time.
    #[must_use]
    pub fn of(&self, unit: &str, is_user: bool) -> Option<String> {
        let stem = unit.strip_suffix(".service")?;
        if stem.is_empty() || !has_unit_characters(stem) || stem.len() > UNIT_BYTES_MAX {
            return None;
        }
        let template = stem.split_once('@').map(|(name, _)| format!("{name}@.timer"));
        let names = std::iter::once(format!("{stem}.timer")).chain(template);
        let folders = if is_user { &self.user } else { &self.system };
        let is_there = |name: &String| folders.iter().any(|folder| is_installed(&folder.join(name)));
        names.into_iter().find(is_there).map(|_| format!("{stem}.timer"))
    }
}

/// Whether there is a unit file that is not masked: a link to `/dev/null`, or empty.
fn is_installed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0)
}

/// systemd's search path for the system manager, `systemd.unit(5)`.
const SYSTEM_FOLDERS: [&str; 6] = [
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator",
    "run/systemd/transient",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// The same for users' managers, without what users have at home.
const USER_FOLDERS: [&str; 4] =
    ["etc/systemd/user", "run/systemd/user", "usr/lib/systemd/user", "lib/systemd/user"];
const UNIT_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_with_a_timer_file_is_started_by_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/systemd/system");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("backup.timer"), "[Timer]\n").unwrap();
        std::fs::write(folder.join("scrub@.timer"), "[Timer]\n").unwrap();
        std::fs::write(folder.join(r"my\x2dapp.timer"), "[Timer]\n").unwrap();
        std::fs::write(folder.join("off.timer"), "").unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.join("masked.timer")).unwrap();
        let timers = Timers::new(root.path());
        let check = |unit: &str, expected: Option<&str>| {
            assert_eq!(timers.of(unit, false).as_deref(), expected, "{unit}");
        };
        check("backup.service", Some("backup.timer"));
        check("scrub@srv.service", Some("scrub@srv.timer"));
        check(r"my\x2dapp.service", Some(r"my\x2dapp.timer"));
        check("other.service", None);
        check("backup.scope", None);
        check("off.service", None);
        check("masked.service", None);
        check(".service", None);
        check("a/../backup.service", None);
        assert_eq!(timers.of("backup.service", true), None, "a system timer starts no user's unit");
    }
}
