//! The agent's connection to the collector: two state machines without I/O ([`session`], [`control`]), and a driver
//! that moves their bytes ([`driver`], over [`link`]).

pub mod backoff;
pub mod control;
pub mod driver;
mod link;
pub mod session;
