//! A key of a text that leaves out literals no judgement looks at, so that one judgement serves all texts that differ in them alone.
//!
//! Only what is certain is left out: a plain integer or string that is compared or computed with a column, assigned, inserted by VALUES or listed
//! after IN, in one SELECT, INSERT, UPDATE, DELETE or WITH. What a judgement does read stays in the key byte by byte: arguments of
//! functions, LIMIT and OFFSET, positions after ORDER BY and GROUP BY, casts, everything in other statements. The lexer here knows less than
//! PostgreSQL's; where a text has something it does not know (comments, dollar quotes, escape strings), there is no key.

/// Stands for an integer of at most nine digits, which the server types as `integer`.
const SMALL: u8 = 1;
/// Stands for an integer of 11 to 18 digits, which the server types as `bigint`.
const LARGE: u8 = 2;
/// Stands for a plain string.
const TEXT: u8 = 3;

/// Writes the key of `sql` into `key`. False when nothing can be left out; `key` means nothing then.
pub fn fingerprint(sql: &[u8], key: &mut Vec<u8>) -> bool {
    key.clear();
    key.reserve(sql.len());
    Lexer { sql, at: 0, written: 0, key, back: Back::default(), group: Group::None, depth: 0, left_out: 0, ended: false }
        .run()
        .unwrap_or(false)
}

/// A token, as far as it matters to what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Token {
    /// Nothing yet, or something without meaning here.
    #[default]
    Other,
    /// A name: a column, or the end of one.
    Name,
    /// `VALUES`.
    Values,
    /// `IN`.
    In,
    /// `NOT`.
    Not,
    /// A comparison or arithmetic operator other than minus.
    Operator,
    /// `-`.
    Minus,
    Open,
    Close,
    Comma,
}

/// The last tokens, the nearest first.
#[derive(Debug, Default)]
struct Back([Token; 4]);

impl Back {
    fn push(&mut self, token: Token) {
        let [a, b, c, _] = self.0;
        self.0 = [token, a, b, c];
    }
}

/// A parenthesis whose literals may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    None,
    /// The next parenthesis is one.
    Awaited,
    /// Inside, at this depth.
    Inside(usize),
    /// After one row of VALUES: a comma and another may follow.
    Between,
}

struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
    /// How far the text is in the key.
    written: usize,
    key: &'a mut Vec<u8>,
    back: Back,
    group: Group,
    depth: usize,
    left_out: usize,
    ended: bool,
}

/// Words that name no column and after which an expression may begin, by their first letter.
const fn words(first: u8) -> &'static [&'static str] {
    match first.to_ascii_lowercase() {
        b'a' => &["as", "all", "and", "any", "asc", "array"],
        b'b' => &["by", "between"],
        b'c' => &["case", "collate"],
        b'd' => &["desc", "default", "distinct"],
        b'e' => &["end", "else", "escape", "except", "exclude"],
        b'f' => &["for", "from", "false", "fetch", "first", "filter", "following"],
        b'g' => &["group", "groups"],
        b'h' => &["having"],
        b'i' => &["in", "is", "into", "ilike", "isnull", "interval", "intersect"],
        b'l' => &["last", "like", "limit", "lateral"],
        b'n' => &["not", "next", "null", "nulls", "notnull"],
        b'o' => &["on", "or", "only", "over", "order", "offset", "overlaps"],
        b'p' => &["partition", "preceding"],
        b'r' => &["row", "rows", "range", "returning"],
        b's' => &["set", "some", "select", "similar", "symmetric"],
        b't' => &["to", "then", "ties", "true"],
        b'u' => &["union", "using", "unbounded"],
        b'v' => &["values"],
        b'w' => &["when", "with", "where", "window"],
        _ => &[],
    }
}

const fn is_operator(byte: u8) -> bool {
    matches!(byte, b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' | b'~' | b'!' | b'@' | b'#' | b'%' | b'^' | b'&' | b'|' | b'`' | b'?')
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

const fn starts_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn continues_name(byte: u8) -> bool {
    starts_name(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl Lexer<'_> {
    /// `None` where the text has something this lexer does not know.
    fn run(mut self) -> Option<bool> {
        self.space();
        let first = self.word_at(self.at);
        if !["select", "insert", "update", "delete", "with"].iter().any(|word| first.eq_ignore_ascii_case(word.as_bytes())) {
            return Some(false);
        }
        while let Some(&byte) = self.sql.get(self.at) {
            if is_space(byte) {
                self.keep(1);
                continue;
            }
            if self.ended {
                return None;
            }
            self.token(byte)?;
        }
        self.write();
        Some(self.left_out > 0)
    }

    fn token(&mut self, byte: u8) -> Option<()> {
        match byte {
            b'\'' => self.string()?,
            b'"' => {
                let length = self.quoted(b'"')?;
                self.keep(length);
                self.push(Token::Name);
            }
            b'0'..=b'9' => self.number()?,
            b'$' => {
                let digits = self.count(self.at + 1, |byte| byte.is_ascii_digit());
                if digits == 0 || self.sql.get(self.at + 1 + digits).is_some_and(|&next| continues_name(next)) {
                    return None;
                }
                self.keep(1 + digits);
                self.push(Token::Other);
            }
            b'(' => {
                self.keep(1);
                self.depth += 1;
                if self.group == Group::Awaited {
                    self.group = Group::Inside(self.depth);
                }
                self.back.push(Token::Open);
            }
            b')' => {
                self.keep(1);
                if self.group == Group::Inside(self.depth) {
                    self.group = Group::Between;
                }
                self.depth = self.depth.checked_sub(1)?;
                self.back.push(Token::Close);
            }
            b',' => {
                self.keep(1);
                // Another row may follow a row of VALUES. After IN none does: what comes there is not a list of literals by itself.
                self.group = match self.group {
                    Group::Between => Group::Awaited,
                    Group::Awaited => Group::None,
                    group => group,
                };
                self.back.push(Token::Comma);
            }
            b';' => {
                self.keep(1);
                self.ended = true;
            }
            b'.' | b'[' | b']' | b':' => {
                self.keep(1);
                self.push(Token::Other);
            }
            byte if starts_name(byte) => self.word()?,
            byte if is_operator(byte) => self.operator()?,
            _ => return None,
        }
        Some(())
    }

    /// Notes a token that is no part of a list of VALUES.
    fn push(&mut self, token: Token) {
        if matches!(self.group, Group::Between | Group::Awaited) {
            self.group = Group::None;
        }
        self.back.push(token);
    }

    fn keep(&mut self, length: usize) {
        self.at = self.at.saturating_add(length).min(self.sql.len());
    }

    fn leave_out(&mut self, length: usize, mark: u8) {
        self.write();
        self.key.push(mark);
        self.at += length;
        self.written = self.at;
        self.left_out += 1;
    }

    /// Writes what was kept since the last literal that was left out.
    fn write(&mut self) {
        self.key.extend_from_slice(self.sql.get(self.written..self.at).unwrap_or_default());
        self.written = self.at;
    }

    fn count(&self, from: usize, wanted: impl Fn(u8) -> bool) -> usize {
        let rest = self.sql.get(from..).unwrap_or_default();
        rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len())
    }

    fn space(&mut self) {
        self.keep(self.count(self.at, is_space));
    }

    fn word_at(&self, from: usize) -> &[u8] {
        self.sql.get(from..from + self.count(from, continues_name)).unwrap_or_default()
    }

    /// Length of the quoted thing that begins here, with its quotes; a doubled quote is part of it.
    fn quoted(&self, quote: u8) -> Option<usize> {
        let mut at = self.at + 1;
        loop {
            at += self.count(at, |byte| byte != quote);
            self.sql.get(at)?;
            if self.sql.get(at + 1) == Some(&quote) {
                at += 2;
            } else {
                return Some(at + 1 - self.at);
            }
        }
    }

    fn word(&mut self) -> Option<()> {
        let word = self.word_at(self.at);
        let length = word.len();
        // E'', B'', X'', N'' and U&'' have rules of their own; so has U&"".
        match self.sql.get(self.at + length) {
            Some(b'\'') => return None,
            Some(b'&') if word.eq_ignore_ascii_case(b"u") => return None,
            _ => {}
        }
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let first = word.first().copied().unwrap_or_default();
        let token = if is("values") {
            Token::Values
        } else if is("in") {
            Token::In
        } else if is("not") {
            Token::Not
        } else if words(first).iter().any(|name| is(name)) {
            Token::Other
        } else {
            Token::Name
        };
        let before = self.back.0;
        self.keep(length);
        self.push(token);
        // A column before IN: of two literals the analysis might know which is which.
        let list = match token {
            Token::Values => true,
            Token::In => matches!(before, [Token::Name, ..] | [Token::Not, Token::Name, ..]),
            _ => false,
        };
        if list && !matches!(self.group, Group::Inside(_)) {
            self.group = Group::Awaited;
        }
        Some(())
    }

    fn operator(&mut self) -> Option<()> {
        let length = self.count(self.at, is_operator);
        let run = self.sql.get(self.at..self.at + length)?;
        if run.windows(2).any(|pair| pair == b"--" || pair == b"/*") {
            return None;
        }
        let token = match run {
            b"=" | b"<" | b">" | b"<=" | b">=" | b"<>" | b"!=" | b"+" | b"*" | b"/" => Token::Operator,
            b"-" => Token::Minus,
            _ => Token::Other,
        };
        self.keep(length);
        self.push(token);
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let length = self.count(self.at, |byte| byte.is_ascii_digit());
        let next = self.sql.get(self.at + length).copied();
        if next.is_some_and(|next| next == b'.' || continues_name(next)) {
            // Decimals, exponents, other bases, junk: kept, whatever it is up to its end.
            let rest = self.count(self.at, |byte| byte == b'.' || continues_name(byte));
            self.keep(rest);
            self.push(Token::Other);
            return Some(());
        }
        let mark = match length {
            1..=9 => Some(SMALL),
            11..=18 => Some(LARGE),
            _ => None,
        };
        let mark = mark.filter(|_| self.may_be_left_out() && self.may_follow(self.at + length));
        self.literal(length, mark);
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        let length = self.quoted(b'\'')?;
        let after = self.at + length;
        let next = after + self.count(after, is_space);
        // A string may go on after a new line.
        if self.sql.get(next) == Some(&b'\'') {
            return None;
        }
        let mark = Some(TEXT).filter(|_| !matches!(self.back.0, [Token::Minus, ..]) && self.may_be_left_out() && self.may_follow(after));
        self.literal(length, mark);
        Some(())
    }

    fn literal(&mut self, length: usize, mark: Option<u8>) {
        match mark {
            Some(mark) => self.leave_out(length, mark),
            None => self.keep(length),
        }
        self.push(Token::Other);
    }

    /// Whether what stands before a literal makes it an operand of a column or an item of a list.
    fn may_be_left_out(&self) -> bool {
        let listed = self.group == Group::Inside(self.depth);
        match self.back.0 {
            [Token::Operator | Token::Minus, Token::Name, ..] => true,
            // `a + -5`, `a = -5`, `(1, -5)`: the sign belongs to the literal and stays in the key.
            [Token::Minus, Token::Operator, Token::Name, _] => true,
            [Token::Minus, Token::Open | Token::Comma, ..] | [Token::Open | Token::Comma, ..] => listed,
            _ => false,
        }
    }

    /// Whether what stands after a literal leaves it one: a cast, a subscript or a part of a name does not.
    fn may_follow(&self, after: usize) -> bool {
        match self.sql.get(after + self.count(after, is_space)) {
            None | Some(b';' | b')' | b',') => true,
            Some(&byte) => starts_name(byte) || is_operator(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sql: &str) -> Option<String> {
        let mut key = Vec::new();
        fingerprint(sql.as_bytes(), &mut key)
            .then(|| String::from_utf8_lossy(&key).replace('\u{1}', "①").replace('\u{2}', "②").replace('\u{3}', "③"))
    }

    #[test]
    fn literals_beside_columns_and_in_lists_are_left_out() {
        let table = [
            ("SELECT abalance FROM pgbench_accounts WHERE aid = 4711;", "SELECT abalance FROM pgbench_accounts WHERE aid = ①;"),
            ("UPDATE b SET x = x + -12 WHERE id = 1", "UPDATE b SET x = x + -① WHERE id = ①"),
            (
                "INSERT INTO h (a, b) VALUES (1, -2, 'it''s', CURRENT_TIMESTAMP), (3, 4, 'x', now())",
                "INSERT INTO h (a, b) VALUES (①, -①, ③, CURRENT_TIMESTAMP), (①, ①, ③, now())",
            ),
            ("select * from t where a in (1, 2) and b not in ('x') limit 5", "select * from t where a in (①, ①) and b not in (③) limit 5"),
            ("select * from t where id = 12345678901", "select * from t where id = ②"),
            ("delete from t where \"id\" >= 5 or t.name <> 'x'", "delete from t where \"id\" >= ① or t.name <> ③"),
            ("select a - 1 from t order by 1", "select a - ① from t order by 1"),
        ];
        for (sql, expected) in table {
            assert_eq!(key(sql).as_deref(), Some(expected), "{sql}");
        }
    }

    #[test]
    fn what_a_judgement_may_read_stays() {
        let table = [
            "select * from t limit 5",
            "select * from t limit -5",
            "select * from t limit (5) offset 1 - 2",
            "select a, b from t group by 1, 2 order by 2",
            "select set_config('role', 'dba', false)",
            "select 1 where 1 = 1",
            "select * from t where 'a' = 'a'",
            "select * from t where oid = 'accounts'::regclass",
            "select * from t where oid = 'accounts' ::regclass",
            "select * from t where d = date '2020-01-01'",
            "select f(a => 5)",
            "select * from t where a = E'x\\'y'",
            "select * from t where a = U&'x'",
            "select * from t where a = $$x$$",
            "select * from t where a = $1",
            "select * from t where a = 5 -- b",
            "select * from t where a = 5 /* b */",
            "select * from t where a = 'x'\n'y'",
            "select * from t where a = 1234567890",
            "select * from t where a = 1.5",
            "select * from t where a = 5x",
            "select * from t where a @@ 'x'",
            "select * from t where a = 5; delete from t",
            "set x = 5",
            "select f(1, 2), (3), array[4]",
            "select * from f(5) where (1, 2) in ((3, 4))",
        ];
        for sql in table {
            assert_eq!(key(sql), None, "{sql}");
        }
    }
}
