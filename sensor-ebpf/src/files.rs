//! Opens, executable mappings and nameless files, seen at the exit of their system calls. Not operations on names. It
//! may call the other modules of this crate.
//!
//! An opened file is the kernel's own object, taken from the returned descriptor: only another thread that closes
//! or replaces the descriptor before the call returns can change what is found.

use crate::draft::{BODY, Draft};
use crate::emit::{emit, emit_from, leave_out, lose};
use crate::globals::{
    FDT_FD, FDT_MAX_FDS, FILE_FLAGS, FILE_INODE, FILE_MODE, FILE_PATH_DENTRY, FILE_PATH_MNT, FILES_FDT,
    INODE_INO, INODE_MODE, INODE_NLINK, INODE_SB, OPEN_READS, SB_DEV, TASK_FILES,
};
use crate::names;
use crate::path::{self, Place};
use crate::read::{Address, Typed, read, read_user};
use crate::syscalls::{AT_FDCWD, Call, Number};
use crate::verdicts::{self, Known};
use core::mem::offset_of;
use sensor_event::{FileBody, FileFlags, Kind, LossReason, PathFlags, PathRef, SyscallClass, Tier};

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

/// `include/uapi/asm-generic/mman-common.h`.
const PROT_EXEC: u32 = 4;
const MAP_ANONYMOUS: u32 = 0x20;

/// Results of `mmap()` from here on are negative errnos.
const ERRNO_MAX: i64 = 4095;

/// A file worth a record.
#[derive(Clone, Copy)]
pub struct Opened {
    file: Address,
    inode: Address,
    mode: u16,
    open_flags: u32,
    flags: u32,
    dev: u32,
    number: u64,
}

/// A call of [`sensor_event::SyscallFamily::Open`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exit_open(class: u32, regs: u64, result: u64) -> u32 {
    let call = Call::new(class, regs, result);
    if call.result < 0 {
        if OPEN_READS.load() != 0 {
            open_failed(&call);
        }
        return 0;
    }
    let (open_flags, flags) = open_flags(&call);
    // What the caller could rewrite while the call ran decides nothing: then only the file itself tells.
    let is_from_caller = flags & FileFlags::FLAGS_FROM_CALLER.0 != 0;
    if !is_from_caller && open_flags & (O_ACCMODE | O_CREAT | O_TRUNC) == 0 && OPEN_READS.load() == 0 {
        return 0;
    }
    emit_open(call.result as u32, open_flags, flags);
    0
}

/// Reports the open of a new descriptor of the current task, unless it is of no interest.
#[inline(always)]
fn emit_open(fd: u32, open_flags: u32, flags: u32) {
    match file_of(fd).and_then(|file| inspect(file, open_flags, flags)) {
        Ok(None) => {}
        Ok(Some(opened)) => report(Tier::TRACEPOINT, &opened),
        Err(reason) => {
            lose(Kind::FILE_OPEN, reason);
        }
    }
}

/// Reports a file that was opened, unless the verdict on that is known.
#[inline(always)]
pub fn report(tier: Tier, opened: &Opened) {
    let (dev, inode) = (opened.dev, opened.number);
    let is_new = opened.flags & FileFlags::CREATED.0 != 0;
    if is_new {
        verdicts::note_new_file(dev, inode);
    } else if opened.is_known() {
        return leave_out(Kind::FILE_OPEN);
    }
    let stamp = verdicts::stamp(dev, inode);
    emit_from(tier, Kind::FILE_OPEN, size_of::<FileBody>(), |draft| {
        fill(draft, opened)?;
        draft.put(BODY + offset_of!(FileBody, stamp), stamp);
        Ok(())
    });
    if is_new {
        verdicts::note_new_file(dev, inode);
    }
}

impl Opened {
    #[inline(always)]
    fn new(file: Address, open_flags: u32, flags: u32) -> Result<Self, LossReason> {
        let inode = file.follow(&FILE_INODE)?;
        let dev = inode.follow(&INODE_SB)?.field(&SB_DEV)?;
        let (mode, number) = (inode.field(&INODE_MODE)?, inode.field(&INODE_INO)?);
        Ok(Self { file, inode, mode, open_flags, flags, dev, number })
    }

    #[inline(always)]
    fn is_known(&self) -> bool {
        verdicts::are_on()
            && self.inode.field::<u32>(&INODE_NLINK).is_ok_and(|names| names != 0)
            && place_of(self.file).is_ok_and(|place| {
                verdicts::is_known_write(&Known { place, dev: self.dev, mode: self.mode, inode: self.number })
            })
    }
}

/// Reports an open that a ring did: its flags are what is left of them in the file (without those of creation).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_by_ring(fd: u32) -> u32 {
    let open_flags = file_of(fd).and_then(|file| file.field::<u32>(&FILE_FLAGS)).unwrap_or_default();
    emit_open(fd, open_flags, FileFlags::IO_URING.0);
    0
}

/// The `O_*` flags of the call, and where they come from.
#[inline(always)]
fn open_flags(call: &Call) -> (u32, u32) {
    match call.class {
        SyscallClass::OPEN => (call.argument(Number::Second) as u32, 0),
        SyscallClass::OPENAT | SyscallClass::OPEN_BY_HANDLE_AT => (call.argument(Number::Third) as u32, 0),
        SyscallClass::CREAT => (O_CREAT | O_WRONLY | O_TRUNC, 0),
        // `open_how.flags`: 64 bits, first member, an interface that does not change.
        _ => {
            let flags = read_user::<u64>(call.argument(Number::Third)).unwrap_or_default();
            (flags as u32, FileFlags::FLAGS_FROM_CALLER.0)
        }
    }
}

/// Looks at an opened file. `None` when nobody wants it: the open changes nothing (the file existed and is not written),
/// or it is of a pipe or socket.
#[inline(always)]
pub fn inspect(file: Address, open_flags: u32, flags: u32) -> Result<Option<Opened>, LossReason> {
    let file_mode: u32 = file.field(&FILE_MODE)?;
    let is_created = file_mode & FMODE_CREATED != 0;
    let flags = if is_created { flags | FileFlags::CREATED.0 } else { flags };
    let opened = Opened::new(file, open_flags, flags)?;
    if OPEN_READS.load() != 0 {
        return Ok(Some(opened));
    }
    let file_type = opened.mode & S_IFMT;
    if matches!(file_type, S_IFIFO | S_IFSOCK) {
        return Ok(None);
    }
    // A device is not cut, whatever the flags say.
    let is_cut = open_flags & O_TRUNC != 0 && file_type != S_IFCHR;
    Ok((file_mode & FMODE_WRITE != 0 || is_created || is_cut).then_some(opened))
}

/// Writes the body of an opened file's record.
///
/// # Errors
/// When the file cannot be read.
#[inline(always)]
pub fn fill(draft: Draft, opened: &Opened) -> Result<(), LossReason> {
    draft.put(BODY + offset_of!(FileBody, inode), opened.number);
    draft.put(BODY + offset_of!(FileBody, dev), opened.dev);
    fill_numbers(draft, u32::from(opened.mode), opened.open_flags, opened.flags, 0);
    path::append(draft, BODY + offset_of!(FileBody, path), &place_of(opened.file)?);
    path::write_reference(draft, BODY + offset_of!(FileBody, name), draft.len(), PathFlags::default());
    Ok(())
}

#[inline(always)]
fn fill_numbers(draft: Draft, mode: u32, open_flags: u32, flags: u32, result: i32) {
    draft.put(BODY + offset_of!(FileBody, mode), mode);
    draft.put(BODY + offset_of!(FileBody, open_flags), open_flags);
    draft.put(BODY + offset_of!(FileBody, flags), flags);
    draft.put(BODY + offset_of!(FileBody, result), result);
    draft.put(BODY + offset_of!(FileBody, stamp), 0u32);
}

/// An open that failed: where its name starts, and the name, from the caller's memory.
#[inline(always)]
fn open_failed(call: &Call) {
    let (open_flags, flags) = open_flags(call);
    emit(Kind::FILE_OPEN, size_of::<FileBody>(), |draft| {
        fill_failed(draft, open_flags, flags, call.errno());
        let references = BODY + offset_of!(FileBody, path);
        match call.class {
            SyscallClass::OPEN | SyscallClass::CREAT => {
                names::append_name(draft, references, AT_FDCWD, call.argument(Number::First));
            }
            // A handle is no name: there is the file system that it is of.
            SyscallClass::OPEN_BY_HANDLE_AT => {
                names::append_base_only(draft, references, call.fd(Number::First));
            }
            _ => names::append_name(draft, references, call.fd(Number::First), call.argument(Number::Second)),
        }
        Ok(())
    });
}

/// Writes the numbers of the body of an open that failed.
#[inline(always)]
pub fn fill_failed(draft: Draft, open_flags: u32, flags: u32, result: i32) {
    draft.put(BODY + offset_of!(FileBody, inode), 0u64);
    draft.put(BODY + offset_of!(FileBody, dev), 0u32);
    fill_numbers(draft, 0, open_flags, flags, result);
}

/// A call of [`sensor_event::SyscallFamily::File`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exit_file(class: u32, regs: u64, result: u64) -> u32 {
    let call = Call::new(class, regs, result);
    if call.class == SyscallClass::MEMFD_CREATE {
        memfd(&call);
    } else {
        map(&call);
    }
    0
}

#[inline(always)]
fn memfd(call: &Call) {
    let memfd_flags = call.argument(Number::Second) as u32;
    emit(Kind::MEMFD, size_of::<FileBody>(), |draft| {
        if call.result < 0 {
            fill_failed(draft, memfd_flags, 0, call.errno());
            let (path, name) = (BODY + offset_of!(FileBody, path), BODY + offset_of!(FileBody, name));
            path::write_reference(draft, path, draft.len(), PathFlags::default());
            names::append_user_name(draft, name, call.argument(Number::First));
            return Ok(());
        }
        fill(draft, &opened(call.result as u32, memfd_flags)?)
    });
}

/// `mmap()`: only executable mappings of files are of interest.
#[inline(always)]
fn map(call: &Call) {
    let (protection, flags, fd) = if call.class == SyscallClass::OLD_MMAP {
        let Ok([_, _, protection, flags, fd, _]) = read_user::<[u32; 6]>(call.argument(Number::First)) else {
            // Gone since the kernel read them, unless it could not either.
            if !(-ERRNO_MAX..0).contains(&call.result) {
                lose(Kind::EXEC_MAP, LossReason::Fault);
            }
            return;
        };
        (protection, flags, fd)
    } else {
        let at = |number| call.argument(number) as u32;
        (at(Number::Third), at(Number::Fourth), at(Number::Fifth))
    };
    let has_failed = (-ERRNO_MAX..0).contains(&call.result);
    if protection & PROT_EXEC == 0 || flags & MAP_ANONYMOUS != 0 {
        return;
    }
    let Ok(opened) = opened(fd, protection) else {
        if !has_failed {
            lose(Kind::EXEC_MAP, LossReason::Fault);
        }
        return;
    };
    emit(Kind::EXEC_MAP, size_of::<FileBody>(), |draft| {
        fill(draft, &opened)?;
        draft.put(BODY + offset_of!(FileBody, result), if has_failed { call.errno() } else { 0 });
        Ok(())
    });
}

#[inline(always)]
fn opened(fd: u32, open_flags: u32) -> Result<Opened, LossReason> {
    Opened::new(file_of(fd)?, open_flags, 0)
}

/// The file behind a descriptor of the current task: `files_lookup_fd_raw()`, 5.10 to 6.18.
///
/// # Errors
/// [`LossReason::Fault`] when there is none.
#[inline(always)]
pub fn file_of(fd: u32) -> Result<Address, LossReason> {
    let (files, count) = match typed_table() {
        Some(table) => (table.field::<u64>(&FDT_FD), table.field::<u32>(&FDT_MAX_FDS)),
        None => {
            let table = Address::current_task().follow(&TASK_FILES)?.follow(&FILES_FDT)?;
            (table.field::<u64>(&FDT_FD)?, table.field::<u32>(&FDT_MAX_FDS)?)
        }
    };
    if fd >= count {
        return Err(LossReason::Fault);
    }
    let file = Address(read(files.wrapping_add(u64::from(fd) * 8))?);
    if file.is_null() { Err(LossReason::Fault) } else { Ok(file) }
}

#[inline(always)]
fn typed_table() -> Option<Typed> {
    Typed::current_task()?.follow(&TASK_FILES)?.follow(&FILES_FDT)
}

/// Where an open file lies.
///
/// # Errors
/// [`LossReason::Fault`] when it cannot be read.
#[inline(always)]
pub fn place_of(file: Address) -> Result<Place, LossReason> {
    Ok(Place { mount: file.follow(&FILE_PATH_MNT)?, dentry: file.follow(&FILE_PATH_DENTRY)? })
}

const _: () = {
    let size = size_of::<PathRef>();
    assert!(
        offset_of!(FileBody, name) == offset_of!(FileBody, path) + size,
        "a name's reference follows its path's"
    );
    assert!(
        BODY.is_multiple_of(8) && BODY + size_of::<sensor_event::ExecBody>() <= 0xf8,
        "`bounded_reference`'s mask"
    );
};
