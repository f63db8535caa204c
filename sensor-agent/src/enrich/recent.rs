//! A map that forgets: bounded in entries and in age, oldest first. Not a cache with a policy. It may call `event`
//! (time) only.

use crate::event::BootNs;
use hashlink::LinkedHashMap;
use std::hash::{Hash, RandomState};

/// Entries of the last while. The time of an entry is when it was last put.
#[derive(Debug)]
pub struct Recent<K, V> {
    /// In the order in which they were last put.
    entries: LinkedHashMap<K, (BootNs, V), RandomState>,
    entries_max: usize,
    age_ns_max: u64,
    evicted_count: u64,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Empty, with its bounds.
    #[must_use]
    pub fn new(entries_max: usize, age_ns_max: u64) -> Self {
        let entries = LinkedHashMap::with_hasher(RandomState::new());
        Self { entries, entries_max, age_ns_max, evicted_count: 0 }
    }

    /// Remembers `value` from `now` on; the oldest entry goes, counted, when there is no room.
    pub fn put(&mut self, key: K, value: V, now: BootNs) {
        let age_ns_max = self.age_ns_max;
        while self.entries.front().is_some_and(|(_, (time, _))| now > time.after(age_ns_max)) {
            self.entries.pop_front();
        }
        self.entries.insert(key, (now, value));
        while self.entries.len() > self.entries_max {
            self.entries.pop_front();
            self.evicted_count += 1;
        }
    }

    /// Keeps an entry as if it had been put at `now`, if that is later and the entry is not too old by then.
    pub fn renew(&mut self, key: &K, now: BootNs) {
        let age_ns_max = self.age_ns_max;
        let Some((time, _)) = self.entries.get_mut(key) else { return };
        if *time < now && now <= time.after(age_ns_max) {
            *time = now;
            self.entries.to_back(key);
        }
    }

    /// The value, unless it is too old at `now`.
    #[must_use]
    pub fn find(&self, key: &K, now: BootNs) -> Option<&V> {
        let (time, value) = self.entries.get(key)?;
        (now <= time.after(self.age_ns_max)).then_some(value)
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(_, value)| value)
    }

    /// Entries that went before their time.
    #[must_use]
    pub const fn evicted_count(&self) -> u64 {
        self.evicted_count
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_age_and_are_renewed() {
        let mut recent = Recent::new(8, 10);
        recent.put("a", 1, BootNs(0));
        assert_eq!(recent.find(&"a", BootNs(10)), Some(&1));
        assert_eq!(recent.find(&"a", BootNs(11)), None);
        recent.put("a", 2, BootNs(8));
        recent.put("b", 3, BootNs(12));
        assert_eq!(recent.find(&"a", BootNs(18)), Some(&2));
    }

    #[test]
    fn an_entry_is_renewed_while_it_lives_and_never_made_older() {
        let mut recent = Recent::new(8, 10);
        recent.put("a", 1, BootNs(5));
        recent.renew(&"a", BootNs(15));
        recent.renew(&"a", BootNs(12));
        recent.renew(&"none", BootNs(12));
        assert_eq!(recent.find(&"a", BootNs(25)), Some(&1));
        recent.renew(&"a", BootNs(26));
        assert_eq!((recent.find(&"a", BootNs(26)), recent.len()), (None, 1));
    }

    #[test]
    fn the_oldest_goes_when_full_and_is_counted() {
        let mut recent = Recent::new(2, 100);
        for (key, time) in [("a", 0), ("b", 1), ("a", 2), ("c", 3)] {
            recent.put(key, (), BootNs(time));
        }
        assert_eq!(recent.find(&"b", BootNs(3)), None);
        assert!(recent.find(&"a", BootNs(3)).is_some());
        assert_eq!(recent.evicted_count(), 1);
    }

    proptest! {
        #[test]
        fn never_exceeds_its_bounds(keys in proptest::collection::vec(0u8..12, 0..300)) {
            let mut recent = Recent::new(4, 20);
            for (time, key) in keys.into_iter().enumerate() {
                recent.put(key, time, BootNs(time as u64));
                prop_assert!(recent.len() <= 4);
                prop_assert_eq!(recent.find(&key, BootNs(time as u64)), Some(&time));
            }
        }
    }
}
