//! `agents`, `fleets`, `tokens`, `status`. May call: `client`, `table`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{Client, Path};
use crate::table::{cell, items, json as as_json, table, time};

pub(super) fn agents(client: &Client, fleet: Option<&str>, json: bool) -> Result<String> {
    let answer = client.get(&Path::new(&["v1", "agents"]).with("fleet", fleet))?;
    if json {
        return Ok(as_json(&answer));
    }
    let row = |agent: &Value| {
        vec![
            cell(&agent["hostname"]),
            cell(&agent["fleet"]),
            state(agent),
            time(&agent["last_seen"]),
            cell(&agent["baseline"]["version"]),
            cell(&agent["learned"]["behaviours"]),
            lost(&agent["health"]["counters"]).to_string(),
            cell(&agent["health"]["spool_items"]),
            cell(&agent["kernel_release"]),
            cell(&agent["agent_version"]),
            cell(&agent["id"]),
        ]
    };
    let rows: Vec<_> = items(&answer, "agents").iter().map(row).collect();
    let heading = [
        "HOST",
        "FLEET",
        "STATE",
        "LAST SEEN",
        "BASELINE",
        "LEARNED",
        "LOST",
        "SPOOLED",
        "KERNEL",
        "VERSION",
        "ID",
    ];
    Ok(table(&heading, &rows))
}

/// How an agent is, worst first.
fn state(agent: &Value) -> String {
    if !agent["revoked_at"].is_null() {
        return "revoked".to_owned();
    }
    if agent["connected"] != true {
        return "away".to_owned();
    }
    let degraded = items(&agent["health"], "degraded");
    if degraded.is_empty() {
        "ok".to_owned()
    } else {
        degraded.iter().map(cell).collect::<Vec<_>>().join("; ")
    }
}

/// All losses an agent counted: records and findings.
fn lost(counters: &Value) -> u64 {
    let counters = counters.as_object().into_iter().flatten();
    let lost = counters.filter(|(name, _)| name.contains("_lost"));
    lost.filter_map(|(_, count)| count.as_u64()).fold(0, u64::saturating_add)
}

pub(super) fn revoke(client: &Client, id: &str, json: bool) -> Result<String> {
    let answer = client.post(&Path::new(&["v1", "agents", id, "revoke"]), &json!({}))?;
    Ok(if json { as_json(&answer) } else { format!("agent {} is revoked\n", cell(&answer["agent"])) })
}

pub(super) fn fleets(client: &Client, json: bool) -> Result<String> {
    let answer = client.get(&Path::new(&["v1", "fleets"]))?;
    if json {
        return Ok(as_json(&answer));
    }
    let row = |fleet: &Value| {
        vec![
            cell(&fleet["name"]),
            cell(&fleet["agents"]),
            cell(&fleet["baseline_version"]),
            cell(&fleet["findings"]),
            time(&fleet["created_at"]),
        ]
    };
    let rows: Vec<_> = items(&answer, "fleets").iter().map(row).collect();
    Ok(table(&["FLEET", "AGENTS", "BASELINE", "FINDINGS", "CREATED"], &rows))
}

pub(super) fn create_token(client: &Client, fleet: &str, hours: Option<u64>, json: bool) -> Result<String> {
    let body = hours.map_or_else(|| json!({}), |hours| json!({ "lifetime_hours": hours }));
    let answer = client.post(&Path::new(&["v1", "fleets", fleet, "tokens"]), &body)?;
    if json {
        return Ok(as_json(&answer));
    }
    let (token, fleet, expires) =
        (cell(&answer["token"]), cell(&answer["fleet"]), time(&answer["expires_at"]));
    Ok(format!("{token}\ngood for one host of fleet {fleet} until {expires}; it is not shown again\n"))
}

pub(super) fn status(client: &Client, json: bool) -> Result<String> {
    let answer = client.get(&Path::new(&["v1", "status"]))?;
    if json {
        return Ok(as_json(&answer));
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (name, value) in answer.as_object().into_iter().flatten() {
        match value.as_object() {
            None => rows.push(vec![cell(&json!(name)), cell(value)]),
            Some(counters) => {
                rows.extend(counters.iter().map(|(counter, count)| vec![cell(&json!(counter)), cell(count)]));
            }
        }
    }
    Ok(table(&["NAME", "VALUE"], &rows))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{lost, state};

    #[test]
    fn the_state_of_an_agent_is_its_worst() {
        assert_eq!(state(&json!({"revoked_at": "x", "connected": true})), "revoked");
        assert_eq!(state(&json!({"revoked_at": null, "connected": false})), "away");
        assert_eq!(
            state(&json!({"connected": true, "health": {"degraded": ["spool: disk full"]}})),
            "spool: disk full"
        );
        assert_eq!(state(&json!({"connected": true, "health": {"degraded": []}})), "ok");
    }

    #[test]
    fn losses_of_every_kind_are_added() {
        let counters =
            json!({"records_lost{kind=exec,reason=ring_full}": 2, "findings_lost": 3, "records_seen": 9});
        assert_eq!(lost(&counters), 5);
        assert_eq!(lost(&json!(null)), 0);
    }
}
