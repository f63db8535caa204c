//! Calls that act on names, seen at their exit: removals, links, directories, modes, owners, lengths, attributes,
//! mounts, renames. Not opens. It may call the other modules of this crate.
//!
//! The names are read from the caller's memory when the call is done, and say so ([`PathFlags::CALLER`]). Where the
//! caller gave a descriptor, the file is the kernel's own object.

use crate::draft::{BODY, Draft, bounded_reference};
use crate::emit::emit;
use crate::files::{file_of, place_of};
use crate::globals::{
    FILE_INODE, FILE_PATH_MNT, FS_PWD_DENTRY, FS_PWD_MNT, FS_TYPE_NAME, INODE_INO, INODE_SB, MOUNT_SB,
    SB_DEV, SB_TYPE, TASK_FS,
};
use crate::path::{self, Place};
use crate::read::{Address, read_user};
use crate::syscalls::{AT_FDCWD, Call, Number};
use crate::verdicts;
use core::mem::offset_of;
use sensor_event::{FileFlags, Kind, LossReason, NameBody, PathFlags, PathRef, RenameBody, SyscallClass};

/// `unlinkat()` removes a directory.
const AT_REMOVEDIR: u64 = 0x200;

/// `include/uapi/linux/fcntl.h`: the descriptor itself is meant, and the name is empty.
const AT_EMPTY_PATH: u32 = 0x1000;

/// `include/uapi/linux/mount.h`.
const MS_MOVE: u64 = 8192;

/// `PATH_MAX`.
const NAME_BYTES_MAX: u32 = 4096;

/// `XATTR_NAME_MAX`, and more than any file system type's name, with its NUL.
const SECOND_TEXT_BYTES_MAX: u32 = 256;

/// Place of `flags` in `struct xattr_args` (`include/uapi/linux/xattr.h`).
const XATTR_ARGS_FLAGS: u64 = 12;

/// What a call on one name says, wherever its arguments stand.
struct Named {
    kind: Kind,
    /// The directory, or the file itself if `name` is none.
    dirfd: i32,
    /// Address of the name; `None` when the descriptor is what is meant.
    name: Option<u64>,
    value: u64,
    flags: u32,
    text: u64,
    second_text: u64,
}

impl Named {
    #[inline(always)]
    const fn new(kind: Kind, dirfd: i32, name: u64) -> Self {
        Self { kind, dirfd, name: Some(name), value: 0, flags: 0, text: 0, second_text: 0 }
    }

    #[inline(always)]
    const fn of_fd(kind: Kind, fd: i32) -> Self {
        Self { kind, dirfd: fd, name: None, value: 0, flags: 0, text: 0, second_text: 0 }
    }

    #[inline(always)]
    const fn with_value(self, value: u64) -> Self {
        Self { value, ..self }
    }

    #[inline(always)]
    const fn with_text(self, text: u64) -> Self {
        Self { text, ..self }
    }
}

/// A call of [`sensor_event::SyscallFamily::Name`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exit_name(class: u32, regs: u64, result: u64) -> u32 {
    let call = Call::new(class, regs, result);
    let named = named(&call);
    let makes_directory = named.kind == Kind::FILE_MKDIR && call.result == 0;
    if makes_directory {
        verdicts::note_new_directory();
    }
    emit(named.kind, size_of::<NameBody>(), |draft| fill_name(draft, &call, &named));
    if makes_directory {
        verdicts::note_new_directory();
    }
    0
}

#[inline(always)]
fn named(call: &Call) -> Named {
    use Number::{Fifth, First, Fourth, Second, Third};
    let at = |number| call.argument(number);
    let here = |kind| Named::new(kind, AT_FDCWD, call.argument(First));
    let below = |kind| Named::new(kind, call.fd(First), call.argument(Second));
    let on = |kind| Named::of_fd(kind, call.fd(First));
    match call.class {
        SyscallClass::UNLINK => here(Kind::FILE_UNLINK),
        SyscallClass::RMDIR => Named { flags: FileFlags::DIRECTORY.0, ..here(Kind::FILE_UNLINK) },
        SyscallClass::UNLINKAT => {
            let flags = if at(Third) & AT_REMOVEDIR != 0 { FileFlags::DIRECTORY.0 } else { 0 };
            Named { flags, ..below(Kind::FILE_UNLINK) }
        }
        SyscallClass::SYMLINK => Named::new(Kind::FILE_SYMLINK, AT_FDCWD, at(Second)).with_text(at(First)),
        SyscallClass::SYMLINKAT => {
            Named::new(Kind::FILE_SYMLINK, call.fd(Second), at(Third)).with_text(at(First))
        }
        SyscallClass::MKDIR => here(Kind::FILE_MKDIR).with_value(at(Second) & MODE),
        SyscallClass::MKDIRAT => below(Kind::FILE_MKDIR).with_value(at(Third) & MODE),
        SyscallClass::CHMOD => here(Kind::FILE_CHMOD).with_value(at(Second) & MODE),
        SyscallClass::FCHMOD => on(Kind::FILE_CHMOD).with_value(at(Second) & MODE),
        SyscallClass::FCHMODAT => below(Kind::FILE_CHMOD).with_value(at(Third) & MODE),
        SyscallClass::CHOWN => here(Kind::FILE_CHOWN).with_value(ids(at(Second), at(Third))),
        SyscallClass::CHOWN16 => here(Kind::FILE_CHOWN).with_value(ids16(at(Second), at(Third))),
        SyscallClass::FCHOWN => on(Kind::FILE_CHOWN).with_value(ids(at(Second), at(Third))),
        SyscallClass::FCHOWN16 => on(Kind::FILE_CHOWN).with_value(ids16(at(Second), at(Third))),
        SyscallClass::FCHOWNAT => below(Kind::FILE_CHOWN).with_value(ids(at(Third), at(Fourth))),
        SyscallClass::TRUNCATE => here(Kind::FILE_TRUNCATE).with_value(at(Second)),
        SyscallClass::FTRUNCATE => on(Kind::FILE_TRUNCATE).with_value(at(Second)),
        // A 32-bit call's length comes in halves.
        SyscallClass::TRUNCATE64 => here(Kind::FILE_TRUNCATE).with_value(at(Second) | at(Third) << 32),
        SyscallClass::FTRUNCATE64 => on(Kind::FILE_TRUNCATE).with_value(at(Second) | at(Third) << 32),
        SyscallClass::SETXATTR => here(Kind::FILE_SETXATTR).with_text(at(Second)).with_value(at(Fifth) & U32),
        SyscallClass::FSETXATTR => on(Kind::FILE_SETXATTR).with_text(at(Second)).with_value(at(Fifth) & U32),
        SyscallClass::SETXATTRAT => {
            let flags = read_user::<u32>(at(Fifth) + XATTR_ARGS_FLAGS).unwrap_or_default();
            below(Kind::FILE_SETXATTR).with_text(at(Fourth)).with_value(u64::from(flags))
        }
        SyscallClass::UMOUNT => here(Kind::MOUNT).with_value(NameBody::UNMOUNT),
        SyscallClass::UMOUNT2 => here(Kind::MOUNT).with_value(NameBody::UNMOUNT | at(Second) & U32),
        SyscallClass::MOVE_MOUNT => {
            Named::new(Kind::MOUNT, call.fd(Third), at(Fourth)).with_value(MS_MOVE).with_text(at(Second))
        }
        _ => Named {
            second_text: at(Third),
            ..Named::new(Kind::MOUNT, AT_FDCWD, at(Second)).with_text(at(First)).with_value(at(Fourth))
        },
    }
}

/// `S_IALLUGO`: what the kernel takes of a mode.
const MODE: u64 = 0o7777;
const U32: u64 = 0xffff_ffff;

#[inline(always)]
const fn ids(user: u64, group: u64) -> u64 {
    user & U32 | group << 32
}

/// As [`ids`], of a call whose ids have 16 bits: the largest leaves an id as it is (`low2highuid()`).
#[inline(always)]
fn ids16(user: u64, group: u64) -> u64 {
    let widen = |id: u64| if id & 0xffff == 0xffff { U32 } else { id & 0xffff };
    ids(widen(user), widen(group))
}

#[inline(always)]
fn fill_name(draft: Draft, call: &Call, named: &Named) -> Result<(), LossReason> {
    draft.put(BODY + offset_of!(NameBody, result), call.errno());
    draft.put(BODY + offset_of!(NameBody, flags), named.flags);
    draft.put(BODY + offset_of!(NameBody, inode), 0u64);
    draft.put(BODY + offset_of!(NameBody, value), named.value);
    draft.put(BODY + offset_of!(NameBody, dev), 0u32);
    draft.put(BODY + offset_of!(NameBody, text_len), 0u16);
    draft.put(BODY + offset_of!(NameBody, second_text_len), 0u16);
    let references = BODY + offset_of!(NameBody, base);
    match named.name {
        Some(name) => append_name(draft, references, named.dirfd, name),
        // A descriptor that is none, or no longer: the call failed, and has nothing to say.
        None => append_file(draft, references, named.dirfd),
    }
    append_user_text(draft, named.text, NAME_BYTES_MAX, BODY + offset_of!(NameBody, text_len));
    let second_text_len = BODY + offset_of!(NameBody, second_text_len);
    append_user_text(draft, named.second_text, SECOND_TEXT_BYTES_MAX, second_text_len);
    if call.class == SyscallClass::MOVE_MOUNT {
        append_fs_type(draft, call.fd(Number::First), second_text_len);
    }
    Ok(())
}

/// Appends a text from the caller's memory, if there is one, and writes its length.
#[inline(always)]
fn append_user_text(draft: Draft, source: u64, max: u32, len_at: usize) {
    if source == 0 {
        return;
    }
    if let Ok(len) = draft.append_user_string(source, max) {
        draft.shorten(1);
        draft.put(len_at, (len - 1) as u16);
    }
}

/// Appends the name of the file system type behind a descriptor (of what `fsmount()` or `open_tree()` made).
#[inline(always)]
fn append_fs_type(draft: Draft, fd: i32, len_at: usize) {
    let Ok(name) = fs_type_of(fd) else { return };
    if let Ok(len) = draft.append_kernel_string(name, SECOND_TEXT_BYTES_MAX) {
        draft.shorten(1);
        draft.put(len_at, (len - 1) as u16);
    }
}

#[inline(always)]
fn fs_type_of(fd: i32) -> Result<Address, LossReason> {
    let mount = file_of(fd as u32)?.follow(&FILE_PATH_MNT)?;
    mount.follow(&MOUNT_SB)?.follow(&SB_TYPE)?.follow(&FS_TYPE_NAME)
}

/// A call of [`sensor_event::SyscallFamily::Rename`]: `rename()`, `link()` and their kin.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exit_rename(class: u32, regs: u64, result: u64) -> u32 {
    let call = Call::new(class, regs, result);
    let is_link = matches!(call.class, SyscallClass::LINK | SyscallClass::LINKAT);
    let kind = if is_link { Kind::FILE_LINK } else { Kind::FILE_RENAME };
    emit(kind, size_of::<RenameBody>(), |draft| fill_rename(draft, &call));
    0
}

#[inline(always)]
fn fill_rename(draft: Draft, call: &Call) -> Result<(), LossReason> {
    let (mut old_dirfd, mut new_dirfd, mut flags) = (AT_FDCWD, AT_FDCWD, 0);
    let (mut old_name, mut new_name) = (call.argument(Number::First), call.argument(Number::Second));
    if !matches!(call.class, SyscallClass::RENAME | SyscallClass::LINK) {
        (old_dirfd, old_name) = (old_name as i32, new_name);
        (new_dirfd, new_name) = (call.fd(Number::Third), call.argument(Number::Fourth));
    }
    if matches!(call.class, SyscallClass::RENAMEAT2 | SyscallClass::LINKAT) {
        flags = call.argument(Number::Fifth) as u32;
    }
    let (mut inode, mut dev) = (0, 0);
    if call.class == SyscallClass::LINKAT && flags & AT_EMPTY_PATH != 0 {
        (inode, dev) = identity_of(old_dirfd).unwrap_or_default();
    }
    draft.put(BODY + offset_of!(RenameBody, result), call.errno());
    draft.put(BODY + offset_of!(RenameBody, rename_flags), flags);
    draft.put(BODY + offset_of!(RenameBody, inode), inode);
    draft.put(BODY + offset_of!(RenameBody, dev), dev);
    draft.put(BODY + offset_of!(RenameBody, flags), 0u32);
    append_name(draft, BODY + offset_of!(RenameBody, old_base), old_dirfd, old_name);
    append_name(draft, BODY + offset_of!(RenameBody, new_base), new_dirfd, new_name);
    Ok(())
}

/// Inode number and device of the file behind a descriptor.
#[inline(always)]
fn identity_of(fd: i32) -> Result<(u64, u32), LossReason> {
    let inode = file_of(fd as u32)?.follow(&FILE_INODE)?;
    Ok((inode.field(&INODE_INO)?, inode.follow(&INODE_SB)?.field(&SB_DEV)?))
}

/// Appends the directory that a name starts at, and the name, with their references: two, one behind the other.
#[inline(always)]
pub fn append_name(draft: Draft, references: usize, dirfd: i32, name: u64) {
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

/// Appends the file behind a descriptor as the base of a name that there is none of.
#[inline(always)]
pub fn append_base_only(draft: Draft, references: usize, fd: i32) {
    append_base(draft.index(), references as u32, fd as u32);
}

/// [`append_base_only`] as a subprogram.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn append_base(draft: u32, references: u32, fd: u32) -> u32 {
    let Some(draft) = Draft::at_index(draft) else { return 1 };
    let reference = bounded_reference(references);
    match file_of(fd).and_then(place_of) {
        Ok(place) => path::append(draft, reference, &place),
        Err(_) => path::write_reference(draft, reference, draft.len(), PathFlags::FAULT),
    }
    path::write_reference(draft, reference + size_of::<PathRef>(), draft.len(), PathFlags::default());
    0
}

/// Appends a name from the caller's memory.
#[inline(always)]
pub fn append_user_name(draft: Draft, reference: usize, name: u64) {
    let start = draft.len();
    let mut flags = PathFlags::CALLER;
    match draft.append_user_string(name, NAME_BYTES_MAX) {
        // Without its NUL.
        Ok(_) => draft.shorten(1),
        Err(_) => flags = flags.union(PathFlags::FAULT),
    }
    path::write_reference(draft, reference, start, flags);
}

/// Appends the file behind a descriptor as the base of an empty name, and says which it is.
#[inline(always)]
fn append_file(draft: Draft, references: usize, fd: i32) {
    append_base_only(draft, references, fd);
    if let Ok((inode, dev)) = identity_of(fd) {
        draft.put(BODY + offset_of!(NameBody, inode), inode);
        draft.put(BODY + offset_of!(NameBody, dev), dev);
    }
}

const _: () = {
    let size = size_of::<PathRef>();
    assert!(
        offset_of!(NameBody, name) == offset_of!(NameBody, base) + size,
        "a name's reference follows its base's"
    );
    assert!(offset_of!(RenameBody, old_name) == offset_of!(RenameBody, old_base) + size, "likewise");
    assert!(offset_of!(RenameBody, new_name) == offset_of!(RenameBody, new_base) + size, "likewise");
};
