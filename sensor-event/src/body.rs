//! The fixed body of each kind of record, by family. Sections of the tail follow in the order of the body's length
//! fields. Not the decoder. It may call zerocopy only.

mod file;
mod network;
mod privilege;
mod process;

pub use file::{FileBody, FileFlags, NameBody, RenameBody};
pub use network::{Address, CONNECT_PENDING, Family, SocketBody, SocketType};
pub use privilege::{BpfBody, CredsBody, Ids, ModuleBody, NamespaceBody, TargetBody};
pub use process::{CgroupBody, ExecBody, ExecFlags, ExitBody, ForkBody, Namespaces};
