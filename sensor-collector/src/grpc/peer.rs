//! Which agent is calling. TLS has verified the certificate; this asks the store whether the agent still counts.

use tonic::{Request, Status};

use crate::collector::Collector;
use crate::counters::add;
use crate::identity::AgentId;
use crate::identity::peer::agent_of_certificate;
use crate::store::StoreError;
use crate::store::agents::{self, AgentRow};

/// The agent that the client certificate names.
pub(super) fn named<T>(collector: &Collector, request: &Request<T>) -> Result<AgentId, Status> {
    let certificates = request.peer_certs();
    let certificate = certificates.as_ref().and_then(|chain| chain.first());
    let certificate = certificate
        .ok_or_else(|| refused(collector, "no client certificate: enroll this agent first".to_owned()))?;
    agent_of_certificate(certificate).map_err(|error| refused(collector, error.to_string()))
}

/// Its row, when it is enrolled and not revoked. A stream is put on the session list before it asks: then a
/// revocation either shows here or finds the stream on the list.
pub(super) async fn enrolled(collector: &Collector, id: AgentId) -> Result<AgentRow, Status> {
    let agent = collector.store.read(move |connection| agents::find(connection, id)).await;
    match agent.map_err(|error: StoreError| store_status(&error))? {
        None => Err(refused(collector, format!("agent {id} is not enrolled here"))),
        Some(agent) if agent.revoked.is_some() => Err(refused(collector, format!("agent {id} is revoked"))),
        Some(agent) => Ok(agent),
    }
}

fn refused(collector: &Collector, reason: String) -> Status {
    add(&collector.counters.identities_refused, 1);
    Status::unauthenticated(reason)
}

/// A store that fails is a reason to come back, not the agent's fault.
pub(super) fn store_status(error: &StoreError) -> Status {
    Status::unavailable(error.to_string())
}
