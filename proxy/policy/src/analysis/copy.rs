//! COPY: what leaves by it, and how it is written.

use countersign_masking::{CopyFormat, CopyLayout};
use pg_query::protobuf::CopyStmt;
use pg_query::{Node, NodeEnum};

use super::{Interest, Source, Walk, strings};
use crate::StatementKind;
use crate::decision::{CopyColumn, CopyOut};
use crate::facts::SessionAction;

/// Encodings in which every byte below 128 is the ASCII character, wherever it stands.
const ASCII_SAFE: &[&str] = &[
    "utf8", "unicode", "sqlascii", "latin1", "latin2", "latin3", "latin4", "latin5", "latin6", "latin7", "latin8", "latin9", "latin10",
    "iso88595", "iso88596", "iso88597", "iso88598", "koi8r", "koi8u", "koi8", "win866", "win874", "win1250", "win1251", "win1252",
    "win1253", "win1254", "win1255", "win1256", "win1257", "win1258",
];

impl<'a> Walk<'a> {
    pub(super) fn copy(&mut self, copy: &CopyStmt) {
        let outside = copy.is_program || !copy.filename.is_empty();
        if outside {
            self.dcl("copies to or from the server's own files or programs");
            self.action = SessionAction::None;
        }
        let columns = if let Some(query) = copy.query.as_deref() {
            let items = self.query(query, None);
            self.kind = self.kind.max(StatementKind::CopyOut);
            let complete = items.complete;
            let columns = items.columns.into_iter().map(|item| CopyColumn {
                name: item.name,
                source: item.lineage.direct,
                direct: item.lineage.direct.is_some(),
                tainted: !item.lineage.sources.is_empty() || item.lineage.opaque,
            });
            let columns: Vec<CopyColumn> = columns.collect();
            if !complete {
                self.cannot_copy("its columns are not known, name them one by one");
            }
            columns
        } else {
            let Some(range) = &copy.relation else {
                self.unknown(|| "nothing is copied".to_owned());
                return;
            };
            match self.copied_relation(copy, range) {
                Some(columns) => columns,
                None => return,
            }
        };
        let layout = layout(&copy.options, &columns);
        if outside && columns.iter().any(|column| column.tainted) {
            self.cannot_copy("it goes to the server's own files");
        }
        if let Err(why) = &layout
            && self.would_treat(&columns)
        {
            self.cannot_copy(why);
        }
        self.copies.push(CopyOut { columns, layout });
    }

    /// COPY of a relation: its columns when it goes to the client.
    fn copied_relation(&mut self, copy: &CopyStmt, range: &pg_query::protobuf::RangeVar) -> Option<Vec<CopyColumn>> {
        let mut columns = None;
        if copy.is_from {
            self.writing_changed(crate::state::truncate(&range.relname));
        }
        for relation in self.resolve(range) {
            if copy.is_from {
                self.write(relation);
                self.kind = self.kind.max(StatementKind::CopyIn);
                let ranges =
                    vec![super::Range { alias: range.relname.clone(), schema: None, source: Source::Relation(relation, Vec::new()) }];
                let scope = super::Scope { ranges, hidden: Vec::new(), parent: None, merged: false };
                self.condition(copy.where_clause.as_deref(), &scope, "a protected column decides in WHERE");
                continue;
            }
            self.read(relation);
            let names = strings(&copy.attlist).unwrap_or_default();
            let chosen: Vec<&crate::catalog::Column> = if copy.attlist.is_empty() {
                // What is generated is left out.
                relation.columns.iter().filter(|column| column.generated_from.is_empty()).collect()
            } else {
                names.iter().filter_map(|name| relation.column(crate::state::truncate(name))).collect()
            };
            let found = chosen.into_iter().map(|column| {
                let lineage = self.base_column(relation, column.number);
                CopyColumn {
                    name: column.name.clone(),
                    source: Some((relation.oid, column.number)),
                    direct: true,
                    tainted: !lineage.sources.is_empty() || lineage.opaque,
                }
            });
            let found: Vec<CopyColumn> = found.collect();
            if columns.is_some() {
                self.cannot_copy("its name may mean more than one relation");
            }
            columns = Some(found);
        }
        self.kind = self.kind.max(if copy.is_from { StatementKind::CopyIn } else { StatementKind::CopyOut });
        if copy.is_from { None } else { Some(columns.unwrap_or_default()) }
    }

    fn would_treat(&self, columns: &[CopyColumn]) -> bool {
        match self.interest {
            Interest::All => false,
            Interest::Protected(protection) => columns.iter().any(|column| column.tainted) || protection.detects(),
        }
    }

    fn cannot_copy(&mut self, why: &str) {
        if let Interest::Protected(protection) = self.interest
            && (protection.any() || protection.detects())
        {
            self.copy_refused.get_or_insert_with(|| why.to_owned());
        }
    }
}

/// How the rows are written. Duplicate and senseless options are left to the server, which refuses them.
fn layout(options: &[Node], columns: &[CopyColumn]) -> Result<CopyLayout, String> {
    let (mut format, mut header) = ("text".to_owned(), false);
    let (mut delimiter, mut null, mut quote, mut escape) = (None, None, None, None);
    let mut force_quote = vec![false; columns.len()];
    for option in options {
        let Some(NodeEnum::DefElem(option)) = &option.node else { return Err("an option cannot be read".to_owned()) };
        let argument = option.arg.as_deref().and_then(|argument| argument.node.as_ref());
        let text = || match argument {
            Some(NodeEnum::String(text)) => Ok(text.sval.clone()),
            _ => Err(format!("its option {} cannot be read", option.defname)),
        };
        match option.defname.as_str() {
            "format" => format = text()?,
            "delimiter" => delimiter = Some(text()?),
            "null" => null = Some(text()?),
            "quote" => quote = Some(text()?),
            "escape" => escape = Some(text()?),
            "header" => header = flag(argument).ok_or("its option header cannot be read")?,
            "force_quote" => match argument {
                Some(NodeEnum::AStar(_)) => force_quote.fill(true),
                Some(NodeEnum::List(list)) => {
                    let names = strings(&list.items).ok_or("its option force_quote cannot be read")?;
                    for (forced, column) in force_quote.iter_mut().zip(columns) {
                        *forced |= names.contains(&column.name.as_str());
                    }
                }
                _ => return Err("its option force_quote cannot be read".to_owned()),
            },
            "encoding" => {
                let name = text()?;
                let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
                if !ASCII_SAFE.contains(&plain.as_str()) {
                    return Err(format!("its data in encoding {name} cannot be followed, leave ENCODING out"));
                }
            }
            // These say how data is read, or nothing about how it is written.
            "freeze" | "force_not_null" | "force_null" | "oids" => {}
            other => return Err(format!("its option {other} is not known")),
        }
    }
    let one = |given: Option<String>, default: u8, what: &str| match given.as_deref().map(str::as_bytes) {
        None => Ok(default),
        Some([byte]) if byte.is_ascii() => Ok(*byte),
        Some(_) => Err(format!("its {what} is not one character")),
    };
    let format = match format.as_str() {
        "text" => {
            let null = null.unwrap_or_else(|| "\\N".to_owned());
            // In text format NULL looks like a value that happens to be written so; which it is would tell about that value.
            if null != "\\N" && !null.is_empty() && columns.iter().any(|column| column.tainted) {
                return Err("its NULL string could be a value of a protected column, leave NULL out or use (FORMAT csv)".to_owned());
            }
            CopyFormat::Text { delimiter: one(delimiter, b'\t', "delimiter")?, null: null.into_bytes() }
        }
        "csv" => {
            let quote = one(quote, b'"', "quote")?;
            CopyFormat::Csv {
                delimiter: one(delimiter, b',', "delimiter")?,
                null: null.unwrap_or_default().into_bytes(),
                quote,
                escape: one(escape, quote, "escape")?,
                force_quote,
            }
        }
        "binary" => CopyFormat::Binary,
        other => return Err(format!("its format {other} is not known")),
    };
    Ok(CopyLayout { header: header && format != CopyFormat::Binary, format })
}

/// `defGetCopyHeaderChoice` in src/backend/commands/copy.c.
fn flag(argument: Option<&NodeEnum>) -> Option<bool> {
    Some(match argument {
        None => true,
        Some(NodeEnum::Boolean(value)) => value.boolval,
        Some(NodeEnum::Integer(value)) => match value.ival {
            0 => false,
            1 => true,
            _ => return None,
        },
        Some(NodeEnum::String(value)) => match value.sval.to_ascii_lowercase().as_str() {
            "true" | "on" => true,
            "false" | "off" => false,
            _ => return None,
        },
        Some(_) => return None,
    })
}
