//! `sensor-agent enroll`: a one-time token becomes an identity. Not its use. It connects with TLS that trusts only the
//! CA whose hash the token carries, so that nobody in between can hand out an identity or take the token.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sensor_proto::v1;
use sensor_proto::v1::enroll_client::EnrollClient;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::config::{self, Config};
use crate::identity::{Identity, IdentityFacts, Request};
use crate::state_dir::StateDir;

/// What `enroll` needs to know.
#[derive(Clone, Debug, clap::Args)]
pub struct EnrollArgs {
    /// The collector's gRPC address, HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    pub collector: String,
    /// The one-time token that `sensorctl tokens create` or `sensor-collector init` printed.
    #[arg(long)]
    pub token: String,
    /// The agent's state folder; wins over the configuration file.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The agent's configuration file, read for its state folder.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The name to check the collector's certificate for; the host of its address unless given.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Replace the identity this host already has.
    #[arg(long)]
    pub force: bool,
}

/// Enrolls this host and stores its identity.
///
/// # Errors
/// With a message for the operator: a malformed token, a collector that cannot be reached or is not the one the token
/// pins, the collector's own reason to refuse, or a state folder that cannot be used.
pub fn enroll(args: EnrollArgs) -> anyhow::Result<ExitCode> {
    let token = Token::parse(&args.token)?;
    let host = config::host_of(&args.collector).context("--collector")?;
    let server_name = args.server_name.unwrap_or(host);
    let state_dir = match (args.state_dir, args.config) {
        (Some(state_dir), _) => state_dir,
        (None, Some(file)) => Config::load(&file)?.state_dir,
        (None, None) => PathBuf::from(config::STATE_DIR_DEFAULT),
    };
    let state = StateDir::open(&state_dir)?;
    let folder = state.identity();
    if folder.exists() && !args.force {
        let known =
            Identity::load(&folder).map_or_else(|_| "unreadable".to_owned(), |known| known.facts.agent_id);
        bail!("{}: this host is enrolled already, as agent {known}; --force replaces it", folder.display());
    }
    let request = Request::generate()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let response = runtime.block_on(exchange(&args.collector, &server_name, &token, request.csr_der))?;
    let facts = IdentityFacts {
        agent_id: response.agent_id,
        fleet: response.fleet,
        collector: args.collector,
        server_name,
    };
    let identity = Identity {
        facts,
        key_pem: request.key_pem,
        certificate_pem: response.certificate_pem,
        ca_pem: response.ca_pem,
    };
    identity.validity().context("the collector's answer")?;
    if Identity::load(&folder).is_ok_and(|former| !is_same_fleet(&former, &identity)) {
        // The new fleet may have no baseline, and then nothing would replace the former one's.
        state.forget_baseline()?;
    }
    identity.store(&folder)?;
    println!("enrolled agent={} fleet={}", identity.facts.agent_id, identity.facts.fleet);
    Ok(ExitCode::SUCCESS)
}

/// Whether both are of one fleet of one collector: two collectors may each have a fleet of that name.
fn is_same_fleet(one: &Identity, other: &Identity) -> bool {
    one.facts.fleet == other.facts.fleet && one.ca_pem == other.ca_pem
}

async fn exchange(
    collector: &str,
    server_name: &str,
    token: &Token,
    csr_der: Vec<u8>,
) -> anyhow::Result<v1::EnrollResponse> {
    let channel = connect(collector, server_name, token.ca_sha256).await?;
    let request = v1::EnrollRequest {
        token: token.text.clone(),
        csr_der,
        hostname: config::system_hostname(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel_release: crate::runtime::kernel_release(),
    };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, EnrollClient::new(channel).enroll(request)).await;
    let answer =
        answer.with_context(|| format!("{collector}: no answer in {} s", ANSWER_TIMEOUT.as_secs()))?;
    match answer {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => bail!("{collector}: enrollment refused: {}", status.message()),
    }
}

/// An HTTP/2 channel over TLS that trusts one CA, known by its hash. The handshake is done here and not by tonic, so
/// that its error reaches the operator as it is.
async fn connect(collector: &str, server_name: &str, ca_sha256: [u8; 32]) -> anyhow::Result<Channel> {
    let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(collector)).await;
    let tcp = tcp
        .with_context(|| format!("{collector}: no connection in {} s", CONNECT_TIMEOUT.as_secs()))?
        .with_context(|| format!("{collector}: cannot connect"))?;
    let name = ServerName::try_from(server_name.to_owned())
        .with_context(|| format!("{server_name:?} is not a host name or address"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(PinnedCa { ca_sha256, provider: provider.clone() });
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("starting TLS")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(tls));
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(name, tcp)).await;
    let stream = stream
        .with_context(|| format!("{collector}: no TLS handshake in {} s", CONNECT_TIMEOUT.as_secs()))?
        .map_err(|error| anyhow::anyhow!("{collector}: {}", tls_reason(&error)))?;
    // The one connection there is; tonic asks for it once.
    let mut once = Some(TokioIo::new(stream));
    let handed_over = tower::service_fn(move |_: Uri| {
        let stream = once.take().ok_or_else(|| std::io::Error::other("the connection has ended"));
        async move { stream }
    });
    Endpoint::from_shared(format!("http://{collector}"))
        .with_context(|| format!("{collector:?} is not HOST:PORT"))?
        .connect_with_connector(handed_over)
        .await
        .with_context(|| format!("{collector}: no HTTP/2"))
}

/// The sentence in a TLS error: our verifier's own, or rustls's.
fn tls_reason(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(reason))) => {
            reason.0.to_string()
        }
        Some(reason) => format!("TLS: {reason}"),
        None => format!("TLS: {error}"),
    }
}

/// An enrollment token: `sensor1.SECRET.CA`.
#[derive(Debug, PartialEq, Eq)]
struct Token {
    text: String,
    ca_sha256: [u8; 32],
}

impl Token {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        let parts: Vec<&str> = text.split('.').collect();
        let [version, secret, ca] = parts[..] else {
            bail!("malformed token: {} parts between dots, expected 3: sensor1.SECRET.CA", parts.len());
        };
        if version != "sensor1" {
            bail!("malformed token: starts with {version:?}, expected \"sensor1\"");
        }
        match URL_SAFE_NO_PAD.decode(secret) {
            Ok(bytes) if bytes.len() == SECRET_BYTES => {}
            Ok(bytes) => {
                bail!("malformed token: its secret has {} bytes, expected {SECRET_BYTES}", bytes.len())
            }
            Err(error) => bail!("malformed token: its secret is not base64url: {error}"),
        }
        let ca_sha256 = from_hex(ca).with_context(|| {
            format!(
                "malformed token: its CA fingerprint has to be 64 hexadecimal digits, it has {} characters",
                ca.len()
            )
        })?;
        Ok(Self { text: text.to_owned(), ca_sha256 })
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            let digits = std::str::from_utf8(pair).ok().filter(|digits| !digits.starts_with('+'))?;
            u8::from_str_radix(digits, 16).ok()
        })
        .collect();
    bytes?.try_into().ok().filter(|_| text.len() == 64)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Trusts one CA, which the server has to present, and through it checks the server's certificate as usual: name,
/// validity, signatures.
#[derive(Debug)]
struct PinnedCa {
    ca_sha256: [u8; 32],
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hash = |certificate: &CertificateDer<'_>| -> [u8; 32] { Sha256::digest(certificate).into() };
        let Some(ca) = intermediates.iter().find(|candidate| hash(candidate) == self.ca_sha256) else {
            return Err(wrong_ca(self.ca_sha256, hash(intermediates.last().unwrap_or(end_entity))));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The presented chain does not have the CA that the token pins.
#[derive(Debug, thiserror::Error)]
#[error(
    "wrong certificate authority: the token expects sha256 {expected}, the collector presented {presented}"
)]
struct WrongCa {
    expected: String,
    presented: String,
}

fn wrong_ca(expected: [u8; 32], presented: [u8; 32]) -> rustls::Error {
    let cause = WrongCa { expected: to_hex(&expected), presented: to_hex(&presented) };
    rustls::Error::InvalidCertificate(rustls::CertificateError::Other(rustls::OtherError(Arc::new(cause))))
}

const SECRET_BYTES: usize = 32;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> String {
        format!("sensor1.{}.{}", URL_SAFE_NO_PAD.encode([7; SECRET_BYTES]), to_hex(&[0xab; 32]))
    }

    #[test]
    fn a_token_carries_the_ca_it_pins() {
        assert_eq!(Token::parse(&good()).unwrap().ca_sha256, [0xab; 32]);
        assert_eq!(Token::parse(&format!(" {}\n", good())).unwrap().text, good(), "pasted with white space");
    }

    #[test]
    fn a_malformed_token_is_told_what_is_wrong() {
        let secret = URL_SAFE_NO_PAD.encode([7; SECRET_BYTES]);
        for (text, expected) in [
            (String::new(), "1 parts between dots, expected 3"),
            ("sensor1.short".to_owned(), "2 parts between dots"),
            (good().replace("sensor1", "sensor2"), "starts with \"sensor2\", expected \"sensor1\""),
            (format!("sensor1.AAAA.{}", to_hex(&[1; 32])), "its secret has 3 bytes, expected 32"),
            (format!("sensor1.***.{}", to_hex(&[1; 32])), "its secret is not base64url"),
            (format!("sensor1.{secret}.abc"), "64 hexadecimal digits, it has 3 characters"),
            (format!("sensor1.{secret}.{}", "+1".repeat(32)), "64 hexadecimal digits"),
            (format!("sensor1.{secret}.{}", "zz".repeat(32)), "64 hexadecimal digits"),
        ] {
            let error = Token::parse(&text).expect_err(&text);
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }
}
