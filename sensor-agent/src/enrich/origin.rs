//! Where a process comes from, by its ancestors: a cron daemon, a login, a container's shim. Not what the path of its
//! control group says. It may call `event` and its siblings; no I/O.
//!
//! The origin is carried along with the process, as the subject is: a child, and what replaces the program, has the
//! origin that the program before it gives. So a parent that has ended still counts.
//!
//! A name alone is nothing: the program has to lie where only the host's owner installs programs, and to act as root.
//! A shim inside a container counts for nothing, whatever it calls itself: the first one from the root is kept.

use crate::enrich::{Image, Process};
use crate::event::Identity;
use std::sync::Arc;

/// What a process was started by, in the widest sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginKind {
    /// A daemon that runs jobs at set times.
    Cron,
    /// A login, from the network or a terminal.
    Login,
    /// A container's runtime.
    Container,
}

impl OriginKind {
    /// The name used in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Login => "login",
            Self::Container => "container",
        }
    }
}

/// The nearest ancestor that says where a process comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In what way.
    pub kind: OriginKind,
    /// Which process it was.
    pub identity: Identity,
    /// What it ran.
    pub exe: String,
}

/// What containerd's shim says it runs, on its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shim {
    /// containerd's namespace.
    pub namespace: String,
    /// The container's id, of any form.
    pub id: String,
}

impl Shim {
    /// Whether the control group whose components these are is that of the shim's container: `/NAMESPACE/ID`, or
    /// `PREFIX-ID.scope` below slices.
    #[must_use]
    pub fn owns(&self, components: &[&str]) -> bool {
        if let [namespace, id] = components {
            let is_plain = *namespace == self.namespace && *id == self.id;
            if is_plain {
                return true;
            }
        }
        let Some((last, above)) = components.split_last() else { return false };
        let scope = last.strip_suffix(".scope").and_then(|name| name.strip_suffix(self.id.as_str()));
        let is_scope = scope.is_some_and(|prefix| prefix.len() > 1 && prefix.ends_with('-'));
        is_scope && !above.is_empty() && above.iter().all(|component| component.ends_with(".slice"))
    }
}

/// What a process hands to those that come after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ancestry {
    /// The nearest origin.
    pub origin: Option<Arc<Origin>>,
    /// The outermost container shim.
    pub shim: Option<Arc<Shim>>,
}

impl Ancestry {
    /// What a child of `process`, or what replaces its program, has.
    #[must_use]
    pub fn after(process: &Process) -> Self {
        let mut ancestry = process.ancestry.clone();
        let Some(role) = role(&process.image, process.uid, process.euid) else { return ancestry };
        let kind = match role {
            Role::Cron => OriginKind::Cron,
            Role::Login => OriginKind::Login,
            // A job and a login use `su` to become somebody else: it makes neither another.
            Role::Switch if ancestry.origin.is_some() => return ancestry,
            Role::Switch => OriginKind::Login,
            Role::Shim if ancestry.shim.is_some() => return ancestry,
            Role::Shim => {
                ancestry.shim = shim_of(&process.image).map(Arc::new);
                OriginKind::Container
            }
        };
        let exe = process.image.exe.clone();
        ancestry.origin = Some(Arc::new(Origin { kind, identity: process.identity, exe }));
        ancestry
    }
}

enum Role {
    Cron,
    Login,
    Switch,
    Shim,
}

fn role(image: &Image, uid: u32, euid: u32) -> Option<Role> {
    if euid != 0 || !image.is_installed() {
        return None;
    }
    let name = image.base_name();
    match name {
        "cron" | "crond" | "anacron" | "atd" | "fcron" => Some(Role::Cron),
        "sshd" | "sshd-session" | "login" | "systemd-logind" | "dropbear" => Some(Role::Login),
        "su" => Some(Role::Switch),
        _ if uid == 0 && SHIMS.contains(&name) => Some(Role::Shim),
        _ => None,
    }
}

fn shim_of(image: &Image) -> Option<Shim> {
    let value = |option: &str| {
        let mut arguments = image.argv.iter().skip_while(|argument| *argument != option);
        arguments.next().and_then(|_| arguments.next()).filter(|value| is_name(value)).map(str::to_owned)
    };
    Some(Shim { namespace: value("-namespace")?, id: value("-id")? })
}

/// What containerd accepts for namespaces and ids, `identifiers.Validate`: it never needs to be escaped.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(is_plain)
        && name.as_bytes()[0].is_ascii_alphanumeric()
}

/// containerd's own limit, `identifiers.maxLength`.
const NAME_BYTES_MAX: usize = 76;
const SHIMS: [&str; 3] = ["containerd-shim", "containerd-shim-runc-v1", "containerd-shim-runc-v2"];
