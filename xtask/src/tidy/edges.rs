//! Which of our crates may depend on which. Not external crates: cargo-deny has those. It may run `cargo metadata`.

use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The allowed edges between our crates, for normal and build dependencies. Tests may use every crate.
const EDGES: &[(&str, &[&str])] = &[
    ("sensor-agent", &["sensor-baseline", "sensor-event", "sensor-proto"]),
    ("sensor-baseline", &[]),
    ("sensor-collector", &["sensor-baseline", "sensor-proto"]),
    ("sensor-ebpf", &["sensor-event"]),
    ("sensor-event", &[]),
    ("sensor-proto", &[]),
    ("sensorctl", &[]),
    // The demo drives the product with the same library as the end-to-end tests; the BTF fixtures hold the fields that
    // the contract lists.
    ("xtask", &["sensor-event", "sensor-tests"]),
];

/// A package and the packages of ours that it depends on.
type Edge = (String, String);

/// Reports edges between our crates that are not in [`EDGES`].
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut edges = edges_of(root, "Cargo.toml")?;
    edges.extend(edges_of(root, "sensor-ebpf/Cargo.toml")?);
    Ok(edges.into_iter().filter(|(from, to)| !is_allowed(from, to)).map(report).collect())
}

fn report((from, to): Edge) -> String {
    format!("{from}: may not depend on {to}")
}

fn is_allowed(from: &str, to: &str) -> bool {
    from == "sensor-tests" || EDGES.iter().any(|(package, allowed)| *package == from && allowed.contains(&to))
}

fn edges_of(root: &Path, manifest: &str) -> Result<Vec<Edge>> {
    let metadata = sensor_tests::output(Command::new("cargo").current_dir(root).args([
        "metadata",
        "--no-deps",
        "--format-version=1",
        "--manifest-path",
        manifest,
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("parsing cargo metadata")?;
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata without packages")? {
        let from = package["name"].as_str().context("package without a name")?;
        for dependency in package["dependencies"].as_array().context("package without dependencies")? {
            let to = dependency["name"].as_str().context("dependency without a name")?;
            let ours = to.starts_with("sensor") || to == "xtask";
            // A path is set for crates of the tree only: a registry crate with such a name is not ours.
            if ours && !dependency["path"].is_null() && dependency["kind"] != "dev" {
                edges.push((from.to_owned(), to.to_owned()));
            }
        }
    }
    Ok(edges)
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn only_the_listed_edges_are_allowed() {
        for (from, to, expected) in [
            ("sensor-agent", "sensor-event", true),
            ("sensor-collector", "sensor-event", false),
            ("sensorctl", "sensor-proto", false),
            ("sensor-tests", "sensor-collector", true),
            ("unheard-of", "sensor-event", false),
        ] {
            assert_eq!(is_allowed(from, to), expected, "{from} -> {to}");
        }
    }
}
