//! The contract between the kernel programs and the agent: every ring-buffer record, byte for byte, and the
//! total decoder for it. This is not a description of what a record *means* to a baseline. It may call nothing
//! but `core` and zerocopy.
//!
//! A record is
//!
//! ```text
//! | Header (104 bytes) | body of the kind (fixed size) | tail: the body's sections, in the body's order |
//! ```
//!
//! All integers are in the host's byte order: producer and consumer share one machine. A recording
//! (`sensor-agent record`) carries a byte-order mark of its own.
#![no_std]
#![forbid(unsafe_code)]

mod arguments;
mod body;
mod counters;
mod decode;
mod fields;
mod header;
mod part;
mod path;
mod syscalls;
mod verdict;

pub use arguments::{ARGUMENTS, Argument, Parameter};
pub use body::{
    Address, BpfBody, CONNECT_PENDING, CgroupBody, CredsBody, ExecBody, ExecFlags, ExitBody, Family,
    FileBody, FileFlags, ForkBody, Ids, ModuleBody, NameBody, NamespaceBody, Namespaces, RenameBody,
    SocketBody, SocketType, TargetBody,
};
pub use counters::{COUNTERS_LEN, Counter, LossReason, counter_index};
pub use decode::{Cgroup, DecodeError, Exec, File, Name, Record, RecordBody, Rename, Socket, decode};
pub use fields::{FIELDS, Field, Need};
pub use header::{Header, Kind, RECORD_BYTES_MAX, RECORD_VERSION, Ring, Tier};
pub use part::Part;
pub use path::{PATH_COMPONENTS_MAX, PathFlags, PathRef, PathSection};
pub use syscalls::{SYSCALL_CLASSES_LEN, SyscallClass, SyscallFamily, syscall_classes};
pub use verdict::{
    CHANGES_LEN, ContextEntry, Hits, KNOWN_COMPONENTS_MAX, KNOWN_NAME_BYTES_MAX, KnownAction, ObjectHash,
    Peer, VERDICT_NS_MAX, VerdictEntry, change_cell,
};
