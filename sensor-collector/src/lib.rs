//! The central collector: takes findings from agents, stores them, merges and hands out fleet baselines, and answers
//! operators. It never makes an agent run or read anything. `main.rs` is its command line; the gRPC protocol is in
//! `docs/protocol.md`, the HTTP API in `docs/http-api.md`.
//!
//! ```text
//!   agents ── grpc ──► intake ──► store ──► http ──► operators
//!                └──── fleet (baselines) ◄───┘
//! ```

pub mod clock;
pub mod collector;
pub mod config;
pub mod counters;
pub mod fleet;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod init;
pub mod intake;
pub mod serve;
pub mod sessions;
pub mod state;
pub mod store;
