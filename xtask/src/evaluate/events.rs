//! What the rooms did, from the agent's OCSF events: who, when, and to what, without what a baseline makes of it. Not
//! findings. It calls nothing.

use super::room::room_of;
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::BufRead;

/// One thing that a process of a room did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Did {
    pub(super) room: u32,
    pub(super) workload: String,
    pub(super) time_ms: u64,
    pub(super) kind: Kind,
    /// The object, or the name of the event.
    pub(super) what: String,
}

/// Families that detection is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Exec,
    Connect,
    Listen,
    File,
    /// Changes of mode and owner, credentials, ptrace, sockets, mounts: seen, and no part of a baseline.
    Other,
}

impl Kind {
    /// Those that a baseline has a dimension for.
    pub(super) const JUDGED: [Self; 4] = [Self::Exec, Self::Connect, Self::Listen, Self::File];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Connect => "connect",
            Self::Listen => "listen",
            Self::File => "file",
            Self::Other => "other",
        }
    }

    /// The kind of a finding's action.
    pub(super) fn of_action(action: &str) -> Self {
        match action {
            "exec" => Self::Exec,
            "connect" => Self::Connect,
            "listen" => Self::Listen,
            "write" | "delete" | "rename" => Self::File,
            _ => Self::Other,
        }
    }
}

/// Reads one OCSF object a line; what is not of a room is left out.
pub(super) fn read_events(lines: impl BufRead) -> Result<Vec<Did>> {
    let mut did = Vec::new();
    for line in lines.lines() {
        let line = line.context("reading events")?;
        // Most lines are of the host's other activity: reading them all as JSON takes a while.
        if !line.contains("room-") && !line.contains("session-evaluate") {
            continue;
        }
        let event: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
        did.extend(of(&event));
    }
    Ok(did)
}

fn of(event: &Value) -> Option<Did> {
    let room = room_of(event["unmapped"]["cgroup"].as_str()?)?;
    let time_ms = event["time"].as_u64()?;
    let activity = event["activity_name"].as_str()?;
    let (kind, what) = match event["class_uid"].as_u64()? {
        1007 if activity == "Launch" => {
            if event["launch_type"].as_str() != Some("Exec") {
                return None;
            }
            (Kind::Exec, event["process"]["file"]["path"].as_str()?.to_owned())
        }
        // Ends of processes, and control groups that this harness makes.
        1007 if activity == "Terminate" => return None,
        1003 | 5015 => return None,
        1001 => {
            let kind = if FILE_ATTRIBUTES.contains(&activity) { Kind::Other } else { Kind::File };
            (kind, format!("{activity} {}", event["file"]["path"].as_str()?))
        }
        4001 => {
            let end = if activity == "Listen" { "src_endpoint" } else { "dst_endpoint" };
            let address = event[end]["ip"].as_str().unwrap_or("unix");
            // A UDP socket that is connected sends nothing: so programs look for a route, and baselines leave it out.
            let is_udp = event["connection_info"]["protocol_num"] == 17;
            let kind = match activity {
                _ if address == "unix" || (is_udp && activity != "Traffic") => Kind::Other,
                "Listen" => Kind::Listen,
                "Open" | "Refuse" | "Fail" | "Traffic" => Kind::Connect,
                _ => Kind::Other,
            };
            (kind, format!("{activity} {address} {}", event[end]["port"]))
        }
        _ => (Kind::Other, format!("{} {activity}", event["class_name"].as_str()?)),
    };
    let workload = event["unmapped"]["workload"].as_str()?.to_owned();
    Some(Did { room, workload, time_ms, kind, what })
}

/// File events that no baseline has words for.
const FILE_ATTRIBUTES: [&str; 3] = ["Set Attributes", "Set Security", "Mount"];

#[cfg(test)]
mod tests {
    use super::{Kind, read_events};

    #[test]
    fn what_a_room_did_is_read_and_the_host_is_left_out() {
        let lines = [
            r#"{"class_uid":1007,"activity_name":"Launch","launch_type":"Exec","time":5,"process":{"file":{"path":"/usr/bin/id"}},"unmapped":{"workload":"w","cgroup":"/system.slice/sensor-evaluate.slice/room-3.slice/a.service"}}"#,
            r#"{"class_uid":1007,"activity_name":"Launch","launch_type":"Fork","time":5,"process":{},"unmapped":{"workload":"w","cgroup":"/system.slice/sensor-evaluate.slice/room-3.slice/a.service"}}"#,
            r#"{"class_uid":4001,"activity_name":"Refuse","time":6,"dst_endpoint":{"ip":"127.0.0.1","port":80},"unmapped":{"workload":"w","cgroup":"/user.slice/user-0.slice/session-evaluate4.scope"}}"#,
            r#"{"class_uid":1001,"activity_name":"Set Security","time":7,"file":{"path":"/tmp/x"},"unmapped":{"workload":"w","cgroup":"/user.slice/user-0.slice/session-evaluate4.scope"}}"#,
            r#"{"class_uid":1001,"activity_name":"Update","time":7,"file":{"path":"/tmp/room-1"},"unmapped":{"workload":"w","cgroup":"/host"}}"#,
        ];
        let did = read_events(lines.join("\n").as_bytes()).unwrap();
        let told: Vec<_> = did.iter().map(|did| (did.room, did.kind, did.what.as_str())).collect();
        assert_eq!(
            told,
            [
                (3, Kind::Exec, "/usr/bin/id"),
                (4, Kind::Connect, "Refuse 127.0.0.1 80"),
                (4, Kind::Other, "Set Security /tmp/x"),
            ]
        );
    }

    #[test]
    fn what_is_no_event_is_refused() {
        assert!(read_events("room- {".as_bytes()).is_err());
    }
}
