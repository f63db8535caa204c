//! What a way of seeing an event cannot see: data, next to the probe table. `sensor-agent check` shows the rows that
//! apply to the hooks it got; docs/kernel-support.md is made from all of them. Not the hooks. It may call nothing.

use sensor_event::{Kind, Tier};
use serde::Serialize;

/// On which kernels a limit holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// On all.
    All,
    /// Before this version, major and minor.
    Before(u32, u32),
    /// From this version on.
    From(u32, u32),
}

impl Kernels {
    /// Whether the kernel of this release (`uname -r`) is among them. One that does not begin with a version is.
    #[must_use]
    pub fn contain(self, release: &str) -> bool {
        let Some(version) = version(release) else { return true };
        match self {
            Self::All => true,
            Self::Before(major, minor) => version < (major, minor),
            Self::From(major, minor) => version >= (major, minor),
        }
    }

    /// In words: `all`, `before 6.0`, `from 6.15`.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Before(major, minor) => format!("before {major}.{minor}"),
            Self::From(major, minor) => format!("from {major}.{minor}"),
        }
    }
}

/// Something that is not seen, or not known for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Of these events.
    pub kinds: &'static [Kind],
    /// Seen by a hook of this tier; `None` for whichever.
    pub tier: Option<Tier>,
    /// On these kernels.
    pub kernels: Kernels,
    /// What, as a sentence without its full stop.
    pub what: &'static str,
}

/// A limit as `check` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitStatus {
    /// Name of the event.
    pub event: &'static str,
    /// Tier of the hooks that have it.
    pub tier: &'static str,
    /// Kernels that have it, in words.
    pub kernels: String,
    /// What is not seen.
    pub what: &'static str,
}

/// Every limit, one entry per event, in the order of the table.
#[must_use]
pub fn limits() -> Vec<LimitStatus> {
    LIMITS.iter().flat_map(|limit| limit.kinds.iter().map(|kind| limit.of(*kind))).collect()
}

/// The limits of an event seen by a hook of the tier `tier` on the kernel `release`.
pub(super) fn limits_of<'a>(
    kind: Kind,
    tier: &'a str,
    release: &'a str,
) -> impl Iterator<Item = LimitStatus> + 'a {
    LIMITS
        .iter()
        .filter(move |limit| limit.kinds.contains(&kind) && limit.kernels.contain(release))
        .map(move |limit| limit.of(kind))
        .filter(move |limit| limit.tier == "any" || limit.tier == tier)
}

impl Limit {
    fn of(&self, kind: Kind) -> LimitStatus {
        LimitStatus {
            event: kind.name(),
            tier: self.tier.map_or("any", super::tier_name),
            kernels: self.kernels.text(),
            what: self.what,
        }
    }
}

/// Major and minor number at the start of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Operations on names: at the tracepoint tier the name is the argument of the system call.
const NAMED: &[Kind] = &[
    Kind::FILE_UNLINK,
    Kind::FILE_RENAME,
    Kind::FILE_LINK,
    Kind::FILE_SYMLINK,
    Kind::FILE_MKDIR,
    Kind::FILE_CHMOD,
    Kind::FILE_CHOWN,
    Kind::FILE_TRUNCATE,
    Kind::FILE_SETXATTR,
    Kind::MOUNT,
];

/// What io_uring does without a system call of its own.
const RINGABLE_NAMED: &[Kind] = &[
    Kind::FILE_UNLINK,
    Kind::FILE_RENAME,
    Kind::FILE_LINK,
    Kind::FILE_SYMLINK,
    Kind::FILE_MKDIR,
    Kind::FILE_TRUNCATE,
    Kind::FILE_SETXATTR,
];

/// What is seen of io_uring at the tracepoint tier, when a request completes.
const COMPLETED: &[Kind] = &[Kind::FILE_OPEN, Kind::ACCEPT, Kind::CONNECT, Kind::LISTEN, Kind::SOCKET];

/// The table. Whoever adds a hook adds what it cannot see.
pub const LIMITS: &[Limit] = &[
    Limit {
        kinds: NAMED,
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "the name is read from the caller's memory after the call and may have been rewritten meanwhile: it \
               carries from_caller; the directory it starts at, and a file given by descriptor, are the kernel's",
    },
    Limit {
        kinds: RINGABLE_NAMED,
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "operations through io_uring, which make no system call of their own, are not seen",
    },
    Limit {
        kinds: NAMED,
        tier: Some(Tier::LSM),
        kernels: Kernels::All,
        what: "attempts that fail before the kernel has the file in hand (no such name, name taken, a read-only mount) \
               are no record",
    },
    Limit {
        kinds: &[Kind::FILE_OPEN, Kind::FILE_UNLINK, Kind::FILE_RENAME],
        tier: Some(Tier::LSM),
        kernels: Kernels::Before(5, 12),
        what: "what io_uring leaves to its workers is done by kernel threads there: the record names the worker, with \
               the ids of whoever asked, and not the process",
    },
    Limit {
        kinds: &[Kind::FILE_SETXATTR],
        tier: Some(Tier::LSM),
        kernels: Kernels::All,
        what: "an attribute that is set through an overlay is shown at the overlay, not at the layer below",
    },
    Limit {
        kinds: &[Kind::EXEC_MAP],
        tier: Some(Tier::LSM),
        kernels: Kernels::All,
        what: "of an mprotect the result is that of the security modules, behind which only a lack of memory stops it",
    },
    Limit {
        kinds: &[Kind::ACCEPT],
        tier: Some(Tier::LSM),
        kernels: Kernels::All,
        what: "of the internet protocols only TCP's accepts are seen (with MPTCP's), not those of SCTP",
    },
    Limit {
        kinds: &[Kind::PTRACE],
        tier: Some(Tier::LSM),
        kernels: Kernels::All,
        what: "an attach to a number that no process has is no record, and the number given is not known",
    },
    Limit {
        kinds: &[Kind::FILE_OPEN],
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "of an open that fails the name is the caller's word, and the flags of openat2 are read from its memory: \
               another thread can hide there that a file which is opened for reading only is cut to nothing",
    },
    Limit {
        kinds: COMPLETED,
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "a request through io_uring that fails, or that asks for no completion (IOSQE_CQE_SKIP_SUCCESS), is no \
               record, but for TCP's connects",
    },
    Limit {
        kinds: &[Kind::ACCEPT],
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "of an accept through io_uring for many connections (IORING_ACCEPT_MULTISHOT) none is a record",
    },
    Limit {
        kinds: &[Kind::FILE_OPEN],
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "an open through io_uring that is for reading only and cuts the file to nothing counts as one for reading",
    },
    Limit {
        kinds: COMPLETED,
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::Before(5, 19),
        what: "through io_uring it is not seen, but for TCP: a completion does not say of which request it is",
    },
    Limit {
        kinds: &[Kind::FILE_OPEN, Kind::EXEC_MAP, Kind::ACCEPT, Kind::CONNECT, Kind::LISTEN],
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "the object is the kernel's own, found by descriptor when the call is done: another thread that replaces \
               the descriptor in time chooses which object is found, but for TCP's connects and listeners",
    },
    Limit {
        kinds: &[Kind::FILE_OPEN],
        tier: None,
        kernels: Kernels::All,
        what: "what is written through a descriptor that was open before the agent started, or that another process \
               passed on, is no new open",
    },
    Limit {
        kinds: &[Kind::CONNECT],
        tier: None,
        kernels: Kernels::All,
        what: "a TCP connect that fails before the kernel begins it (no route) is no record; one that finds no free port \
               shows ECONNABORTED",
    },
    Limit {
        kinds: &[Kind::CONNECT],
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "the peer of a UDP or unix connect that fails is the caller's word",
    },
    Limit {
        kinds: &[Kind::CONNECT],
        tier: Some(Tier::LSM),
        kernels: Kernels::All,
        what: "the path of a unix connect that fails is the kernel's copy of what the caller gave, not resolved",
    },
    Limit {
        kinds: &[Kind::SEND],
        tier: None,
        kernels: Kernels::All,
        what: "only the first datagram of a socket to a peer is a record; without cgroup v2 none is",
    },
    Limit {
        kinds: &[Kind::LISTEN],
        tier: None,
        kernels: Kernels::All,
        what: "a UDP socket that is bound to a port does not listen: it is no record",
    },
    Limit {
        kinds: &[Kind::SOCKET],
        tier: None,
        kernels: Kernels::All,
        what: "only raw and packet sockets are records",
    },
    Limit {
        kinds: &[Kind::EXEC_MAP],
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "a mapping that mprotect makes executable later is no record; the arguments of a 32-bit mmap are read from \
               the caller's memory",
    },
    Limit {
        kinds: &[Kind::EXEC_MAP],
        tier: None,
        kernels: Kernels::All,
        what: "a mapping for reading that is executable because of personality(READ_IMPLIES_EXEC) is no record",
    },
    Limit {
        kinds: &[Kind::MOUNT],
        tier: None,
        kernels: Kernels::All,
        what: "changed properties of a mount (mount_setattr), of its file system (fsconfig), and pivot_root are no record",
    },
    Limit {
        kinds: &[Kind::VM_WRITE, Kind::PTRACE],
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "calls with the numbers of the x32 ABI, where a kernel has it, are not seen",
    },
    Limit {
        kinds: &[Kind::CREDS],
        tier: Some(Tier::TRACEPOINT),
        kernels: Kernels::All,
        what: "changes are seen at the exit of the calls that ask for them: what the kernel changes by itself is not",
    },
    Limit {
        kinds: &[Kind::VM_WRITE],
        tier: None,
        kernels: Kernels::All,
        what: "memory that is written through /proc/PID/mem shows as an open of that file",
    },
    Limit {
        kinds: &[Kind::BPF_LOAD],
        tier: None,
        kernels: Kernels::All,
        what: "classic filters (SO_ATTACH_FILTER, seccomp) are no record",
    },
    Limit {
        kinds: &[Kind::MODULE_LOAD],
        tier: None,
        kernels: Kernels::All,
        what: "a load that the kernel refuses is no record",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_on_its_kernels() {
        let check = |kernels: Kernels, release: &str, expected: bool| {
            assert_eq!(kernels.contain(release), expected, "{} {release}", kernels.text());
        };
        check(Kernels::All, "5.10.0-30-cloud-amd64", true);
        check(Kernels::Before(6, 0), "5.10.0-30-cloud-amd64", true);
        check(Kernels::Before(6, 0), "6.1", false);
        check(Kernels::From(6, 15), "6.9.1", false);
        check(Kernels::From(6, 15), "7.3.0", true);
        check(Kernels::From(6, 15), "unreadable", true);
    }

    #[test]
    fn an_event_has_the_limits_of_its_tier() {
        let texts = |tier| {
            limits_of(Kind::FILE_UNLINK, tier, "6.18.0")
                .map(|limit| limit.what.to_owned())
                .collect::<Vec<_>>()
        };
        assert!(texts("tracepoint").iter().any(|text| text.contains("from_caller")));
        assert!(!texts("lsm").is_empty() && texts("lsm").iter().all(|text| !text.contains("from_caller")));
        assert!(limits().len() > LIMITS.len());
    }
}
