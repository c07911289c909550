//! Index objects: one row for each sealed session, bound by the hash in a digest. A table of contents: the manifest is the evidence.
//!
//! zstd frames around a CBOR sequence: the header `{type, version}`, then rows, each an array.

use std::collections::BTreeSet;

use minicbor::Decoder;

use super::cbor::Writer;
use super::ids::{Hash, SessionId};
use super::manifest::{Manifest, Seal};
use super::object::{FormatError, Limits, decompress};
use super::summary::Summary;
use super::writer::compress;

const TYPE: &str = "countersign-index";

/// Items in a row.
const ITEMS: u64 = 28;

/// Plain bytes of one zstd frame.
const FRAME: usize = 1 << 20;

/// Compression level.
const LEVEL: i32 = 3;

/// A sealed session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// Session.
    pub session: SessionId,
    /// SHA-256 of its manifest.
    pub manifest: Hash,
    /// Start, microseconds since the epoch.
    pub started_us: i64,
    /// End.
    pub ended_us: i64,
    /// How it was sealed.
    pub seal: Seal,
    /// Why it ended.
    pub reason: String,
    /// `strict` or `async`.
    pub durability: String,
    /// The manifest's summary.
    pub summary: Summary,
}

impl IndexRow {
    /// The row of a manifest.
    #[must_use]
    pub fn of(manifest: &Manifest, sha256: Hash) -> Self {
        Self {
            session: manifest.session,
            manifest: sha256,
            started_us: manifest.started_us,
            ended_us: manifest.ended_us,
            seal: manifest.seal,
            reason: manifest.reason.clone(),
            durability: manifest.durability.clone(),
            summary: manifest.summary.clone(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let summary = &self.summary;
        let mut w = Writer(out);
        w.array(usize::try_from(ITEMS).unwrap_or(usize::MAX));
        // What a filter by time looks at comes first.
        w.int(self.started_us);
        w.bytes(self.session.as_bytes());
        w.bytes(self.manifest.as_bytes());
        w.int(self.ended_us);
        w.bool(self.seal == Seal::Orphan);
        w.text(&self.reason);
        w.text(&self.durability);
        w.text(&summary.issuer);
        w.text(&summary.subject);
        match &summary.email {
            Some(email) => w.text(email),
            None => w.null(),
        }
        texts(&mut w, summary.groups.iter());
        w.text(&summary.database);
        w.text(&summary.upstream_user);
        w.text(&summary.application);
        w.text(&summary.client_addr);
        for count in counts(summary) {
            w.uint(count);
        }
        texts(&mut w, summary.tables.iter());
        w.bool(summary.more_tables);
    }
}

fn counts(summary: &Summary) -> [u64; 11] {
    [
        summary.statements,
        summary.allowed,
        summary.denied,
        summary.held,
        summary.granted,
        summary.errors,
        summary.rows,
        summary.masked,
        summary.cancels,
        summary.anomalies,
        summary.lost,
    ]
}

fn texts<'a>(w: &mut Writer<'_>, texts: impl ExactSizeIterator<Item = &'a String>) {
    w.array(texts.len());
    for text in texts {
        w.text(text);
    }
}

/// Makes an index object.
///
/// # Errors
/// When compression fails.
pub fn write_index(rows: &[IndexRow]) -> Result<Vec<u8>, FormatError> {
    let mut plain = Vec::new();
    let mut w = Writer(&mut plain);
    w.map(2);
    w.text("type");
    w.text(TYPE);
    w.text("version");
    w.uint(1);
    let mut object = Vec::new();
    for row in rows {
        row.write(&mut plain);
        if plain.len() >= FRAME {
            compress(&plain, LEVEL, &mut object)?;
            plain.clear();
        }
    }
    if !plain.is_empty() {
        compress(&plain, LEVEL, &mut object)?;
    }
    Ok(object)
}

/// Reads an index object, giving rows whose start passes `wanted` to `row`.
///
/// # Errors
/// When it is not one.
pub fn read_index(object: &[u8], limits: &Limits, wanted: impl Fn(i64) -> bool, mut row: impl FnMut(IndexRow)) -> Result<(), FormatError> {
    let plain = decompress(object, limits)?;
    let mut decoder = Decoder::new(&plain);
    let header = (decoder.map()?, decoder.str()?.to_owned(), decoder.str()?.to_owned(), decoder.str()?.to_owned(), decoder.u64()?);
    if header != (Some(2), "type".to_owned(), TYPE.to_owned(), "version".to_owned(), 1) {
        return Err(FormatError::Field { name: "type", expected: TYPE });
    }
    while decoder.position() < plain.len() {
        if decoder.array()? != Some(ITEMS) {
            return Err(FormatError::Malformed("a row of the index has another number of items"));
        }
        let started_us = decoder.i64()?;
        if wanted(started_us) {
            row(rest(&mut decoder, started_us)?);
        } else {
            for _ in 1..ITEMS {
                decoder.skip()?;
            }
        }
    }
    Ok(())
}

fn rest(d: &mut Decoder<'_>, started_us: i64) -> Result<IndexRow, FormatError> {
    let session = SessionId::from_bytes(<[u8; 16]>::try_from(d.bytes()?).map_err(|_| FormatError::Malformed("a session id has 16 bytes"))?);
    let manifest = Hash(<[u8; 32]>::try_from(d.bytes()?).map_err(|_| FormatError::Malformed("a hash has 32 bytes"))?);
    let ended_us = d.i64()?;
    let seal = if d.bool()? { Seal::Orphan } else { Seal::Closed };
    let (reason, durability) = (owned(d)?, owned(d)?);
    let mut summary = Summary { issuer: owned(d)?, subject: owned(d)?, ..Summary::default() };
    if d.datatype()? == minicbor::data::Type::Null {
        d.null()?;
    } else {
        summary.email = Some(owned(d)?);
    }
    summary.groups = list(d)?;
    summary.database = owned(d)?;
    summary.upstream_user = owned(d)?;
    summary.application = owned(d)?;
    summary.client_addr = owned(d)?;
    for count in [
        &mut summary.statements,
        &mut summary.allowed,
        &mut summary.denied,
        &mut summary.held,
        &mut summary.granted,
        &mut summary.errors,
        &mut summary.rows,
        &mut summary.masked,
        &mut summary.cancels,
        &mut summary.anomalies,
        &mut summary.lost,
    ] {
        *count = d.u64()?;
    }
    summary.tables = list::<BTreeSet<String>>(d)?;
    summary.more_tables = d.bool()?;
    Ok(IndexRow { session, manifest, started_us, ended_us, seal, reason, durability, summary })
}

fn owned(d: &mut Decoder<'_>) -> Result<String, FormatError> {
    Ok(d.str()?.to_owned())
}

fn list<T: Default + Extend<String>>(d: &mut Decoder<'_>) -> Result<T, FormatError> {
    let length = d.array()?.ok_or(FormatError::Malformed("indefinite length"))?;
    let mut texts = T::default();
    for _ in 0..length {
        texts.extend([owned(d)?]);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn row(n: u8) -> IndexRow {
        IndexRow {
            session: SessionId::from_bytes([n; 16]),
            manifest: Hash([n; 32]),
            started_us: i64::from(n) * 10,
            ended_us: i64::from(n) * 10 + 5,
            seal: if n == 2 { Seal::Orphan } else { Seal::Closed },
            reason: "client terminated".into(),
            durability: "strict".into(),
            summary: Summary {
                subject: format!("s{n}"),
                email: (n > 1).then(|| "ci@bank.example".into()),
                groups: vec!["a".into(), "b".into()],
                rows: u64::from(n) << 40,
                tables: ["public.x".to_owned()].into(),
                more_tables: n == 3,
                ..Summary::default()
            },
        }
    }

    #[test]
    fn what_is_written_reads_back_and_can_be_passed_over() {
        let rows = [row(1), row(2), row(3)];
        let object = write_index(&rows).unwrap();
        let mut read = Vec::new();
        read_index(&object, &Limits::default(), |_| true, |row| read.push(row)).unwrap();
        assert_eq!(read, rows);
        read.clear();
        read_index(&object, &Limits::default(), |started| started == 20, |row| read.push(row)).unwrap();
        assert_eq!(read, rows.get(1..2).unwrap());
        for length in 0..object.len() {
            read_index(object.get(..length).unwrap(), &Limits::default(), |_| true, |_| ()).unwrap_err();
        }
    }
}
