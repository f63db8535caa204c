//! `baseline pull|push|diff|approve|maturity|status`. May call: `client`, `file`, `line_diff`, `table`.

use std::path::{Path as FilePath, PathBuf};

use anyhow::{Error, Result, anyhow};
use serde_json::{Value, json};

use crate::cli::BaselineCommand;
use crate::client::{Client, InvalidBaseline, NotFound, Path};
use crate::file::{read_bounded, replace};
use crate::line_diff::line_diff;
use crate::table::{cell, items, json as as_json, table, time};

pub(super) fn run(client: &Client, command: &BaselineCommand, json: bool) -> Result<String> {
    match command {
        BaselineCommand::Pull { fleet, current, version, file } => {
            let version = version.map(|version| version.to_string());
            let path = if *current || version.is_some() {
                baseline_path(fleet).with("version", version.as_deref())
            } else {
                candidate_path(fleet)
            };
            pull(client, fleet, &path, file.as_deref(), json)
        }
        BaselineCommand::Push { fleet, base, file } => {
            let file = file.clone().unwrap_or_else(|| PathBuf::from("-"));
            push(client, fleet, *base, &file, json)
        }
        BaselineCommand::Diff { fleet, file } => diff(client, fleet, file.as_deref(), json),
        BaselineCommand::Approve { finding, all, one } => {
            let more = match all {
                Some(upto) => json!({ "behaviours": "all", "upto": upto }),
                None if *one => json!({ "behaviours": "one" }),
                None => json!({}),
            };
            approve(client, finding, more, json)
        }
        BaselineCommand::Maturity { fleet } => maturity(client, fleet, json),
        BaselineCommand::Status { fleet } => status(client, fleet, json),
    }
}

fn baseline_path(fleet: &str) -> Path {
    Path::new(&["v1", "fleets", fleet, "baseline"])
}

fn candidate_path(fleet: &str) -> Path {
    Path::new(&["v1", "fleets", fleet, "candidate"])
}

fn pull(client: &Client, fleet: &str, path: &Path, file: Option<&FilePath>, json: bool) -> Result<String> {
    let yaml = client.get_text(path)?;
    let Some(file) = file.filter(|file| *file != FilePath::new("-")) else {
        return Ok(if json { as_json(&json!({ "fleet": fleet, "yaml": yaml })) } else { yaml });
    };
    replace(file, &yaml)?;
    let (name, lines) = (file.display().to_string(), yaml.lines().count());
    Ok(if json {
        as_json(&json!({ "fleet": fleet, "file": name, "lines": lines }))
    } else {
        format!(
            "wrote {name}: {lines} lines; review it, then: sensorctl baseline push --fleet {fleet} {name}\n"
        )
    })
}

fn push(client: &Client, fleet: &str, base: Option<u64>, file: &FilePath, json: bool) -> Result<String> {
    let yaml = read_bounded(file)?;
    let base = base.map(|base| base.to_string());
    let answer = client
        .put_yaml(&baseline_path(fleet).with("base", base.as_deref()), &yaml)
        .map_err(|error| name_file(error, file))?;
    Ok(if json { as_json(&answer) } else { stored(&answer) })
}

/// A mistake in the file is reported as compilers do: `FILE:LINE:COLUMN: message`.
fn name_file(error: Error, file: &FilePath) -> Error {
    match error.downcast_ref::<InvalidBaseline>() {
        Some(invalid) => anyhow!("{}:{invalid}", file.display()),
        None => error,
    }
}

fn stored(answer: &Value) -> String {
    let (fleet, version) = (cell(&answer["fleet"]), cell(&answer["version"]));
    format!("version {version} of fleet {fleet} is stored; see: sensorctl baseline status --fleet {fleet}\n")
}

fn diff(client: &Client, fleet: &str, file: Option<&FilePath>, json: bool) -> Result<String> {
    let new = match file {
        None => client.get_text(&candidate_path(fleet))?,
        Some(file) => {
            String::from_utf8(read_bounded(file)?).map_err(|_| anyhow!("{}: not UTF-8", file.display()))?
        }
    };
    let old = match client.get_text(&baseline_path(fleet)) {
        Ok(old) => old,
        // A fleet without a baseline: everything is new.
        Err(error) if error.is::<NotFound>() => String::new(),
        Err(error) => return Err(error),
    };
    let diff = line_diff(&old, &new);
    if json {
        let signed = |sign: char| -> Vec<&str> {
            diff.lines().filter_map(|line| line.strip_prefix(sign)).map(str::trim).collect()
        };
        return Ok(as_json(&json!({ "fleet": fleet, "added": signed('+'), "removed": signed('-') })));
    }
    Ok(if diff.is_empty() { "no difference\n".to_owned() } else { diff })
}

fn approve(client: &Client, finding: &str, mut wanted: Value, json: bool) -> Result<String> {
    let found = client.get(&Path::new(&["v1", "findings", finding]))?;
    let fleet =
        found["fleet"].as_str().ok_or_else(|| anyhow!("finding {finding}: the answer names no fleet"))?;
    let path = Path::new(&["v1", "fleets", fleet, "baseline", "approve"]);
    // The id as given: that of the answer is the finding's, and evidence has one of its own.
    wanted["finding"] = finding.into();
    let answer = client.post(&path, &wanted)?;
    Ok(if json { as_json(&answer) } else { stored(&answer) })
}

fn maturity(client: &Client, fleet: &str, json: bool) -> Result<String> {
    let answer = client.get(&Path::new(&["v1", "fleets", fleet, "maturity"]))?;
    if json {
        return Ok(as_json(&answer));
    }
    let row = |dimension: &Value| {
        let lacks = items(dimension, "lacks").iter().map(cell).collect::<Vec<_>>().join("; ");
        let words = ["workload", "action", "state", "entries", "observations"];
        let mut row: Vec<String> = words.iter().map(|word| cell(&dimension[*word])).collect();
        let withheld = dimension["withheld"].as_object().into_iter().flatten();
        let withheld: Vec<_> = withheld.map(|(rule, count)| format!("{count} {rule}")).collect();
        row.extend([time(&dimension["newest_at"]), lacks, withheld.join("; ")]);
        row
    };
    let rows: Vec<_> = items(&answer, "dimensions").iter().map(row).collect();
    Ok(table(&["WORKLOAD", "ACTION", "STATE", "ENTRIES", "SEEN", "NEWEST", "LACKS", "WITHHELD"], &rows))
}

fn status(client: &Client, fleet: &str, json: bool) -> Result<String> {
    let answer = client.get(&Path::new(&["v1", "fleets", fleet, "rollout"]))?;
    if json {
        return Ok(as_json(&answer));
    }
    let row = |agent: &Value| {
        vec![
            cell(&agent["hostname"]),
            cell(&agent["state"]),
            cell(&agent["version"]),
            time(&agent["reported_at"]),
            cell(&agent["reason"]),
            cell(&agent["agent"]),
        ]
    };
    let rows: Vec<_> = items(&answer, "agents").iter().map(row).collect();
    let heading = ["HOST", "STATE", "VERSION", "REPORTED", "REASON", "AGENT"];
    let (fleet, version) = (cell(&answer["fleet"]), cell(&answer["version"]));
    Ok(format!("fleet {fleet}, version {version}\n{}", table(&heading, &rows)))
}
