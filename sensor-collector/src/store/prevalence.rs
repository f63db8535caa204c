//! On how many hosts of its fleet a novel behaviour was found: what one host of many does is worse than what all do, which is
//! a deployment. It decides nothing about what is novel (agents did). It may call rusqlite.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::heads::StoredHead;

/// On how many hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prevalence {
    /// It was found on so many of them; in a large fleet no more are counted than tell whether it is rare.
    pub hosts: u64,
    /// Hosts of the fleet: agents that are not revoked.
    pub of: u64,
}

impl Prevalence {
    /// Whether hardly any host of a fleet that is large enough to say so does it.
    pub const fn is_rare(self) -> bool {
        self.of >= FLEET_MIN && self.hosts * RARE_PART <= self.of
    }
}

/// Notes that a host does what is novel.
pub(super) fn note(
    connection: &Connection,
    fleet: &str,
    agent: &str,
    novel: &[u8],
) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO novel_hosts (fleet, novel, agent) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    insert.execute(params![fleet, novel, agent])?;
    Ok(())
}

/// Says it of each of these findings: of the rarest of the novel behaviours that are as severe as its worst.
pub(super) fn tell(connection: &Connection, heads: &mut [StoredHead]) -> Result<(), StoreError> {
    let mut fleets: HashMap<String, u64> = HashMap::new();
    for head in heads {
        if head.worst.novel.is_none() {
            continue;
        }
        let fleet = &head.worst.fleet;
        let of = match fleets.get(fleet) {
            Some(of) => *of,
            None => *fleets.entry(fleet.clone()).or_insert(hosts_of(connection, fleet)?),
        };
        let mut fewest = u64::MAX;
        for novel in worst_of(connection, head)? {
            fewest = fewest.min(hosts_with(connection, fleet, &novel, of)?);
        }
        head.prevalence = Some(Prevalence { hosts: fewest, of });
    }
    Ok(())
}

fn hosts_of(connection: &Connection, fleet: &str) -> Result<u64, StoreError> {
    let mut count =
        connection.prepare_cached("SELECT count(*) FROM agents WHERE fleet = ?1 AND revoked_ns IS NULL")?;
    let count: i64 = count.query_row(params![fleet], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// On how many of the fleet's `of` hosts it was found. No more are counted than tell whether it is rare.
fn hosts_with(connection: &Connection, fleet: &str, novel: &[u8], of: u64) -> Result<u64, StoreError> {
    let mut count = connection.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM novel_hosts JOIN agents ON agents.id = agent
         WHERE novel_hosts.fleet = ?1 AND novel = ?2 AND revoked_ns IS NULL LIMIT ?3)",
    )?;
    let limit = HOSTS_COUNTED_MAX.max(of / RARE_PART + 1);
    let count: i64 = count.query_row(params![fleet, novel, limit.cast_signed()], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// The novel behaviours that are as severe as the finding's worst, the latest of them where there are many.
fn worst_of(connection: &Connection, head: &StoredHead) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut novel = connection.prepare_cached(
        "SELECT novel FROM findings WHERE agent = ?1 AND name = ?2 AND severity = ?3 AND novel IS NOT NULL
         GROUP BY novel ORDER BY max(id) DESC LIMIT ?4",
    )?;
    let of = params![head.worst.agent.text(), head.name, head.tally.severity, BEHAVIOURS_MAX];
    let mut found: Vec<Vec<u8>> = novel.query_map(of, |row| row.get(0))?.collect::<Result<_, _>>()?;
    found.extend(head.worst.novel.clone().filter(|worst| !found.contains(worst)));
    Ok(found)
}

/// Hosts counted at most, unless it takes more to say that it is not rare.
const HOSTS_COUNTED_MAX: u64 = 1000;
/// Behaviours of a finding that are looked at.
const BEHAVIOURS_MAX: u32 = 32;
/// In a smaller fleet most of what is novel is so on one host.
const FLEET_MIN: u64 = 20;
/// Rare is what at most one host in so many does.
const RARE_PART: u64 = 20;

#[cfg(test)]
mod tests {
    use super::Prevalence;

    #[test]
    fn rare_is_what_one_host_in_twenty_does() {
        for (hosts, of, expected) in [
            (1, 19, false),
            (1, 20, true),
            (2, 39, false),
            (2, 40, true),
            (250, 5000, true),
            (1001, 20_000, false),
            (251, 5000, false),
        ] {
            assert_eq!(Prevalence { hosts, of }.is_rare(), expected, "{hosts} of {of}");
        }
    }
}
