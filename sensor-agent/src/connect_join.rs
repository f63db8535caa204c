//! Joins a TCP connect with its result. Pure: holds a pending connect for a bounded time, then passes it on as
//! pending. Not judgement: a connect is judged when it starts, whatever comes of it. It may call `event` only.

use crate::event::{BootNs, ConnectResult};
use std::collections::{HashMap, VecDeque};

/// Connects held at most.
pub const HELD_MAX: usize = 4_096;
/// How long a connect waits for its result.
pub const HOLD_NS_MAX: u64 = 200_000_000;

/// What became of a result.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined<T> {
    /// The connect it belongs to.
    With(T),
    /// Its connect was passed on before, or never seen.
    Late,
}

/// Connects that wait for their result, oldest first. `T` is whatever travels with a connect.
#[derive(Debug)]
pub struct ConnectJoin<T> {
    held: HashMap<u64, Held<T>>,
    order: VecDeque<(BootNs, u64, u64)>,
    held_count: u64,
}

#[derive(Debug)]
struct Held<T> {
    ticket: u64,
    item: T,
}

impl<T> Default for ConnectJoin<T> {
    fn default() -> Self {
        Self { held: HashMap::new(), order: VecDeque::new(), held_count: 0 }
    }
}

impl<T> ConnectJoin<T> {
    /// Holds a pending connect. Returns what had to go: the same socket's earlier connect, or the oldest when full.
    pub fn hold(&mut self, socket: u64, time: BootNs, item: T) -> Option<T> {
        let earlier = self.held.remove(&socket).map(|held| held.item);
        let displaced =
            if earlier.is_none() && self.held.len() >= HELD_MAX { self.pop_oldest() } else { earlier };
        self.held_count += 1;
        self.held.insert(socket, Held { ticket: self.held_count, item });
        self.order.push_back((time.after(HOLD_NS_MAX), socket, self.held_count));
        displaced
    }

    /// Takes the connect that `socket`'s result belongs to.
    pub fn join(&mut self, socket: u64, result: ConnectResult) -> Joined<T> {
        debug_assert!(result != ConnectResult::Pending, "a result is known");
        match self.held.remove(&socket) {
            Some(held) => Joined::With(held.item),
            None => Joined::Late,
        }
    }

    /// Hands over every connect whose time is up at `now`, oldest first.
    pub fn release(&mut self, now: BootNs, mut give: impl FnMut(T)) {
        while let Some((deadline, socket, ticket)) = self.order.front().copied() {
            let is_held = self.held.get(&socket).is_some_and(|held| held.ticket == ticket);
            if is_held && deadline > now {
                return;
            }
            self.order.pop_front();
            if is_held && let Some(held) = self.held.remove(&socket) {
                give(held.item);
            }
        }
    }

    /// Connects that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn pop_oldest(&mut self) -> Option<T> {
        while let Some((_, socket, ticket)) = self.order.pop_front() {
            if self.held.get(&socket).is_some_and(|held| held.ticket == ticket) {
                return self.held.remove(&socket).map(|held| held.item);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DONE: ConnectResult = ConnectResult::Established;

    fn released(join: &mut ConnectJoin<u32>, now: u64) -> Vec<u32> {
        let mut items = Vec::new();
        join.release(BootNs(now), |item| items.push(item));
        items
    }

    #[test]
    fn a_result_takes_its_connect_once() {
        let mut join = ConnectJoin::default();
        assert_eq!(join.hold(7, BootNs(0), 1), None);
        assert_eq!(join.join(7, DONE), Joined::With(1));
        assert_eq!(join.join(7, DONE), Joined::Late);
        assert!(released(&mut join, u64::MAX).is_empty());
    }

    #[test]
    fn a_connect_without_result_is_passed_on_at_its_deadline() {
        let mut join = ConnectJoin::default();
        join.hold(7, BootNs(10), 1);
        assert!(released(&mut join, HOLD_NS_MAX).is_empty());
        assert_eq!(released(&mut join, HOLD_NS_MAX + 10), [1]);
        assert_eq!(join.join(7, DONE), Joined::Late);
    }

    #[test]
    fn a_socket_used_again_gives_up_its_earlier_connect() {
        let mut join = ConnectJoin::default();
        join.hold(7, BootNs(0), 1);
        assert_eq!(join.hold(7, BootNs(5), 2), Some(1));
        assert_eq!(join.join(7, DONE), Joined::With(2));
    }

    #[test]
    fn a_full_join_passes_on_the_oldest() {
        let mut join = ConnectJoin::default();
        for socket in 0..HELD_MAX as u64 {
            assert_eq!(join.hold(socket, BootNs(socket), socket as u32), None);
        }
        assert_eq!(join.hold(u64::MAX, BootNs(0), 9), Some(0));
        assert_eq!(join.len(), HELD_MAX);
    }

    proptest! {
        #[test]
        fn every_connect_comes_out_exactly_once(operations in proptest::collection::vec((0u64..6, 0u8..3), 0..200)) {
            let mut join = ConnectJoin::default();
            let (mut given, mut taken, mut now) = (Vec::new(), Vec::new(), 0);
            for (index, (socket, operation)) in operations.into_iter().enumerate() {
                now += HOLD_NS_MAX / 5;
                match operation {
                    0 => {
                        given.push(index as u32);
                        taken.extend(join.hold(socket, BootNs(now), index as u32));
                    }
                    1 => if let Joined::With(item) = join.join(socket, DONE) { taken.push(item) },
                    _ => taken.extend(released(&mut join, now)),
                }
            }
            taken.extend(released(&mut join, u64::MAX));
            taken.sort_unstable();
            prop_assert_eq!(taken, given);
            prop_assert!(join.is_empty());
        }
    }
}
