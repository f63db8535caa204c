//! `agents account`: what became of every record, from the counters of heartbeats. May call: `client`, `table`.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{Client, Path};
use crate::table::{cell, items, json as as_json, safe, table, time};

pub(super) fn account(client: &Client, fleet: Option<&str>, json: bool) -> Result<String> {
    let answer = client.get(&Path::new(&["v1", "agents"]).with("fleet", fleet))?;
    let agents = items(&answer, "agents");
    if json {
        let accounts = agents.iter().map(|agent| {
            let kinds: BTreeMap<String, Value> =
                rows(agent).into_iter().map(|(kind, row)| (kind, row.to_json())).collect();
            let (id, hostname, last_seen) = (&agent["id"], &agent["hostname"], &agent["last_seen"]);
            json!({ "id": id, "hostname": hostname, "last_seen": last_seen, "account": kinds })
        });
        return Ok(as_json(&json!({ "agents": accounts.collect::<Vec<_>>() })));
    }
    let heading = ["HOST", "AS OF", "KIND", "SEEN", "DELIVERED", "CACHED", "IN FLIGHT", "LOST", "REASONS"];
    Ok(table(&heading, &agents.iter().flat_map(lines).collect::<Vec<_>>()))
}

/// An agent's lines of the table. The names of its counters are its own words.
fn lines(agent: &Value) -> Vec<Vec<String>> {
    let line = |(kind, row): (String, Row)| {
        let numbers = [row.seen.into(), row.delivered.into(), row.cached.into(), row.in_flight(), row.lost()];
        let reasons = row.lost.iter().map(|(reason, count)| format!("{} {count}", safe(reason)));
        let mut line = vec![cell(&agent["hostname"]), time(&agent["last_seen"]), safe(&kind)];
        line.extend(numbers.map(|number| number.to_string()));
        line.push(reasons.collect::<Vec<_>>().join(", "));
        line
    };
    rows(agent).into_iter().map(line).collect()
}

/// The account of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    seen: u64,
    delivered: u64,
    cached: u64,
    in_flight: u64,
    /// Delivered, cached or lost beyond what was seen: an account that is wrong.
    unaccounted: u64,
    lost: BTreeMap<String, u64>,
}

impl Row {
    /// Negative when more became of the records than were seen.
    fn in_flight(&self) -> i128 {
        i128::from(self.in_flight) - i128::from(self.unaccounted)
    }

    /// For all reasons. A sum of numbers that an agent sent: no 64 bits can be too few.
    fn lost(&self) -> i128 {
        self.lost.values().map(|count| i128::from(*count)).sum()
    }

    fn to_json(&self) -> Value {
        let Self { seen, delivered, cached, in_flight, unaccounted, lost } = self;
        json!({
            "seen": seen, "delivered": delivered, "cached": cached, "in_flight": in_flight,
            "unaccounted": unaccounted, "lost": lost,
        })
    }
}

/// By kind, from counters such as `records_lost{kind=exec,reason=ring_full}`.
fn rows(agent: &Value) -> BTreeMap<String, Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (name, count) in agent["health"]["counters"].as_object().into_iter().flatten() {
        let Some((what, labels)) = name.strip_prefix("records_").and_then(|name| name.split_once('{')) else {
            continue;
        };
        let label = |key: &str| {
            let mut labels = labels.trim_end_matches('}').split(',');
            labels.find_map(|label| label.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
        };
        let (Some(kind), Some(count)) = (label("kind"), count.as_u64()) else { continue };
        let row = rows.entry(kind).or_default();
        match (what, label("reason")) {
            ("seen", _) => row.seen = count,
            ("delivered", _) => row.delivered = count,
            ("cached", _) => row.cached = count,
            ("in_flight", _) => row.in_flight = count,
            ("unaccounted", _) => row.unaccounted = count,
            ("lost", Some(reason)) => {
                row.lost.insert(reason, count);
            }
            _ => {}
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_rows_by_kind() {
        let counters = json!({
            "records_seen{kind=exec}": 9, "records_delivered{kind=exec}": 5, "records_cached{kind=exec}": 1,
            "records_in_flight{kind=exec}": 1, "records_submitted{kind=exec}": 6,
            "records_lost{kind=exec,reason=ring_full}": 2, "records_lost{kind=listen,reason=nested}": 3,
            "records_undecodable": 7, "spool_lost{reason=full}": 8,
        });
        let rows = rows(&json!({ "health": { "counters": counters } }));
        let lost = |reason: &str, count| BTreeMap::from([(reason.to_owned(), count)]);
        let exec = Row {
            seen: 9,
            delivered: 5,
            cached: 1,
            in_flight: 1,
            lost: lost("ring_full", 2),
            ..Row::default()
        };
        assert_eq!(rows["exec"], exec);
        assert_eq!(rows["listen"], Row { lost: lost("nested", 3), ..Row::default() });
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn hostile_names_and_numbers_are_shown_as_they_are_and_harm_nothing() {
        let counters = json!({
            "records_seen{kind=a\u{1b}[2J}": u64::MAX,
            "records_unaccounted{kind=a\u{1b}[2J}": 3,
            "records_lost{kind=a\u{1b}[2J,reason=b\u{7}}": u64::MAX,
            "records_lost{kind=a\u{1b}[2J,reason=c}": u64::MAX,
        });
        let agent = json!({
            "hostname": "web-1", "last_seen": "2026-11-23T05:00:01.5Z", "health": { "counters": counters },
        });
        let max = u64::MAX;
        assert_eq!(
            lines(&agent),
            [[
                "web-1",
                "2026-11-23T05:00:01Z",
                "a\\u{1b}[2J",
                &max.to_string(),
                "0",
                "0",
                "-3",
                "36893488147419103230",
                &format!("b\\u{{7}} {max}, c {max}"),
            ]]
        );
    }
}
