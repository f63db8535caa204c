//! Secrets made of random bytes: the enrollment token and the API token. Neither is ever stored, only its SHA-256:
//! 256 random bits need no slow hash. It may call the random number generator.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// SHA-256 of a secret's text, or of anything else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Hash(pub [u8; 32]);

impl Sha256Hash {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Compares in a time that does not depend on where the two differ.
    pub fn matches(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(other.0).fold(0_u8, |sum, (left, right)| sum | (left ^ right));
        std::hint::black_box(difference) == 0
    }

    /// Lower-case hexadecimal.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Debug for Sha256Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.hex())
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new enrollment token: `sensor1.<secret>.<sha256 of the CA certificate>`. The last part lets the agent trust the
/// collector before it has any other reason to.
pub fn new_enrollment_token(authority: &Sha256Hash) -> Result<String, RandomError> {
    Ok(format!("{ENROLLMENT_PREFIX}.{}.{}", random_text()?, authority.hex()))
}

/// A new API token.
pub fn new_api_token() -> Result<String, RandomError> {
    Ok(format!("{API_PREFIX}.{}", random_text()?))
}

/// Whether the text has the form of an enrollment token; what it is worth, only the store knows.
pub fn is_enrollment_token(text: &str) -> bool {
    let mut parts = text.split('.');
    let (prefix, secret, pin) = (parts.next(), parts.next(), parts.next());
    prefix == Some(ENROLLMENT_PREFIX)
        && secret.is_some_and(|secret| URL_SAFE_NO_PAD.decode(secret).is_ok_and(|b| b.len() == SECRET_BYTES))
        && pin.is_some_and(|pin| pin.len() == 64 && pin.bytes().all(|b| b.is_ascii_hexdigit()))
        && parts.next().is_none()
}

/// The operating system has no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes: {0}")]
pub struct RandomError(getrandom::Error);

fn random_text() -> Result<String, RandomError> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(RandomError)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

const ENROLLMENT_PREFIX: &str = "sensor1";
const API_PREFIX: &str = "sensorapi1";
const SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::{Sha256Hash, is_enrollment_token, new_enrollment_token};

    #[test]
    fn a_new_token_has_the_form_and_no_two_are_equal() {
        let authority = Sha256Hash::of(b"certificate");
        let token = new_enrollment_token(&authority).unwrap();
        assert!(is_enrollment_token(&token), "{token}");
        assert!(token.ends_with(&authority.hex()));
        assert_ne!(token, new_enrollment_token(&authority).unwrap());
    }

    #[test]
    fn other_text_is_no_token() {
        let pin = "0".repeat(64);
        for bad in [
            "",
            "sensor1",
            "sensor1..",
            &format!("sensor2.{}.{pin}", "A".repeat(43)),
            &format!("sensor1.short.{pin}"),
        ] {
            assert!(!is_enrollment_token(bad), "{bad}");
        }
        assert!(is_enrollment_token(&format!("sensor1.{}.{pin}", "A".repeat(43))));
        assert!(!is_enrollment_token(&format!("sensor1.{}.{pin}.x", "A".repeat(43))));
    }

    #[test]
    fn matches_compares_every_byte() {
        let hash = Sha256Hash::of(b"a");
        assert!(hash.matches(&Sha256Hash::of(b"a")));
        for index in 0..32 {
            let mut other = hash;
            other.0[index] ^= 1;
            assert!(!hash.matches(&other), "byte {index}");
        }
    }
}
