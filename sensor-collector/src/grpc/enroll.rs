//! The Enroll service: a one-time token for a client certificate, and a new certificate for an old one. It does not
//! decide what a token is worth (`store::tokens`) or what a certificate says (`identity::authority`).

use std::sync::Arc;

use rusqlite::Connection;
use sensor_proto::v1;
use sensor_proto::v1::enroll_server::Enroll;
use tonic::{Request, Response, Status};

use crate::clock::{self, UnixNs};
use crate::collector::Collector;
use crate::counters::add;
use crate::grpc::peer::{self, store_status};
use crate::grpc::wire;
use crate::identity::AgentId;
use crate::identity::authority::AuthorityError;
use crate::identity::secret::{Sha256Hash, is_enrollment_token};
use crate::store::agents::Claims;
use crate::store::tokens::TokenError;
use crate::store::{StoreError, agents, tokens};

/// Enrolls agents and renews their certificates.
pub(super) struct EnrollService {
    collector: Arc<Collector>,
}

/// Why an enrollment failed.
#[derive(Debug, thiserror::Error)]
enum EnrollError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EnrollService {
    pub(super) fn new(collector: Arc<Collector>) -> Self {
        Self { collector }
    }

    fn refused(&self, error: EnrollError) -> Status {
        match error {
            EnrollError::Token(error) => {
                add(&self.collector.counters.enrollments_refused, 1);
                Status::unauthenticated(error.to_string())
            }
            EnrollError::Store(error) => store_status(&error),
        }
    }

    fn certificate(
        &self,
        agent: AgentId,
        request_der: &[u8],
        now: UnixNs,
    ) -> Result<(String, UnixNs), Status> {
        let lifetime = self.collector.config.certificate_lifetime;
        let issued = self.collector.authority.issue_agent(agent, request_der, now, lifetime);
        match issued {
            Ok(pem) => Ok((pem, now.plus_seconds(lifetime.as_secs()))),
            Err(error @ AuthorityError::Request(_)) => {
                add(&self.collector.counters.enrollments_refused, 1);
                Err(Status::invalid_argument(error.to_string()))
            }
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }

    fn response(
        &self,
        agent: AgentId,
        fleet: String,
        certificate_pem: String,
    ) -> Response<v1::EnrollResponse> {
        let ca_pem = self.collector.authority.certificate_pem().to_owned();
        Response::new(v1::EnrollResponse { agent_id: agent.text(), fleet, certificate_pem, ca_pem })
    }
}

#[tonic::async_trait]
impl Enroll for EnrollService {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        if !is_enrollment_token(&request.token) {
            add(&self.collector.counters.enrollments_refused, 1);
            return Err(Status::unauthenticated(
                "enrollment token is malformed: expected sensor1.SECRET.SHA256",
            ));
        }
        let hash = Sha256Hash::of(request.token.as_bytes());
        let now = clock::now();
        // Before any work for a caller without a good token. It is checked again where it is consumed.
        let checked = self.collector.store.read(move |connection| check(connection, hash, now)).await;
        checked.map_err(|error| self.refused(error))?;

        let agent = AgentId::random();
        let (certificate_pem, expires) = self.certificate(agent, &request.csr_der, now)?;
        let claims = wire::claims(&request.hostname, &request.agent_version, &request.kernel_release);
        let enrolled = self
            .collector
            .store
            .write(move |connection| enroll(connection, hash, agent, &claims, now, expires))
            .await;
        let fleet = enrolled.map_err(|error| self.refused(error))?;
        tracing::info!(%agent, fleet, hostname = request.hostname, "agent enrolled");
        Ok(self.response(agent, fleet, certificate_pem))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let id = peer::named(&self.collector, &request)?;
        let agent = peer::enrolled(&self.collector, id).await?;
        let (certificate_pem, expires) =
            self.certificate(agent.id, &request.into_inner().csr_der, clock::now())?;
        self.collector
            .store
            .write(move |connection| agents::set_certificate_expiry(connection, id, expires))
            .await
            .map_err(|error: StoreError| store_status(&error))?;
        Ok(self.response(agent.id, agent.fleet, certificate_pem))
    }
}

fn check(connection: &Connection, hash: Sha256Hash, now: UnixNs) -> Result<String, EnrollError> {
    Ok(tokens::check_enrollment(connection, hash, now)??)
}

/// Consumes the token and adds the agent in one transaction: no token buys two agents, none is lost for nothing.
fn enroll(
    connection: &Connection,
    hash: Sha256Hash,
    agent: AgentId,
    claims: &Claims,
    now: UnixNs,
    expires: UnixNs,
) -> Result<String, EnrollError> {
    let fleet = check(connection, hash, now)?;
    tokens::consume_enrollment(connection, hash, &agent.text(), now)?;
    agents::insert(connection, agent, &fleet, claims, now, expires)?;
    Ok(fleet)
}
