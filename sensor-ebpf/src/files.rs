//! Opens that can change a file, removed and changed names, seen at the exit of their system calls. Not reads. It
//! may call the other modules of this crate.
//!
//! An opened file is the kernel's own object, taken from the returned descriptor: only another thread that closes
//! or replaces the descriptor before the call returns can change what is found. The names of the other calls are
//! read from the caller's memory when the call is done, and say so ([`PathFlags::CALLER`]).

use crate::draft::{BODY, Draft, bounded_reference};
use crate::emit::{emit, lose};
use crate::globals::{
    FDT_FD, FDT_MAX_FDS, FILE_INODE, FILE_MODE, FILE_PATH_DENTRY, FILE_PATH_MNT, FILES_FDT, FS_PWD_DENTRY,
    FS_PWD_MNT, INODE_INO, INODE_MODE, INODE_SB, SB_DEV, TASK_FILES, TASK_FS,
};
use crate::path::{self, Place};
use crate::read::{Address, read, read_user};
use crate::syscalls::{AT_FDCWD, Arguments};
use core::mem::offset_of;
use sensor_event::{
    FileBody, FileFlags, Kind, LossReason, NameBody, PathFlags, PathRef, RenameBody, SyscallClass,
};

/// `include/uapi/asm-generic/fcntl.h`; the same on x86 and arm64.
const O_ACCMODE: u32 = 0o3;
const O_WRONLY: u32 = 0o1;
const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;

/// `include/linux/fs.h`: the file was opened for writing, and the open created it.
const FMODE_WRITE: u32 = 2;
const FMODE_CREATED: u32 = 0x10_0000;

/// `include/uapi/linux/stat.h`.
const S_IFMT: u16 = 0o170_000;
const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFSOCK: u16 = 0o140_000;

/// `unlinkat()` removes a directory.
const AT_REMOVEDIR: u64 = 0x200;

/// `PATH_MAX`.
const NAME_BYTES_MAX: u32 = 4096;

/// An open worth a record.
struct Opened {
    file: Address,
    inode: Address,
    mode: u16,
    open_flags: u32,
    flags: u32,
}

/// `open()`, `openat()`, `openat2()`, `creat()`.
#[inline(always)]
pub fn open(class: SyscallClass, arguments: Arguments, result: i64) -> i32 {
    if result < 0 {
        return 0;
    }
    let (open_flags, flags) = match open_flags(class, arguments) {
        Ok(flags) => flags,
        Err(reason) => return lose(Kind::FILE_OPEN, reason),
    };
    // What the caller could rewrite while the call ran decides nothing: then only the file itself tells.
    let is_from_caller = flags & FileFlags::FLAGS_FROM_CALLER.0 != 0;
    if !is_from_caller && open_flags & (O_ACCMODE | O_CREAT | O_TRUNC) == 0 {
        return 0;
    }
    match inspect(result as u32, open_flags, flags) {
        Ok(None) => 0,
        Ok(Some(opened)) => emit(Kind::FILE_OPEN, size_of::<FileBody>(), |draft| fill_open(draft, &opened)),
        Err(reason) => lose(Kind::FILE_OPEN, reason),
    }
}

/// The `O_*` flags of the call, and where they come from.
#[inline(always)]
fn open_flags(class: SyscallClass, arguments: Arguments) -> Result<(u32, u32), LossReason> {
    Ok(match class {
        SyscallClass::OPEN => (arguments.second()? as u32, 0),
        SyscallClass::OPENAT => (arguments.third()? as u32, 0),
        SyscallClass::CREAT => (O_CREAT | O_WRONLY | O_TRUNC, 0),
        // `open_how.flags`: 64 bits, first member, an interface that does not change.
        _ => {
            (read_user::<u64>(arguments.third()?).unwrap_or_default() as u32, FileFlags::FLAGS_FROM_CALLER.0)
        }
    })
}

/// Looks at the file behind the new descriptor. `None` when the open changes nothing: the file existed, or it is
/// no file (a device, pipe or socket).
#[inline(always)]
fn inspect(fd: u32, open_flags: u32, flags: u32) -> Result<Option<Opened>, LossReason> {
    let file = file_of(fd)?;
    let inode = file.follow(&FILE_INODE)?;
    let mode: u16 = inode.field(&INODE_MODE)?;
    if matches!(mode & S_IFMT, S_IFCHR | S_IFIFO | S_IFSOCK) {
        return Ok(None);
    }
    let file_mode: u32 = file.field(&FILE_MODE)?;
    let is_created = file_mode & FMODE_CREATED != 0;
    if file_mode & FMODE_WRITE == 0 && !is_created && open_flags & O_TRUNC == 0 {
        return Ok(None);
    }
    let flags = if is_created { flags | FileFlags::CREATED.0 } else { flags };
    Ok(Some(Opened { file, inode, mode, open_flags, flags }))
}

#[inline(always)]
fn fill_open(draft: Draft, opened: &Opened) -> Result<(), LossReason> {
    draft.put(BODY + offset_of!(FileBody, inode), opened.inode.field::<u64>(&INODE_INO)?);
    draft.put(BODY + offset_of!(FileBody, dev), opened.inode.follow(&INODE_SB)?.field::<u32>(&SB_DEV)?);
    draft.put(BODY + offset_of!(FileBody, mode), u32::from(opened.mode));
    draft.put(BODY + offset_of!(FileBody, open_flags), opened.open_flags);
    draft.put(BODY + offset_of!(FileBody, flags), opened.flags);
    draft.put(BODY + offset_of!(FileBody, result), 0i32);
    draft.put(BODY + offset_of!(FileBody, reserved), 0u32);
    path::append(draft, BODY + offset_of!(FileBody, path), &place_of(opened.file)?);
    path::write_reference(draft, BODY + offset_of!(FileBody, name), draft.len(), PathFlags::default());
    Ok(())
}

/// `unlink()`, `unlinkat()`, `rmdir()`.
#[inline(always)]
pub fn unlink(class: SyscallClass, arguments: Arguments, result: i64) -> i32 {
    emit(Kind::FILE_UNLINK, size_of::<NameBody>(), |draft| {
        let (mut dirfd, mut name, mut flags) = (AT_FDCWD, arguments.first()?, 0);
        if class == SyscallClass::UNLINKAT {
            (dirfd, name) = (name as i32, arguments.second()?);
        }
        if class == SyscallClass::RMDIR
            || (class == SyscallClass::UNLINKAT && arguments.third()? & AT_REMOVEDIR != 0)
        {
            flags = FileFlags::DIRECTORY.0;
        }
        draft.put(BODY + offset_of!(NameBody, result), errno(result));
        draft.put(BODY + offset_of!(NameBody, flags), flags);
        draft.put(BODY + offset_of!(NameBody, inode), 0u64);
        draft.put(BODY + offset_of!(NameBody, value), 0u64);
        draft.put(BODY + offset_of!(NameBody, dev), 0u32);
        draft.put(BODY + offset_of!(NameBody, text_len), 0u32);
        append_name(draft, BODY + offset_of!(NameBody, base), dirfd, name);
        Ok(())
    })
}

/// `rename()`, `renameat()`, `renameat2()`.
#[inline(always)]
pub fn rename(class: SyscallClass, arguments: Arguments, result: i64) -> i32 {
    emit(Kind::FILE_RENAME, size_of::<RenameBody>(), |draft| {
        let (mut old_dirfd, mut new_dirfd, mut flags) = (AT_FDCWD, AT_FDCWD, 0);
        let (mut old_name, mut new_name) = (arguments.first()?, arguments.second()?);
        if class != SyscallClass::RENAME {
            (old_dirfd, old_name) = (old_name as i32, new_name);
            (new_dirfd, new_name) = (arguments.third()? as i32, arguments.fourth()?);
        }
        if class == SyscallClass::RENAMEAT2 {
            flags = arguments.fifth()? as u32;
        }
        draft.put(BODY + offset_of!(RenameBody, result), errno(result));
        draft.put(BODY + offset_of!(RenameBody, rename_flags), flags);
        draft.put(BODY + offset_of!(RenameBody, inode), 0u64);
        draft.put(BODY + offset_of!(RenameBody, dev), 0u32);
        draft.put(BODY + offset_of!(RenameBody, flags), 0u32);
        append_name(draft, BODY + offset_of!(RenameBody, old_base), old_dirfd, old_name);
        append_name(draft, BODY + offset_of!(RenameBody, new_base), new_dirfd, new_name);
        Ok(())
    })
}

/// A call's result as 0 or a positive errno.
#[inline(always)]
fn errno(result: i64) -> i32 {
    if result < 0 { -(result as i32) } else { 0 }
}

/// Appends the directory that a name starts at, and the name, with their references: two, one behind the other.
#[inline(always)]
fn append_name(draft: Draft, references: usize, dirfd: i32, name: u64) {
    append_base_and_name(draft.index(), references as u32, dirfd as u32, name);
}

/// [`append_name`] as a subprogram; returns what one must, a number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn append_base_and_name(draft: u32, references: u32, dirfd: u32, name: u64) -> u32 {
    let Some(draft) = Draft::at_index(draft) else { return 1 };
    let reference = bounded_reference(references);
    match base(dirfd as i32, name) {
        Ok(place) => path::append(draft, reference, &place),
        Err(_) => path::write_reference(draft, reference, draft.len(), PathFlags::FAULT),
    }
    append_user_name(draft, reference + size_of::<PathRef>(), name);
    0
}

#[inline(always)]
fn base(dirfd: i32, name: u64) -> Result<Place, LossReason> {
    let task = Address::current_task();
    if read_user::<u8>(name)? == b'/' {
        return path::root(task);
    }
    if dirfd != AT_FDCWD {
        return place_of(file_of(dirfd as u32)?);
    }
    let fs = task.follow(&TASK_FS)?;
    Ok(Place { mount: fs.follow(&FS_PWD_MNT)?, dentry: fs.follow(&FS_PWD_DENTRY)? })
}

/// Appends a name from the caller's memory.
#[inline(always)]
fn append_user_name(draft: Draft, reference: usize, name: u64) {
    let start = draft.len();
    let mut flags = PathFlags::CALLER;
    match draft.append_user_string(name, NAME_BYTES_MAX) {
        // Without its NUL.
        Ok(_) => draft.shorten(1),
        Err(_) => flags = flags.union(PathFlags::FAULT),
    }
    path::write_reference(draft, reference, start, flags);
}

/// The file behind a descriptor of the current task: `files_lookup_fd_raw()`, 5.10 to 6.18.
#[inline(always)]
fn file_of(fd: u32) -> Result<Address, LossReason> {
    let table = Address::current_task().follow(&TASK_FILES)?.follow(&FILES_FDT)?;
    if fd >= table.field::<u32>(&FDT_MAX_FDS)? {
        return Err(LossReason::Fault);
    }
    let files = table.follow(&FDT_FD)?;
    let file = Address(read(files.0.wrapping_add(u64::from(fd) * 8))?);
    if file.is_null() { Err(LossReason::Fault) } else { Ok(file) }
}

#[inline(always)]
fn place_of(file: Address) -> Result<Place, LossReason> {
    Ok(Place { mount: file.follow(&FILE_PATH_MNT)?, dentry: file.follow(&FILE_PATH_DENTRY)? })
}

const _: () = {
    let size = size_of::<PathRef>();
    assert!(
        offset_of!(NameBody, name) == offset_of!(NameBody, base) + size,
        "a name's reference follows its base's"
    );
    assert!(offset_of!(RenameBody, old_name) == offset_of!(RenameBody, old_base) + size, "likewise");
    assert!(offset_of!(RenameBody, new_name) == offset_of!(RenameBody, new_base) + size, "likewise");
    assert!(
        BODY.is_multiple_of(8) && BODY + size_of::<sensor_event::ExecBody>() <= 0xf8,
        "`bounded_reference`'s mask"
    );
};
