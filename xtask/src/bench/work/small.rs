//! Work of single system calls, and of one short process. Not what real programs do. It may write to its folder, use
//! loopback and run `/bin/true`.

use super::Rounds;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, socket,
};
use nix::sys::stat::Mode;
use nix::unistd::unlink;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Opens known files in turn.
pub(super) struct Opens {
    files: Vec<CString>,
    flags: OFlag,
}

impl Opens {
    pub(super) fn prepare(folder: &Path, flags: OFlag) -> Result<Self> {
        let folder = folder.join("some/known/files/here");
        fs::create_dir_all(&folder).context("making the files' folder")?;
        // Words, so that learning keeps each by its own name.
        let letters = || ["alpha", "beta", "gamma", "delta", "rho", "sigma", "tau", "omega"].into_iter();
        let names = letters().flat_map(|first| letters().map(move |second| format!("{first}_{second}")));
        let files = names.map(|name| {
            let path = folder.join(name);
            fs::write(&path, "known").with_context(|| format!("writing {}", path.display()))?;
            Ok(CString::new(path.as_os_str().as_bytes())?)
        });
        Ok(Self { files: files.collect::<Result<_>>()?, flags: flags | OFlag::O_CLOEXEC })
    }
}

impl Rounds for Opens {
    fn round(&mut self, number: u64) -> Result<()> {
        let file = &self.files[number as usize % self.files.len()];
        drop(open(file.as_c_str(), self.flags, Mode::empty())?);
        Ok(())
    }
}

/// Creates, writes and removes one file.
pub(super) struct CreateUnlink {
    path: CString,
    content: [u8; 4096],
}

impl CreateUnlink {
    pub(super) fn prepare(folder: &Path) -> Result<Self> {
        let path = CString::new(folder.join("created").as_os_str().as_bytes())?;
        Ok(Self { path, content: [b'x'; 4096] })
    }
}

impl Rounds for CreateUnlink {
    fn round(&mut self, _: u64) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let file = open(self.path.as_c_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        File::from(file).write_all(&self.content)?;
        Ok(unlink(self.path.as_c_str())?)
    }
}

/// Starts a program that does nothing.
pub(super) struct Spawn;

impl Rounds for Spawn {
    fn round(&mut self, _: u64) -> Result<()> {
        let status = Command::new("/bin/true").stdin(Stdio::null()).status().context("/bin/true")?;
        ensure!(status.success(), "/bin/true: {status}");
        Ok(())
    }
}

/// Connects to a thread of this process, which hangs up.
pub(super) struct ConnectOpen {
    address: SocketAddr,
}

impl ConnectOpen {
    pub(super) fn prepare(folder: &Path) -> Result<Self> {
        let listener =
            TcpListener::bind(("127.0.0.1", kept_port(folder)?)).context("binding a loopback port")?;
        let address = listener.local_addr()?;
        keep_port(folder, address.port())?;
        // It ends with the process.
        std::thread::spawn(move || listener.incoming().for_each(drop));
        Ok(Self { address })
    }
}

impl Rounds for ConnectOpen {
    fn round(&mut self, _: u64) -> Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        // Whoever waits for the other's end never fills its queue.
        ensure!(stream.read(&mut [0])? == 0, "the listener sent something");
        // A reset leaves no port behind that has to wait a minute.
        setsockopt(&stream, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
        Ok(())
    }
}

/// The port of an earlier process, which a baseline may list; 0 for any.
fn kept_port(folder: &Path) -> Result<u16> {
    match fs::read_to_string(folder.join(PORT)) {
        Ok(text) => text.parse().with_context(|| format!("{text:?} is no port")),
        Err(_) => Ok(0),
    }
}

fn keep_port(folder: &Path, port: u16) -> Result<()> {
    fs::write(folder.join(PORT), port.to_string()).context("keeping the port's number")
}

const PORT: &str = "port";

/// Connects to a port that is taken and that nobody listens on.
pub(super) struct ConnectClosed {
    address: SocketAddr,
    /// Keeps the port.
    _bound: OwnedFd,
}

impl ConnectClosed {
    pub(super) fn prepare(folder: &Path) -> Result<Self> {
        let bound = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let wanted = SockaddrIn::new(127, 0, 0, 1, kept_port(folder)?);
        bind(bound.as_raw_fd(), &wanted).context("binding a loopback port")?;
        let name: SockaddrIn = getsockname(bound.as_raw_fd())?;
        keep_port(folder, name.port())?;
        Ok(Self { address: SocketAddr::V4(SocketAddrV4::from(name)), _bound: bound })
    }
}

impl Rounds for ConnectClosed {
    fn round(&mut self, _: u64) -> Result<()> {
        let refused = TcpStream::connect(self.address).map_err(|error| error.kind());
        ensure!(refused.is_err_and(|kind| kind == ErrorKind::ConnectionRefused), "the closed port answered");
        Ok(())
    }
}
