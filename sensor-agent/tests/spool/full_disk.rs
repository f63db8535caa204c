//! A full disk: the spool goes on in memory, counts what memory cannot hold, says so, and recovers by itself.

use crate::{at, finding, gap_of, next_epoch, read_all, start};
use nix::mount::{MsFlags, mount, umount};
use sensor_agent::spool::{Content, Keeper};
use std::path::PathBuf;

const PUSHED: u64 = 3_000;

/// Pushes more than memory holds.
fn overwhelm(keeper: &mut Keeper) {
    let text = "x".repeat(4_096);
    for n in 0..PUSHED {
        keeper.push(finding(2, &text), at(1_000 + n));
    }
    keeper.commit(at(5_000));
}

/// Findings read back and findings declared missing.
fn account(keeper: &mut Keeper) -> (u64, u64) {
    let items = read_all(keeper);
    let kept = items.iter().filter(|item| matches!(item.content, Content::Finding(_))).count();
    let missing = items.iter().filter_map(gap_of).filter(|gap| gap.reason == "spool_unavailable");
    (kept as u64, missing.map(|gap| gap.count).sum())
}

#[test]
fn what_a_full_disk_refuses_is_kept_in_memory_or_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = start(&folder.path().join("spool.db"));
    keeper.push(finding(2, "before"), at(1));
    keeper.commit(at(1));
    keeper.limit_pages(16).unwrap();
    overwhelm(&mut keeper);
    let reason = keeper.health().degraded.clone().expect("it says that it is degraded");
    assert!(reason.contains("spool.db") && reason.contains("full"), "{reason}");
    let dropped = keeper.health().dropped_count;
    assert!(dropped > 0, "memory is bounded");
    let accepted = keeper.health().accepted_count;
    assert_eq!(read_all(&mut keeper).len() as u64, accepted, "what was accepted can still be read");

    keeper.limit_pages(1 << 20).unwrap();
    let retry = keeper.deadline().expect("it tries again");
    keeper.commit_if_due(sensor_agent::spool::Clock { monotonic: retry, unix_ns: 1 });
    assert_eq!(keeper.health().degraded, None);
    assert_eq!(
        account(&mut keeper),
        (1 + PUSHED - dropped, dropped),
        "every one is there or declared missing"
    );
}

#[test]
fn the_least_severe_leave_memory_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = start(&folder.path().join("spool.db"));
    keeper.limit_pages(1).unwrap();
    keeper.push(finding(5, "the one that matters"), at(1));
    overwhelm(&mut keeper);
    keeper.limit_pages(1 << 20).unwrap();
    keeper.commit(at(20_000));
    let items = read_all(&mut keeper);
    let kept = Content::Finding(b"the one that matters".to_vec());
    assert!(items.iter().any(|item| item.content == kept));
}

/// A small file system of its own.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some(options));
        match mounted {
            Ok(()) => Some(Self { folder }),
            Err(error) => {
                println!("skipped: cannot mount a tmpfs: {error}");
                None
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    /// Writes until nothing fits.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount(self.folder.path()).expect("nothing uses it any more");
    }
}

#[test]
fn it_starts_on_a_disk_that_is_full_and_recovers() {
    let Some(disk) = SmallDisk::mount("size=1m") else { return };
    disk.fill();
    let path = disk.folder.path().join("spool.db");
    let mut keeper = Keeper::start(&path, 1 << 20, next_epoch, at(0));
    assert!(keeper.health().degraded.is_some());
    assert_eq!(keeper.holding(), None);
    keeper.push(finding(4, "while full"), at(10));
    keeper.commit(at(10));
    assert_eq!(keeper.health().pending_count, 1);

    std::fs::remove_file(disk.ballast()).unwrap();
    keeper.commit(at(60_000));
    assert_eq!(keeper.health().degraded, None);
    assert_eq!(read_all(&mut keeper)[0].content, Content::Finding(b"while full".to_vec()));
}

#[test]
fn a_disk_that_fills_up_while_running_loses_nothing_that_was_accepted() {
    let Some(disk) = SmallDisk::mount("size=1m") else { return };
    let path = disk.folder.path().join("spool.db");
    let mut keeper = Keeper::start(&path, 64 << 20, next_epoch, at(0));
    let text = "y".repeat(4_000);
    let mut pushed = 0;
    while keeper.health().degraded.is_none() {
        keeper.push(finding(3, &text), at(pushed));
        keeper.commit(at(pushed));
        pushed += 1;
        assert!(pushed < 10_000, "the disk never fills");
    }
    let accepted = keeper.health().accepted_count;
    assert_eq!(accepted + keeper.health().pending_count, pushed);
    assert_eq!(read_all(&mut keeper).len() as u64, accepted);
    drop(keeper);
    let mut again = Keeper::start(&path, 64 << 20, next_epoch, at(0));
    assert_eq!(read_all(&mut again).len() as u64, accepted, "and after a restart on the full disk");
}

#[test]
fn a_very_small_disk_recovers_once_there_is_room() {
    let Some(disk) = SmallDisk::mount("size=2m") else { return };
    let mut keeper = Keeper::start(&disk.folder.path().join("spool.db"), 64 << 20, next_epoch, at(0));
    let text = "z".repeat(1_000);
    let mut time = 0;
    let mut exchange = |keeper: &mut Keeper, count: u64, is_acked: bool| {
        for _ in 0..count {
            time += 1_000;
            keeper.push(finding(3, &text), at(time));
            keeper.commit(at(time));
            if let Some(holding) = keeper.holding().filter(|_| is_acked) {
                keeper.acknowledge(holding.epoch, holding.last, at(time));
            }
        }
    };
    exchange(&mut keeper, 100, true);
    disk.fill();
    exchange(&mut keeper, 600, false);
    assert!(keeper.health().degraded.is_some(), "more waits than fits");
    std::fs::remove_file(disk.ballast()).unwrap();
    exchange(&mut keeper, 1_000, true);
    assert_eq!(keeper.health().degraded, None);
    assert_eq!((keeper.health().accepted_count, keeper.health().dropped_count), (1_700, 0));
}

#[test]
fn what_waited_on_a_full_disk_goes_through_the_room_of_the_log() {
    let Some(disk) = SmallDisk::mount("size=2m") else { return };
    let mut keeper = Keeper::start(&disk.folder.path().join("spool.db"), 64 << 20, next_epoch, at(0));
    let text = "w".repeat(1_500);
    let exchange = |keeper: &mut Keeper, time: u64, count: u64| {
        for _ in 0..count {
            keeper.push(finding(3, &text), at(time));
        }
        keeper.commit(at(time));
        if let Some(holding) = keeper.holding() {
            keeper.acknowledge(holding.epoch, holding.last, at(time));
        }
    };
    for round in 0..300 {
        exchange(&mut keeper, round, 1);
    }
    disk.fill();
    for round in 300..330 {
        exchange(&mut keeper, round, 90);
    }
    for round in 330..350 {
        exchange(&mut keeper, round, 0);
    }
    assert_eq!((keeper.health().degraded.clone(), keeper.health().pending_count), (None, 0));
}
