//! How much the arguments of ended processes may take. Not how long they are remembered. It may call the table it
//! extends; no I/O.

use super::ProcessTable;
use crate::enrich::Image;
use crate::event::{Arguments, BootNs, Identity};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of arguments of ended processes held at most: beyond it the oldest lose theirs, and say so.
pub const ENDED_ARGUMENT_BYTES_MAX: usize = 64 << 20;

impl ProcessTable {
    /// Remembers that a process has ended: for how long, and with its arguments while there is room for them.
    pub(super) fn note_ended(&mut self, identity: Identity, ended: BootNs) {
        self.ended.push_back((ended, identity));
        let Some(process) = self.processes.get(&identity) else { return };
        for identity in self.ended_arguments.add(identity, process.image.argv.bytes()) {
            let Some(process) = self.processes.get_mut(&identity) else { continue };
            let image = Image { argv: Arguments::forgotten(), ..(*process.image).clone() };
            Arc::make_mut(process).image = Arc::new(image);
            self.counters.arguments_forgotten += 1;
        }
    }
}

/// How much the arguments of ended processes take: as if none shared them, which those of a fork do.
#[derive(Debug, Default)]
pub(super) struct EndedArguments {
    oldest_first: VecDeque<(Identity, usize)>,
    bytes: usize,
}

impl EndedArguments {
    /// Adds a process; returns those that have to give theirs up.
    fn add(&mut self, identity: Identity, bytes: usize) -> Vec<Identity> {
        self.oldest_first.push_back((identity, bytes));
        self.bytes += bytes;
        let mut given_up = Vec::new();
        while self.bytes > ENDED_ARGUMENT_BYTES_MAX
            && let Some((identity, bytes)) = self.oldest_first.pop_front()
        {
            self.bytes -= bytes;
            given_up.push(identity);
        }
        given_up
    }

    /// Takes out a process that is forgotten: the oldest, if it is there still.
    pub(super) fn remove(&mut self, identity: Identity) {
        if let Some((_, bytes)) = self.oldest_first.pop_front_if(|(oldest, _)| *oldest == identity) {
            self.bytes -= bytes;
        }
    }
}
