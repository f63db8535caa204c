//! The intrusion: what is run through the service's hole, and which evidence it must leave. Harmless: a copy of
//! `true`, a file in the service's private cron folder, a connection to a socket of the demo. Decides only; the
//! target runs it.

use super::target::CRON_FOLDER;
use crate::shell_quoted;
use anyhow::{Context, Result};
use sensor_tests::Finding;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// The intrusion and the loopback listener it connects to.
pub(super) struct Attack {
    dropped: PathBuf,
    marker: PathBuf,
    listener: TcpListener,
}

impl Attack {
    /// Prepares an intrusion that keeps its files in `scratch`.
    pub(super) fn new(scratch: &Path) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("binding the intruder's loopback port")?;
        Ok(Self { dropped: scratch.join("dropped"), marker: scratch.join("second-strike"), listener })
    }

    /// Writes and runs a fresh file, leaves a cron job, connects out.
    pub(super) fn first_strike(&self) -> String {
        let dropped = shell_quoted(&self.dropped.to_string_lossy());
        format!(
            "cp /bin/true {dropped}; {dropped}; echo '* * * * * root true' > {CRON_FOLDER}/backdoor; {}",
            self.connection()
        )
    }

    /// The connection again, then something new beside it.
    pub(super) fn second_strike(&self) -> String {
        format!("{}; echo > {}", self.connection(), shell_quoted(&self.marker.to_string_lossy()))
    }

    /// Whether exec, connect and file write of the first strike were all found.
    pub(super) fn is_complete(&self, evidence: &[Finding]) -> bool {
        let dropped = self.dropped.to_string_lossy();
        let cron = format!("{CRON_FOLDER}/backdoor");
        let has = |action: &str, object: &str| {
            evidence.iter().any(|piece| piece.action() == action && piece.object() == object)
        };
        has("exec", &dropped) && has("write", &cron) && self.evidence_to_approve(evidence).is_some()
    }

    /// The evidence of the connection.
    pub(super) fn evidence_to_approve<'a>(&self, evidence: &'a [Finding]) -> Option<&'a Finding> {
        let port = format!(" {}", self.port());
        evidence.iter().find(|piece| piece.action() == "connect" && piece.object().ends_with(&port))
    }

    /// Whether `piece` is what the second strike does after the connection.
    pub(super) fn is_marker(&self, piece: &Finding) -> bool {
        piece.action() == "write" && piece.object() == self.marker.to_string_lossy()
    }

    fn connection(&self) -> String {
        format!("bash -c 'echo hello > /dev/tcp/127.0.0.1/{}'", self.port())
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }
}
