//! Which agent is calling. TLS has verified the certificate; this asks the store whether the agent still counts.

use tonic::{Request, Status};

use crate::collector::Collector;
use crate::counters::add;
use crate::identity::peer::agent_of_certificate;
use crate::store::StoreError;
use crate::store::agents::{self, AgentRow};

/// The agent that the client certificate names, when it is enrolled and not revoked.
pub(super) async fn authenticate<T>(collector: &Collector, request: &Request<T>) -> Result<AgentRow, Status> {
    let refuse = |reason: String| {
        add(&collector.counters.identities_refused, 1);
        Status::unauthenticated(reason)
    };
    let certificates = request.peer_certs();
    let certificate = certificates.as_ref().and_then(|chain| chain.first());
    let certificate =
        certificate.ok_or_else(|| refuse("no client certificate: enroll this agent first".to_owned()))?;
    let id = agent_of_certificate(certificate).map_err(|error| refuse(error.to_string()))?;
    let agent = collector.store.read(move |connection| agents::find(connection, id)).await;
    match agent.map_err(|error: StoreError| store_status(&error))? {
        None => Err(refuse(format!("agent {id} is not enrolled here"))),
        Some(agent) if agent.revoked.is_some() => Err(refuse(format!("agent {id} is revoked"))),
        Some(agent) => Ok(agent),
    }
}

/// A store that fails is a reason to come back, not the agent's fault.
pub(super) fn store_status(error: &StoreError) -> Status {
    Status::unavailable(error.to_string())
}
