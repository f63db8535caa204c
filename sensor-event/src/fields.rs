//! The kernel structure members that the programs read, as data: the agent resolves each in the running
//! kernel's BTF and sets the global of the same name. Not the BTF reader. It may call `core` only.

/// Whether the programs can do without a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it the agent does not start.
    Required,
    /// Without it the programs leave out what needs it: the global stays [`Field::ABSENT`].
    Optional,
}

/// One kernel field: the global that holds its byte offset, and where to find it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name of the global in the kernel object.
    pub global: &'static str,
    /// `struct.member[.member]` paths in order of preference: kernels rename members.
    pub paths: &'static [&'static str],
    /// Whether it must exist.
    pub need: Need,
}

impl Field {
    /// Value of a global whose field this kernel lacks.
    pub const ABSENT: u32 = u32::MAX;
}

/// Calls `$each! { NAME: need [paths] }` for all fields: the programs make globals of it, the agent a table.
#[macro_export]
macro_rules! for_each_kernel_field {
    ($each:ident) => {
        $each! {
            TASK_TGID: Required ["task_struct.tgid"];
        }
    };
}

macro_rules! table {
    ($($name:ident: $need:ident [$($path:literal),+];)*) => {
        /// Every field the programs read.
        pub const FIELDS: &[Field] = &[
            $(Field { global: stringify!($name), paths: &[$($path),+], need: Need::$need },)*
        ];
    };
}

for_each_kernel_field!(table);
