//! The kernel function arguments whose place differs between kernels, as data: the agent finds each place in the
//! running kernel's BTF and sets the global of the same name. Not the BTF reader. It may call `core` only.
//!
//! A fentry, fexit or BTF tracepoint program sees the arguments as an array of 64-bit words; behind them, a fexit
//! program sees what the function returned.

use crate::fields::Field;

/// What of a function is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// The first parameter that points to this structure.
    Points(&'static str),
    /// The parameter of this name.
    Named(&'static str),
    /// What the function returns, which stands behind the last parameter.
    Return,
}

/// One argument: the global that holds its index, and where to find it.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Name of the global in the kernel object.
    pub global: &'static str,
    /// The function; `btf_trace_NAME` for a tracepoint, whose first parameter, internal to it, is not counted.
    pub function: &'static str,
    /// Which of its arguments.
    pub parameter: Parameter,
}

impl Argument {
    /// Value of a global whose function or parameter this kernel lacks.
    pub const ABSENT: u32 = Field::ABSENT;
}

/// Calls `$each! { NAME: "function" parameter; ... }` for all arguments: the programs make globals of it, the agent a
/// table.
#[macro_export]
macro_rules! for_each_kernel_argument {
    ($each:ident) => {
        $each! {
            // `(dir, dentry, delegated)` in 5.10; a user namespace, then an id map, before them since 5.12 and 6.3.
            VFS_UNLINK_DENTRY: "vfs_unlink" Named("dentry");
            VFS_UNLINK_RESULT: "vfs_unlink" Return;
        }
    };
}

macro_rules! table {
    ($($name:ident: $function:literal $parameter:ident $(($which:literal))?;)*) => {
        /// Every argument the programs look up.
        pub const ARGUMENTS: &[Argument] = &[
            $(Argument {
                global: stringify!($name),
                function: $function,
                parameter: Parameter::$parameter $(($which))?,
            },)*
        ];
    };
}

for_each_kernel_argument!(table);
