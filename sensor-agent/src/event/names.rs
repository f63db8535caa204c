//! Words for numbers of the kernel's interface: capabilities, flags, requests, program types. Not their meaning to a
//! baseline. It may call nothing.

use std::borrow::Cow;

/// Names of the bits of a capability set (`include/uapi/linux/capability.h`), lower case, without `CAP_`.
#[must_use]
pub fn capabilities(bits: u64) -> Vec<Cow<'static, str>> {
    (0..u64::BITS)
        .filter(|bit| bits & 1 << bit != 0)
        .map(|bit| match CAPABILITIES.get(bit as usize) {
            Some(name) => Cow::Borrowed(*name),
            None => Cow::Owned(format!("cap_{bit}")),
        })
        .collect()
}

/// Names of the namespaces in `CLONE_NEW*` bits, as /proc/PID/ns has them.
#[must_use]
pub fn namespaces(flags: u32) -> Vec<&'static str> {
    set_names(&CLONE_FLAGS, u64::from(flags))
}

/// Names of `MS_*` flags of a mount, lower case, without `MS_`.
#[must_use]
pub fn mount_flags(flags: u64) -> Vec<&'static str> {
    set_names(&MOUNT_FLAGS, flags)
}

/// The name of a `PTRACE_*` request that gives power over another process.
#[must_use]
pub const fn ptrace_request(request: u32) -> &'static str {
    match request {
        0 => "traceme",
        16 => "attach",
        0x4206 => "seize",
        _ => "other",
    }
}

/// The name of an `enum bpf_prog_type` (`include/uapi/linux/bpf.h`), lower case, without `BPF_PROG_TYPE_`.
#[must_use]
pub fn bpf_program_type(program_type: u32) -> &'static str {
    usize::try_from(program_type).ok().and_then(|index| BPF_PROGRAM_TYPES.get(index)).unwrap_or(&"unknown")
}

fn set_names(table: &[(u64, &'static str)], flags: u64) -> Vec<&'static str> {
    table.iter().filter(|(flag, _)| flags & flag == *flag).map(|(_, name)| *name).collect()
}

const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// `include/uapi/linux/sched.h`.
const CLONE_FLAGS: [(u64, &str); 8] = [
    (0x80, "time"),
    (0x2_0000, "mnt"),
    (0x200_0000, "cgroup"),
    (0x400_0000, "uts"),
    (0x800_0000, "ipc"),
    (0x1000_0000, "user"),
    (0x2000_0000, "pid"),
    (0x4000_0000, "net"),
];

/// `include/uapi/linux/mount.h`.
const MOUNT_FLAGS: [(u64, &str); 18] = [
    (1, "rdonly"),
    (1 << 1, "nosuid"),
    (1 << 2, "nodev"),
    (1 << 3, "noexec"),
    (1 << 4, "synchronous"),
    (1 << 5, "remount"),
    (1 << 7, "dirsync"),
    (1 << 8, "nosymfollow"),
    (1 << 10, "noatime"),
    (1 << 12, "bind"),
    (1 << 13, "move"),
    (1 << 14, "rec"),
    (1 << 17, "unbindable"),
    (1 << 18, "private"),
    (1 << 19, "slave"),
    (1 << 20, "shared"),
    (1 << 21, "relatime"),
    (1 << 24, "strictatime"),
];

const BPF_PROGRAM_TYPES: [&str; 33] = [
    "unspec",
    "socket_filter",
    "kprobe",
    "sched_cls",
    "sched_act",
    "tracepoint",
    "xdp",
    "perf_event",
    "cgroup_skb",
    "cgroup_sock",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "sock_ops",
    "sk_skb",
    "cgroup_device",
    "sk_msg",
    "raw_tracepoint",
    "cgroup_sock_addr",
    "lwt_seg6local",
    "lirc_mode2",
    "sk_reuseport",
    "flow_dissector",
    "cgroup_sysctl",
    "raw_tracepoint_writable",
    "cgroup_sockopt",
    "tracing",
    "struct_ops",
    "ext",
    "lsm",
    "sk_lookup",
    "syscall",
    "netfilter",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_kernel_headers_names() {
        assert_eq!(
            capabilities(1 << 21 | 1 << 7 | 1 << 40 | 1 << 63),
            ["setuid", "sys_admin", "checkpoint_restore", "cap_63"]
        );
        assert_eq!(namespaces(0x1002_0000), ["mnt", "user"]);
        assert_eq!(mount_flags(4096 | 1), ["rdonly", "bind"]);
        assert_eq!((bpf_program_type(26), bpf_program_type(99)), ("tracing", "unknown"));
        assert_eq!(
            (ptrace_request(0), ptrace_request(0x4206), ptrace_request(7)),
            ("traceme", "seize", "other")
        );
    }
}
