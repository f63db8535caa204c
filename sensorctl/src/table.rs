//! Text for a terminal: tables and JSON. Asks nobody. May call: serde_json.

use serde_json::Value;

/// A table with a heading row, columns as wide as their widest cell.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heading: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&heading).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// The text of a JSON value in a cell: `-` for nothing. Control characters, which a host could have sent to fool a
/// terminal, are shown escaped.
pub(crate) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(truth) => if *truth { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(_) => value.to_string(),
    };
    safe(&text)
}

/// The text with control characters escaped.
pub(crate) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// A time for a table: seconds are enough.
pub(crate) fn time(value: &Value) -> String {
    let text = cell(value);
    match text.split_once('.') {
        Some((seconds, _)) if text.ends_with('Z') => format!("{seconds}Z"),
        _ => text,
    }
}

/// JSON for a program or a person.
pub(crate) fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The items of a list in an answer; none when it is not there.
pub(crate) fn items<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{cell, table, time};

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_space() {
        let rows = [vec!["a".to_owned(), "é".to_owned()], vec!["long".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["N", "V"], &rows), "N     V\na     é\nlong  x\n");
    }

    #[test]
    fn cells_hold_no_control_characters() {
        assert_eq!(cell(&json!("a\u{1b}[2J\n")), "a\\u{1b}[2J\\n");
        assert_eq!((cell(&json!(null)).as_str(), cell(&json!(true)).as_str()), ("-", "yes"));
        assert_eq!(cell(&json!(["T1", "T2"])), "T1,T2");
        assert_eq!(time(&json!("2026-11-23T05:00:01.123456Z")), "2026-11-23T05:00:01Z");
    }
}
