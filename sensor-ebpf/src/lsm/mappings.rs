//! Executable mappings of files. Not the program of an exec, which its own record names. It may call the other modules of
//! this crate.

use super::{argument, errno, pointer, pointer_errno};
use crate::draft::BODY;
use crate::emit::{emit_from, is_agent};
use crate::globals as at;
use crate::path::{self, Place};
use crate::read::Address;
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use core::mem::offset_of;
use sensor_event::{FileBody, Kind, PathFlags, Tier};

const PROT_EXEC: u64 = 4;
const VM_EXEC: u64 = 4;

/// `(struct file *file, unsigned long addr, unsigned long len, unsigned long prot, ...)`, returns the address or an
/// error.
#[fexit(function = "vm_mmap_pgoff")]
pub fn lsm_mmap(ctx: FExitContext) -> i32 {
    let (file, protection) = (pointer(&ctx, &at::MMAP_FILE), argument(&ctx, &at::MMAP_PROTECTION));
    let errno = pointer_errno(argument(&ctx, &at::MMAP_RESULT)).unwrap_or(0);
    if !file.is_null() && protection & PROT_EXEC != 0 && !is_agent() && !super::is_in_exec() {
        lsm_emit_mapping(file.0, protection, errno as u32);
    }
    0
}

/// `(struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)`: `mprotect()`. The result is the security
/// modules'; behind it, only a lack of memory can stop the call.
#[fexit(function = "security_file_mprotect")]
pub fn lsm_mprotect(ctx: FExitContext) -> i32 {
    let (area, protection) = (pointer(&ctx, &at::MPROTECT_AREA), argument(&ctx, &at::MPROTECT_PROTECTION));
    if protection & PROT_EXEC == 0 || is_agent() {
        return 0;
    }
    let file = area.follow(&at::VMA_FILE).unwrap_or(Address(0));
    if !file.is_null() && area.field::<u64>(&at::VMA_FLAGS).unwrap_or(0) & VM_EXEC == 0 {
        lsm_emit_mapping(file.0, protection, errno(argument(&ctx, &at::MPROTECT_RESULT)) as u32);
    }
    0
}

/// Reports an executable mapping of a file.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_emit_mapping(file: u64, protection: u64, errno: u32) -> u32 {
    let file = Address(file);
    emit_from(Tier::LSM, Kind::EXEC_MAP, size_of::<FileBody>(), |draft| {
        let inode = file.follow(&at::FILE_INODE)?;
        draft.put(BODY + offset_of!(FileBody, inode), inode.field::<u64>(&at::INODE_INO)?);
        draft.put(BODY + offset_of!(FileBody, dev), inode.follow(&at::INODE_SB)?.field::<u32>(&at::SB_DEV)?);
        draft.put(BODY + offset_of!(FileBody, mode), u32::from(inode.field::<u16>(&at::INODE_MODE)?));
        draft.put(BODY + offset_of!(FileBody, open_flags), protection as u32);
        draft.put(BODY + offset_of!(FileBody, flags), 0u32);
        draft.put(BODY + offset_of!(FileBody, result), errno);
        draft.put(BODY + offset_of!(FileBody, stamp), 0u32);
        let place =
            Place { mount: file.follow(&at::FILE_PATH_MNT)?, dentry: file.follow(&at::FILE_PATH_DENTRY)? };
        path::append(draft, BODY + offset_of!(FileBody, path), &place);
        path::write_reference(draft, BODY + offset_of!(FileBody, name), draft.len(), PathFlags::default());
        Ok(())
    });
    0
}
