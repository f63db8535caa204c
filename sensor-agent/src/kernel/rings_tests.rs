//! Tests of the drain's order, with rings whose records are reserved and committed at times of the test's choosing.
//! Not of the kernel.

use super::{BUSY_WAIT_MAX_NS, Drain, Drained, Source};
use proptest::prelude::{Strategy, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};
use sensor_event::Header;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use zerocopy::{FromZeros, IntoBytes};

/// A program's run: when its hook fired, when it reserved, when it committed.
#[derive(Clone, Copy, Debug)]
struct Run {
    ring: usize,
    stamped: u64,
    reserved: u64,
    committed: u64,
}

/// A ring in which time passes with every look.
struct Fake {
    now: Rc<Cell<u64>>,
    records: VecDeque<(Run, Vec<u8>)>,
}

impl Source for Fake {
    fn take(&mut self, sink: &mut dyn FnMut(&[u8])) -> bool {
        self.now.set(self.now.get() + 1);
        let is_ready = self.records.front().is_some_and(|(run, _)| run.committed <= self.now.get());
        if is_ready {
            let (_, bytes) = self.records.pop_front().expect("there is a first");
            sink(&bytes);
        }
        is_ready
    }

    fn is_empty(&self) -> bool {
        self.now.set(self.now.get() + 1);
        self.records.front().is_none_or(|(run, _)| run.reserved > self.now.get())
    }
}

/// A record that carries its run's number as its pid.
fn record(number: usize, run: &Run) -> Vec<u8> {
    let mut header = Header::new_zeroed();
    header.time_ns = run.stamped;
    header.pid = u32::try_from(number).expect("few runs");
    header.as_bytes().to_vec()
}

fn number_of(record: &[u8]) -> usize {
    let at = std::mem::offset_of!(Header, pid);
    u32::from_ne_bytes(record[at..at + 4].try_into().expect("four bytes")) as usize
}

/// Two rings with these runs, and the clock.
fn rings(runs: &[Run]) -> (Drain<Fake>, Rc<Cell<u64>>) {
    let now = Rc::new(Cell::new(0));
    let ring = |ring: usize| {
        let mut records: Vec<(Run, Vec<u8>)> = runs
            .iter()
            .enumerate()
            .filter(|(_, run)| run.ring == ring)
            .map(|(number, run)| (*run, record(number, run)))
            .collect();
        records.sort_by_key(|(run, _)| run.reserved);
        Fake { now: Rc::clone(&now), records: records.into() }
    };
    (Drain::new(ring(0), ring(1)), now)
}

/// Drains to the end, `budget` records at a time; the numbers in the order they came.
fn order(runs: &[Run], budget: usize, pause: u64) -> (Vec<usize>, Drained) {
    let (mut drain, now) = rings(runs);
    let mut order = Vec::new();
    let mut last = Drained::default();
    while order.len() < runs.len() {
        now.set(now.get() + pause);
        last = drain.drain(&|| now.get(), budget, &mut |record| order.push(number_of(record)));
        assert!(last.records <= budget);
    }
    (order, last)
}

fn run(ring: usize, stamped: u64, reserved: u64, committed: u64) -> Run {
    Run { ring, stamped, reserved, committed }
}

#[test]
fn record_behind_a_busy_one_is_waited_for() {
    // The exec (1) lies behind a record that another CPU is still copying; the open (2) that it caused is ready.
    let runs = [run(0, 1, 2, 60), run(0, 3, 4, 5), run(1, 6, 7, 8)];
    assert_eq!(order(&runs, 10, 20).0, [0, 1, 2]);
}

#[test]
fn record_later_than_the_frontier_waits_for_the_next_round() {
    // The open (0) came before the exit (1), but the activity ring is read after both.
    let runs = [run(1, 30, 31, 32), run(0, 33, 34, 35)];
    assert_eq!(order(&runs, 10, 1).0, [0, 1]);
}

#[test]
fn ties_go_to_the_lifecycle_ring() {
    let runs = [run(1, 5, 5, 5), run(0, 5, 5, 5)];
    assert_eq!(order(&runs, 10, 10).0, [1, 0]);
}

#[test]
fn what_is_left_is_told() {
    let runs = [run(0, 1, 1, 1), run(0, 2, 2, 2), run(1, 3, 3, 3)];
    let (mut drain, now) = rings(&runs);
    now.set(10);
    let drained = drain.drain(&|| now.get(), 2, &mut |_| {});
    assert_eq!((drained.records, drained.is_empty, drain.has_waiting()), (2, false, true));
    let drained = drain.drain(&|| now.get(), 2, &mut |_| {});
    assert_eq!((drained.records, drained.is_empty, drain.has_waiting()), (1, true, false));
}

#[test]
fn order_is_given_up_for_a_record_that_stays_busy() {
    let runs = [run(0, 1, 2, u64::MAX), run(1, 3, 4, 5)];
    let (mut drain, now) = rings(&runs);
    let clock = || {
        now.set(now.get() + BUSY_WAIT_MAX_NS / 4);
        now.get()
    };
    let mut order = Vec::new();
    let drained = drain.drain(&clock, 10, &mut |record| order.push(number_of(record)));
    assert_eq!((order, drained.order_given_up_count, drained.is_empty), (vec![1], 1, false));
}

#[test]
fn record_without_a_header_is_handed_over_all_the_same() {
    let (mut drain, now) = rings(&[run(0, 5, 5, 5)]);
    drain.sources[0].records.push_back((run(0, 6, 6, 6), b"short".to_vec()));
    now.set(10);
    let mut records = Vec::new();
    drain.drain(&|| now.get(), 10, &mut |record| records.push(record.len()));
    assert_eq!(records, [5, size_of::<Header>()]);
}

fn any_runs() -> impl Strategy<Value = Vec<Run>> {
    let one = (0..2usize, 0..300u64, 0..10u64, 0..30u64);
    prop::collection::vec(one, 1..60).prop_map(|runs| {
        runs.into_iter()
            .map(|(ring, stamped, reserve, commit)| {
                run(ring, stamped, stamped + reserve, stamped + reserve + commit)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn causes_come_first_and_nothing_is_lost(runs in any_runs(), budget in 1..20usize, pause in 0..40u64) {
        let (order, last) = order(&runs, budget, pause);
        prop_assert_eq!(last.order_given_up_count, 0);
        let mut place = vec![usize::MAX; runs.len()];
        for (at, number) in order.iter().enumerate() {
            prop_assert_eq!(place[*number], usize::MAX, "record {} came twice", number);
            place[*number] = at;
        }
        for (x, cause) in runs.iter().enumerate() {
            for (y, effect) in runs.iter().enumerate() {
                if cause.committed < effect.stamped {
                    prop_assert!(place[x] < place[y], "{cause:?} came after {effect:?}");
                }
            }
        }
    }
}
