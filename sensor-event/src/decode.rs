//! Bytes of a ring to a [`Record`]: total, without copies, and without trust. Not enrichment. It may call
//! zerocopy only.

use crate::body::{
    BpfBody, CgroupBody, CredsBody, ExecBody, ExitBody, FileBody, ForkBody, ModuleBody, NameBody,
    NamespaceBody, RenameBody, SocketBody, TargetBody,
};
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
    Connect(Socket<'a>),
    /// [`Kind::CONNECT_RESULT`].
    ConnectResult(Socket<'a>),
    /// [`Kind::LISTEN`].
    Listen(Socket<'a>),
    /// [`Kind::ACCEPT`].
    Accept(Socket<'a>),
    /// [`Kind::SEND`].
    Send(Socket<'a>),
    /// [`Kind::SOCKET`].
    Socket(Socket<'a>),
    /// [`Kind::FILE_OPEN`].
    FileOpen(File<'a>),
    /// [`Kind::EXEC_MAP`].
    ExecMap(File<'a>),
    /// [`Kind::MEMFD`].
    Memfd(File<'a>),
    /// [`Kind::FILE_UNLINK`].
    Unlink(Name<'a>),
    /// [`Kind::FILE_SYMLINK`].
    Symlink(Name<'a>),
    /// [`Kind::FILE_MKDIR`].
    Mkdir(Name<'a>),
    /// [`Kind::FILE_CHMOD`].
    Chmod(Name<'a>),
    /// [`Kind::FILE_CHOWN`].
    Chown(Name<'a>),
    /// [`Kind::FILE_TRUNCATE`].
    Truncate(Name<'a>),
    /// [`Kind::FILE_SETXATTR`].
    Setxattr(Name<'a>),
    /// [`Kind::MOUNT`].
    Mount(Name<'a>),
    /// [`Kind::FILE_RENAME`].
    Rename(Rename<'a>),
    /// [`Kind::FILE_LINK`].
    Link(Rename<'a>),
    /// [`Kind::CREDS`].
    Creds(CredsBody),
    /// [`Kind::PTRACE`].
    Ptrace(TargetBody),
    /// [`Kind::VM_WRITE`].
    VmWrite(TargetBody),
    /// [`Kind::MODULE_LOAD`].
    ModuleLoad(ModuleBody),
    /// [`Kind::BPF_LOAD`].
    BpfLoad(BpfBody),
    /// [`Kind::NAMESPACE`].
    Namespace(NamespaceBody),
    /// [`Kind::PROCESS`].
    Process(Exec<'a>),
    /// [`Kind::CGROUP`].
    Cgroup(Cgroup<'a>),
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

/// A socket operation with its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket<'a> {
    /// Fixed part.
    pub body: SocketBody,
    /// Of a unix socket: where it is bound.
    pub path: PathSection<'a>,
}

/// A control group with its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cgroup<'a> {
    /// Fixed part.
    pub body: CgroupBody,
    /// cgroup v2 node.
    pub path: PathSection<'a>,
}

/// An open or mapped file with its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// Fixed part.
    pub body: FileBody,
    /// The file; of an open that failed, where `name` starts.
    pub path: PathSection<'a>,
    /// The name given to an open that failed; else empty.
    pub name: PathSection<'a>,
}

/// An operation on a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// Fixed part.
    pub body: NameBody,
    /// Where the name starts.
    pub base: PathSection<'a>,
    /// The name.
    pub name: PathSection<'a>,
    /// By kind: see [`NameBody`].
    pub text: &'a [u8],
    /// By kind: see [`NameBody`].
    pub second_text: &'a [u8],
}

/// An operation on two names.
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
        Kind::CONNECT => RecordBody::Connect(decode_socket(rest)?),
        Kind::CONNECT_RESULT => RecordBody::ConnectResult(decode_socket(rest)?),
        Kind::LISTEN => RecordBody::Listen(decode_socket(rest)?),
        Kind::ACCEPT => RecordBody::Accept(decode_socket(rest)?),
        Kind::SEND => RecordBody::Send(decode_socket(rest)?),
        Kind::SOCKET => RecordBody::Socket(decode_socket(rest)?),
        Kind::FILE_OPEN => RecordBody::FileOpen(decode_file(rest)?),
        Kind::EXEC_MAP => RecordBody::ExecMap(decode_file(rest)?),
        Kind::MEMFD => RecordBody::Memfd(decode_file(rest)?),
        Kind::FILE_UNLINK => RecordBody::Unlink(decode_name(rest)?),
        Kind::FILE_SYMLINK => RecordBody::Symlink(decode_name(rest)?),
        Kind::FILE_MKDIR => RecordBody::Mkdir(decode_name(rest)?),
        Kind::FILE_CHMOD => RecordBody::Chmod(decode_name(rest)?),
        Kind::FILE_CHOWN => RecordBody::Chown(decode_name(rest)?),
        Kind::FILE_TRUNCATE => RecordBody::Truncate(decode_name(rest)?),
        Kind::FILE_SETXATTR => RecordBody::Setxattr(decode_name(rest)?),
        Kind::MOUNT => RecordBody::Mount(decode_name(rest)?),
        Kind::FILE_RENAME => RecordBody::Rename(decode_rename(rest)?),
        Kind::FILE_LINK => RecordBody::Link(decode_rename(rest)?),
        Kind::CREDS => RecordBody::Creds(take_all(rest)?),
        Kind::PTRACE => RecordBody::Ptrace(take_all(rest)?),
        Kind::VM_WRITE => RecordBody::VmWrite(take_all(rest)?),
        Kind::MODULE_LOAD => RecordBody::ModuleLoad(take_all(rest)?),
        Kind::BPF_LOAD => RecordBody::BpfLoad(take_all(rest)?),
        Kind::NAMESPACE => RecordBody::Namespace(take_all(rest)?),
        Kind::PROCESS => RecordBody::Process(decode_exec(rest)?),
        Kind::CGROUP => RecordBody::Cgroup(decode_cgroup(rest)?),
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

fn decode_cgroup(bytes: &[u8]) -> Result<Cgroup<'_>, DecodeError> {
    let (body, tail) = take::<CgroupBody>(bytes)?;
    let mut sections = Sections::new(tail, path_len(body.path))?;
    Ok(Cgroup { body, path: sections.path(body.path) })
}

fn decode_socket(bytes: &[u8]) -> Result<Socket<'_>, DecodeError> {
    let (body, tail) = take::<SocketBody>(bytes)?;
    let mut sections = Sections::new(tail, path_len(body.path))?;
    Ok(Socket { body, path: sections.path(body.path) })
}

fn decode_file(bytes: &[u8]) -> Result<File<'_>, DecodeError> {
    let (body, tail) = take::<FileBody>(bytes)?;
    let mut sections = Sections::new(tail, path_len(body.path) + path_len(body.name))?;
    Ok(File { body, path: sections.path(body.path), name: sections.path(body.name) })
}

fn decode_name(bytes: &[u8]) -> Result<Name<'_>, DecodeError> {
    let (body, tail) = take::<NameBody>(bytes)?;
    let [text_len, second_text_len] = [body.text_len, body.second_text_len].map(usize::from);
    let stated = path_len(body.base) + path_len(body.name) + text_len + second_text_len;
    let mut sections = Sections::new(tail, stated)?;
    Ok(Name {
        body,
        base: sections.path(body.base),
        name: sections.path(body.name),
        text: sections.bytes(text_len),
        second_text: sections.bytes(second_text_len),
    })
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
