//! The names that the server gives result columns without one: whoever reads a sub-select may use them.

use pg_query::protobuf::{AExprKind, JsonExprOp, MinMaxOp, SelectStmt, SubLinkType, XmlExprOp};
use pg_query::{Node, NodeEnum};

use super::strings;

/// What the server calls a value that nothing gives a name.
const NAMELESS: &str = "?column?";

/// Greatest nesting that is looked into.
const MOST_LEVELS: usize = 500;

enum Name {
    /// None of its own.
    None,
    /// One that a cast around it replaces.
    Weak(String),
    Strong(String),
    /// It depends on what is not looked at here.
    Unknown,
}

/// The name of a result column that has no alias; nothing where that cannot be told.
pub(super) fn of_result(value: &Node) -> String {
    match name(value, 0) {
        Name::None => NAMELESS.to_owned(),
        Name::Weak(name) | Name::Strong(name) => name,
        Name::Unknown => String::new(),
    }
}

fn strong(name: &str) -> Name {
    Name::Strong(name.to_owned())
}

fn last(names: &[Node]) -> Option<String> {
    strings(names).and_then(|names| names.last().map(|name| (*name).to_owned()))
}

fn name(node: &Node, level: usize) -> Name {
    if level > MOST_LEVELS {
        return Name::Unknown;
    }
    let inner = |node: Option<&Node>| node.map_or(Name::None, |node| name(node, level.saturating_add(1)));
    match &node.node {
        Some(NodeEnum::ColumnRef(column)) => last(&column.fields).map_or(Name::Unknown, Name::Strong),
        Some(NodeEnum::FuncCall(call)) => last(&call.funcname).map_or(Name::Unknown, Name::Strong),
        Some(NodeEnum::AIndirection(indirection)) => {
            let field = indirection.indirection.iter().rev().find_map(|part| match &part.node {
                Some(NodeEnum::String(field)) => Some(field.sval.as_str()),
                _ => None,
            });
            match field {
                Some(field) => strong(field),
                None => inner(indirection.arg.as_deref()),
            }
        }
        Some(NodeEnum::AExpr(operation)) if AExprKind::try_from(operation.kind) == Ok(AExprKind::AexprNullif) => strong("nullif"),
        Some(NodeEnum::TypeCast(cast)) => match inner(cast.arg.as_deref()) {
            Name::None | Name::Weak(_) => cast.type_name.as_ref().and_then(|name| last(&name.names)).map_or(Name::Unknown, Name::Weak),
            named => named,
        },
        Some(NodeEnum::CollateClause(clause)) => inner(clause.arg.as_deref()),
        Some(NodeEnum::GroupingFunc(_)) => strong("grouping"),
        Some(NodeEnum::MergeSupportFunc(_)) => strong("merge_action"),
        Some(NodeEnum::SubLink(link)) => match SubLinkType::try_from(link.sub_link_type) {
            Ok(SubLinkType::ExistsSublink) => strong("exists"),
            Ok(SubLinkType::ArraySublink) => strong("array"),
            Ok(SubLinkType::ExprSublink) => match link.subselect.as_deref().and_then(|query| query.node.as_ref()) {
                Some(NodeEnum::SelectStmt(select)) => of_query(select, level),
                _ => Name::Unknown,
            },
            Ok(SubLinkType::AnySublink | SubLinkType::AllSublink) => Name::None,
            _ => Name::Unknown,
        },
        Some(NodeEnum::CaseExpr(case)) => match inner(case.defresult.as_deref()) {
            Name::None | Name::Weak(_) => Name::Weak("case".to_owned()),
            named => named,
        },
        Some(NodeEnum::AArrayExpr(_)) => strong("array"),
        Some(NodeEnum::RowExpr(_)) => strong("row"),
        Some(NodeEnum::CoalesceExpr(_)) => strong("coalesce"),
        Some(NodeEnum::MinMaxExpr(choice)) => match MinMaxOp::try_from(choice.op) {
            Ok(MinMaxOp::IsGreatest) => strong("greatest"),
            Ok(MinMaxOp::IsLeast) => strong("least"),
            _ => Name::Unknown,
        },
        Some(NodeEnum::XmlExpr(xml)) => match XmlExprOp::try_from(xml.op) {
            Ok(XmlExprOp::IsXmlconcat) => strong("xmlconcat"),
            Ok(XmlExprOp::IsXmlelement) => strong("xmlelement"),
            Ok(XmlExprOp::IsXmlforest) => strong("xmlforest"),
            Ok(XmlExprOp::IsXmlparse) => strong("xmlparse"),
            Ok(XmlExprOp::IsXmlpi) => strong("xmlpi"),
            Ok(XmlExprOp::IsXmlroot) => strong("xmlroot"),
            Ok(XmlExprOp::IsDocument) => Name::None,
            _ => Name::Unknown,
        },
        Some(NodeEnum::XmlSerialize(_)) => strong("xmlserialize"),
        Some(NodeEnum::JsonFuncExpr(call)) => match JsonExprOp::try_from(call.op) {
            Ok(JsonExprOp::JsonExistsOp) => strong("json_exists"),
            Ok(JsonExprOp::JsonQueryOp) => strong("json_query"),
            Ok(JsonExprOp::JsonValueOp) => strong("json_value"),
            _ => Name::Unknown,
        },
        Some(
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::AExpr(_)
            | NodeEnum::BoolExpr(_)
            | NodeEnum::NullTest(_)
            | NodeEnum::BooleanTest(_),
        ) => Name::None,
        // Others are called otherwise by other versions of the server.
        _ => Name::Unknown,
    }
}

/// A sub-select's value has the name of its column.
fn of_query(select: &SelectStmt, level: usize) -> Name {
    if let Some(left) = select.larg.as_deref() {
        return if level > MOST_LEVELS { Name::Unknown } else { of_query(left, level.saturating_add(1)) };
    }
    if !select.values_lists.is_empty() {
        return strong("column1");
    }
    let Some(NodeEnum::ResTarget(target)) = select.target_list.first().and_then(|target| target.node.as_ref()) else {
        return Name::Unknown;
    };
    if !target.name.is_empty() {
        return strong(&target.name);
    }
    match target.val.as_deref().map_or(Name::Unknown, |value| name(value, level.saturating_add(1))) {
        Name::None => strong(NAMELESS),
        Name::Weak(name) => Name::Strong(name),
        named => named,
    }
}

#[cfg(test)]
mod tests {
    use pg_query::NodeEnum;

    #[test]
    fn columns_are_called_what_the_server_calls_them() {
        for (value, name) in [
            ("a", "a"),
            ("t.a", "a"),
            ("(t).a", "a"),
            ("(t.a)[1]", "a"),
            ("(x).b.c", "c"),
            ("upper(a)", "upper"),
            ("pg_catalog.upper(a)", "upper"),
            ("trim(a)", "btrim"),
            ("a || 'x'", "?column?"),
            ("1", "?column?"),
            ("$1", "?column?"),
            ("a is null", "?column?"),
            ("a and b", "?column?"),
            ("nullif(a, b)", "nullif"),
            ("'1'::text", "text"),
            ("a::text", "a"),
            ("(a || 'x')::int", "int4"),
            ("upper(a)::text", "upper"),
            ("a collate \"C\"", "a"),
            ("(a || 'x') collate \"C\"", "?column?"),
            ("case when a then b end", "case"),
            ("case when a then b else c end", "c"),
            ("case when a then b else 'x'::text end", "case"),
            ("case when a then b else 'x'::text end::text", "text"),
            ("coalesce(a, b)", "coalesce"),
            ("greatest(a, b)", "greatest"),
            ("least(a, b)", "least"),
            ("array[a]", "array"),
            ("array(select a)", "array"),
            ("row(a)", "row"),
            ("exists (select a)", "exists"),
            ("a in (select b)", "?column?"),
            ("(select a)", "a"),
            ("(select a as b)", "b"),
            ("(select 1)", "?column?"),
            ("(select 1)::text", "?column?"),
            ("(select a || 'x' union select b)", "?column?"),
            ("(values (1))", "column1"),
            ("(select * from t)", ""),
            ("xmlelement(name x)", "xmlelement"),
            ("xmlserialize(content a as text)", "xmlserialize"),
            ("current_user", ""),
        ] {
            let parsed = pg_query::parse(&format!("select {value}"), 0).map(|parsed| parsed.protobuf.stmts).unwrap_or_default();
            let found = parsed.first().and_then(|statement| match statement.stmt.as_deref()?.node.as_ref()? {
                NodeEnum::SelectStmt(select) => match select.target_list.first()?.node.as_ref()? {
                    NodeEnum::ResTarget(target) => Some(super::of_result(target.val.as_deref()?)),
                    _ => None,
                },
                _ => None,
            });
            assert_eq!(found.as_deref(), Some(name), "{value}");
        }
    }
}
