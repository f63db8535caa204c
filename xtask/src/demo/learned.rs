//! Cuts one workload out of a pulled candidate, as a reviewer does who arms one service at a time. Not a YAML
//! parser: it relies on the canonical form that `baseline pull` writes. Pure.

/// The candidate's head and `workload` alone; `None` when the candidate lacks it.
pub(crate) fn only_workload(candidate: &str, workload: &str) -> Option<String> {
    let mut kept = String::new();
    let mut found = false;
    let mut inside = true;
    for line in candidate.lines() {
        if is_workload_key(line) {
            let key = line.trim().split_once(": ").map_or(line.trim(), |(key, _)| key);
            inside = key.trim_end_matches(':').trim_matches(['"', '\'']) == workload;
            found |= inside;
        }
        if inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    found.then_some(kept)
}

/// Keys of workloads stand two spaces deep; nothing else does.
fn is_workload_key(line: &str) -> bool {
    line.starts_with("  ") && !line.starts_with("   ") && !line.trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::only_workload;

    const CANDIDATE: &str = "fleet: demo\nworkloads:\n  host:\n    /a:\n      exec:\n        - /b\n  \
                             unit:x.service:\n    /c:\n      write: [/d]\n";

    #[test]
    fn one_workload_is_kept_with_the_head() {
        let expected = "fleet: demo\nworkloads:\n  unit:x.service:\n    /c:\n      write: [/d]\n";
        assert_eq!(only_workload(CANDIDATE, "unit:x.service").as_deref(), Some(expected));
    }

    #[test]
    fn a_missing_workload_is_said() {
        assert_eq!(only_workload(CANDIDATE, "unit:y.service"), None);
    }
}
