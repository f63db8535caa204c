//! Tests of the session's promises, one by one. The collector's half takes part in `tests/tests/simulation.rs` only.

use std::time::Duration;

use super::{Action, BATCH_INTERVAL, Hello, Session, WELCOME_TIMEOUT};
use crate::spool::{Content, Epoch, Holding, Seq, StoredItem};

const EPOCH: Epoch = Epoch([7; 16]);
const OTHER: Epoch = Epoch([8; 16]);
const NOW: Duration = Duration::from_secs(100);

fn holding(first: u64, last: u64) -> Holding {
    Holding { epoch: EPOCH, first: Seq(first), last: Seq(last), urgent: Seq(0), bytes: 100, evicted_count: 0 }
}

fn items(first: u64, last: u64, bytes: usize) -> Vec<StoredItem> {
    (first..=last)
        .map(|seq| StoredItem { first: Seq(seq), seq: Seq(seq), content: Content::Finding(vec![0; bytes]) })
        .collect()
}

fn drain(session: &mut Session, now: Duration) -> Vec<Action> {
    std::iter::from_fn(|| session.poll_action(now)).collect()
}

/// A session that has had its welcome, with `1..=last` in the spool.
fn streaming(last: u64, durable: u64, credit: u64) -> Session {
    let mut session = Session::new(1);
    session.handle_spool(NOW, Some(holding(1, last)));
    assert_eq!(drain(&mut session, NOW), [Action::Connect]);
    session.handle_connected(NOW);
    let hello = Hello { epoch: EPOCH, first: Seq(last.min(1)), last: Seq(last) };
    assert_eq!(drain(&mut session, NOW), [Action::SendHello(hello)]);
    session.handle_welcome(NOW, Seq(durable), credit);
    session
}

fn read_from(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Read { from, .. } => Some(from.0),
        _ => None,
    })
}

fn is_closed(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Close { .. }))
}

#[test]
fn the_collector_says_where_to_resume() {
    let mut session = streaming(10, 4, 1 << 20);
    let actions = drain(&mut session, NOW + BATCH_INTERVAL);
    assert_eq!(actions[0], Action::Acknowledge { epoch: EPOCH, upto: Seq(4) });
    assert_eq!(read_from(&actions), Some(5));
    session.handle_read(NOW, items(5, 10, 10));
    let sent = drain(&mut session, NOW);
    assert_eq!(sent, [Action::SendBatch { epoch: EPOCH, items: items(5, 10, 10) }]);
}

#[test]
fn ack_never_moves_backwards() {
    let mut session = streaming(10, 0, 1 << 20);
    drain(&mut session, NOW);
    session.handle_read(NOW, items(1, 10, 10));
    drain(&mut session, NOW);
    session.handle_ack(NOW, EPOCH, Seq(7));
    assert_eq!(drain(&mut session, NOW), [Action::Acknowledge { epoch: EPOCH, upto: Seq(7) }]);
    for stale in [7, 3, 0] {
        session.handle_ack(NOW, EPOCH, Seq(stale));
        assert_eq!(drain(&mut session, NOW), []);
    }
    assert_eq!(session.counters().acks_ignored, 3);
}

#[test]
fn an_ack_of_another_epoch_changes_nothing() {
    let mut session = streaming(10, 0, 1 << 20);
    drain(&mut session, NOW);
    session.handle_read(NOW, items(1, 10, 10));
    drain(&mut session, NOW);
    session.handle_ack(NOW, OTHER, Seq(9));
    assert_eq!(drain(&mut session, NOW), []);
    assert!(session.is_streaming());
}

#[test]
fn an_ack_of_unsent_items_ends_the_connection() {
    let mut session = streaming(10, 0, 1 << 20);
    drain(&mut session, NOW);
    session.handle_read(NOW, items(1, 3, 10));
    drain(&mut session, NOW);
    session.handle_ack(NOW, EPOCH, Seq(4));
    assert!(is_closed(&drain(&mut session, NOW)));
    assert_eq!(session.counters().protocol_errors, 1);
}

#[test]
fn no_more_than_the_credit_is_in_flight() {
    let mut session = streaming(1000, 0, 100_000);
    assert_eq!(read_from(&drain(&mut session, NOW)), Some(1));
    session.handle_read(NOW, items(1, 2, 30_000));
    let next = drain(&mut session, NOW + BATCH_INTERVAL);
    assert_eq!(read_from(&next), None, "less than the largest item is left");
    session.handle_ack(NOW, EPOCH, Seq(2));
    assert_eq!(read_from(&drain(&mut session, NOW + BATCH_INTERVAL)), Some(3));
}

#[test]
fn one_batch_goes_out_whatever_the_credit() {
    let mut session = streaming(10, 0, 0);
    let actions = drain(&mut session, NOW + BATCH_INTERVAL);
    assert_eq!(read_from(&actions), Some(1));
    session.handle_read(NOW, items(1, 1, 10));
    assert_eq!(read_from(&drain(&mut session, NOW + BATCH_INTERVAL)), None);
}

#[test]
fn urgent_items_do_not_wait_for_company() {
    let mut session = streaming(0, 0, 1 << 20);
    assert_eq!(drain(&mut session, NOW), []);
    session.handle_spool(NOW, Some(holding(1, 1)));
    assert_eq!(drain(&mut session, NOW), [], "an item of low rank waits");
    assert_eq!(session.poll_timeout(), Some(NOW + BATCH_INTERVAL));
    session.handle_spool(NOW, Some(Holding { urgent: Seq(2), ..holding(1, 2) }));
    assert_eq!(read_from(&drain(&mut session, NOW)), Some(1));
}

#[test]
fn a_spool_behind_the_collector_is_renumbered() {
    let mut session = streaming(10, 11, 1 << 20);
    let actions = drain(&mut session, NOW);
    assert_eq!(actions[0], Action::Renumber);
    assert!(is_closed(&actions));
}

#[test]
fn a_new_epoch_ends_the_stream_and_starts_the_next() {
    let mut session = streaming(10, 0, 1 << 20);
    session.handle_spool(NOW, Some(Holding { epoch: OTHER, ..holding(1, 1) }));
    let actions = drain(&mut session, NOW);
    assert!(is_closed(&actions));
    assert_eq!(actions.last(), Some(&Action::Connect));
}

#[test]
fn a_missing_welcome_ends_the_connection() {
    let mut session = Session::new(1);
    session.handle_spool(NOW, Some(holding(1, 1)));
    drain(&mut session, NOW);
    session.handle_connected(NOW);
    drain(&mut session, NOW);
    assert_eq!(session.poll_timeout(), Some(NOW + WELCOME_TIMEOUT));
    assert!(is_closed(&drain(&mut session, NOW + WELCOME_TIMEOUT)));
}

#[test]
fn go_away_is_honoured() {
    let mut session = streaming(10, 0, 1 << 20);
    session.handle_go_away(NOW, Duration::from_secs(30));
    assert!(is_closed(&drain(&mut session, NOW + Duration::from_secs(29))));
    assert_eq!(drain(&mut session, NOW + Duration::from_secs(38)), [Action::Connect]);
}

#[test]
fn a_second_welcome_is_a_protocol_error() {
    let mut session = streaming(10, 0, 1 << 20);
    session.handle_welcome(NOW, Seq(0), 1);
    assert!(is_closed(&drain(&mut session, NOW)));
    assert_eq!(session.counters().protocol_errors, 1);
}

#[test]
fn items_that_do_not_follow_are_not_sent() {
    let mut session = streaming(10, 0, 1 << 20);
    drain(&mut session, NOW);
    session.handle_read(NOW, items(2, 4, 10));
    assert_eq!(drain(&mut session, NOW), []);
    assert_eq!(read_from(&drain(&mut session, NOW + Duration::from_secs(1))), Some(1), "it asks again");
}

#[test]
fn without_a_spool_it_does_not_connect() {
    let mut session = Session::new(1);
    assert_eq!(drain(&mut session, NOW), []);
    assert_eq!(session.poll_timeout(), None);
}
