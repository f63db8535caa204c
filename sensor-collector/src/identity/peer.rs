//! Which agent a client certificate names. It does not verify the certificate: TLS did. It may call x509-parser.

use x509_parser::extensions::GeneralName;

use crate::identity::AgentId;

/// Why a certificate names no agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Not a certificate.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// Not an agent's.
    #[error("the client certificate does not name an agent")]
    NotAnAgent,
}

/// The URI that names an agent in its certificate.
pub fn agent_uri(agent: AgentId) -> String {
    format!("{URI_PREFIX}{agent}")
}

/// The agent that a certificate (DER) names, which must be the only name in it.
pub fn agent_of_certificate(der: &[u8]) -> Result<AgentId, PeerError> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| PeerError::Unreadable)?;
    let names = certificate.subject_alternative_name().map_err(|_| PeerError::Unreadable)?;
    let names = names.ok_or(PeerError::NotAnAgent)?;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => {
            uri.strip_prefix(URI_PREFIX).and_then(AgentId::parse).ok_or(PeerError::NotAnAgent)
        }
        _ => Err(PeerError::NotAnAgent),
    }
}

const URI_PREFIX: &str = "spiffe://sensor/agent/";
