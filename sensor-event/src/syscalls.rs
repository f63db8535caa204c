//! Which system calls the exit hook looks at, as data: the agent puts the table into the kernel object. Not what is
//! read of a call. It may call `core` only.
//!
//! Numbers differ by architecture, and on x86-64 a 32-bit call has those of i386: two bytes per number hold the
//! class of a native call (low) and that of a 32-bit call (high), so that the hook leaves
//! the many calls that are neither after one load.

use crate::header::Kind;
use crate::part::Part;

/// Numbers the table covers; higher ones are of no interest.
pub const SYSCALL_CLASSES_LEN: usize = 512;

/// What a system call means to the exit hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct SyscallClass(pub u8);

impl SyscallClass {
    /// `open(name, flags)`.
    pub const OPEN: Self = Self(1);
    /// `openat(dirfd, name, flags)`.
    pub const OPENAT: Self = Self(2);
    /// `openat2(dirfd, name, how)`.
    pub const OPENAT2: Self = Self(3);
    /// `creat(name)`.
    pub const CREAT: Self = Self(4);
    /// `unlink(name)`.
    pub const UNLINK: Self = Self(5);
    /// `unlinkat(dirfd, name, flags)`.
    pub const UNLINKAT: Self = Self(6);
    /// `rmdir(name)`.
    pub const RMDIR: Self = Self(7);
    /// `rename(old, new)`.
    pub const RENAME: Self = Self(8);
    /// `renameat(dirfd, old, dirfd, new)`.
    pub const RENAMEAT: Self = Self(9);
    /// `renameat2(dirfd, old, dirfd, new, flags)`.
    pub const RENAMEAT2: Self = Self(10);
}

impl SyscallClass {
    /// The parts whose tracepoint programs need the call.
    #[must_use]
    pub const fn parts(self) -> &'static [Part] {
        match self {
            Self::OPEN | Self::OPENAT | Self::OPENAT2 | Self::CREAT => const { &[Part::of(Kind::FILE_OPEN)] },
            Self::UNLINK | Self::UNLINKAT | Self::RMDIR => const { &[Part::of(Kind::FILE_UNLINK)] },
            Self::RENAME | Self::RENAMEAT | Self::RENAMEAT2 => const { &[Part::of(Kind::FILE_RENAME)] },
            _ => &[],
        }
    }
}

type Numbers = &'static [(usize, SyscallClass)];

/// `arch/x86/entry/syscalls/syscall_64.tbl`.
const X86_64: Numbers = &[
    (2, SyscallClass::OPEN),
    (257, SyscallClass::OPENAT),
    (437, SyscallClass::OPENAT2),
    (85, SyscallClass::CREAT),
    (87, SyscallClass::UNLINK),
    (263, SyscallClass::UNLINKAT),
    (84, SyscallClass::RMDIR),
    (82, SyscallClass::RENAME),
    (264, SyscallClass::RENAMEAT),
    (316, SyscallClass::RENAMEAT2),
];

/// `arch/x86/entry/syscalls/syscall_32.tbl`.
const I386: Numbers = &[
    (5, SyscallClass::OPEN),
    (295, SyscallClass::OPENAT),
    (437, SyscallClass::OPENAT2),
    (8, SyscallClass::CREAT),
    (10, SyscallClass::UNLINK),
    (301, SyscallClass::UNLINKAT),
    (40, SyscallClass::RMDIR),
    (38, SyscallClass::RENAME),
    (302, SyscallClass::RENAMEAT),
    (353, SyscallClass::RENAMEAT2),
];

/// `scripts/syscall.tbl`: no call without a `dirfd`.
const ARM64: Numbers = &[
    (56, SyscallClass::OPENAT),
    (437, SyscallClass::OPENAT2),
    (35, SyscallClass::UNLINKAT),
    (38, SyscallClass::RENAMEAT),
    (276, SyscallClass::RENAMEAT2),
];

/// The table for `arch`, as `std::env::consts::ARCH` names it; `None` for one without a table.
#[must_use]
pub fn syscall_classes(arch: &str) -> Option<[u16; SYSCALL_CLASSES_LEN]> {
    let (native, compat): (Numbers, Numbers) = match arch {
        "x86_64" => (X86_64, I386),
        "aarch64" => (ARM64, &[]),
        _ => return None,
    };
    let mut classes = [0; SYSCALL_CLASSES_LEN];
    for (number, class) in native {
        classes[*number] |= u16::from(class.0);
    }
    for (number, class) in compat {
        classes[*number] |= u16::from(class.0) << 8;
    }
    Some(classes)
}

#[cfg(test)]
mod tests {
    use super::{SyscallClass, syscall_classes};

    #[test]
    fn both_halves_are_kept_apart() {
        let classes = syscall_classes("x86_64").expect("x86_64 has a table");
        assert_eq!(classes[2], u16::from(SyscallClass::OPEN.0));
        assert_eq!(classes[5], u16::from(SyscallClass::OPEN.0) << 8);
        assert_eq!(classes[437], u16::from(SyscallClass::OPENAT2.0) * 0x101);
        assert_eq!(classes[0], 0, "read is of no interest");
    }

    #[test]
    fn an_architecture_without_a_table_is_told_apart() {
        assert!(syscall_classes("aarch64").is_some());
        assert!(syscall_classes("riscv64").is_none());
    }
}
