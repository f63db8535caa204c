//! The whole collector in this process (in its own, where it is killed), over real TLS on ports of its own choosing: a
//! tonic client is the agent, an HTTP client the operator. What one module does is tested in that module.

#![expect(clippy::unwrap_used, reason = "a test fails where the surprise is, helpers included")]

mod baselines;
mod findings;
mod identity;
mod kills;
mod support;
