//! What a thread is about to do to a name: remembered where the kernel asks its security modules, which is given the
//! mount, and emitted where the file system is done, which knows the result. Not the programs. It may call the other
//! modules of this crate.
//!
//! An overlay calls the same functions for the layers below it: a result counts only if it is of the remembered dentry.

use crate::draft::{BODY, Draft};
use crate::emit::{emit_from, lose};
use crate::globals::{DENTRY_INODE, DENTRY_NAME, INODE_INO, INODE_SB, SB_DEV};
use crate::path::{self, Place};
use crate::read::Address;
use crate::verdicts;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use core::mem::offset_of;
use sensor_event::{FileFlags, Kind, LossReason, NameBody, PathFlags, RenameBody, Tier};

/// `NAME_MAX` and its NUL.
const NAME_BYTES: usize = 256;

/// `PATH_MAX`: what a symbolic link can say.
const TEXT_BYTES_MAX: u32 = 4096;

/// Threads that can be inside such a call at once; one more and its record is counted as lost.
const PENDING_MAX: u32 = 2048;

/// By thread (`bpf_get_current_pid_tgid()`). An entry is removed when it is emitted; what a thread left behind is counted
/// as lost at its next call or its end.
#[map]
static PENDING: HashMap<u64, Pending> = HashMap::with_max_entries(PENDING_MAX, 0);

/// One call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    /// The mount that both names are in: `struct vfsmount`.
    pub mount: u64,
    /// The dentry of the directory that the (old) name is in; 0 for a link, whose old file is `dentry`.
    pub directory: u64,
    /// The dentry that the result must be of.
    pub dentry: u64,
    /// The dentry of the directory that the new name is in.
    pub new_directory: u64,
    /// As the body's.
    pub value: u64,
    inode: u64,
    dev: u32,
    /// As the body's.
    pub flags: u32,
    kind: u32,
    reserved: u32,
    name: [u8; NAME_BYTES],
    new_name: [u8; NAME_BYTES],
}

/// What an entry begins as: it is too long for a program's stack.
static EMPTY: Pending = Pending {
    mount: 0,
    directory: 0,
    dentry: 0,
    new_directory: 0,
    value: 0,
    inode: 0,
    dev: 0,
    flags: 0,
    kind: 0,
    reserved: 0,
    name: [0; NAME_BYTES],
    new_name: [0; NAME_BYTES],
};

/// Accounts for an entry of this thread that was never finished, if there is one: this kernel's compiler merged the
/// function whose end is watched into its callers.
#[inline(always)]
pub fn lose_unfinished() {
    let thread = bpf_get_current_pid_tgid();
    if let Some(pending) = PENDING.get_ptr(thread) {
        // SAFETY: as in `begin`.
        lose(Kind(unsafe { (*pending).kind } as u16), LossReason::Fault);
        forget(thread);
    }
}

/// Begins the entry of this thread. `None` when there is no room, which is accounted for.
#[inline(always)]
pub fn begin<'a>(kind: Kind) -> Option<&'a mut Pending> {
    lose_unfinished();
    let thread = bpf_get_current_pid_tgid();
    if PENDING.insert(thread, &EMPTY, 0).is_ok()
        && let Some(pending) = PENDING.get_ptr_mut(thread)
    {
        // SAFETY: the address of an aligned map value; only this thread's programs use the entry of its number.
        let pending = unsafe { &mut *pending };
        pending.kind = u32::from(kind.0);
        return Some(pending);
    }
    lose(kind, LossReason::MapFull);
    None
}

impl Pending {
    /// Takes the name that a dentry has now.
    #[inline(always)]
    pub fn take_name(&mut self, dentry: Address) {
        copy_name(&mut self.name, dentry);
    }

    /// As [`Self::take_name`], the new one.
    #[inline(always)]
    pub fn take_new_name(&mut self, dentry: Address) {
        copy_name(&mut self.new_name, dentry);
    }

    /// Takes a kernel string that is the second text of the record, in the place of a new name.
    #[inline(always)]
    pub fn take_second_text(&mut self, text: Address) {
        copy_string(&mut self.new_name, text);
    }

    /// Takes what a dentry is a name of, if that is there.
    #[inline(always)]
    pub fn take_inode(&mut self, dentry: Address) {
        if let Ok(inode) = dentry.follow(&DENTRY_INODE)
            && !inode.is_null()
        {
            self.inode = inode.field(&INODE_INO).unwrap_or(0);
            self.dev = inode.follow(&INODE_SB).and_then(|sb| sb.field(&SB_DEV)).unwrap_or(0);
        }
    }
}

#[inline(always)]
fn copy_name(name: &mut [u8; NAME_BYTES], dentry: Address) {
    if let Ok(source) = dentry.follow(&DENTRY_NAME) {
        copy_string(name, source);
    }
}

#[inline(always)]
fn copy_string(to: &mut [u8; NAME_BYTES], source: Address) {
    // SAFETY: the destination has that many bytes; the helper checks the source, and leaves the destination empty if it
    // is bad.
    unsafe { bpf_probe_read_kernel_str(to.as_mut_ptr().cast(), NAME_BYTES as u32, source.0 as *const _) };
}

/// Whether the entry of this thread is of this kind, with these of [`Pending::flags`]: for ends of calls that do not say
/// which dentry they were of. Another entry was never finished, which is accounted for.
#[inline(always)]
pub fn is_of(kind: Kind, flags: FileFlags) -> bool {
    let Some(pending) = PENDING.get_ptr(bpf_get_current_pid_tgid()) else { return false };
    // SAFETY: as in `begin`.
    let pending = unsafe { &*pending };
    if pending.kind == u32::from(kind.0) && pending.flags == flags.0 {
        return true;
    }
    lose_unfinished();
    false
}

/// The entry of this thread, if it is about `dentry`.
#[inline(always)]
pub fn of<'a>(dentry: Address) -> Option<&'a mut Pending> {
    let pending = PENDING.get_ptr_mut(bpf_get_current_pid_tgid())?;
    // SAFETY: as in `begin`.
    let pending = unsafe { &mut *pending };
    (pending.dentry == dentry.0).then_some(pending)
}

/// Emits the entry of this thread, of an operation on one name, and removes it. `text` is the address of a kernel
/// string, or 0; `result` is 0 or a positive errno.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_emit_name(text: u64, result: u32) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let Some(pending) = PENDING.get_ptr_mut(thread) else { return 0 };
    // SAFETY: as in `begin`.
    let pending = unsafe { &*pending };
    let makes_directory = pending.kind == u32::from(Kind::FILE_MKDIR.0) && result == 0;
    if makes_directory {
        verdicts::note_new_directory();
    }
    emit_from(Tier::LSM, Kind(pending.kind as u16), size_of::<NameBody>(), |draft| {
        draft.put(BODY + offset_of!(NameBody, inode), pending.inode);
        draft.put(BODY + offset_of!(NameBody, value), pending.value);
        draft.put(BODY + offset_of!(NameBody, dev), pending.dev);
        draft.put(BODY + offset_of!(NameBody, result), result);
        draft.put(BODY + offset_of!(NameBody, flags), pending.flags);
        let base = Place { mount: Address(pending.mount), dentry: Address(pending.directory) };
        path::append(draft, BODY + offset_of!(NameBody, base), &base);
        append_name(draft, BODY + offset_of!(NameBody, name), &pending.name);
        let text_len = draft.append_text(Address(text), TEXT_BYTES_MAX);
        draft.put(BODY + offset_of!(NameBody, text_len), text_len);
        let second_text_len = draft.append_text(Address(pending.new_name.as_ptr() as u64), NAME_BYTES as u32);
        draft.put(BODY + offset_of!(NameBody, second_text_len), second_text_len);
        Ok(())
    });
    if makes_directory {
        verdicts::note_new_directory();
    }
    forget(thread)
}

/// As [`lsm_emit_name`], of an operation on two names.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_emit_rename(result: u32) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let Some(pending) = PENDING.get_ptr_mut(thread) else { return 0 };
    // SAFETY: as in `begin`.
    let pending = unsafe { &*pending };
    emit_from(Tier::LSM, Kind(pending.kind as u16), size_of::<RenameBody>(), |draft| {
        draft.put(BODY + offset_of!(RenameBody, inode), pending.inode);
        draft.put(BODY + offset_of!(RenameBody, dev), pending.dev);
        draft.put(BODY + offset_of!(RenameBody, result), result);
        draft.put(BODY + offset_of!(RenameBody, rename_flags), pending.value as u32);
        draft.put(BODY + offset_of!(RenameBody, flags), FileFlags::default());
        let mount = Address(pending.mount);
        let is_link = pending.directory == 0;
        let old = Address(if is_link { pending.dentry } else { pending.directory });
        path::append(draft, BODY + offset_of!(RenameBody, old_base), &Place { mount, dentry: old });
        append_name(draft, BODY + offset_of!(RenameBody, old_name), &pending.name);
        let new = Place { mount, dentry: Address(pending.new_directory) };
        path::append(draft, BODY + offset_of!(RenameBody, new_base), &new);
        append_name(draft, BODY + offset_of!(RenameBody, new_name), &pending.new_name);
        Ok(())
    });
    forget(thread)
}

/// Appends a remembered name as one component, or nothing if it is empty.
#[inline(always)]
fn append_name(draft: Draft, reference: usize, name: &[u8; NAME_BYTES]) {
    let start = draft.len();
    let mut flags = PathFlags::default();
    if name[0] != 0 && draft.append_kernel_string(Address(name.as_ptr() as u64), NAME_BYTES as u32).is_err() {
        flags = PathFlags::FAULT;
    }
    path::write_reference(draft, reference, start, flags);
}

#[inline(always)]
fn forget(thread: u64) -> u32 {
    // Fails only for what is not there.
    PENDING.remove(thread).is_err().into()
}
