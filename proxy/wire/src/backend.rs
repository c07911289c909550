//! Views of the messages a server sends.

use crate::{Reader, WireError};

/// Transaction status of ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyStatus {
    /// `I`, not in a transaction block.
    Idle,
    /// `T`, in a transaction block.
    InTransaction,
    /// `E`, in a failed transaction block.
    Failed,
}

impl ReadyStatus {
    /// The protocol's letter.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// Reads a ReadyForQuery body.
///
/// # Errors
/// When it is malformed.
pub fn ready_status(body: &[u8]) -> Result<ReadyStatus, WireError> {
    match body {
        b"I" => Ok(ReadyStatus::Idle),
        b"T" => Ok(ReadyStatus::InTransaction),
        b"E" => Ok(ReadyStatus::Failed),
        _ => Err(WireError::Value("transaction status")),
    }
}

/// One column of RowDescription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDescription {
    /// Column name.
    pub name: Vec<u8>,
    /// OID of the table of origin, 0 for none.
    pub table_oid: u32,
    /// Attribute number in it, 0 for none.
    pub attribute: i16,
    /// Type OID.
    pub type_oid: u32,
    /// Format code; 0 in the answer to Describe of a statement.
    pub format: i16,
}

/// RowDescription.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowDescription {
    /// Columns.
    pub fields: Vec<FieldDescription>,
}

impl RowDescription {
    /// Reads a RowDescription body.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn read(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let count = reader.count("field count")?;
        let mut fields = Vec::with_capacity(count.min(body.len() / 19 + 1));
        for _ in 0..count {
            let name = reader.cstring("field name")?.to_vec();
            let table_oid = reader.u32("table OID")?;
            let attribute = reader.i16("attribute number")?;
            let type_oid = reader.u32("type OID")?;
            reader.bytes(6, "type size and modifier")?;
            let format = reader.i16("format code")?;
            fields.push(FieldDescription { name, table_oid, attribute, type_oid, format });
        }
        reader.finish()?;
        Ok(Self { fields })
    }
}

/// Reads a ParameterStatus body.
///
/// # Errors
/// When it is malformed.
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let mut reader = Reader::new(body);
    let name = reader.cstring("parameter name")?;
    let value = reader.cstring("parameter value")?;
    reader.finish()?;
    Ok((name, value))
}

/// Reads a CommandComplete body.
///
/// # Errors
/// When it is malformed.
pub fn command_tag(body: &[u8]) -> Result<&[u8], WireError> {
    let mut reader = Reader::new(body);
    let tag = reader.cstring("command tag")?;
    reader.finish()?;
    Ok(tag)
}

/// Fields of ErrorResponse and NoticeResponse, in order, by the protocol's letters.
///
/// <https://www.postgresql.org/docs/current/protocol-error-fields.html>
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorFields(pub Vec<(u8, String)>);

impl ErrorFields {
    /// The first field with that letter, empty when there is none.
    #[must_use]
    pub fn get(&self, letter: u8) -> &str {
        self.0.iter().find(|(l, _)| *l == letter).map_or("", |(_, text)| text)
    }

    /// SQLSTATE.
    #[must_use]
    pub fn code(&self) -> &str {
        self.get(b'C')
    }

    /// Whether the server ends the session after this.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.get(b'V'), "FATAL" | "PANIC")
    }
}

/// Reads an ErrorResponse or NoticeResponse body. Text that is not UTF-8 is replaced.
///
/// # Errors
/// When it is malformed.
pub fn notice_fields(body: &[u8]) -> Result<ErrorFields, WireError> {
    let mut reader = Reader::new(body);
    let mut fields = Vec::new();
    loop {
        match reader.u8("field type")? {
            0 => break,
            letter => fields.push((letter, String::from_utf8_lossy(reader.cstring("field")?).into_owned())),
        }
    }
    reader.finish()?;
    Ok(ErrorFields(fields))
}
