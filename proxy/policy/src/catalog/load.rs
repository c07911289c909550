//! From rows to a [`Catalog`].

use std::sync::OnceLock;

use super::queries as q;
use super::{Cast, Catalog, CatalogError, Column, FIRST_USER_OID, Function, Operator, QUERIES, Relation, Type};
use crate::reviewed::is_reviewed;
use crate::state::{SearchPath, parse_path};

struct Row<'a> {
    query: &'static str,
    values: &'a [Option<&'a str>],
}

impl<'a> Row<'a> {
    fn error(&self, message: impl Into<String>) -> CatalogError {
        CatalogError { query: self.query, message: message.into() }
    }

    fn optional(&self, index: usize) -> Result<Option<&'a str>, CatalogError> {
        self.values
            .get(index)
            .copied()
            .ok_or_else(|| self.error(format!("expected at least {} columns, found {}", index + 1, self.values.len())))
    }

    fn text(&self, index: usize) -> Result<&'a str, CatalogError> {
        self.optional(index)?.ok_or_else(|| self.error(format!("column {} is null", index + 1)))
    }

    fn parse<T: std::str::FromStr>(&self, index: usize) -> Result<T, CatalogError> {
        let text = self.text(index)?;
        text.parse().map_err(|_| self.error(format!("column {} is not of its type: {text}", index + 1)))
    }

    fn flag(&self, index: usize) -> Result<bool, CatalogError> {
        match self.text(index)? {
            "true" | "t" => Ok(true),
            "false" | "f" => Ok(false),
            other => Err(self.error(format!("column {} is not a boolean: {other}", index + 1))),
        }
    }

    fn letter(&self, index: usize) -> Result<char, CatalogError> {
        self.text(index)?.chars().next().ok_or_else(|| self.error(format!("column {} is empty", index + 1)))
    }
}

pub(super) fn row(catalog: &mut Catalog, query: usize, values: &[Option<&str>]) -> Result<(), CatalogError> {
    let name = QUERIES.get(query).map_or("unknown", |query| query.name);
    let row = Row { query: name, values };
    match query {
        q::SEARCH_PATH => {}
        q::DEFAULTS => {
            catalog.user = row.text(0)?.to_owned();
            catalog.default_path = match parse_path(row.text(1)?) {
                Some(SearchPath::Schemas(schemas)) => schemas,
                _ => return Err(row.error("search_path cannot be parsed")),
            };
        }
        q::SCHEMAS => {
            catalog.schemas.insert(row.text(0)?.to_owned(), row.flag(1)?);
        }
        q::RELATIONS => relation(catalog, &row)?,
        q::COLUMNS => {
            // A snapshot made before columns had tags has no comments.
            let tags = tags(row.values.get(4).copied().flatten().unwrap_or_default());
            // Nor does one made before generated columns were followed say what they come from.
            let sources = row.values.get(5).copied().flatten().unwrap_or_default();
            let generated_from = sources.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<i16>, _>>();
            let generated_from = generated_from.map_err(|_| row.error("a generated column comes from no column"))?;
            let column = Column { number: row.parse(1)?, name: row.text(2)?.to_owned(), type_oid: row.parse(3)?, tags, generated_from };
            if let Some(relation) = catalog.relations.get_mut(&row.parse(0)?) {
                relation.columns.push(column);
            }
        }
        q::INHERITS => {
            let (child, parent): (u32, u32) = (row.parse(0)?, row.parse(1)?);
            if let Some(relation) = catalog.relations.get_mut(&child) {
                relation.parents.push(parent);
            }
            if let Some(relation) = catalog.relations.get_mut(&parent) {
                relation.children.push(child);
            }
        }
        q::VIEWS => {
            let definition = row.optional(1)?.map(str::to_owned);
            if let Some(relation) = catalog.relations.get_mut(&row.parse(0)?) {
                relation.definition = definition;
            }
        }
        q::RULES => rule(catalog, &row)?,
        q::CODE => {
            let function: u32 = row.parse(2)?;
            let when = row.text(1)?;
            if let Some(relation) = catalog.relations.get_mut(&row.parse(0)?) {
                match when {
                    "r" => relation.read_code.push(function),
                    "i" => {
                        relation.write_code.push(function);
                        relation.index_code.push(function);
                    }
                    _ => relation.write_code.push(function),
                }
            }
        }
        q::FOREIGN_KEYS => {
            let referencing = row.parse(1)?;
            if let Some(relation) = catalog.relations.get_mut(&row.parse(0)?) {
                relation.cascades.push(referencing);
            }
        }
        q::FUNCTIONS => function(catalog, &row)?,
        q::OPERATORS => {
            let operator = Operator { schema: row.text(0)?.to_owned(), left: row.parse(2)?, right: row.parse(3)?, function: row.parse(4)? };
            catalog.operators.entry(row.text(1)?.to_owned()).or_default().push(operator);
        }
        q::TYPES => {
            let oid: u32 = row.parse(0)?;
            catalog.type_names.entry(row.text(1)?.to_owned()).or_default().insert(row.text(2)?.to_owned(), oid);
            let check = row.optional(7)?.map(str::to_owned);
            let subtype = if row.optional(8)?.is_some() { row.parse(8)? } else { 0 };
            let found = Type {
                class: row.letter(3)?,
                base: row.parse(4)?,
                element: row.parse(5)?,
                relation: row.parse(6)?,
                check,
                subtype,
                code: OnceLock::new(),
            };
            catalog.types.insert(oid, found);
        }
        q::CASTS => {
            let (implicit, assigns) = (row.text(3)? == "i", row.text(3)? != "e");
            catalog.casts.push(Cast { source: row.parse(0)?, target: row.parse(1)?, function: row.parse(2)?, implicit, assigns });
        }
        q::EXPRESSIONS => {
            let when = row.text(1)?;
            let text = row.optional(2)?.map(str::to_owned);
            if let (Some(relation), Some(text)) = (catalog.relations.get_mut(&row.parse(0)?), text) {
                match when {
                    "r" => relation.read_expressions.push(text),
                    "g" => relation.conditional_triggers.push(text),
                    "p" => {
                        relation.planned_expressions.push(text.clone());
                        relation.write_expressions.push(text);
                    }
                    _ => relation.write_expressions.push(text),
                }
            }
        }
        q::TEMPORARY => {
            let name = row.text(0)?.to_owned();
            if row.values.get(2).copied().flatten().is_some() {
                catalog.temporary_types.insert(name);
                return Ok(());
            }
            if row.flag(1)? {
                catalog.temporary.insert(name.clone());
            }
            catalog.temporary_triggers.insert(name);
        }
        q::SUPPORT => {
            let (subject, function): (u32, u32) = (row.parse(1)?, row.parse(2)?);
            if row.text(0)? == "t" {
                catalog.support.push((subject, function));
            } else if let Some(relation) = catalog.relations.get_mut(&subject) {
                relation.read_code.push(function);
            }
        }
        _ => return Err(row.error(format!("there is no query {query}"))),
    }
    Ok(())
}

/// The tags in a column's comment.
fn tags(comment: &str) -> Vec<String> {
    let words = comment.split(|c: char| c.is_whitespace() || ",;()[]".contains(c));
    let tags = words.filter_map(|word| word.strip_prefix("countersign:"));
    tags.map(|tag| tag.trim_end_matches('.').to_owned()).filter(|tag| !tag.is_empty()).collect()
}

fn relation(catalog: &mut Catalog, row: &Row<'_>) -> Result<(), CatalogError> {
    let relation = Relation {
        oid: row.parse(0)?,
        schema: row.text(1)?.to_owned(),
        name: row.text(2)?.to_owned(),
        kind: row.letter(3)?,
        row_type: row.parse(5)?,
        columns: Vec::new(),
        children: Vec::new(),
        parents: Vec::new(),
        definition: None,
        rule_relations: Vec::new(),
        rule_functions: Vec::new(),
        write_rules: false,
        read_code: Vec::new(),
        write_code: Vec::new(),
        index_code: Vec::new(),
        cascades: Vec::new(),
        view: OnceLock::new(),
        read_expressions: Vec::new(),
        write_expressions: Vec::new(),
        conditional_triggers: Vec::new(),
        planned_expressions: Vec::new(),
        code: [OnceLock::new(), OnceLock::new(), OnceLock::new()],
    };
    catalog.relation_names.entry(relation.schema.clone()).or_default().insert(relation.name.clone(), relation.oid);
    if relation.row_type != 0 {
        catalog.row_types.insert(relation.row_type, relation.oid);
    }
    catalog.relations.insert(relation.oid, relation);
    Ok(())
}

fn rule(catalog: &mut Catalog, row: &Row<'_>) -> Result<(), CatalogError> {
    let select = row.text(1)? == "1";
    let target = match (row.optional(2)?, row.optional(3)?) {
        (Some(class), Some(_)) => Some((class, row.parse::<u32>(3)?)),
        _ => None,
    };
    if let Some(relation) = catalog.relations.get_mut(&row.parse(0)?) {
        relation.write_rules |= !select;
        match target {
            Some((class, oid)) if class.ends_with("pg_class") && oid != relation.oid => relation.rule_relations.push(oid),
            Some((class, oid)) if class.ends_with("pg_proc") => relation.rule_functions.push(oid),
            _ => {}
        }
    }
    Ok(())
}

fn function(catalog: &mut Catalog, row: &Row<'_>) -> Result<(), CatalogError> {
    let arguments = row
        .text(11)?
        .split_ascii_whitespace()
        .map(|oid| oid.parse().map_err(|_| row.error("an argument type is not an oid")))
        .collect::<Result<Vec<u32>, _>>()?;
    // A snapshot made before extensions were looked at says nothing of where a function comes from.
    let source = |index: usize| row.values.get(index).copied().flatten();
    let parts = source(15).unwrap_or_default().split_ascii_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>();
    let mut parts = parts.map_err(|_| row.error("a part of an aggregate is not an oid"))?;
    parts.retain(|part| *part != 0);
    let function = Function {
        reviewed: is_reviewed(row.text(6)?, source(13), source(14)),
        parts,
        oid: row.parse(0)?,
        schema: row.text(1)?.to_owned(),
        name: row.text(2)?.to_owned(),
        volatility: row.letter(4)?,
        security_definer: row.flag(5)?,
        language: row.text(6)?.to_owned(),
        returns_set: row.flag(7)?,
        arguments,
        defaults: row.parse(9)?,
        variadic: row.flag(10)?,
        result: row.parse(12)?,
    };
    catalog.function_names.entry(function.name.clone()).or_default().push(function.oid);
    catalog.functions.insert(function.oid, function);
    Ok(())
}

pub(super) fn finish(mut catalog: Catalog) -> Result<Catalog, CatalogError> {
    // An aggregate is what its parts are.
    let made = |function: &Function| {
        !function.parts.is_empty() && function.parts.iter().all(|part| !catalog.is_users(*part) && *part >= FIRST_USER_OID)
    };
    let aggregates: Vec<u32> = catalog.functions.values().filter(|function| made(function)).map(|function| function.oid).collect();
    for oid in aggregates {
        if let Some(function) = catalog.functions.get_mut(&oid) {
            function.reviewed = true;
        }
    }
    if catalog.user.is_empty() {
        return Err(CatalogError { query: "defaults", message: "no row was loaded".to_owned() });
    }
    for relation in catalog.relations.values() {
        let parents_known = relation.parents.iter().all(|parent| catalog.relations.contains_key(parent));
        if !parents_known {
            return Err(CatalogError {
                query: "inherits",
                message: format!("a parent of {}.{} is missing", relation.schema, relation.name),
            });
        }
    }
    Ok(catalog)
}
