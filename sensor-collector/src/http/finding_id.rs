//! The id of a finding as operators write it: `<agent>:<epoch, first 8 hex digits>:<sequence>`. It looks nothing up.

use std::fmt;

use crate::identity::AgentId;
use crate::identity::secret::hex;
use crate::intake::{Epoch, SEQ_MAX, Seq};

/// Names one finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingId {
    /// Whose.
    pub agent: AgentId,
    /// Upper-case hexadecimal, as SQLite's `hex` writes it.
    pub epoch_prefix: String,
    /// Its place in that epoch.
    pub seq: Seq,
}

impl FindingId {
    /// Of a stored finding.
    pub fn new(agent: AgentId, epoch: Epoch, seq: Seq) -> Self {
        let epoch_prefix = hex(&epoch.0)[..EPOCH_DIGITS].to_uppercase();
        Self { agent, epoch_prefix, seq }
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (agent, epoch, seq) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some()
            || epoch.len() != EPOCH_DIGITS
            || !epoch.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return None;
        }
        let seq = seq.parse().ok().filter(|seq| (1..=SEQ_MAX).contains(seq))?;
        Some(Self { agent: AgentId::parse(agent)?, epoch_prefix: epoch.to_uppercase(), seq: Seq(seq) })
    }
}

impl fmt::Display for FindingId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.agent, self.epoch_prefix.to_lowercase(), self.seq.0)
    }
}

const EPOCH_DIGITS: usize = 8;

#[cfg(test)]
mod tests {
    use super::FindingId;
    use crate::identity::AgentId;
    use crate::intake::{Epoch, Seq};

    #[test]
    fn an_id_reads_back() {
        let id = FindingId::new(AgentId::random(), Epoch([0xab; 16]), Seq(7));
        assert_eq!(FindingId::parse(&id.to_string()), Some(id.clone()));
        assert!(id.to_string().ends_with(":abababab:7"), "{id}");
    }

    #[test]
    fn other_text_is_no_id() {
        let agent = AgentId::random();
        for bad in [
            "",
            "x:abababab:1",
            ":::",
            &format!("{agent}:abababab:0"),
            &format!("{agent}:ab%:1"),
            &format!("{agent}:abababab:1:2"),
        ] {
            assert_eq!(FindingId::parse(bad), None, "{bad}");
        }
    }
}
