//! An event as one aligned line for people. Not OCSF. It may call `event` and `pipeline` types.

use crate::event::{Body, ConnectResult, FileOpen, Socket};
use crate::pipeline::EnrichedEvent;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Appends the event as one line, newline included.
pub(super) fn write_line(enriched: &EnrichedEvent, line: &mut Vec<u8>) {
    let Some((kind, text)) = describe(enriched) else { return };
    let time = time_text(enriched.time.0);
    let (pid, uid, program) = match &enriched.process {
        Some(facts) => {
            let name = if facts.exe.is_empty() { &facts.comm } else { &facts.exe };
            (facts.pid.to_string(), facts.uid.to_string(), name.as_str())
        }
        None => ("?".to_owned(), "?".to_owned(), "?"),
    };
    let ppid = enriched.parent.as_ref().map_or(enriched.event.actor.parent.pid, |parent| parent.pid);
    writeln!(line, "{time} {kind:<7} pid={pid:<7} ppid={ppid:<7} uid={uid:<5} {program} {text}")
        .expect("writing to memory does not fail");
}

/// Time of day in UTC, to the microsecond.
pub(super) fn time_text(unix_ns: u64) -> String {
    let timestamp = jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or_default();
    format!("{timestamp:.6}")
}

/// Arguments on one line; a long line is cut, which `...` says.
pub(super) fn joined(arguments: &[String]) -> String {
    let mut text = arguments.join(" ");
    if let Some((cut, _)) = text.char_indices().nth(ARGUMENT_CHARS_MAX) {
        text.truncate(cut);
        text += "...";
    }
    text
}

fn describe(enriched: &EnrichedEvent) -> Option<(&'static str, String)> {
    Some(match &enriched.event.body {
        Body::Exec(exec) => {
            let flags: Vec<_> = exec.exe.flag_names().collect();
            let script =
                if exec.is_script() { format!(" script={}", exec.filename_absolute) } else { String::new() };
            ("exec", format!("argv=[{}]{script}{}", joined(&exec.argv), bracketed(&flags)))
        }
        Body::Fork(_) => ("fork", String::new()),
        Body::Exit(exit) if exit.signal() != 0 => ("exit", format!("signal={}", exit.signal())),
        Body::Exit(exit) => ("exit", format!("code={}", exit.code())),
        Body::Connect(socket) | Body::ConnectResult(socket) => ("connect", connect_text(socket)),
        Body::Listen(socket) => ("listen", format!("tcp {}", at(socket.source, socket.source_port))),
        Body::FileOpen(file) => {
            let flags: Vec<_> = file.path.flag_names().collect();
            (open_kind(file), format!("{}{}", file.path, bracketed(&flags)))
        }
        Body::Unlink(unlink) => ("delete", format!("{}{}", unlink.path, errno_text(unlink.result))),
        Body::Rename(rename) => {
            ("rename", format!("{} -> {}{}", rename.from, rename.to, errno_text(rename.result)))
        }
        _ => return None,
    })
}

const fn open_kind(file: &FileOpen) -> &'static str {
    if file.is_created() { "create" } else { "write" }
}

fn connect_text(socket: &Socket) -> String {
    let result = match socket.result {
        ConnectResult::Pending => "pending".to_owned(),
        ConnectResult::Established => "established".to_owned(),
        ConnectResult::Failed(errno) => nix::errno::Errno::from_raw(errno).to_string(),
    };
    format!(
        "tcp {} -> {} {result}",
        at(socket.source, socket.source_port),
        at(socket.destination, socket.destination_port)
    )
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

fn errno_text(errno: i32) -> String {
    if errno == 0 { String::new() } else { format!(" failed: {}", nix::errno::Errno::from_raw(errno)) }
}

fn bracketed(flags: &[&str]) -> String {
    if flags.is_empty() { String::new() } else { format!(" ({})", flags.join(",")) }
}

/// Characters of arguments shown at most. `--json` shows them all.
const ARGUMENT_CHARS_MAX: usize = 240;
