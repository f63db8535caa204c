//! Who is who: agents' ids and certificates, enrollment tokens, API tokens. It is not the store of any of them. It
//! may call rcgen, x509-parser and the random number generator; no file and no clock.

pub mod authority;
pub mod peer;
pub mod secret;

use std::fmt;

use uuid::Uuid;

/// An agent, as the collector named it at enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(Uuid);

impl AgentId {
    /// A new one.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Reads the hyphenated lower-case form, and no other.
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = Uuid::try_parse(text).ok()?;
        (uuid.hyphenated().to_string() == text).then_some(Self(uuid))
    }

    /// The hyphenated lower-case form.
    pub fn text(self) -> String {
        self.0.hyphenated().to_string()
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

/// Name of a fleet: short, lower case, safe in a path, a file name and YAML.
pub fn check_fleet_name(name: &str) -> Result<(), FleetNameError> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let all_known = name.bytes().all(|byte| is_plain(byte) || matches!(byte, b'-' | b'_' | b'.'));
    let begins_plain = name.bytes().next().is_some_and(is_plain);
    if name.len() <= FLEET_NAME_BYTES_MAX && begins_plain && all_known {
        Ok(())
    } else {
        Err(FleetNameError { name: name.to_owned() })
    }
}

/// Not the name of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "fleet name {name:?}: expected 1 to {FLEET_NAME_BYTES_MAX} of a-z, 0-9, '-', '_', '.', the first a letter or digit"
)]
pub struct FleetNameError {
    name: String,
}

/// Longest name of a fleet.
pub const FLEET_NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::{AgentId, check_fleet_name};

    #[test]
    fn fleet_names_are_plain() {
        for good in ["web", "web-1", "0", "a.b_c"] {
            assert!(check_fleet_name(good).is_ok(), "{good}");
        }
        for bad in ["", "Web", "-web", "../x", "a b", "a/b", &"x".repeat(65)] {
            assert!(check_fleet_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_agent_id_has_one_text_form() {
        let id = AgentId::random();
        assert_eq!(AgentId::parse(&id.text()), Some(id));
        assert_eq!(AgentId::parse(&id.text().to_uppercase()), None);
        assert_eq!(AgentId::parse(&id.text().replace('-', "")), None);
        assert_eq!(AgentId::parse("../../etc/passwd"), None);
    }
}
