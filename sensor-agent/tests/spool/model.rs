//! The store against a model of its rules: any sequence of commits, acks, crashes and renumberings, with a limit so
//! small that eviction is the normal case.

use crate::{EVERYTHING, check_contiguous};
use proptest::prelude::*;
use sensor_agent::spool::{Content, Epoch, Gap, NewItem, Rank, ReadLimits, Seq, Store, StoredItem};

const LIMIT_BYTES: u64 = 2_000;
const OVERHEAD_BYTES: u64 = 96;

#[derive(Clone, Debug)]
enum Step {
    /// Findings (rank, payload bytes) or, for rank 0, a gap.
    Commit(Vec<(u8, u8)>),
    /// Ack this share of what is held, in 255ths.
    Ack(u8),
    Reopen,
    Renumber,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let commit = proptest::collection::vec((0_u8..6, any::<u8>()), 0..6).prop_map(Step::Commit);
    let step = prop_oneof![
        6 => commit,
        2 => any::<u8>().prop_map(Step::Ack),
        1 => Just(Step::Reopen),
        1 => Just(Step::Renumber),
    ];
    proptest::collection::vec(step, 1..25)
}

/// One number of the model's stream.
#[derive(Clone, Debug)]
enum Cell {
    Live(NewItem),
    Evicted { kind: &'static str },
}

#[derive(Default)]
struct Model {
    first: u64,
    cells: Vec<Cell>,
}

impl Model {
    fn last(&self) -> u64 {
        self.first + self.cells.len() as u64 - 1
    }

    fn bytes(&self) -> u64 {
        let mut bytes = 0;
        let mut run_of = None;
        for cell in &self.cells {
            match cell {
                Cell::Live(item) => {
                    bytes += item.cost_bytes();
                    run_of = None;
                }
                Cell::Evicted { kind } => {
                    bytes += if run_of == Some(kind) { 0 } else { OVERHEAD_BYTES };
                    run_of = Some(kind);
                }
            }
        }
        bytes
    }

    fn evict_one(&mut self) -> bool {
        let rank = |cell: &Cell| match cell {
            Cell::Live(item) => Some(item.rank),
            Cell::Evicted { .. } => None,
        };
        let lowest = self.cells.iter().filter_map(rank).min();
        let Some(victim) =
            lowest.and_then(|lowest| self.cells.iter().position(|cell| rank(cell) == Some(lowest)))
        else {
            return false;
        };
        let Cell::Live(item) = &self.cells[victim] else { return false };
        let kind = if matches!(item.content, Content::Finding(_)) { "finding" } else { "gap" };
        self.cells[victim] = Cell::Evicted { kind };
        true
    }

    /// What the store should read back: runs of evicted numbers as one item.
    fn items(&self) -> Vec<(u64, u64, Option<NewItem>)> {
        let mut items: Vec<(u64, u64, Option<NewItem>)> = Vec::new();
        let mut run_of = None;
        for (seq, cell) in (self.first..).zip(&self.cells) {
            match cell {
                Cell::Live(item) => {
                    items.push((seq, seq, Some(item.clone())));
                    run_of = None;
                }
                Cell::Evicted { kind } if run_of == Some(kind) => items.last_mut().unwrap().1 = seq,
                Cell::Evicted { kind } => {
                    items.push((seq, seq, None));
                    run_of = Some(kind);
                }
            }
        }
        items
    }
}

fn new_item(number: u64, (rank, len): (u8, u8)) -> NewItem {
    if rank == 0 {
        let (kind, reason) = ("exec".to_owned(), "ring_full".to_owned());
        return NewItem::gap(Gap { from_ns: number, to_ns: number, kind, count: u64::from(len) + 1, reason });
    }
    let payload = format!("{number}:{}", "x".repeat(usize::from(len)));
    NewItem { rank: Rank(rank), time_ns: number, content: Content::Finding(payload.into_bytes()) }
}

fn check(store: &Store, model: &Model) {
    let holding = store.holding();
    assert_eq!((holding.first.0, holding.last.0, holding.bytes), (model.first, model.last(), model.bytes()));
    let items = store.read(holding.first, EVERYTHING).unwrap();
    check_contiguous(&items, holding.first, holding.last);
    let expected = model.items();
    assert_eq!(items.len(), expected.len());
    for (item, (first, last, kept)) in items.iter().zip(expected) {
        assert_eq!((item.first.0, item.seq.0), (first, last));
        match (kept, &item.content) {
            (Some(kept), content) => assert_eq!(&kept.content, content),
            (None, Content::Gap(gap)) => {
                assert_eq!((gap.count, gap.reason.as_str()), (last + 1 - first, "spool_full"));
            }
            (None, Content::Finding(_)) => panic!("{first} was evicted"),
        }
    }
    check_reading_from_anywhere(store, &items);
}

/// A reader may begin inside an evicted stretch: the gap then counts what is left of it.
fn check_reading_from_anywhere(store: &Store, items: &[StoredItem]) {
    let limits = ReadLimits { items_max: 1, bytes_max: 0 };
    for item in items {
        let middle = Seq(item.first.0.midpoint(item.seq.0));
        let read = store.read(middle, limits).unwrap();
        assert_eq!((read.len(), read[0].first, read[0].seq), (1, middle, item.seq));
        if let (Content::Gap(gap), true) = (&read[0].content, item.first < item.seq) {
            assert_eq!(gap.count, item.seq.0 + 1 - middle.0);
        }
    }
}

fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.db");
    Store::create(&path, Epoch([0; 16])).unwrap();
    let mut store = Store::open(&path, LIMIT_BYTES).unwrap();
    let mut model = Model { first: 1, ..Model::default() };
    let mut number = 0;
    for (step, epoch) in steps.into_iter().zip(1..) {
        match step {
            Step::Commit(specs) => {
                let items: Vec<NewItem> = specs
                    .into_iter()
                    .map(|spec| {
                        number += 1;
                        new_item(number, spec)
                    })
                    .collect();
                store.commit(&items, None).unwrap();
                model.cells.extend(items.into_iter().map(Cell::Live));
                while model.bytes() > LIMIT_BYTES && model.evict_one() {}
            }
            Step::Ack(share) => {
                let acked = model.cells.len() * usize::from(share) / 255;
                let upto = Seq((model.first + acked as u64).saturating_sub(1));
                store.commit([], Some(upto)).unwrap();
                model.cells.drain(..acked);
                model.first += acked as u64;
            }
            Step::Reopen => {
                drop(store);
                store = Store::open(&path, LIMIT_BYTES).unwrap();
            }
            Step::Renumber => {
                store.renumber(Epoch([epoch; 16])).unwrap();
                assert_eq!(store.holding().epoch, Epoch([epoch; 16]));
                model.first = 1;
            }
        }
        check(&store, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_the_model_does(steps in steps()) {
        run(steps);
    }
}

#[test]
fn an_ack_beyond_the_newest_number_takes_no_future_item() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.db");
    Store::create(&path, Epoch([0; 16])).unwrap();
    let mut store = Store::open(&path, LIMIT_BYTES).unwrap();
    store.commit(&[new_item(1, (3, 3))], None).unwrap();
    store.commit([], Some(Seq(99))).unwrap();
    store.commit(&[new_item(2, (3, 3))], None).unwrap();
    assert_eq!((store.holding().first, store.holding().last), (Seq(2), Seq(2)));
}
