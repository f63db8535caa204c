//! Who this agent is: key, certificate, the collector's CA, and where the collector is, on disk. Not how they are
//! obtained (`enroll`) or used (`uplink`). It may call the file system, rcgen and x509-parser.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};

use crate::state_dir;

/// Everything that `enroll` obtained.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Names and addresses.
    pub facts: IdentityFacts,
    /// The agent's private key.
    pub key_pem: String,
    /// The agent's certificate.
    pub certificate_pem: String,
    /// The collector's CA.
    pub ca_pem: String,
}

/// The part of an identity that is not cryptography.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFacts {
    /// UUID chosen by the collector.
    pub agent_id: String,
    /// The fleet the token was bound to; the collector may change it later.
    pub fleet: String,
    /// `HOST:PORT` of the collector.
    pub collector: String,
    /// The name its certificate is checked for.
    pub server_name: String,
}

/// A key that has no certificate yet.
pub struct Request {
    /// The private key.
    pub key_pem: String,
    /// The certificate request, PKCS#10 DER.
    pub csr_der: Vec<u8>,
}

impl Request {
    /// Makes a P-256 key and a request for it.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn generate() -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making a key")?;
        let request =
            CertificateParams::default().serialize_request(&key).context("making a certificate request")?;
        Ok(Self { key_pem: key.serialize_pem(), csr_der: request.der().to_vec() })
    }
}

impl Identity {
    /// Reads the identity in `folder`.
    ///
    /// # Errors
    /// When the host is not enrolled, or a file of it is missing or makes no sense.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        if !folder.exists() {
            bail!(
                "{}: this host is not enrolled; run `sensor-agent enroll --collector HOST:PORT --token TOKEN`",
                folder.display()
            );
        }
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let facts =
            toml::from_str(&read(FACTS)?).with_context(|| folder.join(FACTS).display().to_string())?;
        let identity =
            Self { facts, key_pem: read(KEY)?, certificate_pem: read(CERTIFICATE)?, ca_pem: read(CA)? };
        identity.validity().with_context(|| folder.join(CERTIFICATE).display().to_string())?;
        Ok(identity)
    }

    /// Writes the identity to `folder`, whole or not at all; what was there is replaced.
    ///
    /// # Errors
    /// What the system said; the old identity is still there then.
    pub fn store(&self, folder: &Path) -> anyhow::Result<()> {
        let mut name = folder.as_os_str().to_owned();
        name.push(".new");
        let fresh = Path::new(&name);
        let context = || fresh.display().to_string();
        if fresh.exists() {
            fs::remove_dir_all(fresh).with_context(context)?;
        }
        state_dir::create_private(fresh).with_context(context)?;
        let facts = toml::to_string(&self.facts).context("writing identity.toml")?;
        for (name, content) in
            [(KEY, &self.key_pem), (CERTIFICATE, &self.certificate_pem), (CA, &self.ca_pem), (FACTS, &facts)]
        {
            let path = fresh.join(name);
            state_dir::write_private(&path, content.as_bytes())
                .with_context(|| path.display().to_string())?;
        }
        if folder.exists() {
            exchange(fresh, folder).with_context(context)?;
            fs::remove_dir_all(fresh).with_context(context)?;
        } else {
            fs::rename(fresh, folder).with_context(context)?;
        }
        let parent = folder.parent().unwrap_or(Path::new("/"));
        state_dir::sync_folder(parent).with_context(|| parent.display().to_string())
    }

    /// From when and until when the certificate is valid.
    ///
    /// # Errors
    /// When it is not a certificate.
    pub fn validity(&self) -> anyhow::Result<Validity> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(self.certificate_pem.as_bytes())
            .map_err(|error| anyhow::anyhow!("not a PEM certificate: {error}"))?;
        let certificate = pem.parse_x509().map_err(|error| anyhow::anyhow!("not a certificate: {error}"))?;
        let time = |timestamp: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0));
        let validity = certificate.validity();
        Ok(Validity {
            from: time(validity.not_before.timestamp()),
            until: time(validity.not_after.timestamp()),
        })
    }
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: SystemTime,
    /// The last moment.
    pub until: SystemTime,
}

impl Validity {
    /// When to ask for the next one: after two thirds of its life.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        self.from + life * 2 / 3
    }
}

/// Swaps two folders in one step.
fn exchange(one: &Path, other: &Path) -> nix::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
}

const KEY: &str = "agent.key";
const CERTIFICATE: &str = "agent.crt";
const CA: &str = "ca.pem";
const FACTS: &str = "identity.toml";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn identity(fleet: &str) -> Identity {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        Identity {
            facts: IdentityFacts {
                agent_id: "a".to_owned(),
                fleet: fleet.to_owned(),
                collector: "c:1".to_owned(),
                server_name: "c".to_owned(),
            },
            key_pem: key.serialize_pem(),
            certificate_pem: certificate.pem(),
            ca_pem: certificate.pem(),
        }
    }

    #[test]
    fn an_identity_is_replaced_whole_and_is_private() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("identity");
        for fleet in ["one", "two", "three"] {
            identity(fleet).store(&folder).unwrap();
            assert_eq!(Identity::load(&folder).unwrap().facts.fleet, fleet);
        }
        let names: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["identity"], "nothing is left beside it");
        for entry in fs::read_dir(&folder).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
    }

    #[test]
    fn a_host_without_identity_is_told_what_to_run() {
        let scratch = tempfile::tempdir().unwrap();
        let error = Identity::load(&scratch.path().join("identity")).expect_err("there is none");
        assert!(error.to_string().contains("not enrolled; run `sensor-agent enroll"), "{error}");
    }

    #[test]
    fn renewal_is_due_after_two_thirds_of_the_life() {
        let from = UNIX_EPOCH + Duration::from_secs(1000);
        let validity = Validity { from, until: from + Duration::from_secs(300) };
        assert_eq!(validity.renew_at(), from + Duration::from_secs(200));
    }
}
