//! Bytes of a ring to a [`Record`]: total, without copies, and without trust. Not enrichment. It may call
//! zerocopy only.

use crate::body::{ExecBody, ExitBody, FileBody, ForkBody, RenameBody, SocketBody, UnlinkBody};
use crate::header::{Header, Kind, RECORD_BYTES_MAX, RECORD_VERSION};
use crate::path::{PathRef, PathSection};
use core::fmt;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the part that was being read.
    Short {
        /// Bytes that the part needs.
        needed: usize,
        /// Bytes that were there.
        found: usize,
    },
    /// The header's length differs from the bytes given, or exceeds the bound.
    Length {
        /// Length in the header.
        stated: usize,
        /// Bytes that were there.
        found: usize,
    },
    /// Written by another layout.
    Version(u8),
    /// The sections' lengths do not add up to the tail.
    Tail {
        /// Bytes that the body's sections claim.
        stated: usize,
        /// Bytes that were there.
        found: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { needed, found } => {
                write!(out, "record too short: needed {needed} bytes, found {found}")
            }
            Self::Length { stated, found } => write!(out, "record says {stated} bytes, found {found}"),
            Self::Version(version) => write!(out, "record version {version}, expected {RECORD_VERSION}"),
            Self::Tail { stated, found } => {
                write!(out, "record sections claim {stated} bytes, found {found}")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// A decoded record, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When, and who.
    pub header: Header,
    /// What.
    pub body: RecordBody<'a>,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordBody<'a> {
    /// [`Kind::EXEC`].
    Exec(Exec<'a>),
    /// [`Kind::FORK`].
    Fork(ForkBody),
    /// [`Kind::EXIT`].
    Exit(ExitBody),
    /// [`Kind::CONNECT`].
    Connect(SocketBody),
    /// [`Kind::CONNECT_RESULT`].
    ConnectResult(SocketBody),
    /// [`Kind::LISTEN`].
    Listen(SocketBody),
    /// [`Kind::FILE_OPEN`].
    FileOpen(File<'a>),
    /// [`Kind::FILE_UNLINK`].
    Unlink(Unlink<'a>),
    /// [`Kind::FILE_RENAME`].
    Rename(Rename<'a>),
    /// A kind this build does not know: a newer kernel object's.
    Unknown(Kind),
}

/// An exec with its sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec<'a> {
    /// Fixed part.
    pub body: ExecBody,
    /// The mapped executable.
    pub exe: PathSection<'a>,
    /// Working directory.
    pub cwd: PathSection<'a>,
    /// cgroup v2 node.
    pub cgroup: PathSection<'a>,
    /// As given to `execve`.
    pub filename: &'a [u8],
    /// As given on the script's first line; empty for a binary.
    pub interpreter: &'a [u8],
    /// NUL-terminated arguments.
    pub argv: &'a [u8],
}

/// A file open with its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// Fixed part.
    pub body: FileBody,
    /// The file.
    pub path: PathSection<'a>,
}

/// An unlink with its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlink<'a> {
    /// Fixed part.
    pub body: UnlinkBody,
    /// Where a relative name starts.
    pub base: PathSection<'a>,
    /// The name.
    pub name: PathSection<'a>,
}

/// A rename with its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rename<'a> {
    /// Fixed part.
    pub body: RenameBody,
    /// Where a relative old name starts.
    pub old_base: PathSection<'a>,
    /// The old name.
    pub old_name: PathSection<'a>,
    /// Where a relative new name starts.
    pub new_base: PathSection<'a>,
    /// The new name.
    pub new_name: PathSection<'a>,
}

/// Decodes one record. Total: any bytes give a record or an error, never a panic.
///
/// # Errors
/// When the bytes are short, long, of another version, or their sections do not add up.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let (header, rest) = take::<Header>(bytes)?;
    let stated = header.len as usize;
    if stated != bytes.len() || stated > RECORD_BYTES_MAX {
        return Err(DecodeError::Length { stated, found: bytes.len() });
    }
    if header.version != RECORD_VERSION {
        return Err(DecodeError::Version(header.version));
    }
    let body = match header.kind {
        Kind::EXEC => RecordBody::Exec(decode_exec(rest)?),
        Kind::FORK => RecordBody::Fork(take_all(rest)?),
        Kind::EXIT => RecordBody::Exit(take_all(rest)?),
        Kind::CONNECT => RecordBody::Connect(take_all(rest)?),
        Kind::CONNECT_RESULT => RecordBody::ConnectResult(take_all(rest)?),
        Kind::LISTEN => RecordBody::Listen(take_all(rest)?),
        Kind::FILE_OPEN => {
            let (body, tail) = take::<FileBody>(rest)?;
            let mut sections = Sections::new(tail, path_len(body.path))?;
            RecordBody::FileOpen(File { body, path: sections.path(body.path) })
        }
        Kind::FILE_UNLINK => RecordBody::Unlink(decode_unlink(rest)?),
        Kind::FILE_RENAME => RecordBody::Rename(decode_rename(rest)?),
        unknown => RecordBody::Unknown(unknown),
    };
    Ok(Record { header, body })
}

fn decode_exec(bytes: &[u8]) -> Result<Exec<'_>, DecodeError> {
    let (body, tail) = take::<ExecBody>(bytes)?;
    let [filename_len, interpreter_len, argv_len] =
        [body.filename_len, body.interpreter_len, body.argv_len].map(usize::from);
    let stated = path_len(body.exe)
        + path_len(body.cwd)
        + path_len(body.cgroup)
        + filename_len
        + interpreter_len
        + argv_len;
    let mut sections = Sections::new(tail, stated)?;
    Ok(Exec {
        body,
        exe: sections.path(body.exe),
        cwd: sections.path(body.cwd),
        cgroup: sections.path(body.cgroup),
        filename: sections.bytes(filename_len),
        interpreter: sections.bytes(interpreter_len),
        argv: sections.bytes(argv_len),
    })
}

fn decode_unlink(bytes: &[u8]) -> Result<Unlink<'_>, DecodeError> {
    let (body, tail) = take::<UnlinkBody>(bytes)?;
    let mut sections = Sections::new(tail, path_len(body.base) + path_len(body.name))?;
    Ok(Unlink { body, base: sections.path(body.base), name: sections.path(body.name) })
}

fn decode_rename(bytes: &[u8]) -> Result<Rename<'_>, DecodeError> {
    let (body, tail) = take::<RenameBody>(bytes)?;
    let stated = [body.old_base, body.old_name, body.new_base, body.new_name].map(path_len).iter().sum();
    let mut sections = Sections::new(tail, stated)?;
    Ok(Rename {
        body,
        old_base: sections.path(body.old_base),
        old_name: sections.path(body.old_name),
        new_base: sections.path(body.new_base),
        new_name: sections.path(body.new_name),
    })
}

/// The tail, whose length was checked once against the sum of its sections.
struct Sections<'a>(&'a [u8]);

impl<'a> Sections<'a> {
    fn new(tail: &'a [u8], stated: usize) -> Result<Self, DecodeError> {
        if stated != tail.len() {
            return Err(DecodeError::Tail { stated, found: tail.len() });
        }
        Ok(Self(tail))
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (section, rest) = self.0.split_at(len);
        self.0 = rest;
        section
    }

    fn path(&mut self, reference: PathRef) -> PathSection<'a> {
        PathSection { reference, bytes: self.bytes(path_len(reference)) }
    }
}

fn path_len(reference: PathRef) -> usize {
    usize::from(reference.len)
}

fn take<T: FromBytes + Immutable + KnownLayout>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(bytes).map_err(|_| DecodeError::Short { needed: size_of::<T>(), found: bytes.len() })
}

fn take_all<T: FromBytes + Immutable + KnownLayout>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (body, tail) = take(bytes)?;
    Sections::new(tail, 0)?;
    Ok(body)
}
