//! CBOR (RFC 8949) as far as the format needs it: a writer of the deterministic encoding (section 4.2.1) and a bounded reader of maps.

use bytes::Bytes;
use minicbor::Decoder;
use minicbor::data::Type;

use super::object::FormatError;

/// Deepest nesting that an event has is 5.
const MAX_DEPTH: u8 = 8;

/// Most items in one event or entry: an item takes one byte to claim and forty to hold.
const MAX_ITEMS: u32 = 1 << 20;

/// Writes items in deterministic encoding. Map keys are the caller's to give in order; a test holds every event to it.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        match (u8::try_from(value), u16::try_from(value), u32::try_from(value)) {
            (Ok(small @ 0..=23), _, _) => self.0.push(major | small),
            (Ok(byte), _, _) => self.0.extend_from_slice(&[major | 24, byte]),
            (_, Ok(short), _) => {
                self.0.push(major | 25);
                self.0.extend_from_slice(&short.to_be_bytes());
            }
            (_, _, Ok(word)) => {
                self.0.push(major | 26);
                self.0.extend_from_slice(&word.to_be_bytes());
            }
            _ => {
                self.0.push(major | 27);
                self.0.extend_from_slice(&value.to_be_bytes());
            }
        }
    }

    fn length(&mut self, major: u8, length: usize) {
        // A length beyond u64 cannot be held in memory.
        self.head(major, u64::try_from(length).unwrap_or(u64::MAX));
    }

    pub(crate) fn uint(&mut self, value: u64) {
        self.head(0, value);
    }

    pub(crate) fn int(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(positive) => self.head(0, positive),
            Err(_) => self.head(1, (-1 - value).unsigned_abs()),
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.length(2, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.length(3, text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn array(&mut self, length: usize) {
        self.length(4, length);
    }

    pub(crate) fn map(&mut self, length: usize) {
        self.length(5, length);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.0.push(if value { 0xf5 } else { 0xf4 });
    }

    pub(crate) fn null(&mut self) {
        self.0.push(0xf6);
    }
}

/// An item, as far as the format has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Uint(u64),
    Int(i64),
    Bool(bool),
    Null,
    Bytes(Bytes),
    Text(String),
    Array(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// Reads one item; `parent` is what the decoder reads, so that byte strings are slices of it.
pub(crate) fn value(decoder: &mut Decoder<'_>, parent: &Bytes) -> Result<Value, FormatError> {
    let mut budget = MAX_ITEMS;
    nested(decoder, parent, 0, &mut budget)
}

fn nested(decoder: &mut Decoder<'_>, parent: &Bytes, depth: u8, budget: &mut u32) -> Result<Value, FormatError> {
    if depth >= MAX_DEPTH {
        return Err(FormatError::Malformed("nesting too deep"));
    }
    *budget = budget.checked_sub(1).ok_or(FormatError::Malformed("too many items"))?;
    Ok(match decoder.datatype()? {
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => Value::Uint(decoder.u64()?),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => Value::Int(decoder.i64()?),
        Type::Bool => Value::Bool(decoder.bool()?),
        Type::Null => {
            decoder.null()?;
            Value::Null
        }
        Type::Bytes => Value::Bytes(parent.slice_ref(decoder.bytes()?)),
        Type::String => Value::Text(decoder.str()?.to_owned()),
        Type::Array => {
            let length = decoder.array()?.ok_or(FormatError::Malformed("indefinite length"))?;
            // Not reserved up front: the length is the sender's word.
            let mut items = Vec::new();
            for _ in 0..length {
                items.push(nested(decoder, parent, depth + 1, budget)?);
            }
            Value::Array(items)
        }
        Type::Map => {
            let length = decoder.map()?.ok_or(FormatError::Malformed("indefinite length"))?;
            let mut entries = Vec::new();
            for _ in 0..length {
                entries.push((decoder.str()?.to_owned(), nested(decoder, parent, depth + 1, budget)?));
            }
            Value::Map(entries)
        }
        _ => return Err(FormatError::Malformed("unexpected CBOR type")),
    })
}

/// The entries of a map, taken one by one by name.
pub(crate) struct Fields(Vec<(String, Value)>);

macro_rules! take {
    ($fn:ident, $type:ty, $what:literal, $($pattern:pat => $out:expr),+) => {
        pub(crate) fn $fn(&mut self, name: &'static str) -> Result<$type, FormatError> {
            match self.take(name)? {
                $($pattern => Ok($out),)+
                _ => Err(FormatError::Field { name, expected: $what }),
            }
        }
    };
}

impl Fields {
    pub(crate) fn of(value: Value) -> Result<Self, FormatError> {
        match value {
            Value::Map(entries) => Ok(Self(entries)),
            _ => Err(FormatError::Malformed("expected a map")),
        }
    }

    /// A field of any type.
    pub(crate) fn value(&mut self, name: &'static str) -> Result<Value, FormatError> {
        self.take(name)
    }

    fn take(&mut self, name: &'static str) -> Result<Value, FormatError> {
        match self.0.iter().position(|(key, _)| key == name) {
            Some(at) => Ok(self.0.remove(at).1),
            None => Err(FormatError::Field { name, expected: "to be there" }),
        }
    }

    take!(uint, u64, "an unsigned integer", Value::Uint(v) => v);
    take!(bool, bool, "a boolean", Value::Bool(v) => v);
    take!(bytes, Bytes, "a byte string", Value::Bytes(v) => v);
    take!(optional_bytes, Option<Bytes>, "a byte string or null", Value::Bytes(v) => Some(v), Value::Null => None);
    take!(text, String, "a text", Value::Text(v) => v);
    take!(optional_text, Option<String>, "a text or null", Value::Text(v) => Some(v), Value::Null => None);
    take!(array, Vec<Value>, "an array", Value::Array(v) => v);

    pub(crate) fn int(&mut self, name: &'static str) -> Result<i64, FormatError> {
        match self.take(name)? {
            Value::Int(value) => Ok(value),
            Value::Uint(value) => i64::try_from(value).map_err(|_| FormatError::Field { name, expected: "an integer of 64 bits" }),
            _ => Err(FormatError::Field { name, expected: "an integer" }),
        }
    }

    pub(crate) fn hash(&mut self, name: &'static str) -> Result<[u8; 32], FormatError> {
        <[u8; 32]>::try_from(self.bytes(name)?.as_ref()).map_err(|_| FormatError::Field { name, expected: "32 bytes" })
    }

    pub(crate) fn texts(&mut self, name: &'static str) -> Result<Vec<String>, FormatError> {
        self.array(name)?
            .into_iter()
            .map(|item| match item {
                Value::Text(text) => Ok(text),
                _ => Err(FormatError::Field { name, expected: "texts" }),
            })
            .collect()
    }

    /// Nothing may be left over: version 1 is closed.
    pub(crate) fn end(self) -> Result<(), FormatError> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(FormatError::UnknownField(key.chars().take(40).collect())),
        }
    }
}
