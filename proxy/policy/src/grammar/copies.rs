//! What the grammar's tree holds many times over: in `SET (a, b, …) = (SELECT …)` the whole right side once for each column.
//!
//! libpg_query writes those copies out, within each other, too, before anything can count them; so they are counted in the text.

use pg_query::protobuf::Token;

/// Tokens that are copies of others, at most: some hundred bytes of tree each. 300 columns from a query that names 300 are below it.
const MOST_COPIES: u64 = 250_000;

/// With fewer commas than that no text comes near it.
const FEW: usize = 12;

/// Inside one pair of parentheses, or outside of all.
#[derive(Default)]
struct Level {
    /// How often what stands around it is in the tree.
    around: u64,
    /// How often what comes next is.
    here: u64,
    /// Columns may be set here.
    sets: bool,
    /// It may be the columns of an assignment.
    columns: bool,
    commas: u64,
    last: Last,
}

#[derive(Default, Clone, Copy)]
enum Last {
    #[default]
    Other,
    /// SET or a comma.
    Start,
    /// So many columns in parentheses.
    Columns(u64),
}

/// Whether the tree of a text would be many times what is written.
pub(super) fn too_many(sql: &str) -> bool {
    let commas = sql.bytes().filter(|byte| *byte == b',').count();
    let sets = || sql.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"set"));
    if commas < FEW || !sets() {
        return false;
    }
    let Ok(scanned) = pg_query::scan(sql) else { return false };
    let mut levels = vec![Level { around: 1, here: 1, ..Level::default() }];
    let mut copies: u64 = 0;
    for token in &scanned.tokens {
        let Some(level) = levels.last_mut() else { return true };
        let kind = Token::try_from(token.token);
        if matches!(kind, Ok(Token::SqlComment | Token::CComment)) {
            continue;
        }
        copies = copies.saturating_add(level.here.saturating_sub(1));
        let last = std::mem::take(&mut level.last);
        match kind {
            Ok(Token::Ascii40) => {
                let columns = level.sets && matches!(last, Last::Start);
                let here = level.here;
                levels.push(Level { around: here, here, columns, ..Level::default() });
            }
            Ok(Token::Ascii41) => {
                let columns = if level.columns { Last::Columns(level.commas.saturating_add(1)) } else { Last::Other };
                if levels.len() > 1 {
                    levels.pop();
                }
                if let Some(level) = levels.last_mut() {
                    level.last = columns;
                }
            }
            Ok(Token::Ascii61) => {
                if let Last::Columns(columns) = last {
                    level.here = level.around.saturating_mul(columns);
                }
            }
            Ok(Token::Ascii44) => {
                level.commas = level.commas.saturating_add(1);
                level.here = level.around;
                level.last = Last::Start;
            }
            Ok(Token::Set) => {
                level.sets = true;
                level.here = level.around;
                level.last = Last::Start;
            }
            // Neither can stand in the expression that is assigned.
            Ok(Token::Where | Token::Returning | Token::Ascii59) => level.here = level.around,
            _ => {}
        }
    }
    copies > MOST_COPIES
}

#[cfg(test)]
mod tests {
    use super::too_many;

    fn names(count: usize) -> String {
        (0..count).map(|n| format!("c{n}")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_tree_of_copies_is_seen_in_the_text() {
        let nested = |levels: usize, columns: usize| {
            let mut text = "select 1".to_owned();
            for _ in 0..levels {
                text = format!("with x as (update t set ({}) = ({text}) returning 1) select 1", names(columns));
            }
            text
        };
        for text in [
            format!("update t set ({}) = (select {})", names(1000), names(1000)),
            format!("update t set a = 1, (/* ) */ {}) -- =\n = row({})", names(1000), names(1000)),
            format!("update t set ({}) = 1 is distinct from ({})", names(1000), names(1000)),
            format!("insert into t values (1) on conflict (a) do update set ({}) = (select {}) where a", names(1000), names(1000)),
            format!("merge into t using s on a when matched then update set ({}) = (select {})", names(1000), names(1000)),
            nested(4, 20),
            nested(16, 2),
        ] {
            assert!(too_many(&text), "{text:.200}");
        }
        for text in [
            format!("update t set ({}) = (select {}) where id in ({})", names(300), names(300), names(20_000)),
            format!("update t set {} where (a, b) = (1, 2)", names(2000).replace(',', " = 1,")),
            format!("select {} from t where {}", names(2000), vec!["(a, b) = (1, 2)"; 2000].join(" or ")),
            format!("insert into t values {}", vec!["(1, 2, 3)"; 20_000].join(", ")),
            nested(3, 8),
            nested(100, 1),
        ] {
            assert!(!too_many(&text), "{text:.200}");
        }
    }
}
