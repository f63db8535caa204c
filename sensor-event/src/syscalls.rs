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

/// Calls that one subprogram of the exit hook handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyscallFamily {
    /// Opens: the result is a descriptor.
    Open,
    /// Other calls that a file object tells of.
    File,
    /// Operations on one name.
    Name,
    /// Operations on two names.
    Rename,
    /// Sockets.
    Socket,
    /// Credentials, other processes, namespaces.
    Privilege,
}

impl SyscallClass {
    /// `open(name, flags)`.
    pub const OPEN: Self = Self(1);
    /// `openat(dirfd, name, flags)`.
    pub const OPENAT: Self = Self(2);
    /// `openat2(dirfd, name, how)`.
    pub const OPENAT2: Self = Self(3);
    /// `creat(name)`.
    pub const CREAT: Self = Self(4);
    /// `open_by_handle_at(mount_fd, handle, flags)`.
    pub const OPEN_BY_HANDLE_AT: Self = Self(5);
    /// `unlink(name)`.
    pub const UNLINK: Self = Self(6);
    /// `unlinkat(dirfd, name, flags)`.
    pub const UNLINKAT: Self = Self(7);
    /// `rmdir(name)`.
    pub const RMDIR: Self = Self(8);
    /// `symlink(text, name)`.
    pub const SYMLINK: Self = Self(9);
    /// `symlinkat(text, dirfd, name)`.
    pub const SYMLINKAT: Self = Self(10);
    /// `mkdir(name, mode)`.
    pub const MKDIR: Self = Self(11);
    /// `mkdirat(dirfd, name, mode)`.
    pub const MKDIRAT: Self = Self(12);
    /// `chmod(name, mode)`.
    pub const CHMOD: Self = Self(13);
    /// `fchmod(fd, mode)`.
    pub const FCHMOD: Self = Self(14);
    /// `fchmodat(dirfd, name, mode)`, and `fchmodat2` with flags behind.
    pub const FCHMODAT: Self = Self(15);
    /// `chown(name, user, group)` and `lchown`.
    pub const CHOWN: Self = Self(16);
    /// As [`Self::CHOWN`], with ids of 16 bits.
    pub const CHOWN16: Self = Self(17);
    /// `fchown(fd, user, group)`.
    pub const FCHOWN: Self = Self(18);
    /// As [`Self::FCHOWN`], with ids of 16 bits.
    pub const FCHOWN16: Self = Self(19);
    /// `fchownat(dirfd, name, user, group, flags)`.
    pub const FCHOWNAT: Self = Self(20);
    /// `truncate(name, length)`.
    pub const TRUNCATE: Self = Self(21);
    /// `truncate64(name, low, high)` of a 32-bit caller.
    pub const TRUNCATE64: Self = Self(22);
    /// `ftruncate(fd, length)`.
    pub const FTRUNCATE: Self = Self(23);
    /// `ftruncate64(fd, low, high)` of a 32-bit caller.
    pub const FTRUNCATE64: Self = Self(24);
    /// `setxattr(name, attribute, value, size, flags)` and `lsetxattr`.
    pub const SETXATTR: Self = Self(25);
    /// `fsetxattr(fd, attribute, value, size, flags)`.
    pub const FSETXATTR: Self = Self(26);
    /// `setxattrat(dirfd, name, at_flags, attribute, args, size)`.
    pub const SETXATTRAT: Self = Self(27);
    /// `mount(source, target, type, flags, data)`.
    pub const MOUNT: Self = Self(28);
    /// `umount(target)`.
    pub const UMOUNT: Self = Self(29);
    /// `umount2(target, flags)`.
    pub const UMOUNT2: Self = Self(30);
    /// `move_mount(from_dirfd, from_name, to_dirfd, to_name, flags)`.
    pub const MOVE_MOUNT: Self = Self(31);
    /// `rename(old, new)`.
    pub const RENAME: Self = Self(32);
    /// `renameat(dirfd, old, dirfd, new)`.
    pub const RENAMEAT: Self = Self(33);
    /// `renameat2(dirfd, old, dirfd, new, flags)`.
    pub const RENAMEAT2: Self = Self(34);
    /// `link(old, new)`.
    pub const LINK: Self = Self(35);
    /// `linkat(dirfd, old, dirfd, new, flags)`.
    pub const LINKAT: Self = Self(36);
    /// `mmap(address, length, protection, flags, fd, offset)`.
    pub const MMAP: Self = Self(37);
    /// `mmap(arguments)` of a 32-bit caller: they lie in memory.
    pub const OLD_MMAP: Self = Self(38);
    /// `memfd_create(name, flags)`.
    pub const MEMFD_CREATE: Self = Self(39);
    /// `connect(fd, address, length)`.
    pub const CONNECT: Self = Self(40);
    /// `accept(fd, address, length)`, and `accept4` with flags behind.
    pub const ACCEPT: Self = Self(41);
    /// `listen(fd, backlog)`.
    pub const LISTEN: Self = Self(42);
    /// `socket(family, type, protocol)`.
    pub const SOCKET: Self = Self(43);
    /// `socketcall(call, arguments)` of a 32-bit caller: they lie in memory.
    pub const SOCKETCALL: Self = Self(44);
    /// `setuid(user)` and its kin, `capset(header, data)`: what changes is read of the task.
    pub const SET_IDS: Self = Self(45);
    /// `ptrace(request, pid, address, data)`.
    pub const PTRACE: Self = Self(46);
    /// `process_vm_writev(pid, local, local_len, remote, remote_len, flags)`.
    pub const PROCESS_VM_WRITEV: Self = Self(47);
    /// `bpf(command, attributes, size)`.
    pub const BPF: Self = Self(48);
    /// `unshare(flags)`.
    pub const UNSHARE: Self = Self(49);
    /// `setns(fd, type)`.
    pub const SETNS: Self = Self(50);

    /// Which subprogram handles it.
    #[must_use]
    pub const fn family(self) -> SyscallFamily {
        match self.0 {
            ..=5 => SyscallFamily::Open,
            ..=31 => SyscallFamily::Name,
            ..=36 => SyscallFamily::Rename,
            ..=39 => SyscallFamily::File,
            ..=44 => SyscallFamily::Socket,
            _ => SyscallFamily::Privilege,
        }
    }

    /// The parts whose tracepoint programs need the call.
    #[must_use]
    pub const fn parts(self) -> &'static [Part] {
        match self {
            Self::OPEN | Self::OPENAT | Self::OPENAT2 | Self::CREAT | Self::OPEN_BY_HANDLE_AT => {
                const { &[Part::of(Kind::FILE_OPEN)] }
            }
            Self::UNLINK | Self::UNLINKAT | Self::RMDIR => const { &[Part::of(Kind::FILE_UNLINK)] },
            Self::SYMLINK | Self::SYMLINKAT => const { &[Part::of(Kind::FILE_SYMLINK)] },
            Self::MKDIR | Self::MKDIRAT => const { &[Part::of(Kind::FILE_MKDIR)] },
            Self::CHMOD | Self::FCHMOD | Self::FCHMODAT => const { &[Part::of(Kind::FILE_CHMOD)] },
            Self::CHOWN | Self::CHOWN16 | Self::FCHOWN | Self::FCHOWN16 | Self::FCHOWNAT => {
                const { &[Part::of(Kind::FILE_CHOWN)] }
            }
            Self::TRUNCATE | Self::TRUNCATE64 | Self::FTRUNCATE | Self::FTRUNCATE64 => {
                const { &[Part::of(Kind::FILE_TRUNCATE)] }
            }
            Self::SETXATTR | Self::FSETXATTR | Self::SETXATTRAT => const { &[Part::of(Kind::FILE_SETXATTR)] },
            Self::MOUNT | Self::UMOUNT | Self::UMOUNT2 => const { &[Part::of(Kind::MOUNT)] },
            Self::MOVE_MOUNT => const { &[Part::MOUNT_MOVED] },
            Self::RENAME | Self::RENAMEAT | Self::RENAMEAT2 => const { &[Part::of(Kind::FILE_RENAME)] },
            Self::LINK | Self::LINKAT => const { &[Part::of(Kind::FILE_LINK)] },
            Self::MMAP | Self::OLD_MMAP => const { &[Part::of(Kind::EXEC_MAP)] },
            Self::MEMFD_CREATE => const { &[Part::of(Kind::MEMFD)] },
            Self::CONNECT => const { &[Part::of(Kind::CONNECT), Part::CONNECT_UDP, Part::CONNECT_UNIX] },
            Self::ACCEPT => const { &[Part::of(Kind::ACCEPT), Part::ACCEPT_UNIX] },
            Self::LISTEN => const { &[Part::of(Kind::LISTEN), Part::LISTEN_UNIX] },
            Self::SOCKET => const { &[Part::of(Kind::SOCKET)] },
            Self::SOCKETCALL => {
                const {
                    &[
                        Part::of(Kind::CONNECT),
                        Part::CONNECT_UDP,
                        Part::CONNECT_UNIX,
                        Part::of(Kind::ACCEPT),
                        Part::ACCEPT_UNIX,
                        Part::of(Kind::LISTEN),
                        Part::LISTEN_UNIX,
                        Part::of(Kind::SOCKET),
                    ]
                }
            }
            Self::SET_IDS => const { &[Part::of(Kind::CREDS)] },
            Self::PTRACE => const { &[Part::of(Kind::PTRACE)] },
            Self::PROCESS_VM_WRITEV => const { &[Part::of(Kind::VM_WRITE)] },
            Self::BPF => const { &[Part::of(Kind::BPF_LOAD)] },
            Self::UNSHARE | Self::SETNS => const { &[Part::of(Kind::NAMESPACE)] },
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
    (304, SyscallClass::OPEN_BY_HANDLE_AT),
    (87, SyscallClass::UNLINK),
    (263, SyscallClass::UNLINKAT),
    (84, SyscallClass::RMDIR),
    (88, SyscallClass::SYMLINK),
    (266, SyscallClass::SYMLINKAT),
    (83, SyscallClass::MKDIR),
    (258, SyscallClass::MKDIRAT),
    (90, SyscallClass::CHMOD),
    (91, SyscallClass::FCHMOD),
    (268, SyscallClass::FCHMODAT),
    (452, SyscallClass::FCHMODAT),
    (92, SyscallClass::CHOWN),
    (94, SyscallClass::CHOWN),
    (93, SyscallClass::FCHOWN),
    (260, SyscallClass::FCHOWNAT),
    (76, SyscallClass::TRUNCATE),
    (77, SyscallClass::FTRUNCATE),
    (188, SyscallClass::SETXATTR),
    (189, SyscallClass::SETXATTR),
    (190, SyscallClass::FSETXATTR),
    (463, SyscallClass::SETXATTRAT),
    (165, SyscallClass::MOUNT),
    (166, SyscallClass::UMOUNT2),
    (429, SyscallClass::MOVE_MOUNT),
    (82, SyscallClass::RENAME),
    (264, SyscallClass::RENAMEAT),
    (316, SyscallClass::RENAMEAT2),
    (86, SyscallClass::LINK),
    (265, SyscallClass::LINKAT),
    (9, SyscallClass::MMAP),
    (319, SyscallClass::MEMFD_CREATE),
    (42, SyscallClass::CONNECT),
    (43, SyscallClass::ACCEPT),
    (288, SyscallClass::ACCEPT),
    (50, SyscallClass::LISTEN),
    (41, SyscallClass::SOCKET),
    (105, SyscallClass::SET_IDS),
    (106, SyscallClass::SET_IDS),
    (113, SyscallClass::SET_IDS),
    (114, SyscallClass::SET_IDS),
    (117, SyscallClass::SET_IDS),
    (119, SyscallClass::SET_IDS),
    (126, SyscallClass::SET_IDS),
    (101, SyscallClass::PTRACE),
    (311, SyscallClass::PROCESS_VM_WRITEV),
    (321, SyscallClass::BPF),
    (272, SyscallClass::UNSHARE),
    (308, SyscallClass::SETNS),
];

/// `arch/x86/entry/syscalls/syscall_32.tbl`.
const I386: Numbers = &[
    (5, SyscallClass::OPEN),
    (295, SyscallClass::OPENAT),
    (437, SyscallClass::OPENAT2),
    (8, SyscallClass::CREAT),
    (342, SyscallClass::OPEN_BY_HANDLE_AT),
    (10, SyscallClass::UNLINK),
    (301, SyscallClass::UNLINKAT),
    (40, SyscallClass::RMDIR),
    (83, SyscallClass::SYMLINK),
    (304, SyscallClass::SYMLINKAT),
    (39, SyscallClass::MKDIR),
    (296, SyscallClass::MKDIRAT),
    (15, SyscallClass::CHMOD),
    (94, SyscallClass::FCHMOD),
    (306, SyscallClass::FCHMODAT),
    (452, SyscallClass::FCHMODAT),
    (182, SyscallClass::CHOWN16),
    (16, SyscallClass::CHOWN16),
    (95, SyscallClass::FCHOWN16),
    (212, SyscallClass::CHOWN),
    (198, SyscallClass::CHOWN),
    (207, SyscallClass::FCHOWN),
    (298, SyscallClass::FCHOWNAT),
    (92, SyscallClass::TRUNCATE),
    (93, SyscallClass::FTRUNCATE),
    (193, SyscallClass::TRUNCATE64),
    (194, SyscallClass::FTRUNCATE64),
    (226, SyscallClass::SETXATTR),
    (227, SyscallClass::SETXATTR),
    (228, SyscallClass::FSETXATTR),
    (463, SyscallClass::SETXATTRAT),
    (21, SyscallClass::MOUNT),
    (22, SyscallClass::UMOUNT),
    (52, SyscallClass::UMOUNT2),
    (429, SyscallClass::MOVE_MOUNT),
    (38, SyscallClass::RENAME),
    (302, SyscallClass::RENAMEAT),
    (353, SyscallClass::RENAMEAT2),
    (9, SyscallClass::LINK),
    (303, SyscallClass::LINKAT),
    (192, SyscallClass::MMAP),
    (90, SyscallClass::OLD_MMAP),
    (356, SyscallClass::MEMFD_CREATE),
    (362, SyscallClass::CONNECT),
    (364, SyscallClass::ACCEPT),
    (363, SyscallClass::LISTEN),
    (359, SyscallClass::SOCKET),
    (102, SyscallClass::SOCKETCALL),
    (23, SyscallClass::SET_IDS),
    (46, SyscallClass::SET_IDS),
    (70, SyscallClass::SET_IDS),
    (71, SyscallClass::SET_IDS),
    (164, SyscallClass::SET_IDS),
    (170, SyscallClass::SET_IDS),
    (213, SyscallClass::SET_IDS),
    (214, SyscallClass::SET_IDS),
    (203, SyscallClass::SET_IDS),
    (204, SyscallClass::SET_IDS),
    (208, SyscallClass::SET_IDS),
    (210, SyscallClass::SET_IDS),
    (185, SyscallClass::SET_IDS),
    (26, SyscallClass::PTRACE),
    (348, SyscallClass::PROCESS_VM_WRITEV),
    (357, SyscallClass::BPF),
    (310, SyscallClass::UNSHARE),
    (346, SyscallClass::SETNS),
];

/// `scripts/syscall.tbl`: no call that has a successor with a `dirfd`.
const ARM64: Numbers = &[
    (56, SyscallClass::OPENAT),
    (437, SyscallClass::OPENAT2),
    (265, SyscallClass::OPEN_BY_HANDLE_AT),
    (35, SyscallClass::UNLINKAT),
    (36, SyscallClass::SYMLINKAT),
    (34, SyscallClass::MKDIRAT),
    (52, SyscallClass::FCHMOD),
    (53, SyscallClass::FCHMODAT),
    (452, SyscallClass::FCHMODAT),
    (55, SyscallClass::FCHOWN),
    (54, SyscallClass::FCHOWNAT),
    (45, SyscallClass::TRUNCATE),
    (46, SyscallClass::FTRUNCATE),
    (5, SyscallClass::SETXATTR),
    (6, SyscallClass::SETXATTR),
    (7, SyscallClass::FSETXATTR),
    (463, SyscallClass::SETXATTRAT),
    (40, SyscallClass::MOUNT),
    (39, SyscallClass::UMOUNT2),
    (429, SyscallClass::MOVE_MOUNT),
    (38, SyscallClass::RENAMEAT),
    (276, SyscallClass::RENAMEAT2),
    (37, SyscallClass::LINKAT),
    (222, SyscallClass::MMAP),
    (279, SyscallClass::MEMFD_CREATE),
    (203, SyscallClass::CONNECT),
    (202, SyscallClass::ACCEPT),
    (242, SyscallClass::ACCEPT),
    (201, SyscallClass::LISTEN),
    (198, SyscallClass::SOCKET),
    (146, SyscallClass::SET_IDS),
    (144, SyscallClass::SET_IDS),
    (145, SyscallClass::SET_IDS),
    (143, SyscallClass::SET_IDS),
    (147, SyscallClass::SET_IDS),
    (149, SyscallClass::SET_IDS),
    (91, SyscallClass::SET_IDS),
    (117, SyscallClass::PTRACE),
    (271, SyscallClass::PROCESS_VM_WRITEV),
    (280, SyscallClass::BPF),
    (97, SyscallClass::UNSHARE),
    (268, SyscallClass::SETNS),
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
    use super::{SyscallClass, SyscallFamily, syscall_classes};

    #[test]
    fn both_halves_are_kept_apart() {
        let classes = syscall_classes("x86_64").expect("x86_64 has a table");
        assert_eq!(classes[2], u16::from(SyscallClass::OPEN.0));
        assert_eq!(classes[5], u16::from(SyscallClass::OPEN.0) << 8);
        assert_eq!(classes[437], u16::from(SyscallClass::OPENAT2.0) * 0x101);
        assert_eq!(classes[0], 0, "read is of no interest");
        assert_eq!(classes[102].to_le_bytes(), [0, SyscallClass::SOCKETCALL.0]);
    }

    #[test]
    fn every_class_has_parts() {
        for arch in ["x86_64", "aarch64"] {
            for classes in syscall_classes(arch).expect("there is a table") {
                for class in classes.to_le_bytes().into_iter().filter(|class| *class != 0) {
                    assert_ne!(SyscallClass(class).parts(), [], "{arch} class {class}");
                }
            }
        }
    }

    #[test]
    fn classes_are_of_their_family() {
        for (class, family) in [
            (SyscallClass::OPEN_BY_HANDLE_AT, SyscallFamily::Open),
            (SyscallClass::UNLINK, SyscallFamily::Name),
            (SyscallClass::MOVE_MOUNT, SyscallFamily::Name),
            (SyscallClass::RENAME, SyscallFamily::Rename),
            (SyscallClass::LINKAT, SyscallFamily::Rename),
            (SyscallClass::MMAP, SyscallFamily::File),
            (SyscallClass::CONNECT, SyscallFamily::Socket),
            (SyscallClass::SOCKETCALL, SyscallFamily::Socket),
            (SyscallClass::SET_IDS, SyscallFamily::Privilege),
        ] {
            assert_eq!(class.family(), family);
        }
    }

    #[test]
    fn an_architecture_without_a_table_is_told_apart() {
        assert!(syscall_classes("aarch64").is_some());
        assert!(syscall_classes("riscv64").is_none());
    }
}
