//! CSV as Postgres writes it (RFC 4180: quotes doubled, line feeds within quotes).

use anyhow::Context as _;

/// All rows.
pub(super) fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let (mut row, mut cell) = (Vec::new(), String::new());
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (quoted, character) {
            (true, '"') if characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            (_, '"') => quoted = !quoted,
            (false, ',') => row.push(std::mem::take(&mut cell)),
            (false, '\r') => {}
            (false, '\n') => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            (_, other) => cell.push(other),
        }
    }
    // A log may end within a line that is being written.
    if !quoted && (!cell.is_empty() || !row.is_empty()) {
        row.push(cell);
        rows.push(row);
    }
    rows
}

/// A time as Postgres writes it, microseconds since the epoch.
pub(super) fn time_us(text: &str) -> anyhow::Result<i64> {
    super::parse_time(text).context("expected a time in UTC (log_timezone = UTC) or with an offset")
}

/// A table with a head.
pub(super) struct Table<const N: usize> {
    places: [usize; N],
    rows: Vec<Vec<String>>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(text: &str, columns: &[&str; N]) -> anyhow::Result<Self> {
        let mut rows = rows(text);
        if rows.is_empty() {
            anyhow::bail!("no head: export it as CSV with HEADER");
        }
        let head = rows.remove(0);
        let mut places = [0; N];
        for (place, column) in places.iter_mut().zip(columns) {
            *place = head.iter().position(|name| name == column).with_context(|| format!("no column {column}"))?;
        }
        Ok(Self { places, rows })
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = [String; N]> {
        self.rows.iter().map(|row| self.places.map(|place| row.get(place).cloned().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn quotes_line_feeds_and_heads() {
        assert_eq!(rows("a,\"b \"\"c\"\"\nd\",\n,x\n"), [vec!["a", "b \"c\"\nd", ""], vec!["", "x"]]);
        assert_eq!(rows("a\n\"cut off"), [vec!["a"]]);
        let table = Table::new("b,a\n1,2\n", &["a", "b"]).unwrap();
        assert_eq!(table.rows().next().unwrap(), ["2", "1"]);
        assert!(Table::new("b\n", &["a"]).is_err());
    }
}
