//! Credentials, other processes, namespaces, BPF programs and kernel modules. Not what an exec grants. It may call the
//! other modules of this crate.

use crate::draft::{BODY, Draft};
use crate::emit::{emit, is_agent};
use crate::files::file_of;
use crate::globals::{
    BPF_AUX_ID, BPF_AUX_NAME, BPF_PROG_AUX, BPF_PROG_LEN, BPF_PROG_TAG, BPF_PROG_TYPE, CRED_EGID, CRED_EUID,
    CRED_GID, CRED_UID, FILE_PRIVATE_DATA, MODULE_NAME, MODULE_TAINTS, TASK_CRED, TASK_PTRACE_ENTRY,
    TASK_PTRACED, TASK_TGID,
};
use crate::header::start_time;
use crate::namespaces::{self, CLONE_NEW, capabilities};
use crate::read::Address;
use crate::syscalls::{Call, Number};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::mem::offset_of;
use sensor_event::{
    BpfBody, CredsBody, Ids, Kind, LossReason, ModuleBody, NamespaceBody, SyscallClass, TargetBody,
};

/// `include/uapi/linux/ptrace.h`.
const PTRACE_TRACEME: u32 = 0;
const PTRACE_ATTACH: u32 = 16;
const PTRACE_SEIZE: u32 = 0x4206;

/// `include/uapi/linux/bpf.h`.
const BPF_PROG_LOAD: u32 = 5;

/// What this tier does not know of the time before a call.
const UNKNOWN: u32 = u32::MAX;

/// A call of [`sensor_event::SyscallFamily::Privilege`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exit_privilege(class: u32, regs: u64, result: u64) -> u32 {
    let call = Call::new(class, regs, result);
    match call.class {
        SyscallClass::SET_IDS if call.result == 0 => emit_creds(),
        SyscallClass::SET_IDS => 0,
        SyscallClass::PTRACE => ptrace(&call),
        SyscallClass::PROCESS_VM_WRITEV => vm_write(&call),
        SyscallClass::BPF => bpf(&call),
        _ => namespace(&call),
    }
}

/// Reports the current task's credentials.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_creds() -> u32 {
    emit(Kind::CREDS, size_of::<CredsBody>(), fill_creds);
    0
}

#[inline(always)]
fn fill_creds(draft: Draft) -> Result<(), LossReason> {
    let task = Address::current_task();
    let cred = task.follow(&TASK_CRED)?;
    let (effective, permitted) = capabilities(task)?;
    draft.put(BODY + offset_of!(CredsBody, old_cap_effective), u64::MAX);
    draft.put(BODY + offset_of!(CredsBody, old_cap_permitted), u64::MAX);
    draft.put(BODY + offset_of!(CredsBody, cap_effective), effective);
    draft.put(BODY + offset_of!(CredsBody, cap_permitted), permitted);
    draft.put(BODY + offset_of!(CredsBody, old), [UNKNOWN; 4]);
    let new = BODY + offset_of!(CredsBody, new);
    draft.put(new + offset_of!(Ids, uid), cred.field::<u32>(&CRED_UID)?);
    draft.put(new + offset_of!(Ids, euid), cred.field::<u32>(&CRED_EUID)?);
    draft.put(new + offset_of!(Ids, gid), cred.field::<u32>(&CRED_GID)?);
    draft.put(new + offset_of!(Ids, egid), cred.field::<u32>(&CRED_EGID)?);
    Ok(())
}

#[inline(always)]
fn ptrace(call: &Call) -> u32 {
    let request = call.argument(Number::First) as u32;
    if !matches!(request, PTRACE_TRACEME | PTRACE_ATTACH | PTRACE_SEIZE) {
        return 0;
    }
    let given = if request == PTRACE_TRACEME { 0 } else { call.argument(Number::Second) as u32 };
    let target = match request {
        PTRACE_TRACEME => Address::current_task(),
        // `__ptrace_link()` puts the newest in front.
        _ if call.result == 0 => tracee().unwrap_or(Address(0)),
        _ => Address(0),
    };
    emit_target(Kind::PTRACE.0.into(), u64::from(given), request, target.0, call.errno() as u32)
}

/// The task that the current one attached to last.
#[inline(always)]
fn tracee() -> Result<Address, LossReason> {
    Ok(Address::current_task().follow(&TASK_PTRACED)?.container(&TASK_PTRACE_ENTRY))
}

/// `process_vm_writev()`: only the number that the caller gave tells whose memory it was.
#[inline(always)]
fn vm_write(call: &Call) -> u32 {
    let areas = call.argument(Number::Fifth) as u32;
    let given = call.argument(Number::First) & 0xffff_ffff;
    emit_target(Kind::VM_WRITE.0.into(), given, areas, 0, call.errno() as u32)
}

/// Reports that the current task reached into another one, which is null when unknown.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_target(kind: u32, given_pid: u64, request: u32, target: u64, errno: u32) -> u32 {
    let target = Address(target);
    emit(Kind(kind as u16), size_of::<TargetBody>(), |draft| {
        let (mut pid, mut start) = (0u32, 0u64);
        if !target.is_null() {
            (pid, start) = (target.field(&TASK_TGID)?, start_time(target)?);
        }
        draft.put(BODY + offset_of!(TargetBody, target_start_time_ns), start);
        draft.put(BODY + offset_of!(TargetBody, target_pid), pid);
        draft.put(BODY + offset_of!(TargetBody, given_pid), given_pid as u32);
        draft.put(BODY + offset_of!(TargetBody, request), request);
        draft.put(BODY + offset_of!(TargetBody, result), errno as i32);
        Ok(())
    });
    0
}

/// `bpf()`: the loaded program is the kernel's object behind the new descriptor.
#[inline(always)]
fn bpf(call: &Call) -> u32 {
    if call.argument(Number::First) as u32 != BPF_PROG_LOAD {
        return 0;
    }
    emit(Kind::BPF_LOAD, size_of::<BpfBody>(), |draft| fill_bpf(draft, call));
    0
}

#[inline(always)]
fn fill_bpf(draft: Draft, call: &Call) -> Result<(), LossReason> {
    let (mut name, mut tag) = ([0u64; 2], 0u64);
    let (mut id, mut kind, mut len) = (0u32, 0u32, 0u32);
    if call.result >= 0 {
        let program = file_of(call.result as u32)?.follow(&FILE_PRIVATE_DATA)?;
        let aux = program.follow(&BPF_PROG_AUX)?;
        (name, id) = (aux.field(&BPF_AUX_NAME)?, aux.field(&BPF_AUX_ID)?);
        (tag, kind) = (program.field(&BPF_PROG_TAG)?, program.field(&BPF_PROG_TYPE)?);
        len = program.field(&BPF_PROG_LEN)?;
    }
    draft.put(BODY + offset_of!(BpfBody, name), name);
    draft.put(BODY + offset_of!(BpfBody, tag), tag);
    draft.put(BODY + offset_of!(BpfBody, program_id), id);
    draft.put(BODY + offset_of!(BpfBody, program_type), kind);
    draft.put(BODY + offset_of!(BpfBody, result), call.errno());
    draft.put(BODY + offset_of!(BpfBody, instructions), len);
    Ok(())
}

/// `unshare()` and `setns()`.
#[inline(always)]
fn namespace(call: &Call) -> u32 {
    let is_setns = call.class == SyscallClass::SETNS;
    let named = call.argument(if is_setns { Number::Second } else { Number::First }) as u32;
    // Other things can be unshared: open files, for one.
    if !is_setns && named & CLONE_NEW == 0 {
        return 0;
    }
    emit_namespace(named & CLONE_NEW, u32::from(is_setns), call.errno() as u32)
}

/// Reports the current task's namespaces.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_namespace(flags: u32, is_setns: u32, errno: u32) -> u32 {
    emit(Kind::NAMESPACE, size_of::<NamespaceBody>(), |draft| {
        namespaces::put(draft, BODY + offset_of!(NamespaceBody, namespaces), Address::current_task());
        draft.put(BODY + offset_of!(NamespaceBody, flags), flags);
        draft.put(BODY + offset_of!(NamespaceBody, result), errno as i32);
        draft.put(BODY + offset_of!(NamespaceBody, is_setns), is_setns);
        draft.put(BODY + offset_of!(NamespaceBody, reserved), 0u32);
        Ok(())
    });
    0
}

/// `(void *, struct module *mod)`: it is in the kernel, and about to be initialised.
#[btf_tracepoint(function = "module_load")]
pub fn module_load(ctx: BtfTracePointContext) -> i32 {
    let module = Address(ctx.arg::<u64>(0));
    if is_agent() {
        return 0;
    }
    emit(Kind::MODULE_LOAD, size_of::<ModuleBody>(), |draft| {
        let name: [u64; 7] = module.field(&MODULE_NAME)?;
        draft.put(BODY + offset_of!(ModuleBody, name), name);
        draft.put(BODY + offset_of!(ModuleBody, taints), module.field::<u64>(&MODULE_TAINTS)?);
        Ok(())
    })
}
