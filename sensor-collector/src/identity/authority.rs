//! The collector's certificate authority: its own certificate, the server's, and the agents'. It reads and writes no
//! file. It may call rcgen and x509-parser.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};

use crate::clock::UnixNs;
use crate::identity::AgentId;
use crate::identity::peer::agent_uri;
use crate::identity::secret::Sha256Hash;

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key or certificate of the CA cannot be read.
    #[error("ca certificate or key: {0}")]
    Own(rcgen::Error),
    /// The CA's PEM text holds no certificate.
    #[error("ca certificate: {0}")]
    OwnPem(rustls::pki_types::pem::Error),
    /// The agent's certificate request is not one, or its signature is wrong.
    #[error("certificate request: {0}")]
    Request(rcgen::Error),
    /// Not a name that a certificate can carry.
    #[error("certificate name {name:?}: {cause}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        cause: rcgen::Error,
    },
    /// Signing failed.
    #[error("issuing a certificate: {0}")]
    Issue(rcgen::Error),
}

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate; for a server the chain, CA last.
    pub certificate_pem: String,
    /// PKCS#8.
    pub key_pem: String,
}

/// Signs with the CA's key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    fingerprint: Sha256Hash,
}

impl Authority {
    /// Makes a new CA, valid from `now`.
    pub fn generate(now: UnixNs) -> Result<Identity, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Own)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Sensor collector CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, AUTHORITY_LIFETIME);
        let certificate = params.self_signed(&key).map_err(AuthorityError::Own)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Reads what `generate` made.
    pub fn load(identity: &Identity) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(&identity.key_pem).map_err(AuthorityError::Own)?;
        let issuer = Issuer::from_ca_cert_pem(&identity.certificate_pem, key).map_err(AuthorityError::Own)?;
        let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes())
            .map_err(AuthorityError::OwnPem)?;
        let fingerprint = Sha256Hash::of(&certificate);
        Ok(Self { issuer, certificate_pem: identity.certificate_pem.clone(), fingerprint })
    }

    /// The CA certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// SHA-256 of the CA certificate, DER: what an enrollment token pins.
    pub fn fingerprint(&self) -> Sha256Hash {
        self.fingerprint
    }

    /// A server certificate for these names and addresses. The chain ends with the CA certificate, because an agent
    /// that enrolls has nothing but the CA's hash and looks for it in the chain.
    pub fn issue_server(&self, names: &[String], now: UnixNs) -> Result<Identity, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Issue)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Sensor collector");
        for name in names {
            params.subject_alt_names.push(server_name(name)?);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, SERVER_LIFETIME);
        let certificate = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Issue)?;
        Ok(Identity {
            certificate_pem: format!("{}{}", certificate.pem(), self.certificate_pem),
            key_pem: key.serialize_pem(),
        })
    }

    /// A client certificate for `agent` and the public key of the request. Nothing else of the request is used: the
    /// subject, the names and the uses are the collector's choice.
    pub fn issue_agent(
        &self,
        agent: AgentId,
        request_der: &[u8],
        now: UnixNs,
        lifetime: Duration,
    ) -> Result<String, AuthorityError> {
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request_der))
                .map_err(AuthorityError::Request)?;
        self.sign_agent(agent, &request.public_key, now, lifetime)
    }

    fn sign_agent(
        &self,
        agent: AgentId,
        public_key: &impl PublicKeyData,
        now: UnixNs,
        lifetime: Duration,
    ) -> Result<String, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&agent.text());
        let uri = agent_uri(agent)
            .try_into()
            .map_err(|cause| AuthorityError::Name { name: agent.text(), cause })?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, lifetime);
        let certificate = params.signed_by(public_key, &self.issuer).map_err(AuthorityError::Issue)?;
        Ok(certificate.pem())
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn server_name(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let dns = name.try_into().map_err(|cause| AuthorityError::Name { name: name.to_owned(), cause })?;
    Ok(SanType::DnsName(dns))
}

fn set_validity(params: &mut CertificateParams, now: UnixNs, lifetime: Duration) {
    let start = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_nanos(now.column().unsigned_abs());
    params.not_before = start - CLOCK_SKEW;
    params.not_after = start + lifetime;
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * DAY.as_secs());
const SERVER_LIFETIME: Duration = Duration::from_secs(365 * DAY.as_secs());
/// A host whose clock is behind must still accept a certificate that was just made.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::Authority;
    use crate::clock::UnixNs;
    use crate::identity::AgentId;
    use crate::identity::peer::{PeerError, agent_of_certificate};

    const NOW: u64 = 1_800_000_000_000_000_000;

    fn authority() -> Authority {
        Authority::load(&Authority::generate(UnixNs::from_claimed(NOW)).unwrap()).unwrap()
    }

    fn issue(authority: &Authority, agent: AgentId, request: &CertificateParams) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let request = request.serialize_request(&key).unwrap();
        let now = UnixNs::from_claimed(NOW);
        let pem = authority.issue_agent(agent, request.der(), now, Duration::from_secs(60)).unwrap();
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn the_collector_chooses_the_subject_whatever_the_request_says() {
        let agent = AgentId::random();
        let mut request = CertificateParams::default();
        request.distinguished_name.push(DnType::CommonName, "root");
        let claimed = format!("spiffe://sensor/agent/{}", AgentId::random());
        request.subject_alt_names = vec![SanType::URI(claimed.try_into().unwrap())];
        let certificate = issue(&authority(), agent, &request);
        assert_eq!(agent_of_certificate(&certificate), Ok(agent));
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
        assert_eq!(parsed.subject().to_string(), format!("CN={agent}"));
        assert!(!parsed.is_ca());
    }

    #[test]
    fn a_damaged_request_is_refused() {
        let key = KeyPair::generate().unwrap();
        let mut der = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        let now = UnixNs::from_claimed(NOW);
        let error =
            authority().issue_agent(AgentId::random(), &der, now, Duration::from_secs(60)).unwrap_err();
        assert!(error.to_string().starts_with("certificate request:"), "{error}");
    }

    #[test]
    fn the_server_chain_ends_with_the_pinned_authority() {
        let authority = authority();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let identity = authority.issue_server(&names, UnixNs::from_claimed(NOW)).unwrap();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!(super::Sha256Hash::of(&chain[1]), authority.fingerprint());
        assert_eq!(agent_of_certificate(&chain[0]), Err(PeerError::NotAnAgent));
    }

    #[test]
    fn a_name_that_no_certificate_can_carry_is_named() {
        let error = authority()
            .issue_server(&["höst".to_owned()], UnixNs::from_claimed(NOW))
            .map(|_| ())
            .unwrap_err();
        assert!(error.to_string().contains("höst"), "{error}");
    }
}
