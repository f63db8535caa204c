//! The lines by which two YAML texts differ, each below the lines it hangs on. Not a comparison of what baselines
//! mean: comments, the version and nothing else are left out. May call: nothing.

/// The diff of two texts; empty when they say the same.
pub(crate) fn line_diff(old: &str, new: &str) -> String {
    let (old, new) = (content(old), content(new));
    let edits = edits(&old, &new);
    let mut is_shown = vec![false; edits.len()];
    for at in (0..edits.len()).filter(|at| edits[*at].0 != ' ') {
        is_shown[at] = true;
        let mut depth = indent(edits[at].1);
        for above in (0..at).rev() {
            let (sign, line) = edits[above];
            if depth == 0 {
                break;
            }
            if indent(line) < depth && (sign == ' ' || sign == edits[at].0) {
                depth = indent(line);
                is_shown[above] = true;
            }
        }
    }
    let shown = edits.iter().zip(is_shown).filter(|(_, is_shown)| *is_shown);
    shown.map(|((sign, line), _)| format!("{sign} {line}\n")).collect()
}

/// Lines that mean something: no comments, no version, which the collector gives.
fn content(text: &str) -> Vec<&str> {
    let lines = text.lines().map(without_host_count).filter(|line| {
        let word = line.trim_start();
        !word.is_empty() && !word.starts_with('#') && !line.starts_with("version:")
    });
    lines.collect()
}

/// The line without the remark that candidates carry, such as `# 2 of 3 hosts`.
fn without_host_count(line: &str) -> &str {
    let is_host_count = |note: &str| {
        let words: Vec<&str> = note.split(' ').collect();
        let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        matches!(words[..], [hosts, "of", all, "hosts"] if is_number(hosts) && is_number(all))
    };
    match line.rsplit_once(" # ") {
        Some((before, note)) if is_host_count(note) => before.trim_end(),
        _ => line.trim_end(),
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Most cells of the comparison table; beyond it the part that differs is shown as replaced.
const TABLE_CELLS_MAX: usize = 16 << 20;

/// A shortest edit script: lines kept (` `), taken out (`-`) and put in (`+`).
fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let same_start = old.iter().zip(new).take_while(|(one, other)| one == other).count();
    let (start, old, new) = (&old[..same_start], &old[same_start..], &new[same_start..]);
    let same_end = old.iter().rev().zip(new.iter().rev()).take_while(|(one, other)| one == other).count();
    let (old, end) = old.split_at(old.len() - same_end);
    let new = &new[..new.len() - same_end];
    let mut edits: Vec<(char, &str)> = start.iter().map(|line| (' ', *line)).collect();
    middle(&mut edits, old, new);
    edits.extend(end.iter().map(|line| (' ', *line)));
    edits
}

/// Longest common subsequence by its table, or everything replaced when the table would be too large.
fn middle<'a>(edits: &mut Vec<(char, &'a str)>, old: &[&'a str], new: &[&'a str]) {
    let width = new.len() + 1;
    let fits = (old.len() + 1).checked_mul(width).is_some_and(|cells| cells <= TABLE_CELLS_MAX);
    if !fits {
        edits.extend(old.iter().map(|line| ('-', *line)));
        edits.extend(new.iter().map(|line| ('+', *line)));
        return;
    }
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for at_old in (0..old.len()).rev() {
        for at_new in (0..new.len()).rev() {
            let cell = at_old * width + at_new;
            common[cell] = if old[at_old] == new[at_new] {
                common[cell + width + 1] + 1
            } else {
                common[cell + 1].max(common[cell + width])
            };
        }
    }
    let (mut at_old, mut at_new) = (0, 0);
    while at_old < old.len() || at_new < new.len() {
        let cell = at_old * width + at_new;
        if at_old < old.len() && at_new < new.len() && old[at_old] == new[at_new] {
            edits.push((' ', old[at_old]));
            (at_old, at_new) = (at_old + 1, at_new + 1);
        } else if at_new == new.len() || (at_old < old.len() && common[cell + width] >= common[cell + 1]) {
            edits.push(('-', old[at_old]));
            at_old += 1;
        } else {
            edits.push(('+', new[at_new]));
            at_new += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::line_diff;

    #[test]
    fn a_change_is_shown_below_what_it_hangs_on() {
        let old = "# c\nfleet: web\nversion: 1\nworkloads:\n  host:\n    /a:\n      exec:\n        - /x\n        - /y\n    /b:\n      exec:\n        - /z\n";
        let new = "fleet: web\nversion: 2\nworkloads:\n  host:\n    /a:\n      exec:\n        - /x # 1 of 2 hosts\n        - /w\n    /b:\n      exec:\n        - /z\n";
        assert_eq!(
            line_diff(old, new),
            "  workloads:\n    host:\n      /a:\n        exec:\n-         - /y\n+         - /w\n"
        );
        assert_eq!(line_diff(old, old), "");
    }

    #[test]
    fn a_hash_inside_quotes_is_no_comment() {
        assert_eq!(line_diff("- '/a # b'\n", "- '/a # c'\n"), "- - '/a # b'\n+ - '/a # c'\n");
    }

    #[test]
    fn texts_too_large_to_align_are_replaced() {
        let old: String = (0..5000).map(|number| format!("a{number}\n")).collect();
        let new: String = (0..5000).map(|number| format!("b{number}\n")).collect();
        let diff = line_diff(&old, &new);
        assert_eq!(diff.lines().filter(|line| line.starts_with('+')).count(), 5000);
    }
}
