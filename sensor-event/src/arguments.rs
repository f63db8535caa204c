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
    /// Whether the function returns a pointer: the global is 1 then, and absent else.
    ReturnsPointer,
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
            VFS_MKDIR_DENTRY: "vfs_mkdir" Named("dentry");
            VFS_MKDIR_RESULT: "vfs_mkdir" Return;
            // An error number before 6.15, then a dentry.
            VFS_MKDIR_RETURNS_POINTER: "vfs_mkdir" ReturnsPointer;
            VFS_SYMLINK_DENTRY: "vfs_symlink" Named("dentry");
            VFS_SYMLINK_TEXT: "vfs_symlink" Points("char");
            VFS_SYMLINK_RESULT: "vfs_symlink" Return;
            VFS_LINK_OLD: "vfs_link" Named("old_dentry");
            VFS_LINK_RESULT: "vfs_link" Return;
            // The dentries are arguments before 5.12, then members of one.
            VFS_RENAME_DATA: "vfs_rename" Points("renamedata");
            VFS_RENAME_OLD: "vfs_rename" Named("old_dentry");
            VFS_RENAME_RESULT: "vfs_rename" Return;
            // Renamed in 7.0.
            DO_RMDIR_RESULT: "do_rmdir" Return;
            FILENAME_RMDIR_RESULT: "filename_rmdir" Return;
            PATH_UNLINK_PATH: "security_path_unlink" Points("path");
            PATH_UNLINK_DENTRY: "security_path_unlink" Points("dentry");
            PATH_UNLINK_RESULT: "security_path_unlink" Return;
            PATH_RMDIR_PATH: "security_path_rmdir" Points("path");
            PATH_RMDIR_DENTRY: "security_path_rmdir" Points("dentry");
            PATH_RMDIR_RESULT: "security_path_rmdir" Return;
            PATH_MKDIR_PATH: "security_path_mkdir" Points("path");
            PATH_MKDIR_DENTRY: "security_path_mkdir" Points("dentry");
            PATH_MKDIR_MODE: "security_path_mkdir" Named("mode");
            PATH_MKDIR_RESULT: "security_path_mkdir" Return;
            PATH_SYMLINK_PATH: "security_path_symlink" Points("path");
            PATH_SYMLINK_DENTRY: "security_path_symlink" Points("dentry");
            PATH_SYMLINK_TEXT: "security_path_symlink" Points("char");
            PATH_SYMLINK_RESULT: "security_path_symlink" Return;
            PATH_LINK_OLD: "security_path_link" Named("old_dentry");
            PATH_LINK_PATH: "security_path_link" Points("path");
            PATH_LINK_NEW: "security_path_link" Named("new_dentry");
            PATH_LINK_RESULT: "security_path_link" Return;
            PATH_RENAME_OLD_PATH: "security_path_rename" Named("old_dir");
            PATH_RENAME_OLD: "security_path_rename" Named("old_dentry");
            PATH_RENAME_NEW_PATH: "security_path_rename" Named("new_dir");
            PATH_RENAME_NEW: "security_path_rename" Named("new_dentry");
            PATH_RENAME_FLAGS: "security_path_rename" Named("flags");
            PATH_RENAME_RESULT: "security_path_rename" Return;
            // Renamed in 7.0.
            DO_FILP_OPEN_DFD: "do_filp_open" Named("dfd");
            DO_FILP_OPEN_NAME: "do_filp_open" Points("filename");
            DO_FILP_OPEN_OP: "do_filp_open" Points("open_flags");
            DO_FILP_OPEN_RESULT: "do_filp_open" Return;
            DO_FILE_OPEN_DFD: "do_file_open" Named("dfd");
            DO_FILE_OPEN_NAME: "do_file_open" Points("filename");
            DO_FILE_OPEN_OP: "do_file_open" Points("open_flags");
            DO_FILE_OPEN_RESULT: "do_file_open" Return;
            // `(dentry, mnt, name, op)` before 5.14, then `(root, name, op)`.
            OPEN_ROOT_OP: "do_file_open_root" Points("open_flags");
            OPEN_ROOT_RESULT: "do_file_open_root" Return;
            CHMOD_PATH: "chmod_common" Points("path");
            CHMOD_MODE: "chmod_common" Named("mode");
            CHMOD_RESULT: "chmod_common" Return;
            CHOWN_PATH: "chown_common" Points("path");
            CHOWN_USER: "chown_common" Named("user");
            CHOWN_GROUP: "chown_common" Named("group");
            CHOWN_RESULT: "chown_common" Return;
            VFS_TRUNCATE_PATH: "vfs_truncate" Points("path");
            VFS_TRUNCATE_LENGTH: "vfs_truncate" Named("length");
            VFS_TRUNCATE_RESULT: "vfs_truncate" Return;
            DO_TRUNCATE_LENGTH: "do_truncate" Named("length");
            DO_TRUNCATE_ATTRIBUTES: "do_truncate" Named("time_attrs");
            DO_TRUNCATE_FILE: "do_truncate" Points("file");
            DO_TRUNCATE_RESULT: "do_truncate" Return;
            WANT_WRITE_MOUNT: "mnt_want_write" Points("vfsmount");
            WANT_WRITE_FILE: "mnt_want_write_file" Points("file");
            VFS_SETXATTR_DENTRY: "vfs_setxattr" Points("dentry");
            VFS_SETXATTR_NAME: "vfs_setxattr" Points("char");
            VFS_SETXATTR_FLAGS: "vfs_setxattr" Named("flags");
            VFS_SETXATTR_RESULT: "vfs_setxattr" Return;
            VFS_SET_ACL_DENTRY: "vfs_set_acl" Points("dentry");
            VFS_SET_ACL_NAME: "vfs_set_acl" Points("char");
            VFS_SET_ACL_RESULT: "vfs_set_acl" Return;
            PATH_MOUNT_SOURCE: "path_mount" Named("dev_name");
            PATH_MOUNT_PATH: "path_mount" Points("path");
            PATH_MOUNT_TYPE: "path_mount" Named("type_page");
            PATH_MOUNT_FLAGS: "path_mount" Named("flags");
            PATH_MOUNT_RESULT: "path_mount" Return;
            PATH_UMOUNT_PATH: "path_umount" Points("path");
            PATH_UMOUNT_FLAGS: "path_umount" Named("flags");
            PATH_UMOUNT_RESULT: "path_umount" Return;
            MOVE_MOUNT_FROM: "security_move_mount" Named("from_path");
            MOVE_MOUNT_TO: "security_move_mount" Named("to_path");
            MOVE_MOUNT_X64_RESULT: "__x64_sys_move_mount" Return;
            MOVE_MOUNT_IA32_RESULT: "__ia32_sys_move_mount" Return;
            MOVE_MOUNT_ARM64_RESULT: "__arm64_sys_move_mount" Return;
            MMAP_FILE: "vm_mmap_pgoff" Points("file");
            MMAP_PROTECTION: "vm_mmap_pgoff" Named("prot");
            MMAP_RESULT: "vm_mmap_pgoff" Return;
            MPROTECT_AREA: "security_file_mprotect" Points("vm_area_struct");
            MPROTECT_PROTECTION: "security_file_mprotect" Named("prot");
            MPROTECT_RESULT: "security_file_mprotect" Return;
            INET_CONNECT_SOCKET: "inet_dgram_connect" Points("socket");
            INET_CONNECT_ADDRESS: "inet_dgram_connect" Named("uaddr");
            INET_CONNECT_RESULT: "inet_dgram_connect" Return;
            UNIX_CONNECT_SOCKET: "unix_stream_connect" Points("socket");
            UNIX_CONNECT_ADDRESS: "unix_stream_connect" Named("uaddr");
            UNIX_CONNECT_ADDRESS_LEN: "unix_stream_connect" Named("addr_len");
            UNIX_CONNECT_RESULT: "unix_stream_connect" Return;
            UNIX_PEER_SOCKET: "unix_dgram_connect" Points("socket");
            UNIX_PEER_ADDRESS: "unix_dgram_connect" Named("addr");
            UNIX_PEER_ADDRESS_LEN: "unix_dgram_connect" Named("alen");
            UNIX_PEER_RESULT: "unix_dgram_connect" Return;
            UNIX_LISTEN_SOCKET: "unix_listen" Points("socket");
            UNIX_LISTEN_RESULT: "unix_listen" Return;
            UNIX_ACCEPT_NEW: "unix_accept" Named("newsock");
            UNIX_ACCEPT_RESULT: "unix_accept" Return;
            // `(sk, flags, err, kern)` before 6.10, then `(sk, arg)`.
            INET_ACCEPT_RESULT: "inet_csk_accept" Return;
            SOCK_CREATE_FAMILY: "__sock_create" Named("family");
            SOCK_CREATE_TYPE: "__sock_create" Named("type");
            SOCK_CREATE_PROTOCOL: "__sock_create" Named("protocol");
            SOCK_CREATE_MADE: "__sock_create" Named("res");
            SOCK_CREATE_KERN: "__sock_create" Named("kern");
            SOCK_CREATE_RESULT: "__sock_create" Return;
            COMMIT_CREDS_NEW: "commit_creds" Points("cred");
            PTRACE_ATTACH_TASK: "ptrace_attach" Points("task_struct");
            PTRACE_ATTACH_REQUEST: "ptrace_attach" Named("request");
            PTRACE_ATTACH_RESULT: "ptrace_attach" Return;
            TRACEME_RESULT: "security_ptrace_traceme" Return;
            // The number of arguments: what would stand behind the last.
            URING_COMPLETE_LEN: "btf_trace_io_uring_complete" Return;
            // `(ctx, request, entry)` since 6.10; `(ctx, request, user_data, result, ...)` since 5.19.
            URING_COMPLETE_CQE: "btf_trace_io_uring_complete" Points("io_uring_cqe");
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
