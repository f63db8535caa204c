//! The text form of a baseline, `baseline.yaml`. Reads and writes text, never a file. May call: its three parts.
//!
//! Grammar (`docs/baseline-format.md` explains it):
//!
//! ```text
//! fleet: TEXT                      required
//! version: NUMBER                  optional, given by the collector
//! workloads:                       required
//!   WORKLOAD:                      unit:NAME, session:NAME, container:IMAGE, cgroup:/PATH, command:NAME, host
//!     SUBJECT:
//!       exec|connect|listen|write|delete|rename: [ENTRY, ...]
//!       deny|retired:
//!         exec|connect|listen|write|delete|rename: [ENTRY, ...]
//! learning:                        optional
//!   WORKLOAD: [ACTION, ...]        of workloads that are listed
//! ```

mod error;
mod events;
mod read;
mod write;

pub use error::ParseError;
pub use read::{ENTRIES_MAX, TEXT_BYTES_MAX};
pub(crate) use write::{Notes, snippet, write};
