//! Damaged spool files: set aside, replaced, declared. Never a reason not to start.

use crate::{at, finding, gap_of, read_all, start};
use rusqlite::Connection;
use sensor_agent::spool::{Content, Seq};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A spool with some hundred items, closed properly.
fn make(path: &Path) {
    let mut keeper = start(path);
    for n in 0..300 {
        keeper.push(finding(3, &format!("{n} {}", "z".repeat(200))), at(1));
    }
    keeper.commit(at(1));
}

fn check_set_aside(damage: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.db");
    make(&path);
    let before = start(&path).holding().unwrap().epoch;
    damage(&path);
    let mut keeper = start(&path);
    assert_eq!(keeper.health().degraded, None);
    keeper.push(finding(4, "after"), at(10));
    keeper.commit(at(10));
    let holding = keeper.holding().unwrap();
    assert_ne!(holding.epoch, before, "numbers of the old one are never used again");
    let items = read_all(&mut keeper);
    assert_eq!(items[0].seq, Seq(1));
    let gap = gap_of(&items[0]).expect("the gap comes first");
    assert_eq!((gap.kind.as_str(), gap.reason.as_str(), gap.count), ("spool", "spool_damaged", 1));
    assert_eq!(items[1].content, Content::Finding(b"after".to_vec()));
    let kept = fs::read_dir(folder.path()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("spool.db.damaged-")
    });
    assert!(kept.count() >= 1, "the damaged file is kept for a person");
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn a_file_that_is_no_database() {
    check_set_aside(|path| fs::write(path, "this is not a database, it is a text of some length\n").unwrap());
}

#[test]
fn an_empty_file() {
    check_set_aside(|path| fs::write(path, "").unwrap());
}

#[test]
fn a_truncated_file() {
    check_set_aside(|path| {
        let length = fs::metadata(path).unwrap().len();
        OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
    });
}

#[test]
fn a_file_cut_within_a_page() {
    check_set_aside(|path| OpenOptions::new().write(true).open(path).unwrap().set_len(5_000).unwrap());
}

#[test]
fn overwritten_pages() {
    check_set_aside(|path| overwrite(path, 3 * 4096, &[0xa5; 3 * 4096]));
}

#[test]
fn a_database_of_something_else() {
    check_set_aside(|path| {
        fs::remove_file(path).unwrap();
        Connection::open(path).unwrap().execute_batch("CREATE TABLE cookies (name TEXT)").unwrap();
    });
}

#[test]
fn a_spool_of_another_version() {
    check_set_aside(|path| {
        Connection::open(path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    });
}

#[test]
fn numbers_with_a_hole() {
    check_set_aside(|path| {
        Connection::open(path).unwrap().execute_batch("DELETE FROM items WHERE seq = 7").unwrap();
    });
}

#[test]
fn damage_that_shows_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.db");
    let mut keeper = start(&path);
    // More than SQLite keeps in its own cache.
    for n in 0..300 {
        keeper.push(finding(3, &format!("{n} {}", "z".repeat(20_000))), at(1));
    }
    keeper.commit(at(1));
    drop(keeper);
    let mut keeper = start(&path);
    let before = keeper.holding().unwrap().epoch;
    let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
    overwrite(&path, 8 * 4096, &vec![0x5a; length - 8 * 4096]);
    assert!(keeper.read(Seq(1), crate::EVERYTHING, at(5)).is_err(), "the damage is seen");
    keeper.push(finding(4, "after"), at(10));
    keeper.commit(at(10));
    assert_ne!(keeper.holding().unwrap().epoch, before);
    assert_eq!(keeper.health().damaged_count, 1);
    let items = read_all(&mut keeper);
    assert!(items.iter().any(|item| item.content == Content::Finding(b"after".to_vec())));
}

#[test]
fn no_more_than_three_damaged_files_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.db");
    for _ in 0..6 {
        fs::write(&path, "damaged").unwrap();
        assert_eq!(start(&path).health().damaged_count, 1);
    }
    let kept = fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"));
    assert_eq!(kept.count(), 3);
}

#[test]
fn its_files_are_private_also_those_of_an_earlier_version() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.db");
    let check = || {
        let mut keeper = start(&path);
        keeper.push(finding(3, "secret"), at(1));
        keeper.commit(at(1));
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        }
    };
    check();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    check();
}
