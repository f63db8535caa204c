//! The agent's connection to the collector: two state machines without I/O, and one driver that moves their bytes.

pub mod backoff;
pub mod session;
