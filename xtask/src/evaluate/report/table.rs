//! A Markdown table. Not what stands in it. It calls nothing.

/// A table; a cell may hold anything.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(header.iter().map(|cell| escaped(cell)).collect());
    text += &line(header.iter().map(|_| "---".to_owned()).collect());
    text.extend(rows.iter().map(|row| line(row.iter().map(|cell| escaped(cell)).collect())));
    text
}

fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn a_cell_cannot_break_its_row() {
        let text = table(&["a", "b"], &[vec!["x | y".to_owned(), "two\nlines".to_owned()]]);
        assert_eq!(text, "| a | b |\n| --- | --- |\n| x \\| y | two lines |\n");
    }
}
