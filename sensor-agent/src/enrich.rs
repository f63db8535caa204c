//! What the agent remembers so that an event can say who did it: processes, control groups, recently made files.
//! Not judgement. It may call `event` and the baseline crate's types; only `seed` does I/O.

pub mod fresh_files;
pub mod origin;
pub mod process_table;
pub mod recent;
pub mod seed;
pub mod subject;
pub mod workload;

pub use fresh_files::FreshFiles;
pub use process_table::{Process, ProcessTable};
pub use subject::{Image, Lineage};
pub use workload::{CgroupTable, Placement};
