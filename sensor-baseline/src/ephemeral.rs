//! When ports that a kernel hands out stand for their whole class. Not the class itself (see `pattern`). May call:
//! `baseline`, `pattern`.
//!
//! A listener on a port of the ephemeral range may be there by choice, so one port stays that port. Only when one
//! subject was seen with [`PORTS_MIN`] of them on the same address is the number taken to be the kernel's. The same
//! goes for connections to this host. Connections to other hosts keep their ports.

use std::collections::{BTreeMap, BTreeSet};

use crate::baseline::Entry;
use crate::pattern::{EPHEMERAL_PORT_MIN, Pattern, Ports};

/// Distinct ports that make a class.
const PORTS_MIN: usize = 3;

/// The entries that replace others of their class.
#[derive(Debug, Default)]
pub(crate) struct EphemeralClasses(BTreeSet<Entry>);

impl EphemeralClasses {
    /// The classes that these entries, each counted once, show.
    pub(crate) fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut ports: BTreeMap<Entry, BTreeSet<&Entry>> = BTreeMap::new();
        for entry in entries {
            if let Some(class) = class_of(entry) {
                ports.entry(class).or_default().insert(entry);
            }
        }
        Self(
            ports.into_iter().filter(|(_, ports)| ports.len() >= PORTS_MIN).map(|(class, _)| class).collect(),
        )
    }

    /// The entry, or the class that stands for it.
    pub(crate) fn settle(&self, entry: Entry) -> Entry {
        class_of(&entry).filter(|class| self.0.contains(class)).unwrap_or(entry)
    }
}

/// The entry with the ephemeral class in place of its port, if the port is of the class and may stand for it.
fn class_of(entry: &Entry) -> Option<Entry> {
    let pattern = match &entry.pattern {
        Pattern::Listen { address, ports: Ports::One(EPHEMERAL_PORT_MIN..) } => {
            Pattern::Listen { address: *address, ports: Ports::Ephemeral }
        }
        Pattern::Connect { protocol, network, ports: Ports::One(EPHEMERAL_PORT_MIN..) }
            if network.is_loopback() =>
        {
            Pattern::Connect { protocol: *protocol, network: *network, ports: Ports::Ephemeral }
        }
        _ => return None,
    };
    Some(Entry { pattern, ..entry.clone() })
}

#[cfg(test)]
mod tests {
    use super::EphemeralClasses;
    use crate::baseline::Entry;
    use crate::testing::behaviour;

    fn check(action: &str, objects: &[&str], expected: &[&str]) {
        let entries: Vec<Entry> =
            objects.iter().map(|object| Entry::allowing(&behaviour(action, object))).collect();
        let classes = EphemeralClasses::of(&entries);
        let mut settled: Vec<String> =
            entries.into_iter().map(|entry| classes.settle(entry).pattern.to_string()).collect();
        settled.dedup();
        assert_eq!(settled, expected);
    }

    #[test]
    fn three_ephemeral_ports_of_one_address_are_the_class_and_two_are_not() {
        check(
            "listen",
            &["tcp 127.0.0.1 40001", "tcp 127.0.0.1 40002"],
            &["tcp 127.0.0.1 40001", "tcp 127.0.0.1 40002"],
        );
        let three = ["tcp 127.0.0.1 40001", "tcp 127.0.0.1 40002", "tcp 127.0.0.1 40003"];
        check("listen", &three, &["tcp 127.0.0.1 ephemeral"]);
        check("connect", &three, &["tcp 127.0.0.1 ephemeral"]);
        check(
            "listen",
            &["tcp 0.0.0.0 8001", "tcp 0.0.0.0 8002", "tcp 0.0.0.0 8003"],
            &["tcp 8001", "tcp 8002", "tcp 8003"],
        );
        let far = ["tcp 10.0.0.1 40001", "tcp 10.0.0.1 40002", "tcp 10.0.0.1 40003"];
        check("connect", &far, &far);
        check(
            "listen",
            &["tcp 127.0.0.1 40001", "tcp 127.0.0.1 40001", "tcp 127.0.0.1 40001"],
            &["tcp 127.0.0.1 40001"],
        );
    }
}
