//! `findings list`, `findings show`, `gaps list`. What is found is one finding with its evidence: the collector says which
//! belongs to which. May call: `client`, `table`.

use std::collections::BTreeSet;
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
    let rows: Vec<_> = items(&answer, "findings").iter().map(listed).collect();
    Ok(with_next(table(&HEADING, &rows), &answer))
}

/// A finding in a row: its worst behaviour, and how many more it has.
fn listed(finding: &Value) -> Vec<String> {
    let more = finding["behaviours"].as_u64().unwrap_or(1).saturating_sub(1);
    vec![
        time(&finding["last_time"]),
        cell(&finding["severity"]),
        cell(&finding["count"]),
        if more == 0 { "-".to_owned() } else { format!("+{more}") },
        cell(&finding["reason"]),
        cell(&finding["hostname"]),
        cell(&finding["workload"]),
        cell(&finding["subject"]),
        cell(&finding["action"]),
        cell(&finding["object"]),
        techniques(finding),
        cell(&finding["id"]),
    ]
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
    let finding = whole(client, id)?;
    Ok(if json { as_json(&finding) } else { describe(&finding) })
}

/// A finding with its evidence, as much of it as [`EVIDENCE_PAGES_MAX`] answers hold.
pub(super) fn whole(client: &Client, id: &str) -> Result<Value> {
    let page = |after: Option<&str>| client.get(&Path::new(&["v1", "findings", id]).with("after", after));
    let mut finding = page(None)?;
    for _ in 1..EVIDENCE_PAGES_MAX {
        let Some(after) = finding["evidence_next"].as_str() else { break };
        let mut next = page(Some(after))?;
        let mut evidence = items(&finding, "evidence").to_vec();
        evidence.extend(items(&next, "evidence").iter().cloned());
        // The later answer knows what has come meanwhile.
        next["evidence"] = Value::Array(evidence);
        finding = next;
    }
    Ok(finding)
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

/// One finding for a person: its worst behaviour, then all of its evidence.
fn describe(finding: &Value) -> String {
    let evidence = items(finding, "evidence");
    let is_several = evidence.len() > 1;
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        writeln!(out, "{name:<12} {text}").expect("writing to a string cannot fail");
    };
    line("finding", cell(&finding["id"]));
    line("summary", cell(&finding["explanation"]["summary"]));
    line("severity", cell(&finding["severity"]));
    line("reason", reason(finding));
    if let (Some(hosts), Some(of)) = (finding["hosts"].as_u64(), finding["fleet_hosts"].as_u64()) {
        let rare = if finding["is_rare"] == true { ": rare" } else { "" };
        line("found on", format!("{hosts} of {}{rare}", counted(of, "host")));
    }
    line("time", format!("{} (stored {} ms later)", cell(&finding["time"]), cell(&finding["latency_ms"])));
    if is_several || finding["count"].as_u64().is_some_and(|count| count > 1) {
        line("evidence", sum(finding));
        line("cursor", cell(&finding["cursor"]));
    }
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
    if is_several {
        return out + &evidence_text(finding, evidence);
    }
    for (at, text) in edit(finding).lines().enumerate() {
        line(if at == 0 { "edit" } else { "" }, safe(text));
    }
    out
}

/// A number of things, of which several end in an s.
pub(super) fn counted(count: u64, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// What the evidence adds up to.
fn sum(finding: &Value) -> String {
    let behaviours = finding["behaviours"].as_u64().unwrap_or(1);
    format!(
        "{}, {}, {} to {}",
        counted(behaviours, "behaviour"),
        counted(finding["count"].as_u64().unwrap_or(1), "time"),
        time(&finding["first_time"]),
        time(&finding["last_time"])
    )
}

/// Each piece of evidence in two lines, and below them the edit that would allow it, unless it was shown above.
fn evidence_text(finding: &Value, evidence: &[Value]) -> String {
    let mut out = "\n".to_owned();
    let mut edits = BTreeSet::new();
    for piece in evidence {
        let [pid, exe] = ["pid", "exe"].map(|name| cell(&piece["process"][name]));
        let (time, act, times) = (time(&piece["time"]), in_one_line(piece), times(piece));
        writeln!(out, "{time}  {act}{times}\n  by {pid} {exe}, id {}", cell(&piece["id"]))
            .expect("writing to a string cannot fail");
        if edits.insert(edit(piece)) {
            for text in edit(piece).lines() {
                writeln!(out, "    {}", safe(text)).expect("writing to a string cannot fail");
            }
        }
    }
    if let Some(left_off) = finding["evidence_left_off"].as_u64().filter(|count| *count > 0) {
        writeln!(out, "and {left_off} pieces of evidence more").expect("writing to a string cannot fail");
    }
    out
}

fn edit(told: &Value) -> &str {
    told["explanation"]["edit"].as_str().unwrap_or_default()
}

/// How often a piece of evidence was done, unless once.
fn times(piece: &Value) -> String {
    let again = if piece["is_repeat"] == true { " more" } else { "" };
    match piece["count"].as_u64().unwrap_or(1) {
        1 if again.is_empty() => String::new(),
        1 => ", once more".to_owned(),
        count => format!(", {count} times{again}"),
    }
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

/// What was found, why, and the Sigma rules that it meets, in one line.
pub(super) fn in_one_line(finding: &Value) -> String {
    let [severity, action, object] = ["severity", "action", "object"].map(|name| cell(&finding[name]));
    let rules: Vec<String> = items(finding, "rules").iter().map(|rule| cell(&rule["title"])).collect();
    let rules = if rules.is_empty() { String::new() } else { format!(" [{}]", rules.join("; ")) };
    format!("{severity} {}{rules}: {action} {object}", reason(finding))
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

const HEADING: [&str; 12] = [
    "LAST", "SEVERITY", "COUNT", "MORE", "REASON", "HOST", "WORKLOAD", "SUBJECT", "ACTION", "OBJECT",
    "ATT&CK", "ID",
];
/// Of 1,000 pieces of evidence or 4 MiB each.
const EVIDENCE_PAGES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{describe, listed, techniques};

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
        assert!(!text.contains("evidence"), "one behaviour, done once: {text}");
    }

    fn piece(id: &str, object: &str, count: u64, is_repeat: bool, edit: &str) -> Value {
        json!({
            "id": id, "time": "2026-11-23T05:00:01.1Z", "severity": "high", "reason": "novel", "action": "write",
            "object": object, "process": {"pid": 7, "exe": "/bin/sh"}, "explanation": {"edit": edit},
            "rules": [], "count": count, "is_repeat": is_repeat,
        })
    }

    #[test]
    fn each_piece_of_evidence_is_shown_with_the_edit_that_would_allow_it() {
        let mut finding = piece("a:b:1", "/x", 9, false, "allow /x");
        finding["behaviours"] = 2.into();
        finding["first_time"] = "2026-11-23T05:00:01.1Z".into();
        finding["last_time"] = "2026-11-23T05:00:09.1Z".into();
        finding["evidence_left_off"] = 4.into();
        let mut by_rule = piece("a:b:2", "/y", 2, false, "allow\n  /y");
        by_rule["rules"] = json!([{"title": "A rule"}]);
        let once_more = piece("a:b:3", "/x", 1, true, "allow /x");
        let often = piece("a:b:4", "/x", 5, true, "allow /x");
        finding["evidence"] = json!([piece("a:b:1", "/x", 1, false, "allow /x"), by_rule, once_more, often]);
        let text = describe(&finding);
        let sum = "evidence     2 behaviours, 9 times, 2026-11-23T05:00:01Z to 2026-11-23T05:00:09Z\n";
        assert!(text.contains(sum), "{text}");
        let expected = "
2026-11-23T05:00:01Z  high novel: write /x
  by 7 /bin/sh, id a:b:1
    allow /x
2026-11-23T05:00:01Z  high novel [A rule]: write /y, 2 times
  by 7 /bin/sh, id a:b:2
    allow
      /y
2026-11-23T05:00:01Z  high novel: write /x, once more
  by 7 /bin/sh, id a:b:3
2026-11-23T05:00:01Z  high novel: write /x, 5 times more
  by 7 /bin/sh, id a:b:4
and 4 pieces of evidence more
";
        assert!(text.ends_with(expected), "{text}");
        assert_eq!(text.matches("allow /x").count(), 1, "an edit is shown once: {text}");
    }

    #[test]
    fn a_finding_is_a_row_with_how_often_and_how_many_behaviours_more() {
        let row = |behaviours: u64| {
            let mut finding = piece("a:b:1", "/x", 9, false, "");
            finding["behaviours"] = behaviours.into();
            finding["last_time"] = "2026-11-23T05:00:09.1Z".into();
            listed(&finding)
        };
        assert_eq!(row(3)[..5], ["2026-11-23T05:00:09Z", "high", "9", "+2", "novel"]);
        assert_eq!(row(1)[3], "-");
    }
}
