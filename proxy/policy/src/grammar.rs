//! PostgreSQL's own grammar, with a bound on size.
//!
//! `pg_query` hands the tree over as protobuf; decoding, walking and dropping it all recurse. Depth needs no bound of our own:
//! libpg_query refuses what its parser stack (10,000 symbols), its stack check and its serialiser (10,000 messages, about 5,000
//! expressions) cannot take, and the deepest tree it lets pass was measured to need less than 24 MB of stack to decode and drop.

use pg_query::protobuf::RawStmt;

mod copies;
mod fold;

/// What libpg_query says of a tree that it can read and not hand over.
const TOO_DEEP: [&str; 2] = ["nested too deep", "stack depth limit"];

/// Why there is no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Longer than is judged.
    TooLarge,
    /// Comments or signs in a row without anything between them, of which reading takes more than the square of their number.
    TooManyComments,
    /// Assignments to many columns at once, of which the tree holds what is assigned once for each.
    TooManyCopies,
    /// The grammar says it is no SQL, or more than it can take.
    Syntax(String),
}

/// How many bytes PostgreSQL's scanner reads again at most where comments or signs follow each other; a text like people's has none.
const MOST_REREADS: usize = 1 << 22;

/// About how many bytes the scanner reads more than once: at each beginning of a comment it takes all characters of operators that follow for one
/// operator, finds the comment in it and gives them back; of an operator that ends in signs it gives back each.
fn rereads(sql: &[u8]) -> usize {
    let is_operator = |byte: &u8| b"~!@#^&|`?+-*/%<>=".contains(byte);
    let runs = sql.split(|byte| !is_operator(byte)).filter(|run| run.len() > 2);
    let again = |run: &[u8]| {
        let comments = run.windows(2).filter(|pair| *pair == b"/*").count();
        // Signs at the end are given back one by one, and for each the whole run is looked through.
        let signs = run.iter().rev().take_while(|byte| matches!(byte, b'+' | b'-')).count();
        run.len().saturating_mul(comments.saturating_add(signs.saturating_mul(signs) / 16))
    };
    runs.map(again).fold(0, usize::saturating_add)
}

/// The statements of a text.
pub(crate) fn parse(sql: &str, most_bytes: usize) -> Result<Vec<RawStmt>, Refusal> {
    if sql.len() > most_bytes {
        return Err(Refusal::TooLarge);
    }
    if rereads(sql.as_bytes()) > MOST_REREADS {
        return Err(Refusal::TooManyComments);
    }
    if copies::too_many(sql) {
        return Err(Refusal::TooManyCopies);
    }
    let parsed = match pg_query::parse(sql, 0) {
        Err(pg_query::Error::Parse(message)) if TOO_DEEP.iter().any(|deep| message.contains(deep)) => match fold::chains(sql) {
            Some(folded) => pg_query::parse(&folded, 0).map(|mut parsed| {
                // Its places are not those of the text that is sent; none means the whole of it.
                for statement in &mut parsed.protobuf.stmts {
                    (statement.stmt_location, statement.stmt_len) = (0, 0);
                }
                parsed
            }),
            None => Err(pg_query::Error::Parse(message)),
        },
        parsed => parsed,
    };
    match parsed {
        Ok(parsed) => Ok(parsed.protobuf.stmts),
        Err(pg_query::Error::Parse(message)) => Err(Refusal::Syntax(message)),
        Err(error) => Err(Refusal::Syntax(error.to_string())),
    }
}
