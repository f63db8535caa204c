//! What can keep the kernel side from working, in words for an operator. Not the exit code. It may call the
//! sibling modules' error types.

use super::btf::BtfError;
use std::path::PathBuf;

/// Why the kernel programs cannot be loaded or read.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A capability is missing.
    #[error("missing capability {missing}: run as root, or grant {missing} (effective: {effective:#x})")]
    Capability {
        /// Names of the missing ones.
        missing: String,
        /// The effective set, as in /proc/self/status.
        effective: u64,
    },
    /// The agent would mistake one process for another.
    #[error(
        "the agent runs in the pid namespace {found}, not in the host's: start it on the host, or its container with \
         the host's pid namespace (--pid=host, hostPID)"
    )]
    PidNamespace {
        /// What /proc/self/ns/pid leads to.
        found: String,
    },
    /// The kernel does not describe its types.
    #[error("no BTF: cannot read {path}: {source}; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel's description of its types is damaged.
    #[error("{path}: {source}")]
    Btf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BtfError,
    },
    /// This kernel lacks a structure member that the programs need.
    #[error("kernel {release} has no field {field} (tried {tried}): not supported by this build")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What was looked for.
        tried: String,
        /// `uname -r`.
        release: String,
    },
    /// The object was refused.
    #[error("cannot load the kernel programs: {0}")]
    Load(String),
    /// A required hook did not attach.
    #[error("required hook {hook} for {event} failed: {reason}")]
    Hook {
        /// The event.
        event: &'static str,
        /// The hook.
        hook: String,
        /// Why.
        reason: String,
    },
    /// A map could not be read.
    #[error("cannot read map {name}: {reason}")]
    Map {
        /// The map.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// Waiting for records failed.
    #[error("cannot wait for records: {0}")]
    Wait(nix::errno::Errno),
    /// A fact about the host could not be read.
    #[error("cannot read {what}: {source}")]
    Host {
        /// Which.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}
