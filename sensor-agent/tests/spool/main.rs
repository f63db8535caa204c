//! The spool's promises, each against its enemy: a model, kills, a full disk, damage. Not the uplink's tests.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod damage;
mod full_disk;
mod kills;
mod model;

use sensor_agent::spool::{Clock, Content, Epoch, Gap, Keeper, NewItem, Rank, ReadLimits, Seq, StoredItem};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// A limit that no test reaches by accident.
const ROOMY_BYTES: u64 = 1 << 30;

const EVERYTHING: ReadLimits = ReadLimits { items_max: usize::MAX, bytes_max: u64::MAX };

fn at(milliseconds: u64) -> Clock {
    Clock { monotonic: Duration::from_millis(milliseconds), unix_ns: milliseconds * 1_000_000 }
}

fn finding(rank: u8, text: &str) -> NewItem {
    NewItem { rank: Rank(rank), time_ns: 5, content: Content::Finding(text.as_bytes().to_vec()) }
}

/// A different epoch at each call.
fn next_epoch() -> Epoch {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    Epoch([NEXT.fetch_add(1, Ordering::Relaxed); 16])
}

fn start(path: &Path) -> Keeper {
    Keeper::start(path, ROOMY_BYTES, next_epoch, at(0))
}

/// Everything held, checked to be without holes.
fn read_all(keeper: &mut Keeper) -> Vec<StoredItem> {
    let holding = keeper.holding().expect("there is a file");
    let items = keeper.read(holding.first, EVERYTHING, at(0)).expect("it can be read");
    check_contiguous(&items, holding.first, holding.last);
    items
}

fn check_contiguous(items: &[StoredItem], first: Seq, last: Seq) {
    let mut expected = first;
    for item in items {
        assert_eq!(item.first, expected, "a hole or an overlap");
        assert!(item.seq >= item.first);
        expected = item.seq.next();
    }
    assert_eq!(expected, last.next(), "everything up to the newest number is there");
}

fn gap_of(item: &StoredItem) -> Option<&Gap> {
    match &item.content {
        Content::Gap(gap) => Some(gap),
        Content::Finding(_) => None,
    }
}
