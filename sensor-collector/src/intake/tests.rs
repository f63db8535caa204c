//! Rules of the intake, one test each, and two simulations: a well-behaved agent over a link that breaks, and an agent
//! that sends anything.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use sensor_proto::v1;

use super::{
    CloseReason, Commit, Content, Epoch, Hole, Intake, IntakeCounters, Limits, Output, Seq, Violation,
};

const EPOCH: Epoch = Epoch([7; 16]);
const LIMITS: Limits = Limits { credit_bytes: 100, batches_max: 4 };

fn hello(first_seq: u64, last_seq: u64) -> v1::Hello {
    v1::Hello { epoch: EPOCH.0.to_vec(), first_seq, last_seq }
}

fn finding(seq: u64) -> v1::Item {
    let finding = v1::Finding { time_unix_ns: seq, ..v1::Finding::default() };
    v1::Item { seq, content: Some(v1::item::Content::Finding(finding)), first_seq: 0 }
}

fn overflow(first_seq: u64, seq: u64) -> v1::Item {
    let gap = v1::Gap { count: seq - first_seq + 1, reason: "spool_full".to_owned(), ..v1::Gap::default() };
    v1::Item { seq, content: Some(v1::item::Content::Gap(gap)), first_seq }
}

fn batch(items: Vec<v1::Item>) -> v1::Batch {
    v1::Batch { epoch: EPOCH.0.to_vec(), items }
}

fn findings(seqs: std::ops::RangeInclusive<u64>) -> v1::Batch {
    batch(seqs.map(finding).collect())
}

/// A stream that has said hello, for a store that has `stored`.
fn open(stored: Option<u64>, first_seq: u64) -> Intake {
    let mut intake = Intake::new(LIMITS);
    assert_eq!(intake.handle_hello(&hello(first_seq, first_seq)), Output::Resume(EPOCH));
    intake.handle_resumed(stored.map(Seq));
    intake
}

fn commit_of(output: Option<Output>) -> Commit {
    match output {
        Some(Output::Commit(commit)) => commit,
        other => panic!("expected a commit, got {other:?}"),
    }
}

fn seqs(commit: &Commit) -> Vec<u64> {
    commit.rows.iter().map(|row| row.seq.0).collect()
}

fn check_violation(intake: &mut Intake, batch: v1::Batch, expected: Violation) {
    let output = intake.handle_batch(batch, 10);
    assert_eq!(output, Some(Output::Close(CloseReason::Violation(expected))));
    assert!(intake.is_closed());
    assert_eq!(intake.handle_batch(findings(1..=1), 10), None, "a closed stream is silent");
}

#[test]
fn welcome_says_where_to_resume() {
    for (stored, first_seq, expected) in
        [(None, 0, 0), (None, 1, 0), (None, 5, 4), (Some(9), 5, 9), (Some(9), 20, 9)]
    {
        let mut intake = Intake::new(LIMITS);
        intake.handle_hello(&hello(first_seq, first_seq));
        let welcome = Output::Welcome { durable_upto: Seq(expected), credit_bytes: 100 };
        assert_eq!(intake.handle_resumed(stored.map(Seq)), welcome, "stored {stored:?}, first {first_seq}");
    }
}

#[test]
fn ack_comes_only_after_the_commit() {
    let mut intake = open(None, 1);
    let commit = commit_of(intake.handle_batch(findings(1..=3), 10));
    assert_eq!((seqs(&commit), commit.upto, commit.hole), (vec![1, 2, 3], Seq(3), None));
    assert_eq!(intake.handle_committed(), Some(Output::Ack { epoch: EPOCH, upto: Seq(3) }));
}

#[test]
fn what_is_stored_already_is_dropped_and_counted() {
    let mut intake = open(Some(2), 1);
    let commit = commit_of(intake.handle_batch(findings(1..=4), 10));
    assert_eq!(seqs(&commit), vec![3, 4]);
    let counters = IntakeCounters { items_received: 4, items_duplicate: 2, ..IntakeCounters::default() };
    assert_eq!(intake.take_counters(), counters);
    intake.handle_committed();
    let again = intake.handle_batch(findings(2..=4), 10);
    assert_eq!(again, Some(Output::Ack { epoch: EPOCH, upto: Seq(4) }), "the ack that was missed");
}

#[test]
fn a_duplicate_behind_an_open_commit_is_not_acknowledged_early() {
    let mut intake = open(None, 1);
    commit_of(intake.handle_batch(findings(1..=2), 10));
    let repeated = commit_of(intake.handle_batch(findings(1..=2), 10));
    assert!(repeated.rows.is_empty());
    assert_eq!(intake.handle_committed(), Some(Output::Ack { epoch: EPOCH, upto: Seq(2) }));
}

#[test]
fn a_hole_is_stored_as_a_hole() {
    let mut intake = open(Some(2), 1);
    let commit = commit_of(intake.handle_batch(findings(6..=7), 10));
    assert_eq!(commit.hole, Some(Hole { first: Seq(3), last: Seq(5) }));
    assert_eq!(intake.take_counters().sequences_missing, 3);
}

#[test]
fn a_declared_overflow_is_no_hole() {
    let mut intake = open(Some(2), 3);
    let commit = commit_of(intake.handle_batch(batch(vec![overflow(3, 5), finding(6)]), 10));
    assert_eq!((commit.hole, seqs(&commit)), (None, vec![5, 6]));
    assert_eq!(commit.rows[0].first, Seq(3));
}

#[test]
fn an_overflow_that_reaches_back_covers_only_what_is_new() {
    let mut intake = open(Some(4), 3);
    let commit = commit_of(intake.handle_batch(batch(vec![overflow(3, 6)]), 10));
    assert_eq!((commit.rows[0].first, commit.rows[0].seq), (Seq(5), Seq(6)));
}

#[test]
fn an_unknown_epoch_begins_where_its_spool_begins() {
    let commit = commit_of(open(None, 5).handle_batch(findings(5..=5), 10));
    assert_eq!(commit.hole, None);
    let commit = commit_of(open(None, 0).handle_batch(findings(9..=9), 10));
    assert_eq!(commit.hole, None, "an empty spool says nothing about where it begins");
    let commit = commit_of(open(None, 5).handle_batch(findings(7..=7), 10));
    assert_eq!(commit.hole, Some(Hole { first: Seq(5), last: Seq(6) }));
}

#[test]
fn an_item_of_a_later_version_keeps_its_place_as_a_gap() {
    let mut intake = open(None, 1);
    let unknown = v1::Item { seq: 1, content: None, first_seq: 0 };
    let commit = commit_of(intake.handle_batch(batch(vec![unknown, finding(2)]), 10));
    let Content::Gap(gap) = &commit.rows[0].content else { panic!("expected a gap") };
    assert_eq!((gap.kind.as_str(), gap.reason.as_str(), gap.count), ("item", "item_unknown", 1));
    assert_eq!(intake.take_counters().items_unknown, 1);
}

#[test]
fn evidence_says_which_finding_it_is_of_and_how_often() {
    let check = |finding: v1::Finding, name: Option<&str>, count: u64, severity: i32, refused: u64| {
        let mut intake = open(None, 1);
        let item = v1::Item { seq: 1, content: Some(v1::item::Content::Finding(finding)), first_seq: 0 };
        let commit = commit_of(intake.handle_batch(batch(vec![item]), 10));
        let Content::Finding(row) = &commit.rows[0].content else { panic!("expected a finding") };
        assert_eq!((row.name.as_deref(), row.count, row.severity), (name, count, severity));
        assert_eq!(intake.take_counters().names_refused, refused);
    };
    let named = |length: usize| v1::Finding { finding: "x".repeat(length), ..v1::Finding::default() };
    let longest = "x".repeat(super::NAME_BYTES_MAX);
    check(v1::Finding::default(), None, 1, 0, 0);
    check(v1::Finding { count: 7, severity: 4, ..named(super::NAME_BYTES_MAX) }, Some(&longest), 7, 4, 0);
    check(named(super::NAME_BYTES_MAX + 1), None, 1, 0, 1);
    check(v1::Finding { severity: 99, incident: "x".repeat(1000), ..named(1) }, Some("x"), 1, 0, 1);
}

#[test]
fn a_failed_commit_ends_the_stream_without_an_ack() {
    let mut intake = open(None, 1);
    commit_of(intake.handle_batch(findings(1..=1), 10));
    commit_of(intake.handle_batch(findings(2..=2), 10));
    let failed = CloseReason::StoreFailed { cause: "full".to_owned() };
    assert_eq!(intake.handle_commit_failed("full".to_owned()), Some(Output::Close(failed)));
    assert_eq!(
        intake.handle_committed(),
        None,
        "the later commit may have succeeded, and is not acknowledged"
    );
}

#[test]
fn more_than_the_credit_is_refused_but_one_batch_always_fits() {
    let mut intake = open(None, 1);
    commit_of(intake.handle_batch(findings(1..=1), 5000));
    let over = Violation::OverCredit { in_flight: 5010, credit: 100 };
    check_violation(&mut intake, findings(2..=2), over);
    let mut intake = open(None, 1);
    for seq in 1..=4 {
        commit_of(intake.handle_batch(findings(seq..=seq), 10));
    }
    check_violation(&mut intake, findings(5..=5), Violation::TooManyBatches { in_flight: 5, allowed: 4 });
}

#[test]
fn a_commit_gives_its_credit_back() {
    let mut intake = open(None, 1);
    for seq in 1..=1000 {
        commit_of(intake.handle_batch(findings(seq..=seq), 90));
        intake.handle_committed();
    }
}

#[test]
fn what_the_protocol_does_not_allow_ends_the_stream() {
    let open = || open(None, 1);
    check_violation(&mut Intake::new(LIMITS), findings(1..=1), Violation::BatchBeforeHello);
    check_violation(&mut open(), batch(vec![]), Violation::EmptyBatch);
    let gap = batch(vec![finding(1), finding(3)]);
    check_violation(&mut open(), gap, Violation::NotContiguous { expected: 2, found: 3 });
    let twice = batch(vec![finding(1), finding(1)]);
    check_violation(&mut open(), twice, Violation::NotContiguous { expected: 2, found: 1 });
    check_violation(&mut open(), batch(vec![finding(0)]), Violation::BadSequence { first: 0, last: 0 });
    let huge = batch(vec![finding(u64::MAX)]);
    check_violation(&mut open(), huge, Violation::BadSequence { first: u64::MAX, last: u64::MAX });
    let backwards = batch(vec![v1::Item { first_seq: 9, ..overflow(3, 5) }]);
    check_violation(&mut open(), backwards, Violation::BadSequence { first: 9, last: 5 });
    let wide_finding = batch(vec![v1::Item { first_seq: 1, ..finding(5) }]);
    check_violation(&mut open(), wide_finding, Violation::BadSequence { first: 1, last: 5 });
    let other = Epoch([8; 16]);
    let foreign = v1::Batch { epoch: other.0.to_vec(), items: vec![finding(1)] };
    check_violation(&mut open(), foreign, Violation::OtherEpoch { expected: EPOCH, found: other });
    let short = v1::Batch { epoch: vec![7; 15], items: vec![finding(1)] };
    check_violation(&mut open(), short, Violation::EpochLength { found: 15 });
}

#[test]
fn a_bad_hello_ends_the_stream() {
    let check = |hello: v1::Hello, expected: Violation| {
        let closed = Output::Close(CloseReason::Violation(expected));
        assert_eq!(Intake::new(LIMITS).handle_hello(&hello), closed);
    };
    check(v1::Hello { epoch: vec![], ..hello(1, 1) }, Violation::EpochLength { found: 0 });
    check(hello(2, 1), Violation::BadSequence { first: 2, last: 1 });
    check(hello(1, u64::MAX), Violation::BadSequence { first: 1, last: u64::MAX });
    let second = open(None, 1).handle_hello(&hello(1, 1));
    assert_eq!(second, Output::Close(CloseReason::Violation(Violation::SecondHello)));
    let empty = Intake::new(LIMITS).handle_empty_frame();
    assert_eq!(empty, Output::Close(CloseReason::Violation(Violation::EmptyFrame)));
}

/// What the store would hold: sequence to how often it was stored, holes included.
#[derive(Default)]
struct StoreModel {
    stored: BTreeMap<u64, u32>,
    high_water: Option<u64>,
    acknowledged: u64,
}

impl StoreModel {
    /// As `store::findings::commit`: refuses a batch whose predecessor is missing, ignores what is there.
    fn commit(&mut self, commit: &Commit) -> bool {
        if commit.after.is_some_and(|after| self.high_water < Some(after.0)) {
            return false;
        }
        let holes = commit.hole.into_iter().flat_map(|hole| hole.first.0..=hole.last.0);
        let rows = commit.rows.iter().flat_map(|row| row.first.0..=row.seq.0);
        for seq in holes.chain(rows) {
            *self.stored.entry(seq).or_default() += 1;
        }
        self.high_water = self.high_water.max(Some(commit.upto.0));
        true
    }

    fn check(&self, begin: u64) {
        assert!(self.stored.values().all(|times| *times == 1), "nothing is stored twice");
        let covered = (begin..=self.acknowledged).all(|seq| self.stored.contains_key(&seq));
        assert!(covered, "everything acknowledged is stored or on record as a hole");
    }
}

/// One stream against the model. `outcomes` says what becomes of each step.
struct Link<'a> {
    store: &'a mut StoreModel,
    intake: Intake,
    queued: VecDeque<Commit>,
}

impl<'a> Link<'a> {
    fn open(store: &'a mut StoreModel, first_seq: u64) -> (Self, u64) {
        let mut intake = Intake::new(LIMITS);
        assert_eq!(intake.handle_hello(&hello(first_seq, first_seq)), Output::Resume(EPOCH));
        let Output::Welcome { durable_upto, .. } = intake.handle_resumed(store.high_water.map(Seq)) else {
            panic!("resumed is answered with welcome");
        };
        (Self { store, intake, queued: VecDeque::new() }, durable_upto.0)
    }

    fn send(&mut self, batch: v1::Batch) {
        let output = self.intake.handle_batch(batch, 1);
        self.take(output);
    }

    fn take(&mut self, output: Option<Output>) {
        match output {
            Some(Output::Commit(commit)) => self.queued.push_back(commit),
            Some(Output::Ack { upto, .. }) => {
                assert!(self.store.high_water >= Some(upto.0), "an ack means stored");
                self.store.acknowledged = self.store.acknowledged.max(upto.0);
            }
            Some(Output::Close(_)) | None => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    fn commit_one(&mut self, succeeds: bool) {
        let Some(commit) = self.queued.pop_front() else { return };
        let output = if succeeds && self.store.commit(&commit) {
            self.intake.handle_committed()
        } else {
            self.intake.handle_commit_failed("disk full".to_owned())
        };
        self.take(output);
    }

    /// The connection breaks: the writer still has the first `written` of the queue.
    fn cut(mut self, written: usize) {
        for commit in self.queued.drain(..).take(written) {
            self.store.commit(&commit);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send { first: u64, len: u64 },
    Commit { succeeds: bool },
    Cut { written: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..30, 1_u64..6).prop_map(|(first, len)| Step::Send { first, len }),
        3 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(|succeeds| Step::Commit { succeeds }),
        1 => (0_usize..4).prop_map(|written| Step::Cut { written }),
    ]
}

proptest! {
    /// Batches lost, repeated and in any order; commits that fail; connections that break with commits under way.
    #[test]
    fn whatever_is_sent_nothing_is_stored_twice_or_acknowledged_unstored(
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let mut store = StoreModel::default();
        let mut steps = steps.into_iter().peekable();
        while steps.peek().is_some() {
            let (mut link, _) = Link::open(&mut store, 1);
            // Once the stream is over, the writer still writes what it has.
            let mut written = usize::MAX;
            for step in steps.by_ref() {
                match step {
                    Step::Send { first, len } => link.send(findings(first..=first + len - 1)),
                    Step::Commit { succeeds } => link.commit_one(succeeds),
                    Step::Cut { written: n } => {
                        written = n;
                        break;
                    }
                }
                if link.intake.is_closed() {
                    break;
                }
            }
            link.cut(written);
            store.check(1);
        }
    }

    /// An agent that resumes where it is told delivers everything exactly once and leaves no hole.
    #[test]
    fn a_well_behaved_agent_delivers_everything_once_over_a_link_that_breaks(
        total in 1_u64..60,
        streams in proptest::collection::vec((0_usize..12, 0_usize..12, 0_usize..4, any::<bool>()), 0..12),
    ) {
        let mut store = StoreModel::default();
        // A last stream without faults.
        let streams = streams.into_iter().chain([(usize::MAX, usize::MAX, usize::MAX, true)]);
        for (sends, commits, written, commits_succeed) in streams {
            let (mut link, durable) = Link::open(&mut store, 1);
            let mut next = durable + 1;
            for index in 0..sends {
                if next > total || link.intake.is_closed() {
                    break;
                }
                let last = (next + 3).min(total);
                link.send(findings(next..=last));
                next = last + 1;
                if index < commits {
                    link.commit_one(commits_succeed || index % 3 != 0);
                }
            }
            link.cut(written);
            store.check(1);
        }
        assert_eq!(store.high_water, Some(total));
        assert!((1..=total).all(|seq| store.stored.get(&seq) == Some(&1)));
        assert_eq!(store.stored.len() as u64, total);
    }
}
