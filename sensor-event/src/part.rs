//! The parts of a kind that have hooks of their own: a connect of TCP is seen elsewhere than one of a unix socket. Not
//! the hooks. It may call `core` only.

use crate::header::Kind;

/// A kind, or a part of one that is hooked by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Part(pub u16);

impl Part {
    /// [`Kind::CONNECT`] of a UDP socket.
    pub const CONNECT_UDP: Self = Self(32);
    /// [`Kind::CONNECT`] of a unix socket.
    pub const CONNECT_UNIX: Self = Self(33);
    /// [`Kind::LISTEN`] of a unix socket.
    pub const LISTEN_UNIX: Self = Self(34);
    /// [`Kind::ACCEPT`] of a unix socket.
    pub const ACCEPT_UNIX: Self = Self(35);
    /// [`Kind::SEND`] to the peer a socket is connected to. The kind's own part is a datagram with an address.
    pub const SEND_CONNECTED: Self = Self(36);
    /// [`Kind::MOUNT`] by `move_mount()`, of what `fsmount()` or `open_tree()` made.
    pub const MOUNT_MOVED: Self = Self(37);

    /// [`Kind::FILE_OPEN`] by a request of io_uring.
    pub const FILE_OPEN_RING: Self = Self(38);

    /// Above every part's number.
    pub const LEN: usize = 40;

    /// The whole kind, or what is left of it without the parts above.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self(kind.0)
    }

    /// The kind of its records.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::CONNECT_UDP | Self::CONNECT_UNIX => Kind::CONNECT,
            Self::LISTEN_UNIX => Kind::LISTEN,
            Self::ACCEPT_UNIX => Kind::ACCEPT,
            Self::SEND_CONNECTED => Kind::SEND,
            Self::FILE_OPEN_RING => Kind::FILE_OPEN,
            Self::MOUNT_MOVED => Kind::MOUNT,
            Self(kind) => Kind(kind),
        }
    }

    /// The name shown to an operator: the kind's, and which part where there are several.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CONNECT_UDP => "connect (udp)",
            Self::CONNECT_UNIX => "connect (unix)",
            Self::LISTEN_UNIX => "listen (unix)",
            Self::ACCEPT_UNIX => "accept (unix)",
            Self::SEND_CONNECTED => "send (connected)",
            Self::FILE_OPEN_RING => "file_open (io_uring)",
            Self::MOUNT_MOVED => "mount (moved)",
            Self(kind) => Kind(kind).name(),
        }
    }
}
