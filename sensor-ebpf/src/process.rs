//! exec, fork and exit. Not credentials changes. It may call the other modules of this crate.

use crate::draft::{BODY, Draft};
use crate::emit::{emit, lose};
use crate::globals::{
    BPRM_ARGC, BPRM_FILE, BPRM_FILENAME, BPRM_INTERP, BPRM_SECUREEXEC_BIT, CGROUP_KN, CGROUP_ROOT,
    CSS_SET_DFL_CGROUP, DENTRY_NAME, EXIT_HAS_GROUP_DEAD, FILE_INODE, FILE_PATH_DENTRY, FILE_PATH_MNT,
    FS_PWD_DENTRY, FS_PWD_MNT, INODE_BYTES, INODE_INO, INODE_MODE, INODE_NLINK, INODE_SB, KERNFS_ID,
    MM_ARG_END, MM_ARG_START, SB_DEV, SB_MAGIC, SIGNAL_FLAGS, SIGNAL_GROUP_EXIT_CODE, SIGNAL_LIVE,
    SIGNAL_TTY, TASK_CGROUPS, TASK_EXIT_CODE, TASK_FS, TASK_GROUP_LEADER, TASK_MM, TASK_PID,
    TASK_REAL_PARENT, TASK_SIGNAL, TASK_TGID, TTY_NAME,
};
use crate::header::{cgroup_id, cgroup_node, start_time};
use crate::lsm::pending;
use crate::maps::ENDED;
use crate::namespaces::{self, capabilities};
use crate::path::{self, Place};
use crate::read::{Address, has, read};
use crate::{sockets, verdicts};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::mem::offset_of;
use sensor_event::{CgroupBody, ExecBody, ExecFlags, ExitBody, Field, ForkBody, Kind, LossReason};

/// Bytes of argv that a record carries; longer is cut and flagged.
const ARGV_BYTES_MAX: u64 = 8191;

/// `PATH_MAX`: what the kernel accepts as a file name, with its NUL.
const FILENAME_BYTES_MAX: u32 = 4096;

/// `BINPRM_BUF_SIZE`: a script's first line cannot name a longer interpreter.
const INTERPRETER_BYTES_MAX: u32 = 256;

/// `include/uapi/linux/magic.h`.
const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

const EEXIST: i32 = -17;

/// `SIGNAL_GROUP_EXIT` of `include/linux/sched/signal.h`, unchanged since 2.6.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// `(void *, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let bprm = Address(ctx.arg::<u64>(2));
    verdicts::forget_process();
    emit(Kind::EXEC, size_of::<ExecBody>(), |draft| fill_exec(draft, bprm))
}

#[inline(always)]
fn fill_exec(draft: Draft, bprm: Address) -> Result<(), LossReason> {
    let task = Address::current_task();
    draft.put(BODY + offset_of!(ExecBody, argc), bprm.field::<u32>(&BPRM_ARGC)?);
    let mut flags = fill_program(draft, task, bprm.follow(&BPRM_FILE)?)?;
    flags |= secure(bprm)?;
    flags |= fill_names(draft, bprm)?;
    flags |= fill_argv(draft, task.follow(&TASK_MM)?)?;
    draft.put(BODY + offset_of!(ExecBody, flags), ExecFlags(flags));
    Ok(())
}

/// `(void *, struct cgroup *cgrp, const char *path)`: it is there, and nothing is in it yet. Groups of the v2 hierarchy
/// only: the others number theirs on their own.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    let cgroup = Address(ctx.arg::<u64>(0));
    match is_in_own_hierarchy(cgroup) {
        Ok(true) => {}
        Ok(false) => return 0,
        Err(reason) => return lose(Kind::CGROUP, reason),
    }
    emit(Kind::CGROUP, size_of::<CgroupBody>(), |draft| {
        let node = cgroup.follow(&CGROUP_KN)?;
        draft.put(BODY + offset_of!(CgroupBody, id), node.field::<u64>(&KERNFS_ID)?);
        path::append_kernfs(draft, BODY + offset_of!(CgroupBody, path), node);
        Ok(())
    })
}

/// Whether a control group lies in the v2 hierarchy, as that of the current task does.
#[inline(always)]
fn is_in_own_hierarchy(cgroup: Address) -> Result<bool, LossReason> {
    let own = Address::current_task().follow(&TASK_CGROUPS)?.follow(&CSS_SET_DFL_CGROUP)?;
    Ok(cgroup.follow(&CGROUP_ROOT)?.0 == own.follow(&CGROUP_ROOT)?.0)
}

/// What a task's program is and where it runs: everything but what was given to the exec. Returns [`ExecFlags`].
#[inline(always)]
pub fn fill_program(draft: Draft, task: Address, file: Address) -> Result<u32, LossReason> {
    let inode = file.follow(&FILE_INODE)?;
    let exe = Place { mount: file.follow(&FILE_PATH_MNT)?, dentry: file.follow(&FILE_PATH_DENTRY)? };
    draft.put(BODY + offset_of!(ExecBody, inode), inode.field::<u64>(&INODE_INO)?);
    draft.put(BODY + offset_of!(ExecBody, dev), inode.follow(&INODE_SB)?.field::<u32>(&SB_DEV)?);
    draft.put(BODY + offset_of!(ExecBody, mode), u32::from(inode.field::<u16>(&INODE_MODE)?));
    draft.put(BODY + offset_of!(ExecBody, exec_id), verdicts::exec_id(task));
    let (effective, permitted) = capabilities(task)?;
    draft.put(BODY + offset_of!(ExecBody, cap_effective), effective);
    draft.put(BODY + offset_of!(ExecBody, cap_permitted), permitted);
    namespaces::put(draft, BODY + offset_of!(ExecBody, namespaces), task);
    draft.put(BODY + offset_of!(ExecBody, tty), terminal(task)?);

    path::append_of(task, draft, BODY + offset_of!(ExecBody, exe), &exe);
    let fs = task.follow(&TASK_FS)?;
    let cwd = Place { mount: fs.follow(&FS_PWD_MNT)?, dentry: fs.follow(&FS_PWD_DENTRY)? };
    path::append_of(task, draft, BODY + offset_of!(ExecBody, cwd), &cwd);
    path::append_kernfs(draft, BODY + offset_of!(ExecBody, cgroup), cgroup_node(task)?);

    let mut flags = 0;
    if is_memfd(inode, exe.dentry)? {
        flags |= ExecFlags::MEMFD.0;
    }
    if is_in_upper_layer(inode)? {
        flags |= ExecFlags::UPPER_LAYER.0;
    }
    Ok(flags)
}

/// Whether the credentials changed with the program. `begin_new_exec()` fills the bit in before the tracepoint.
#[inline(always)]
fn secure(bprm: Address) -> Result<u32, LossReason> {
    let bit = BPRM_SECUREEXEC_BIT.load();
    if bit == Field::ABSENT {
        return Ok(0);
    }
    let byte: u8 = read(bprm.0.wrapping_add(u64::from(bit / 8)))?;
    Ok(if byte >> (bit % 8) & 1 == 1 { ExecFlags::SECURE.0 } else { 0 })
}

/// The file name and, for a script, the interpreter.
#[inline(always)]
fn fill_names(draft: Draft, bprm: Address) -> Result<u32, LossReason> {
    let filename = bprm.follow(&BPRM_FILENAME)?;
    let len = draft.append_kernel_string(filename, FILENAME_BYTES_MAX)? - 1;
    draft.shorten(1);
    draft.put(BODY + offset_of!(ExecBody, filename_len), len as u16);

    // `bprm_change_interp()` replaces the pointer when a script or `binfmt_misc` names an interpreter.
    let interpreter = bprm.follow(&BPRM_INTERP)?;
    let (mut flags, mut len) = (0, 0);
    if interpreter != filename {
        len = draft.append_kernel_string(interpreter, INTERPRETER_BYTES_MAX)? - 1;
        draft.shorten(1);
        flags = ExecFlags::SCRIPT.0;
    }
    draft.put(BODY + offset_of!(ExecBody, interpreter_len), len as u16);
    Ok(flags)
}

/// argv, from the new address space: the kernel has copied it there, nobody has run in it yet.
#[inline(always)]
fn fill_argv(draft: Draft, mm: Address) -> Result<u32, LossReason> {
    let start: u64 = mm.field(&MM_ARG_START)?;
    let end: u64 = mm.field(&MM_ARG_END)?;
    let mut len = end.wrapping_sub(start);
    let mut flags = 0;
    if len > ARGV_BYTES_MAX {
        len = ARGV_BYTES_MAX;
        flags = ExecFlags::ARGV_TRUNCATED.0;
    }
    if draft.append_user_bytes(start, len).is_err() {
        len = 0;
        flags = ExecFlags::ARGV_FAULT.0;
    }
    draft.put(BODY + offset_of!(ExecBody, argv_len), len as u16);
    Ok(flags)
}

/// Name of the controlling terminal.
#[inline(always)]
fn terminal(task: Address) -> Result<[u64; 2], LossReason> {
    let tty = if has(&SIGNAL_TTY) { task.follow(&TASK_SIGNAL)?.follow(&SIGNAL_TTY)? } else { Address(0) };
    if tty.is_null() {
        return Ok([0; 2]);
    }
    let mut name: [u64; 2] = tty.field(&TTY_NAME)?;
    // What stands behind the NUL is not the name's.
    let bytes = zerocopy::IntoBytes::as_mut_bytes(&mut name);
    let mut is_over = false;
    for byte in bytes {
        is_over |= *byte == 0;
        if is_over {
            *byte = 0;
        }
    }
    Ok(name)
}

/// Whether a file of an overlay was written after its lower layers were made. The kernel keeps the upper layer's dentry
/// directly behind the inode that it shows (`struct ovl_inode` in `fs/overlayfs/ovl_entry.h`, 5.10 to 6.18).
#[inline(always)]
fn is_in_upper_layer(inode: Address) -> Result<bool, LossReason> {
    if inode.follow(&INODE_SB)?.field::<u64>(&SB_MAGIC)? != OVERLAYFS_SUPER_MAGIC || INODE_BYTES.load() == 0 {
        return Ok(false);
    }
    Ok(read::<u64>(inode.0.wrapping_add(u64::from(INODE_BYTES.load())))? != 0)
}

/// Whether a file is a memfd: without a link, and named as `memfd_create()` names it.
#[inline(always)]
fn is_memfd(inode: Address, dentry: Address) -> Result<bool, LossReason> {
    if inode.field::<u32>(&INODE_NLINK)? != 0 {
        return Ok(false);
    }
    let name: [u8; 6] = read(dentry.follow(&DENTRY_NAME)?.0)?;
    Ok(name == *b"memfd:")
}

/// `(void *, struct task_struct *parent, struct task_struct *child)`. The child has not run yet:
/// `kernel_clone()` wakes it afterwards.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let child = Address(ctx.arg::<u64>(1));
    let (Ok(pid), Ok(tgid)) = (child.field::<u32>(&TASK_PID), child.field::<u32>(&TASK_TGID)) else {
        return lose(Kind::FORK, LossReason::Fault);
    };
    if pid != tgid {
        return 0;
    }
    verdicts::inherit(child, tgid);
    emit(Kind::FORK, size_of::<ForkBody>(), |draft| fill_fork(draft, child, tgid))
}

#[inline(always)]
fn fill_fork(draft: Draft, child: Address, pid: u32) -> Result<(), LossReason> {
    let parent = child.follow(&TASK_REAL_PARENT)?;
    draft.put(BODY + offset_of!(ForkBody, child_start_time_ns), start_time(child)?);
    draft.put(BODY + offset_of!(ForkBody, child_parent_start_time_ns), start_time(parent)?);
    draft.put(BODY + offset_of!(ForkBody, child_cgroup_id), cgroup_id(child)?);
    draft.put(BODY + offset_of!(ForkBody, child_pid), pid);
    draft.put(BODY + offset_of!(ForkBody, child_ppid), parent.field::<u32>(&TASK_TGID)?);
    let new_namespaces = namespaces::difference(Address::current_task(), child)?;
    draft.put(BODY + offset_of!(ForkBody, new_namespaces), new_namespaces);
    draft.put(BODY + offset_of!(ForkBody, reserved), 0u32);
    Ok(())
}

/// `(void *, struct task_struct *task[, bool group_dead])`.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    pending::lose_unfinished();
    sockets::lose_remembered_listen();
    let task = Address::current_task();
    let is_last = if EXIT_HAS_GROUP_DEAD.load() != 0 {
        Ok(ctx.arg::<u64>(1) & 0xff != 0)
    } else {
        // `do_exit()` has counted this thread down already, and threads that end at once may all see 0 here.
        is_first_to_see_none(task)
    };
    match is_last {
        Ok(false) => 0,
        Ok(true) => {
            verdicts::forget_process();
            emit(Kind::EXIT, size_of::<ExitBody>(), |draft| fill_exit(draft, task))
        }
        Err(reason) => lose(Kind::EXIT, reason),
    }
}

/// Whether no thread of the process is left, and no other thread of it has been told so.
#[inline(always)]
fn is_first_to_see_none(task: Address) -> Result<bool, LossReason> {
    if task.follow(&TASK_SIGNAL)?.field::<u32>(&SIGNAL_LIVE)? != 0 {
        return Ok(false);
    }
    let process = [u64::from(task.field::<u32>(&TASK_TGID)?), start_time(task)?];
    // Without room it is told once more, which the agent takes as none.
    Ok(ENDED.insert(process, 0, u64::from(BPF_NOEXIST)) != Err(EEXIST))
}

#[inline(always)]
fn fill_exit(draft: Draft, task: Address) -> Result<(), LossReason> {
    // As `wait_task_zombie()`: the group's code if the group was made to exit, else the task's own.
    let signal = task.follow(&TASK_SIGNAL)?;
    let is_group_exit = signal.field::<u32>(&SIGNAL_FLAGS)? & SIGNAL_GROUP_EXIT != 0;
    let status = if is_group_exit {
        signal.field::<u32>(&SIGNAL_GROUP_EXIT_CODE)?
    } else {
        // The last thread to end need not be the leader.
        task.follow(&TASK_GROUP_LEADER)?.field::<u32>(&TASK_EXIT_CODE)?
    };
    draft.put(BODY + offset_of!(ExitBody, wait_status), status);
    draft.put(BODY + offset_of!(ExitBody, reserved), 0u32);
    Ok(())
}
