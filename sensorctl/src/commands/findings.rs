//! `findings list`, `findings show`, `gaps list`. May call: `client`, `table`.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::Value;

use crate::cli::{FindingsList, Order, Page};
use crate::client::{Client, Path};
use crate::table::{cell, items, json as as_json, safe, table, time};

pub(super) fn list(client: &Client, list: &FindingsList, json: bool) -> Result<String> {
    let order = match list.order {
        Order::Newest => "newest",
        Order::Oldest => "oldest",
    };
    let answer = client.get(&paged("findings", &list.page).with("order", Some(order)))?;
    if json {
        return Ok(as_json(&answer));
    }
    let row = |finding: &Value| {
        vec![
            time(&finding["time"]),
            cell(&finding["severity"]),
            cell(&finding["reason"]),
            cell(&finding["hostname"]),
            cell(&finding["workload"]),
            cell(&finding["subject"]),
            cell(&finding["action"]),
            cell(&finding["object"]),
            techniques(finding),
            cell(&finding["id"]),
        ]
    };
    let heading =
        ["TIME", "SEVERITY", "REASON", "HOST", "WORKLOAD", "SUBJECT", "ACTION", "OBJECT", "ATT&CK", "ID"];
    let rows: Vec<_> = items(&answer, "findings").iter().map(row).collect();
    Ok(with_next(table(&heading, &rows), &answer))
}

pub(super) fn gaps(client: &Client, page: &Page, json: bool) -> Result<String> {
    let answer = client.get(&paged("gaps", page))?;
    if json {
        return Ok(as_json(&answer));
    }
    let row = |gap: &Value| {
        vec![
            time(&gap["from"]),
            time(&gap["to"]),
            cell(&gap["fleet"]),
            cell(&gap["agent"]),
            cell(&gap["kind"]),
            cell(&gap["count"]),
            cell(&gap["reason"]),
            cell(&gap["source"]),
        ]
    };
    let rows: Vec<_> = items(&answer, "gaps").iter().map(row).collect();
    let heading = ["FROM", "TO", "FLEET", "AGENT", "KIND", "COUNT", "REASON", "SOURCE"];
    Ok(with_next(table(&heading, &rows), &answer))
}

pub(super) fn show(client: &Client, id: &str, json: bool) -> Result<String> {
    let finding = client.get(&Path::new(&["v1", "findings", id]))?;
    Ok(if json { as_json(&finding) } else { describe(&finding) })
}

fn paged(what: &str, page: &Page) -> Path {
    let limit = page.limit.map(|limit| limit.to_string());
    Path::new(&["v1", what])
        .with("fleet", page.fleet.as_deref())
        .with("agent", page.agent.as_deref())
        .with("limit", limit.as_deref())
        .with("after", page.after.as_deref())
}

fn with_next(mut text: String, answer: &Value) -> String {
    if let Some(next) = answer["next"].as_str() {
        text.push_str(&format!("more: --after {}\n", safe(next)));
    }
    text
}

/// One finding for a person.
fn describe(finding: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        writeln!(out, "{name:<12} {text}").expect("writing to a string cannot fail");
    };
    line("finding", cell(&finding["id"]));
    line("summary", cell(&finding["explanation"]["summary"]));
    line("severity", cell(&finding["severity"]));
    line("reason", reason(finding));
    line("time", format!("{} (stored {} ms later)", cell(&finding["time"]), cell(&finding["latency_ms"])));
    line("host", format!("{} (agent {})", cell(&finding["hostname"]), cell(&finding["agent"])));
    line(
        "fleet",
        format!("{} (baseline version {})", cell(&finding["fleet"]), cell(&finding["baseline_version"])),
    );
    line("incident", cell(&finding["incident"]));
    line("workload", cell(&finding["workload"]));
    line("subject", cell(&finding["subject"]));
    line("action", cell(&finding["action"]));
    let claimed = if finding["object_from_caller"] == true { " (as the caller named it)" } else { "" };
    for (at, rule) in items(finding, "rules").iter().enumerate() {
        line(if at == 0 { "rule" } else { "" }, sigma_rule(rule));
    }
    line("object", format!("{}{claimed}", cell(&finding["object"])));
    line("seen by", cell(&finding["tier"]));
    line("process", process(&finding["process"]));
    line(
        "",
        format!("cwd {}, cgroup {}", cell(&finding["process"]["cwd"]), cell(&finding["process"]["cgroup"])),
    );
    let told = who(&finding["process"]["who"]);
    if !told.is_empty() {
        line("who", told);
    }
    for (depth, ancestor) in items(finding, "ancestors").iter().enumerate() {
        line(if depth == 0 { "parent" } else { "" }, format!("{}{}", "  ".repeat(depth), process(ancestor)));
    }
    for (at, entry) in items(&finding["explanation"], "nearest").iter().enumerate() {
        line(if at == 0 { "nearest" } else { "" }, cell(entry));
    }
    let edit = finding["explanation"]["edit"].as_str().unwrap_or_default();
    for (at, text) in edit.lines().enumerate() {
        line(if at == 0 { "edit" } else { "" }, safe(text));
    }
    out
}

/// Who the process is, as far as the agent knew.
fn who(who: &Value) -> String {
    let told = |name: &str, value: &Value| {
        let text = value.as_str().filter(|text| !text.is_empty());
        text.map(|text| format!("{name} {}", safe(text)))
    };
    let container = &who["container"];
    let parts = [
        told("user", &who["user"]),
        told("login", &who["login_user"]),
        told("unit", &who["unit"]),
        told("timer", &who["timer"]),
        told("session", &who["session"]),
        told("container", &container["name"]).or_else(|| told("container", &container["id"])),
        told("image", &container["image"]),
        told("pod", &who["pod"]["name"]).or_else(|| told("pod", &who["pod"]["uid"])),
        told("from", &who["origin"]["kind"]),
        told("sha256", &who["sha256"]),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Of the floor rule and of every Sigma rule, each once.
fn techniques(finding: &Value) -> String {
    let mut ids: Vec<String> = Vec::new();
    for rule in std::iter::once(&finding["floor_rule"]).chain(items(finding, "rules")) {
        ids.extend(items(rule, "techniques").iter().map(cell));
    }
    ids.sort();
    ids.dedup();
    if ids.is_empty() { "-".to_owned() } else { ids.join(",") }
}

/// A Sigma rule in one line.
fn sigma_rule(rule: &Value) -> String {
    let (id, title, level) = (cell(&rule["id"]), cell(&rule["title"]), cell(&rule["level"]));
    let attack = items(rule, "techniques").iter().map(|id| format!(", {}", cell(id))).collect::<String>();
    format!("{title} (Sigma {id}, {level}{attack})")
}

fn reason(finding: &Value) -> String {
    let rule = &finding["floor_rule"];
    if rule.is_null() {
        return cell(&finding["reason"]);
    }
    let (id, title) = (cell(&rule["id"]), cell(&rule["title"]));
    let attack = format!("ATT&CK {} {}", cell(&rule["attack_version"]), cell(&rule["techniques"]));
    format!("{} ({id}: {title}; {attack})", cell(&finding["reason"]))
}

/// What was found, in one line.
pub(super) fn in_one_line(finding: &Value) -> String {
    let [severity, action, object] = ["severity", "action", "object"].map(|name| cell(&finding[name]));
    format!("{severity} {}: {action} {object}", reason(finding))
}

/// A process in one line.
pub(super) fn process(process: &Value) -> String {
    let argv: Vec<String> = items(process, "argv").iter().map(|word| shell_word(&cell(word))).collect();
    let user = format!("uid {} euid {}", cell(&process["uid"]), cell(&process["euid"]));
    format!("{} {} ({user}): {}", cell(&process["pid"]), cell(&process["exe"]), argv.join(" "))
}

fn shell_word(word: &str) -> String {
    let is_plain = word.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-=:,+@%".contains(letter));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{describe, techniques};

    #[test]
    fn a_finding_names_process_parents_object_rule_and_edit() {
        let finding = json!({
            "id": "a:b:1", "severity": "high", "reason": "floor", "time": "2026-11-23T05:00:01.1Z", "latency_ms": 12.5,
            "hostname": "web1", "agent": "a", "fleet": "web", "baseline_version": 3, "workload": "unit:a.service",
            "subject": "/usr/bin/a", "action": "write", "object": "/etc/cron.d/x", "object_from_caller": true,
            "tier": "tracepoint",
            "floor_rule": {"id": "cron", "title": "write of a scheduled job", "techniques": ["T1053.003"], "attack_version": "19.1"},
            "rules": [{"id": "r-1", "title": "A job", "level": "medium", "techniques": ["T1053.003", "T1105"]}],
            "process": {"pid": 7, "exe": "/bin/sh", "argv": ["sh", "-c", "echo x"], "uid": 0, "euid": 0, "cwd": "/", "cgroup": "/x",
                        "who": {"user": "root", "container": {"id": "ab", "name": "web", "image": "shop/web:1"}, "origin": {"kind": "container"}}},
            "ancestors": [{"pid": 6, "exe": "/usr/bin/a", "argv": ["a"], "uid": 0, "euid": 0}],
            "explanation": {"summary": "it did", "nearest": ["write /x"], "edit": "workloads:\n  unit:a.service:\n"},
        });
        assert_eq!(techniques(&finding), "T1053.003,T1105");
        assert_eq!(
            techniques(&json!({"floor_rule": null})),
            "-",
            "from a collector that does not know rules"
        );
        let text = describe(&finding);
        for part in [
            "reason       floor (cron: write of a scheduled job; ATT&CK 19.1 T1053.003)",
            "rule         A job (Sigma r-1, medium, T1053.003, T1105)",
            "object       /etc/cron.d/x (as the caller named it)",
            "process      7 /bin/sh (uid 0 euid 0): sh -c 'echo x'",
            "who          user root, container web, image shop/web:1, from container",
            "parent       6 /usr/bin/a (uid 0 euid 0): a",
            "nearest      write /x",
            "edit         workloads:\n               unit:a.service:\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
