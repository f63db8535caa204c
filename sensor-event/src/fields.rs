//! The kernel structure members that the programs read, as data: the agent resolves each in the running
//! kernel's BTF and sets the global of the same name. Not the BTF reader. It may call `core` only.
//!
//! A path is `struct.member[.member]...`. A member may be an array element (`regs[1]`); it is looked for inside
//! anonymous structs and unions too. A member that is a pointer ends a path: the programs follow pointers, one
//! field per step.

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

/// Calls `$each! { NAME: need [paths]; ... }` for all fields: the programs make globals of it, the agent a table.
#[macro_export]
macro_rules! for_each_kernel_field {
    ($each:ident) => {
        $each! {
            TASK_TGID: Required ["task_struct.tgid"];
            TASK_PID: Required ["task_struct.pid"];
            TASK_GROUP_LEADER: Required ["task_struct.group_leader"];
            TASK_REAL_PARENT: Required ["task_struct.real_parent"];
            // Before 5.5 it was `real_start_time`, in the same unit.
            TASK_START_BOOTTIME: Required ["task_struct.start_boottime", "task_struct.real_start_time"];
            TASK_COMM: Required ["task_struct.comm"];
            TASK_CRED: Required ["task_struct.cred"];
            TASK_SIGNAL: Required ["task_struct.signal"];
            TASK_EXIT_CODE: Required ["task_struct.exit_code"];
            TASK_MM: Required ["task_struct.mm"];
            TASK_FS: Required ["task_struct.fs"];
            TASK_FILES: Required ["task_struct.files"];
            TASK_EXEC_ID: Optional ["task_struct.self_exec_id"];
            TASK_NSPROXY: Required ["task_struct.nsproxy"];
            TASK_CGROUPS: Required ["task_struct.cgroups"];
            // Absent without CONFIG_AUDIT.
            TASK_LOGINUID: Optional ["task_struct.loginuid"];
            TASK_SESSIONID: Optional ["task_struct.sessionid"];
            CRED_UID: Required ["cred.uid"];
            CRED_GID: Required ["cred.gid"];
            CRED_EUID: Required ["cred.euid"];
            CRED_EGID: Required ["cred.egid"];
            SIGNAL_LIVE: Required ["signal_struct.live"];
            SIGNAL_FLAGS: Required ["signal_struct.flags"];
            SIGNAL_GROUP_EXIT_CODE: Required ["signal_struct.group_exit_code"];
            NSPROXY_MNT_NS: Required ["nsproxy.mnt_ns"];
            NSPROXY_PID_NS: Required ["nsproxy.pid_ns_for_children"];
            MNT_NS_INUM: Required ["mnt_namespace.ns.inum"];
            PID_NS_INUM: Required ["pid_namespace.ns.inum"];
            CSS_SET_DFL_CGROUP: Required ["css_set.dfl_cgrp"];
            CGROUP_ROOT: Required ["cgroup.root"];
            CGROUP_KN: Required ["cgroup.kn"];
            KERNFS_ID: Required ["kernfs_node.id"];
            // Renamed in 6.15.
            KERNFS_PARENT: Required ["kernfs_node.__parent", "kernfs_node.parent"];
            KERNFS_NAME: Required ["kernfs_node.name"];
            // Absent without CONFIG_MMU.
            MM_EXE_FILE: Optional ["mm_struct.exe_file"];
            MM_ARG_START: Required ["mm_struct.arg_start"];
            MM_ARG_END: Required ["mm_struct.arg_end"];
            BPRM_FILE: Required ["linux_binprm.file"];
            BPRM_FILENAME: Required ["linux_binprm.filename"];
            BPRM_INTERP: Required ["linux_binprm.interp"];
            BPRM_ARGC: Required ["linux_binprm.argc"];
            FS_PWD_MNT: Required ["fs_struct.pwd.mnt"];
            FS_PWD_DENTRY: Required ["fs_struct.pwd.dentry"];
            FS_ROOT_MNT: Required ["fs_struct.root.mnt"];
            FS_ROOT_DENTRY: Required ["fs_struct.root.dentry"];
            FILE_PATH_MNT: Required ["file.f_path.mnt"];
            FILE_PATH_DENTRY: Required ["file.f_path.dentry"];
            FILE_PATH: Required ["file.f_path"];
            PATH_MNT: Required ["path.mnt"];
            PATH_DENTRY: Required ["path.dentry"];
            // Of what the functions of the better tier are given.
            OPEN_HOW_FLAGS: Optional ["open_flags.open_flag"];
            FILENAME_NAME: Optional ["filename.name"];
            RENAME_DATA_OLD: Optional ["renamedata.old_dentry"];
            INODE_UID: Optional ["inode.i_uid"];
            INODE_GID: Optional ["inode.i_gid"];
            VMA_FILE: Optional ["vm_area_struct.vm_file"];
            VMA_FLAGS: Optional ["vm_area_struct.vm_flags"];
            FILE_INODE: Required ["file.f_inode"];
            DENTRY_PARENT: Required ["dentry.d_parent"];
            DENTRY_NAME: Required ["dentry.d_name.name"];
            DENTRY_NAME_LEN: Required ["dentry.d_name.len"];
            DENTRY_INODE: Required ["dentry.d_inode"];
            // Null while the dentry is not in the name cache's hash: unlinked, or never had a name.
            DENTRY_HASH_PPREV: Required ["dentry.d_hash.pprev"];
            // `vfsmount` is embedded in `mount`: this is the distance between the two.
            MOUNT_MNT: Required ["mount.mnt"];
            MOUNT_PARENT: Required ["mount.mnt_parent"];
            MOUNT_MOUNTPOINT: Required ["mount.mnt_mountpoint"];
            MOUNT_MNT_ROOT: Required ["mount.mnt.mnt_root"];
            MOUNT_MNT_NS: Required ["mount.mnt_ns"];
            INODE_MODE: Required ["inode.i_mode"];
            INODE_INO: Required ["inode.i_ino"];
            INODE_NLINK: Required ["inode.i_nlink"];
            INODE_SB: Required ["inode.i_sb"];
            SB_DEV: Required ["super_block.s_dev"];
            FILE_MODE: Required ["file.f_mode"];
            FILES_FDT: Required ["files_struct.fdt"];
            FDT_FD: Required ["fdtable.fd"];
            FDT_MAX_FDS: Required ["fdtable.max_fds"];
            SOCK_FAMILY: Required ["sock.__sk_common.skc_family"];
            SOCK_PROTOCOL: Required ["sock.sk_protocol"];
            SOCK_ERR: Required ["sock.sk_err"];
            SOCK_PORT_LOCAL: Required ["sock.__sk_common.skc_num"];
            SOCK_PORT_REMOTE: Required ["sock.__sk_common.skc_dport"];
            SOCK_V4_LOCAL: Required ["sock.__sk_common.skc_rcv_saddr"];
            SOCK_V4_REMOTE: Required ["sock.__sk_common.skc_daddr"];
            // Absent without CONFIG_IPV6.
            SOCK_V6_LOCAL: Optional ["sock.__sk_common.skc_v6_rcv_saddr"];
            SOCK_V6_REMOTE: Optional ["sock.__sk_common.skc_v6_daddr"];
            // Registers at a system call: x86-64, else arm64.
            REGS_SYSCALL: Required ["pt_regs.orig_ax", "pt_regs.syscallno"];
            REGS_ARG0: Required ["pt_regs.di", "pt_regs.orig_x0"];
            REGS_ARG1: Required ["pt_regs.si", "pt_regs.regs[1]"];
            REGS_ARG2: Required ["pt_regs.dx", "pt_regs.regs[2]"];
            REGS_ARG3: Required ["pt_regs.r10", "pt_regs.regs[3]"];
            REGS_ARG4: Required ["pt_regs.r8", "pt_regs.regs[4]"];
            // Capabilities: two words before 6.3 and one after, the same eight bytes.
            CRED_CAP_EFFECTIVE: Required ["cred.cap_effective"];
            CRED_CAP_PERMITTED: Required ["cred.cap_permitted"];
            CRED_USER_NS: Required ["cred.user_ns"];
            // Absent where a kind of namespace is not built in.
            USER_NS_INUM: Optional ["user_namespace.ns.inum"];
            NSPROXY_UTS_NS: Optional ["nsproxy.uts_ns"];
            UTS_NS_INUM: Optional ["uts_namespace.ns.inum"];
            NSPROXY_IPC_NS: Optional ["nsproxy.ipc_ns"];
            IPC_NS_INUM: Optional ["ipc_namespace.ns.inum"];
            NSPROXY_NET_NS: Optional ["nsproxy.net_ns"];
            NET_NS_INUM: Optional ["net.ns.inum"];
            NSPROXY_CGROUP_NS: Optional ["nsproxy.cgroup_ns"];
            CGROUP_NS_INUM: Optional ["cgroup_namespace.ns.inum"];
            NSPROXY_TIME_NS: Optional ["nsproxy.time_ns"];
            TIME_NS_INUM: Optional ["time_namespace.ns.inum"];
            TASK_THREAD_PID: Required ["task_struct.thread_pid"];
            PID_LEVEL: Required ["pid.level"];
            TASK_FLAGS: Required ["task_struct.flags"];
            TASK_PTRACED: Required ["task_struct.ptraced.next"];
            TASK_PTRACE_ENTRY: Required ["task_struct.ptrace_entry"];
            SIGNAL_TTY: Optional ["signal_struct.tty"];
            TTY_NAME: Optional ["tty_struct.name"];
            SB_MAGIC: Required ["super_block.s_magic"];
            SB_TYPE: Required ["super_block.s_type"];
            FS_TYPE_NAME: Required ["file_system_type.name"];
            MOUNT_SB: Required ["vfsmount.mnt_sb"];
            FILE_PRIVATE_DATA: Required ["file.private_data"];
            SOCKET_SK: Required ["socket.sk"];
            SOCKET_FILE: Required ["socket.file"];
            SOCK_TYPE: Required ["sock.sk_type"];
            SOCK_STATE: Required ["sock.__sk_common.skc_state"];
            // Absent where unix sockets are a module.
            UNIX_PEER: Optional ["unix_sock.peer"];
            UNIX_ADDR: Optional ["unix_sock.addr"];
            UNIX_PATH_MNT: Optional ["unix_sock.path.mnt"];
            UNIX_PATH_DENTRY: Optional ["unix_sock.path.dentry"];
            UNIX_ADDRESS_LEN: Optional ["unix_address.len"];
            UNIX_ADDRESS_NAME: Optional ["unix_address.name"];
            SKB_SK: Required ["sk_buff.sk"];
            SKB_HEAD: Required ["sk_buff.head"];
            SKB_PROTOCOL: Required ["sk_buff.protocol"];
            SKB_NETWORK_HEADER: Required ["sk_buff.network_header"];
            SKB_TRANSPORT_HEADER: Required ["sk_buff.transport_header"];
            BPF_PROG_TYPE: Optional ["bpf_prog.type"];
            BPF_PROG_LEN: Optional ["bpf_prog.len"];
            BPF_PROG_TAG: Optional ["bpf_prog.tag"];
            BPF_PROG_AUX: Optional ["bpf_prog.aux"];
            BPF_AUX_ID: Optional ["bpf_prog_aux.id"];
            BPF_AUX_NAME: Optional ["bpf_prog_aux.name"];
            FILE_FLAGS: Required ["file.f_flags"];
            // A request of io_uring, and what it holds by operation, from its start: absent before 5.19.
            IO_REQUEST_OPCODE: Optional ["io_kiocb.opcode"];
            IO_REQUEST_FILE: Optional ["io_kiocb.file"];
            IO_CQE_RESULT: Optional ["io_uring_cqe.res"];
            IO_OPEN_SLOT: Optional ["io_open.file_slot"];
            IO_ACCEPT_SLOT: Optional ["io_accept.file_slot"];
            IO_SOCKET_SLOT: Optional ["io_socket.file_slot"];
            IO_SOCKET_PROTOCOL: Optional ["io_socket.protocol"];
            // Absent in a kernel without modules.
            MODULE_NAME: Optional ["module.name"];
            MODULE_TAINTS: Optional ["module.taints"];
            // Registers of a 32-bit call on x86-64, and what tells that it is one.
            COMPAT_ARG0: Optional ["pt_regs.bx"];
            COMPAT_ARG1: Optional ["pt_regs.cx"];
            COMPAT_ARG2: Optional ["pt_regs.dx"];
            COMPAT_ARG3: Optional ["pt_regs.si"];
            COMPAT_ARG4: Optional ["pt_regs.di"];
            THREAD_STATUS: Optional ["task_struct.thread_info.status"];
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
