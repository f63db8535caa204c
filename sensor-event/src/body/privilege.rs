//! Bodies of privilege records. It may call zerocopy only.

use crate::body::Namespaces;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// User and group ids, in the initial user namespace. `u32::MAX` when unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ids {
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
}

/// [`crate::Kind::CREDS`]: credentials changed other than by an exec. No tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CredsBody {
    /// Effective capabilities before; `u64::MAX` when unknown.
    pub old_cap_effective: u64,
    /// Permitted capabilities before; `u64::MAX` when unknown.
    pub old_cap_permitted: u64,
    /// Effective capabilities after.
    pub cap_effective: u64,
    /// Permitted capabilities after.
    pub cap_permitted: u64,
    /// Ids before; `u32::MAX` each when unknown.
    pub old: Ids,
    /// Ids after.
    pub new: Ids,
}

/// [`crate::Kind::PTRACE`] and [`crate::Kind::VM_WRITE`]: a process reaches into another. No tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TargetBody {
    /// The target's `start_boottime`; 0 when unknown.
    pub target_start_time_ns: u64,
    /// The target's tgid in the initial pid namespace; 0 when unknown.
    pub target_pid: u32,
    /// The number the caller gave, in its own pid namespace; 0 when unknown.
    pub given_pid: u32,
    /// `PTRACE_*` request (`include/uapi/linux/ptrace.h`); of a `vm_write` the number of remote areas.
    pub request: u32,
    /// 0 for success or a positive errno.
    pub result: i32,
}

/// [`crate::Kind::MODULE_LOAD`]. No tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ModuleBody {
    /// `module.name`, NUL padded.
    pub name: [u8; 56],
    /// Why the kernel counts itself tainted by it (`module.taints`), one bit each.
    pub taints: u64,
}

/// [`crate::Kind::BPF_LOAD`]: a BPF program was loaded. No tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BpfBody {
    /// `bpf_prog_aux.name`, NUL padded.
    pub name: [u8; 16],
    /// `bpf_prog.tag`: hash of the instructions.
    pub tag: [u8; 8],
    /// `bpf_prog_aux.id`; 0 when the load failed.
    pub program_id: u32,
    /// `enum bpf_prog_type`.
    pub program_type: u32,
    /// 0 for success or a positive errno.
    pub result: i32,
    /// Instructions (`bpf_prog.len`).
    pub instructions: u32,
}

/// [`crate::Kind::NAMESPACE`]: a process left or entered namespaces (`unshare`, `setns`). No tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NamespaceBody {
    /// Where it is now.
    pub namespaces: Namespaces,
    /// `CLONE_NEW*` bits the call named; 0 for a `setns` that takes what the descriptor is.
    pub flags: u32,
    /// 0 for success or a positive errno.
    pub result: i32,
    /// 1 for `setns`, 0 for `unshare`.
    pub is_setns: u32,
    /// Always zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<CredsBody>() == 64, "creds body has no hidden padding");
const _: () = assert!(size_of::<TargetBody>() == 24, "target body has no hidden padding");
const _: () = assert!(size_of::<ModuleBody>() == 64, "module body has no hidden padding");
const _: () = assert!(size_of::<BpfBody>() == 40, "bpf body has no hidden padding");
const _: () = assert!(size_of::<NamespaceBody>() == 48, "namespace body has no hidden padding");
