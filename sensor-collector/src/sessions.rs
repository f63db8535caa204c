//! Which agents have a live stream, so that a second one, a revocation or a shutdown can end it. It does not touch
//! the streams: each watches its own end. It may call tokio's oneshot channel only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::identity::AgentId;

/// Which of an agent's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// The data plane.
    Findings,
    /// The control plane.
    Control,
}

/// Why the collector ends a stream that did nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// The same agent opened a newer one.
    #[error("superseded by a newer session of this agent")]
    Superseded,
    /// An operator revoked the agent.
    #[error("this agent is revoked")]
    Revoked,
    /// The collector stops.
    #[error("the collector is shutting down")]
    ShuttingDown,
}

impl EndReason {
    /// When the agent should come back.
    pub fn retry_after_ms(self) -> u64 {
        match self {
            Self::Superseded => SUPERSEDED_RETRY_MS,
            Self::Revoked => REVOKED_RETRY_MS,
            Self::ShuttingDown => SHUTDOWN_RETRY_MS,
        }
    }
}

/// Every live stream. Clones share it.
#[derive(Clone, Default)]
pub struct Sessions {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    is_shutting_down: bool,
    live: BTreeMap<(AgentId, StreamKind), Live>,
}

struct Live {
    id: u64,
    end: oneshot::Sender<EndReason>,
}

/// One live stream; dropping it takes it off the list.
pub struct Session {
    sessions: Sessions,
    key: (AgentId, StreamKind),
    id: u64,
    /// Resolves when the collector wants the stream to end.
    pub ended: oneshot::Receiver<EndReason>,
}

impl Sessions {
    /// Puts a new stream on the list and ends the agent's older one of the same kind. Refused during a shutdown.
    pub fn open(&self, agent: AgentId, kind: StreamKind) -> Result<Session, EndReason> {
        let mut inner = self.lock();
        if inner.is_shutting_down {
            return Err(EndReason::ShuttingDown);
        }
        inner.next_id += 1;
        let id = inner.next_id;
        let (end, ended) = oneshot::channel();
        if let Some(older) = inner.live.insert((agent, kind), Live { id, end }) {
            // The older stream may have ended by itself in this moment.
            let _ = older.end.send(EndReason::Superseded);
        }
        Ok(Session { sessions: self.clone(), key: (agent, kind), id, ended })
    }

    /// Ends both streams of an agent.
    pub fn revoke(&self, agent: AgentId) {
        let mut inner = self.lock();
        for kind in [StreamKind::Findings, StreamKind::Control] {
            if let Some(live) = inner.live.remove(&(agent, kind)) {
                let _ = live.end.send(EndReason::Revoked);
            }
        }
    }

    /// Ends every stream and refuses new ones.
    pub fn shut_down(&self) {
        let mut inner = self.lock();
        inner.is_shutting_down = true;
        for live in std::mem::take(&mut inner.live).into_values() {
            let _ = live.end.send(EndReason::ShuttingDown);
        }
    }

    /// Whether the agent has this stream.
    pub fn is_connected(&self, agent: AgentId, kind: StreamKind) -> bool {
        self.lock().live.contains_key(&(agent, kind))
    }

    /// How many streams are live.
    pub fn count(&self) -> usize {
        self.lock().live.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds the session list")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut inner = self.sessions.lock();
        if inner.live.get(&self.key).is_some_and(|live| live.id == self.id) {
            inner.live.remove(&self.key);
        }
    }
}

/// Long, because two hosts with one identity would otherwise push each other out all day.
const SUPERSEDED_RETRY_MS: u64 = 60_000;
const REVOKED_RETRY_MS: u64 = 300_000;
const SHUTDOWN_RETRY_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::{EndReason, Sessions, StreamKind};
    use crate::identity::AgentId;

    #[test]
    fn a_newer_stream_ends_the_older_of_the_same_kind_only() {
        let (sessions, agent) = (Sessions::default(), AgentId::random());
        let mut control = sessions.open(agent, StreamKind::Control).unwrap();
        let mut older = sessions.open(agent, StreamKind::Findings).unwrap();
        let mut newer = sessions.open(agent, StreamKind::Findings).unwrap();
        assert_eq!(older.ended.try_recv(), Ok(EndReason::Superseded));
        assert!(newer.ended.try_recv().is_err());
        assert!(control.ended.try_recv().is_err());
        drop(older);
        assert!(sessions.is_connected(agent, StreamKind::Findings), "the newer one stays listed");
        drop(newer);
        assert!(!sessions.is_connected(agent, StreamKind::Findings));
    }

    #[test]
    fn a_revocation_ends_that_agents_streams_only() {
        let (sessions, agent, other) = (Sessions::default(), AgentId::random(), AgentId::random());
        let mut mine = sessions.open(agent, StreamKind::Control).unwrap();
        let mut theirs = sessions.open(other, StreamKind::Control).unwrap();
        sessions.revoke(agent);
        assert_eq!(mine.ended.try_recv(), Ok(EndReason::Revoked));
        assert!(theirs.ended.try_recv().is_err());
    }

    #[test]
    fn a_shutdown_ends_all_and_refuses_new_ones() {
        let (sessions, agent) = (Sessions::default(), AgentId::random());
        let mut session = sessions.open(agent, StreamKind::Control).unwrap();
        sessions.shut_down();
        assert_eq!(session.ended.try_recv(), Ok(EndReason::ShuttingDown));
        let refused = sessions.open(agent, StreamKind::Control).map(|_| ());
        assert_eq!(refused, Err(EndReason::ShuttingDown));
        drop(session);
        assert_eq!(sessions.count(), 0);
    }
}
