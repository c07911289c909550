//! Views of the messages a client sends.

use crate::{Reader, WireError};

/// What Describe and Close are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement, `S`.
    Statement,
    /// A portal, `P`.
    Portal,
}

impl Target {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.u8("target")? {
            b'S' => Ok(Self::Statement),
            b'P' => Ok(Self::Portal),
            _ => Err(WireError::Value("target")),
        }
    }

    /// The protocol's letter.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }
}

/// Parse.
#[derive(Debug, Clone)]
pub struct ParseView<'a> {
    /// Statement name, empty for the unnamed one.
    pub name: &'a [u8],
    /// SQL text.
    pub sql: &'a [u8],
    /// Declared parameter types, 0 where left to the server.
    pub types: Vec<u32>,
}

/// Reads a Parse body.
///
/// # Errors
/// When it is malformed.
pub fn parse(body: &[u8]) -> Result<ParseView<'_>, WireError> {
    let mut reader = Reader::new(body);
    let name = reader.cstring("statement name")?;
    let sql = reader.cstring("query string")?;
    let count = reader.count("parameter type count")?;
    let types = (0..count).map(|_| reader.u32("parameter type")).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(ParseView { name, sql, types })
}

/// Bind.
#[derive(Debug, Clone)]
pub struct BindView<'a> {
    /// Portal name.
    pub portal: &'a [u8],
    /// Statement name.
    pub statement: &'a [u8],
    /// Everything after the two names, to be forwarded as it is.
    pub tail: &'a [u8],
    /// Parameter values with their format codes, resolved by the protocol's rule (none, one for all, one each).
    pub parameters: Vec<(i16, Option<&'a [u8]>)>,
    /// Result format codes as given.
    pub result_formats: Vec<i16>,
}

impl BindView<'_> {
    /// Format code of result column `index`, by the same rule.
    #[must_use]
    pub fn result_format(&self, index: usize) -> i16 {
        resolve(&self.result_formats, index)
    }
}

/// The format rule: none given means text, one given counts for all.
#[must_use]
fn resolve(formats: &[i16], index: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        many => many.get(index).copied().unwrap_or(0),
    }
}

/// Reads a Bind body.
///
/// # Errors
/// When it is malformed.
pub fn bind(body: &[u8]) -> Result<BindView<'_>, WireError> {
    let mut reader = Reader::new(body);
    let portal = reader.cstring("portal name")?;
    let statement = reader.cstring("statement name")?;
    let tail = reader.rest();
    let count = reader.count("parameter format count")?;
    let formats = (0..count).map(|_| format(&mut reader)).collect::<Result<Vec<_>, _>>()?;
    let count = reader.count("parameter count")?;
    if formats.len() > 1 && formats.len() != count {
        return Err(WireError::Length("parameter formats"));
    }
    let mut parameters = Vec::with_capacity(count);
    for index in 0..count {
        parameters.push((resolve(&formats, index), reader.value("parameter value")?));
    }
    let count = reader.count("result format count")?;
    let result_formats = (0..count).map(|_| format(&mut reader)).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(BindView { portal, statement, tail, parameters, result_formats })
}

fn format(reader: &mut Reader<'_>) -> Result<i16, WireError> {
    match reader.i16("format code")? {
        code @ (0 | 1) => Ok(code),
        _ => Err(WireError::Value("format code")),
    }
}

/// Describe.
#[derive(Debug, Clone, Copy)]
pub struct DescribeView<'a> {
    /// Statement or portal.
    pub target: Target,
    /// Its name.
    pub name: &'a [u8],
}

/// Reads a Describe body.
///
/// # Errors
/// When it is malformed.
pub fn describe(body: &[u8]) -> Result<DescribeView<'_>, WireError> {
    let mut reader = Reader::new(body);
    let target = Target::read(&mut reader)?;
    let name = reader.cstring("name")?;
    reader.finish()?;
    Ok(DescribeView { target, name })
}

/// Close.
pub type CloseView<'a> = DescribeView<'a>;

/// Reads a Close body.
///
/// # Errors
/// When it is malformed.
pub fn close(body: &[u8]) -> Result<CloseView<'_>, WireError> {
    describe(body)
}

/// Execute.
#[derive(Debug, Clone, Copy)]
pub struct ExecuteView<'a> {
    /// Portal name.
    pub portal: &'a [u8],
    /// Row limit, 0 for none.
    pub max_rows: i32,
}

/// Reads an Execute body.
///
/// # Errors
/// When it is malformed.
pub fn execute(body: &[u8]) -> Result<ExecuteView<'_>, WireError> {
    let mut reader = Reader::new(body);
    let portal = reader.cstring("portal name")?;
    let max_rows = reader.i32("row limit")?;
    reader.finish()?;
    Ok(ExecuteView { portal, max_rows })
}

/// Reads a Query body: the SQL text.
///
/// # Errors
/// When it is malformed.
pub fn query_text(body: &[u8]) -> Result<&[u8], WireError> {
    let mut reader = Reader::new(body);
    let sql = reader.cstring("query string")?;
    reader.finish()?;
    Ok(sql)
}
