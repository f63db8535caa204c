//! An event as one aligned line for people. Not OCSF. It may call `event` and `pipeline` types.

use crate::event::{
    Arguments, Body, BpfLoad, ConnectResult, Creds, Exec, FileOpen, KernelPath, Name, Namespace, Rename,
    Socket, Target, names,
};
use crate::finding::ProcessFacts;
use crate::ocsf::network::{family_name, type_name};
use crate::pipeline::EnrichedEvent;
use sensor_event::Family;
use std::borrow::Cow;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Appends the event as one line, newline included.
pub(super) fn write_line(enriched: &EnrichedEvent, line: &mut Vec<u8>) {
    let Some((kind, text)) = describe(enriched) else { return };
    let time = time_text(enriched.time.0);
    let (pid, uid, program) = match &enriched.process {
        Some(facts) => (facts.pid.to_string(), user(facts), program(facts)),
        None => ("?".to_owned(), "?".to_owned(), "?"),
    };
    let ppid = enriched.parent.as_ref().map_or(enriched.event.actor.parent.pid, |parent| parent.pid);
    let place = enriched.process.as_ref().map(place).unwrap_or_default();
    writeln!(line, "{time} {kind:<9} pid={pid:<7} ppid={ppid:<7} uid={uid:<5} {place}{program} {text}")
        .expect("writing to memory does not fail");
}

/// Time of day in UTC, to the microsecond.
pub(super) fn time_text(unix_ns: u64) -> String {
    let timestamp = jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or_default();
    format!("{timestamp:.6}")
}

/// Arguments on one line; a long line is cut, which `...` says.
pub(super) fn joined(arguments: &Arguments) -> String {
    let mut text = arguments.joined();
    if let Some((cut, _)) = text.char_indices().nth(ARGUMENT_CHARS_MAX) {
        text.truncate(cut);
        text += "...";
    }
    text
}

fn user(facts: &ProcessFacts) -> String {
    match &facts.who.user {
        Some(name) => format!("{}({name})", facts.uid),
        None => facts.uid.to_string(),
    }
}

/// The container, else the unit, else the login session; with a space behind.
fn place(facts: &ProcessFacts) -> String {
    let (who, place) = (&facts.who, &facts.who.place);
    if let Some(told) = &place.container {
        let found = who.container.as_deref();
        let name = found.and_then(|found| found.name.as_ref()).unwrap_or(&told.id);
        let image = found.and_then(|found| found.image.as_ref());
        return image.map_or_else(|| format!("[{name}] "), |image| format!("[{name} {image}] "));
    }
    if let Some(unit) = place.unit.as_ref().or(place.user_unit.as_ref()) {
        return format!("[{unit}] ");
    }
    place.session.as_ref().map_or_else(String::new, |session| format!("[session {session}] "))
}

fn program(facts: &ProcessFacts) -> &str {
    if facts.exe.is_empty() { &facts.comm } else { &facts.exe }
}

/// A word for what happened, and what it happened to. `None` for a kind this build does not know.
fn describe(enriched: &EnrichedEvent) -> Option<(&'static str, String)> {
    Some(match &enriched.event.body {
        Body::Exec(exec) => ("exec", exec_text(exec, enriched.capabilities_gained.unwrap_or(0))),
        Body::Process(exec) => ("process", format!("cwd={}{}", exec.cwd, bracketed(&exec.exe))),
        Body::Cgroup(cgroup) => ("cgroup", format!("{}{}", cgroup.path, bracketed(&cgroup.path))),
        Body::Fork(fork) => ("fork", set_text("new namespaces", &names::namespaces(fork.new_namespaces))),
        Body::Exit(exit) if exit.signal() != 0 => ("exit", format!("signal={}", exit.signal())),
        Body::Exit(exit) => ("exit", format!("code={}", exit.code())),
        Body::Connect(socket) | Body::ConnectResult(socket) => ("connect", peers(socket, "->")),
        Body::Accept(socket) => ("accept", peers(socket, "<-")),
        Body::Send(socket) => ("send", peers(socket, "->")),
        Body::Listen(socket) => ("listen", format!("{}{}", listener(socket), failure(socket.result))),
        Body::Socket(socket) => ("socket", bare_socket(socket)),
        Body::FileOpen(file) => (file.intent(), file_text(file)),
        Body::ExecMap(file) => ("map", file_text(file)),
        Body::Memfd(file) => ("memfd", file_text(file)),
        Body::Unlink(unlink) => ("delete", name_text(unlink, "")),
        Body::Symlink(symlink) => ("symlink", name_text(symlink, &format!(" -> {}", symlink.text))),
        Body::Mkdir(mkdir) => ("mkdir", name_text(mkdir, &mode_text(mkdir.value))),
        Body::Chmod(chmod) => ("chmod", name_text(chmod, &mode_text(chmod.value))),
        Body::Chown(chown) => ("chown", name_text(chown, &owner_text(chown))),
        Body::Truncate(truncate) => ("truncate", name_text(truncate, &format!(" length={}", truncate.value))),
        Body::Setxattr(setxattr) => ("setxattr", name_text(setxattr, &format!(" {}", setxattr.text))),
        Body::Mount(mount) if mount.is_unmount() => ("unmount", name_text(mount, "")),
        Body::Mount(mount) => ("mount", name_text(mount, &mount_text(mount))),
        Body::Rename(rename) => ("rename", rename_text(rename)),
        Body::Link(link) => ("link", rename_text(link)),
        Body::Creds(creds) => ("creds", creds_text(creds)),
        Body::Ptrace(target) => {
            let request = names::ptrace_request(target.request);
            ("ptrace", format!("{request} {}", target_text(target, enriched.target.as_ref())))
        }
        Body::VmWrite(target) => ("vm_write", target_text(target, enriched.target.as_ref())),
        Body::ModuleLoad(module) => ("module", module.name.clone()),
        Body::BpfLoad(bpf) => ("bpf", bpf_text(bpf)),
        Body::Namespace(namespace) => ("namespace", namespace_text(namespace)),
        Body::Unknown(_) => return None,
    })
}

fn exec_text(exec: &Exec, gained: u64) -> String {
    let script = if exec.is_script() { format!(" script={}", exec.filename_absolute) } else { String::new() };
    let gained = capabilities_text(" gained", gained);
    format!("argv=[{}]{script}{}{gained}", joined(&exec.argv), bracketed(&exec.exe))
}

fn file_text(file: &FileOpen) -> String {
    format!("{}{}{}", file.path, bracketed(&file.path), errno_text(file.result))
}

fn name_text(name: &Name, more: &str) -> String {
    format!("{}{}{more}{}", name.path, bracketed(&name.path), errno_text(name.result))
}

fn rename_text(rename: &Rename) -> String {
    let Rename { from, to, result, .. } = rename;
    format!("{from}{} -> {to}{}{}", bracketed(from), bracketed(to), errno_text(*result))
}

fn mode_text(mode: u64) -> String {
    format!(" mode={:04o}", mode & 0o7777)
}

fn owner_text(chown: &Name) -> String {
    let (uid, gid) = chown.owner();
    let set = |what, id: Option<u32>| id.map_or_else(String::new, |id| format!(" {what}={id}"));
    set("uid", uid) + &set("gid", gid)
}

fn mount_text(mount: &Name) -> String {
    let flags = names::mount_flags(mount.value).join(",");
    let set = |what, text: &str| if text.is_empty() { String::new() } else { format!(" {what}={text}") };
    set("source", &mount.text) + &set("type", &mount.second_text) + &set("flags", &flags)
}

fn creds_text(creds: &Creds) -> String {
    let changes = match &creds.old {
        Some(old) => {
            let pairs = [
                ("uid", old.uid, creds.new.uid),
                ("euid", old.euid, creds.new.euid),
                ("gid", old.gid, creds.new.gid),
                ("egid", old.egid, creds.new.egid),
            ];
            let changed = pairs.into_iter().filter(|(_, old, new)| old != new);
            changed.map(|(what, old, new)| format!(" {what}={old}->{new}")).collect()
        }
        None => format!(" uid={} euid={}", creds.new.uid, creds.new.euid),
    };
    let gained = capabilities_text(" gained", creds.gained().unwrap_or(0));
    let dropped = capabilities_text(" dropped", creds.dropped().unwrap_or(0));
    format!("{changes}{gained}{dropped}").trim_start().to_owned()
}

fn target_text(target: &Target, facts: Option<&ProcessFacts>) -> String {
    let pid = target.target.map_or(target.given_pid, |identity| identity.pid);
    let program = facts.map_or("", program);
    format!("target={pid} {program}{}", errno_text(target.result)).replace("  ", " ")
}

fn bpf_text(bpf: &BpfLoad) -> String {
    let kind = names::bpf_program_type(bpf.program_type);
    let BpfLoad { name, program_id, tag, result, .. } = bpf;
    format!("{kind} {name} id={program_id} tag={tag}{}", errno_text(*result))
}

fn namespace_text(namespace: &Namespace) -> String {
    let call = if namespace.is_setns { "setns" } else { "unshare" };
    let what = set_text("", &names::namespaces(namespace.flags));
    format!("{call} {what}{}", errno_text(namespace.result)).trim_end().to_owned()
}

fn set_text(label: &str, names: &[&str]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("{label} {}", names.join(",")).trim_start().to_owned()
    }
}

fn capabilities_text(label: &str, bits: u64) -> String {
    match bits {
        0 => String::new(),
        // A set-id program of root gains them all.
        bits if bits.count_ones() >= CAPABILITIES_LISTED_MAX => format!("{label}={bits:#x}"),
        bits => format!("{label}={}", names::capabilities(bits).join(",")),
    }
}

fn peers(socket: &Socket, arrow: &str) -> String {
    let protocol = protocol(socket);
    let result = match socket.result {
        ConnectResult::Pending => " pending".to_owned(),
        ConnectResult::Established if protocol == "tcp" && arrow == "->" => " established".to_owned(),
        result => failure(result),
    };
    if socket.family == Family::UNIX {
        let name = if socket.path.text.is_empty() { "(unnamed)" } else { &socket.path.text };
        return format!("{protocol} {arrow} {name}{}{result}", bracketed(&socket.path));
    }
    let near = at(socket.source, socket.source_port);
    format!("{protocol} {near} {arrow} {}{result}", at(socket.destination, socket.destination_port))
}

fn listener(socket: &Socket) -> String {
    if socket.family == Family::UNIX {
        return format!("{} {}", protocol(socket), socket.path);
    }
    format!("{} {}", protocol(socket), at(socket.source, socket.source_port))
}

fn bare_socket(socket: &Socket) -> String {
    let family = family_name(socket.family)
        .map_or_else(|| Cow::Owned(format!("family-{}", socket.family.0)), Cow::Borrowed);
    let kind = type_name(socket.socket_type).unwrap_or("other");
    format!("{family} {kind} protocol={}{}", socket.protocol, failure(socket.result))
}

fn protocol(socket: &Socket) -> Cow<'static, str> {
    match (socket.family, socket.protocol) {
        (Family::UNIX, _) => Cow::Borrowed("unix"),
        (_, 6) => Cow::Borrowed("tcp"),
        (_, 17) => Cow::Borrowed("udp"),
        (_, number) => Cow::Owned(format!("protocol-{number}")),
    }
}

fn failure(result: ConnectResult) -> String {
    match result {
        ConnectResult::Failed(errno) => format!(" {}", nix::errno::Errno::from_raw(errno)),
        ConnectResult::Pending | ConnectResult::Established => String::new(),
    }
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

fn errno_text(errno: i32) -> String {
    if errno == 0 { String::new() } else { format!(" failed: {}", nix::errno::Errno::from_raw(errno)) }
}

fn bracketed(path: &KernelPath) -> String {
    let flags: Vec<_> = path.flag_names().collect();
    if flags.is_empty() { String::new() } else { format!(" ({})", flags.join(",")) }
}

/// Characters of arguments shown at most. `--json` shows them all.
const ARGUMENT_CHARS_MAX: usize = 240;
/// More capabilities than this are shown as one number. `--json` names them all.
const CAPABILITIES_LISTED_MAX: u32 = 8;

#[cfg(test)]
mod tests;
