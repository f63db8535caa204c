//! What intake hands to the store: rows ready to write. It is not the wire form and not the store's schema. It may
//! call the protocol's message types and hashes only.

use crate::clock::UnixNs;
use crate::identity::secret::Sha256Hash;
use crate::intake::{Epoch, Seq};

/// One batch, checked: written in one transaction with the new high-water mark.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The epoch of every sequence here.
    pub epoch: Epoch,
    /// The high-water mark that must be stored before it; `None` when the epoch was new to the store. Without this a
    /// batch queued behind one that failed would carry the mark past what was lost.
    pub after: Option<Seq>,
    /// Sequences that are missing without a declared gap.
    pub hole: Option<Hole>,
    /// What is new, ascending. Empty when all of the batch was stored already.
    pub rows: Vec<Row>,
    /// The high-water mark after it.
    pub upto: Seq,
}

/// A range of sequences that never came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// First missing sequence.
    pub first: Seq,
    /// Last missing sequence.
    pub last: Seq,
}

impl Hole {
    /// How many sequences are missing.
    pub fn count(self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// First sequence it covers: below `seq` only for a gap that stands in for overflowed items.
    pub first: Seq,
    /// Its own sequence.
    pub seq: Seq,
    /// What it says.
    pub content: Content,
}

/// What an item says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Evidence of a finding.
    Finding(FindingRow),
    /// A gap that the agent declares.
    Gap(GapRow),
}

/// A piece of evidence: the message itself, and what is indexed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FindingRow {
    /// Which of the agent's findings it is evidence of; `None`: it is a finding by itself.
    pub name: Option<String>,
    /// Which of the agent's incidents it belongs to.
    pub incident: Option<String>,
    /// How often it was done: at least 1.
    pub count: u64,
    /// The behaviour was told before in the same finding.
    pub is_repeat: bool,
    /// When the system call was made, as the agent says.
    pub time: UnixNs,
    /// OCSF severity; 0 for one that is not known here.
    pub severity: i32,
    /// `v1::Reason`.
    pub reason: i32,
    /// Of what is novel the hash of the behaviour's texts.
    pub novel: Option<Sha256Hash>,
    /// The encoded `v1::Finding`.
    pub body: Vec<u8>,
}

/// A declared gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRow {
    /// First time it covers.
    pub from: UnixNs,
    /// Last time it covers.
    pub to: UnixNs,
    /// What is missing.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: String,
}
