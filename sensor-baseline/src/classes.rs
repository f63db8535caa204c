//! What many entries together show of each other: ports that a kernel hands out, and names that are made up. Not what one
//! shows by itself (see `template`). May call: `ephemeral`, `siblings`.

use crate::baseline::Entry;
use crate::ephemeral::EphemeralClasses;
use crate::siblings::Siblings;

/// The entries that replace others of their class.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    ports: EphemeralClasses,
    siblings: Siblings,
}

impl Classes {
    /// The classes that these entries, each counted once, show.
    pub(crate) fn of<'a>(entries: impl IntoIterator<Item = &'a Entry> + Clone) -> Self {
        Self { ports: EphemeralClasses::of(entries.clone()), siblings: Siblings::of(entries) }
    }

    /// The entry, or the class that stands for it.
    pub(crate) fn settle(&self, entry: Entry) -> Entry {
        self.siblings.settle(self.ports.settle(entry))
    }
}
