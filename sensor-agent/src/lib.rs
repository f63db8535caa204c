//! The host agent as a library: capture, enrich, judge, spool, deliver. Not the command line's `main`, which only
//! maps the result to an exit code. It may call the baseline, event and proto crates.

pub mod account;
pub mod cli;
pub mod config;
pub mod connect_join;
pub mod enrich;
pub mod enroll;
pub mod event;
pub mod finding;
pub mod floor_files;
pub mod identity;
pub mod kernel;
pub mod layer_files;
pub mod learned_store;
pub mod ocsf;
pub mod pipeline;
pub mod recording;
pub mod rescan;
pub mod runtime;
pub mod sigma;
pub mod spool;
pub mod state_dir;
mod teller;
pub mod uplink;
pub mod who;
pub mod wire;

#[cfg(test)]
mod record_fixture;
