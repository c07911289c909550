//! Expressions: every node kind that can stand in one, and where its value comes from.

use pg_query::protobuf::{AExprKind, ColumnRef, SqlValueFunctionOp, SubLinkType};
use pg_query::{Node, NodeEnum};

use super::{ColumnId, Interest, Lineage, MOST_NESTING, Range, Scope, Source, Walk, strings};
use crate::catalog::Relation;

const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

const SKIPPED: &str = "a protected column decides what else is calculated: time and errors of that show its value";

impl<'a> Walk<'a> {
    /// The lineage of a value.
    pub(super) fn expression(&mut self, node: &Node, scope: &Scope<'a, '_>) -> Lineage {
        if self.nesting >= MOST_NESTING {
            self.unknown(|| "an expression nested deeper than is judged".to_owned());
            return Lineage::opaque();
        }
        self.spend(1);
        if self.is_spent() {
            return Lineage::opaque();
        }
        self.nesting += 1;
        let lineage = self.deeper(|walk| walk.expression_node(node, scope)).unwrap_or_else(Lineage::opaque);
        self.nesting -= 1;
        if lineage.telling && self.tells.is_none() {
            self.tells = Some(lineage.clone());
        }
        lineage
    }

    pub(super) fn expressions(&mut self, nodes: &[Node], scope: &Scope<'a, '_>) -> Lineage {
        let mut lineage = Lineage::default();
        for node in nodes {
            let part = self.expression(node, scope);
            lineage.absorb(&part);
        }
        lineage
    }

    pub(super) fn optional(&mut self, node: Option<&Node>, scope: &Scope<'a, '_>) -> Lineage {
        node.map(|node| self.expression(node, scope)).unwrap_or_default()
    }

    /// A value that decides something: which rows, in which order, how many.
    pub(super) fn condition(&mut self, node: Option<&Node>, scope: &Scope<'a, '_>, how: &'static str) {
        if let Some(node) = node {
            let lineage = self.expression(node, scope);
            self.expose(&lineage, how);
        }
    }

    fn expression_node(&mut self, node: &Node, scope: &Scope<'a, '_>) -> Lineage {
        let Some(node) = &node.node else {
            return Lineage::default();
        };
        // Where values are brought to one type a literal may become a value of a user's type.
        self.computes |= matches!(
            node,
            NodeEnum::CoalesceExpr(_) | NodeEnum::CaseExpr(_) | NodeEnum::MinMaxExpr(_) | NodeEnum::AArrayExpr(_) | NodeEnum::SubLink(_)
        );
        match node {
            NodeEnum::SqlvalueFunction(function) => {
                if SqlValueFunctionOp::try_from(function.op) == Ok(SqlValueFunctionOp::SvfopCurrentSchema) {
                    self.weigh_schema();
                }
                Lineage::default()
            }
            NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SetToDefault(_) => Lineage::default(),
            NodeEnum::Integer(_) | NodeEnum::Float(_) | NodeEnum::Boolean(_) | NodeEnum::String(_) | NodeEnum::BitString(_) => {
                Lineage::default()
            }
            NodeEnum::ColumnRef(column) => {
                let lineage = self.column(column, scope);
                if matches!(self.interest, Interest::All) {
                    self.seen.extend(&lineage.sources);
                }
                lineage
            }
            NodeEnum::AExpr(operation) => self.operation(operation, scope),
            NodeEnum::BoolExpr(logic) => {
                let lineage = self.expressions(&logic.args, scope);
                if logic.args.len() > 1 {
                    self.expose(&lineage, SKIPPED);
                }
                lineage
            }
            NodeEnum::NullTest(test) => {
                let lineage = self.optional(test.arg.as_deref(), scope);
                if self.shows_null(&lineage) {
                    return Lineage::default();
                }
                let lineage = lineage.derived();
                if matches!(test.arg.as_deref(), Some(row) if matches!(row.node, Some(NodeEnum::RowExpr(_))) && !self.is_simple(row, scope))
                {
                    self.expose(&lineage, SKIPPED);
                }
                lineage
            }
            NodeEnum::BooleanTest(test) => self.optional(test.arg.as_deref(), scope).derived(),
            NodeEnum::TypeCast(cast) => {
                if let Some(name) = &cast.type_name {
                    self.type_name(name);
                }
                self.has_cast = true;
                let lineage = self.optional(cast.arg.as_deref(), scope);
                self.made_text(&lineage, cast.type_name.as_ref())
            }
            NodeEnum::CollateClause(clause) => {
                let lineage = self.optional(clause.arg.as_deref(), scope);
                Lineage { joins: true, ..Lineage::built([&lineage]) }
            }
            NodeEnum::FuncCall(call) => self.call(call, scope),
            NodeEnum::AIndirection(indirection) => self.indirection(indirection, scope),
            NodeEnum::AIndices(indices) => {
                let mut lineage = self.optional(indices.lidx.as_deref(), scope).derived();
                let upper = self.optional(indices.uidx.as_deref(), scope);
                lineage.absorb(&upper);
                lineage
            }
            NodeEnum::AArrayExpr(array) => {
                let elements: Vec<Lineage> = array.elements.iter().map(|element| self.expression(element, scope)).collect();
                elements.iter().for_each(|element| self.weigh_element(element));
                Lineage::built(&elements)
            }
            NodeEnum::RowExpr(row) => {
                let parts: Vec<Lineage> = row.args.iter().map(|part| self.expression(part, scope)).collect();
                Lineage { row: true, ..Lineage::built(&parts) }
            }
            NodeEnum::List(list) => self.expressions(&list.items, scope),
            NodeEnum::SubLink(link) => self.sub_link(link, scope),
            NodeEnum::CaseExpr(case) => self.case(case, scope),
            NodeEnum::CoalesceExpr(coalesce) => {
                let parts: Vec<Lineage> = coalesce.args.iter().map(|part| self.expression(part, scope)).collect();
                let lineage = self.made_choice(coalesce.args.iter().zip(&parts), scope);
                if !coalesce.args.iter().skip(1).all(|part| self.is_simple(part, scope)) {
                    self.expose(&lineage, SKIPPED);
                }
                lineage
            }
            NodeEnum::MinMaxExpr(min_max) => {
                self.operator_named("<");
                let parts: Vec<Lineage> = min_max.args.iter().map(|part| self.expression(part, scope)).collect();
                let mut lineage = Lineage::default();
                parts.iter().for_each(|part| lineage.absorb(part));
                let compared: Vec<_> = min_max.args.iter().map(Some).zip(&parts).collect();
                if self.cannot_compare(&compared, scope) {
                    self.expose_protected(&lineage, super::made::COMPARED);
                }
                lineage
            }
            NodeEnum::XmlExpr(xml) => {
                let parts: Vec<Lineage> = xml.named_args.iter().chain(&xml.args).map(|part| self.expression(part, scope)).collect();
                self.made_xml(xml.op, &Lineage::built(&parts))
            }
            NodeEnum::XmlSerialize(xml) => {
                if let Some(name) = &xml.type_name {
                    self.type_name(name);
                }
                let lineage = self.optional(xml.expr.as_deref(), scope);
                let cut = xml.type_name.as_ref().is_none_or(|name| !name.typmods.is_empty());
                self.made_text(&lineage, xml.type_name.as_ref().filter(|_| !cut))
            }
            NodeEnum::ResTarget(target) => self.optional(target.val.as_deref(), scope),
            NodeEnum::NamedArgExpr(argument) => self.optional(argument.arg.as_deref(), scope),
            NodeEnum::GroupingFunc(grouping) => self.expressions(&grouping.args, scope),
            NodeEnum::GroupingSet(set) => self.expressions(&set.content, scope),
            NodeEnum::CurrentOfExpr(current) => {
                if self.state.cursor(&current.cursor_name).is_none() {
                    self.unknown(|| format!("cursor {} is not known to the proxy", current.cursor_name));
                }
                Lineage::default()
            }
            NodeEnum::MultiAssignRef(assign) => self.optional(assign.source.as_deref(), scope).derived(),
            NodeEnum::JsonIsPredicate(test) => self.optional(test.expr.as_deref(), scope).derived(),
            other => {
                if let Some(lineage) = self.json(other, scope) {
                    self.expose_protected(
                        &lineage,
                        "a protected column is put into JSON or looked for in it: whether that fails shows its value",
                    );
                    return lineage;
                }
                let name = variant(other);
                self.unknown(|| format!("expression {name} is not on the list of known ones"));
                Lineage::opaque()
            }
        }
    }

    /// An operation; long chains lean to the left and are followed without recursion.
    fn operation(&mut self, operation: &pg_query::protobuf::AExpr, scope: &Scope<'a, '_>) -> Lineage {
        let mut chain = vec![operation];
        let mut current = operation;
        let leftmost = loop {
            match current.lexpr.as_deref().map(|left| (left, &left.node)) {
                Some((_, Some(NodeEnum::AExpr(left)))) => {
                    chain.push(left);
                    current = left;
                }
                Some((left, _)) => break Some(left),
                None => break None,
            }
        };
        let mut node = leftmost;
        let mut lineage = self.optional(leftmost, scope);
        for operation in chain.into_iter().rev() {
            self.operation_name(operation);
            let right = self.optional(operation.rexpr.as_deref(), scope);
            lineage = self.made_of(operation, (node, &lineage), &right, scope);
            // What stands to the left of the next is this operation.
            node = None;
        }
        lineage
    }

    fn operation_name(&mut self, operation: &pg_query::protobuf::AExpr) {
        self.computes = true;
        match AExprKind::try_from(operation.kind) {
            Ok(AExprKind::AexprSimilar) => self.operator_named("~"),
            Ok(AExprKind::AexprBetween | AExprKind::AexprNotBetween | AExprKind::AexprBetweenSym | AExprKind::AexprNotBetweenSym) => {
                for name in [">=", "<=", ">", "<"] {
                    self.operator_named(name);
                }
            }
            Ok(AExprKind::Undefined) | Err(_) => self.unknown(|| "an operation of a kind that is not on the list".to_owned()),
            Ok(_) => self.operator(&operation.name),
        }
    }

    /// An operator as it is written, with a schema or without.
    pub(super) fn operator(&mut self, names: &[Node]) {
        match strings(names).as_deref() {
            Some([name]) => self.operator_named(name),
            Some([schema, name]) => {
                self.operators.insert((Some((*schema).to_owned()), (*name).to_owned()));
            }
            _ => self.unknown(|| "an operator whose name has no parts or too many".to_owned()),
        }
    }

    pub(super) fn operator_named(&mut self, name: &str) {
        self.looked_up = true;
        self.by_path("operator ", name);
        if !self.catalog.operators_named(name).is_empty() {
            self.operators.insert((None, name.to_owned()));
        }
    }

    fn case(&mut self, case: &pg_query::protobuf::CaseExpr, scope: &Scope<'a, '_>) -> Lineage {
        if case.arg.is_some() {
            self.operator_named("=");
        }
        const BRANCH: &str = "a protected column decides a CASE: time and errors of its branches show its value";
        let mut tests = self.optional(case.arg.as_deref(), scope).derived();
        let mut choices: Vec<(&Node, Lineage)> = Vec::new();
        for arm in &case.args {
            if let Some(NodeEnum::CaseWhen(when)) = &arm.node {
                let test = self.optional(when.expr.as_deref(), scope);
                tests.absorb(&test);
                choices.extend(when.result.as_deref().map(|result| (result, self.expression(result, scope))));
            } else {
                self.unknown(|| "a CASE arm that is not WHEN".to_owned());
            }
        }
        choices.extend(case.defresult.as_deref().map(|result| (result, self.expression(result, scope))));
        self.expose(&tests, BRANCH);
        let made = self.made_choice(choices.iter().map(|(node, lineage)| (*node, lineage)), scope);
        if !tests.is_protected() && !tests.opaque {
            return made;
        }
        tests.absorb(&made);
        tests
    }

    fn sub_link(&mut self, link: &pg_query::protobuf::SubLink, scope: &Scope<'a, '_>) -> Lineage {
        if link.testexpr.is_some() {
            if link.oper_name.is_empty() {
                self.operator_named("=");
            } else {
                self.operator(&link.oper_name);
            }
        }
        let mut lineage = self.optional(link.testexpr.as_deref(), scope).derived();
        const COMPARED: &str = "a protected column decides how far a sub-select is read: time and errors of that show its value";
        self.expose_protected(&lineage, COMPARED);
        if let Some(query) = link.subselect.as_deref() {
            let items = self.query(query, Some(scope));
            match SubLinkType::try_from(link.sub_link_type) {
                Ok(SubLinkType::ExistsSublink) => {}
                Ok(SubLinkType::ArraySublink) => {
                    for item in &items.columns {
                        self.weigh_element(&item.lineage);
                    }
                    lineage.absorb(&items.all());
                }
                Ok(SubLinkType::AnySublink | SubLinkType::AllSublink | SubLinkType::RowcompareSublink) => {
                    lineage.absorb(&items.all());
                    self.expose_protected(&lineage, COMPARED);
                }
                _ => lineage.absorb(&items.all()),
            }
        }
        lineage
    }

    fn indirection(&mut self, indirection: &pg_query::protobuf::AIndirection, scope: &Scope<'a, '_>) -> Lineage {
        // `(c).ssn` is a column; `(expression).name` may be a function call in attribute notation.
        if let (Some(NodeEnum::ColumnRef(inner)), [first, ..]) =
            (indirection.arg.as_ref().and_then(|arg| arg.node.as_ref()), indirection.indirection.as_slice())
            && let (Some([name]), Some(NodeEnum::String(field))) = (strings(&inner.fields).as_deref(), &first.node)
            && self.lookup_column(name, scope).is_none()
            && let Some(range) = find_range(name, None, scope)
        {
            let lineage = self.field(range, &field.sval);
            return if indirection.indirection.len() == 1 { lineage } else { lineage.derived() };
        }
        let mut lineage = self.optional(indirection.arg.as_deref(), scope).derived();
        for part in &indirection.indirection {
            match &part.node {
                Some(NodeEnum::String(field)) => self.attribute(&field.sval, &mut lineage),
                Some(NodeEnum::AIndices(indices)) => {
                    let index = self.expression(part, scope);
                    lineage.absorb(&index);
                    // Of what is NULL no element is asked for.
                    if ![&indices.lidx, &indices.uidx].into_iter().flatten().all(|index| self.is_simple(index, scope)) {
                        self.expose(&lineage, SKIPPED);
                    }
                }
                Some(NodeEnum::AStar(_)) => {}
                _ => self.unknown(|| "a field that is none".to_owned()),
            }
        }
        lineage
    }

    fn column(&mut self, column: &ColumnRef, scope: &Scope<'a, '_>) -> Lineage {
        self.columns_seen += 1;
        if let Some(star) = column.fields.iter().position(|field| matches!(field.node, Some(NodeEnum::AStar(_)))) {
            // A star where one value is expected: `count(c.*)`, `row(c.*)`.
            let prefix = column.fields.get(..star).and_then(strings);
            return self.whole(prefix.as_deref().unwrap_or_default(), scope);
        }
        let Some(fields) = strings(&column.fields) else {
            self.unknown(|| "a column reference that cannot be read".to_owned());
            return Lineage::opaque();
        };
        match fields.as_slice() {
            [name] => {
                let (found, perhaps) = self.look_up(name, scope);
                if let Some(mut lineage) = found {
                    perhaps.iter().for_each(|perhaps| lineage.absorb(perhaps));
                    return lineage;
                }
                if find_range(name, None, scope).is_some() {
                    let mut whole = self.whole(&[name], scope);
                    perhaps.iter().for_each(|perhaps| whole.absorb(perhaps));
                    return whole;
                }
                if let Some(perhaps) = perhaps {
                    return perhaps;
                }
                if SYSTEM_COLUMNS.contains(name) {
                    return Lineage::default();
                }
                self.unresolved(|| format!("column {name} is not in the catalog"));
                Lineage::opaque()
            }
            [relation, name] => self.qualified(None, relation, name, scope),
            [schema, relation, name] => self.qualified(Some(schema), relation, name, scope),
            [_, schema, relation, name] => self.qualified(Some(schema), relation, name, scope),
            _ => {
                self.unknown(|| "a column reference with too many parts".to_owned());
                Lineage::opaque()
            }
        }
    }

    fn qualified(&mut self, schema: Option<&str>, relation: &str, name: &str, scope: &Scope<'a, '_>) -> Lineage {
        if let Some(range) = find_range(relation, schema, scope) {
            return self.field(range, name);
        }
        self.unresolved(|| format!("{relation}.{name} names nothing in the query"));
        Lineage::opaque()
    }

    /// `range.name`: a column, or a function call in attribute notation.
    fn field(&mut self, range: &Range<'a>, name: &str) -> Lineage {
        if let Some(lineage) = self.range_column(range, name) {
            return lineage;
        }
        if SYSTEM_COLUMNS.contains(&name) && matches!(range.source, Source::Relation(..)) {
            return Lineage::default();
        }
        let mut whole = self.range_whole(range).derived();
        self.weigh_attribute(name, &whole);
        match &range.source {
            Source::Items(items) if !items.complete => {
                self.attribute(name, &mut whole);
                return whole;
            }
            Source::Function(..) => {
                self.attribute(name, &mut whole);
                return whole;
            }
            Source::Relation(relation, _) if self.state.changes.is_extended(&relation.name) => {
                self.attribute(name, &mut whole);
                return Lineage { returned: whole.returned, ..Lineage::opaque() };
            }
            _ => {}
        }
        self.call_named(&[name], 1, &[], &whole)
    }

    /// The value of a column in one range.
    pub(super) fn range_column(&self, range: &Range<'a>, name: &str) -> Option<Lineage> {
        match &range.source {
            Source::Relation(relation, aliases) => {
                self.spend(1 + relation.columns.len() / 4);
                let index = match aliases.iter().position(|alias| alias == name) {
                    Some(index) => index,
                    None => relation.columns.iter().position(|column| column.name == name).filter(|index| *index >= aliases.len())?,
                };
                Some(self.base_column(relation, relation.columns.get(index)?.number))
            }
            Source::Items(items) => {
                self.spend(1 + items.columns.len() / 4);
                let mut found: Option<Lineage> = None;
                for item in items.columns.iter().filter(|item| item.name == name) {
                    match &mut found {
                        None => found = Some(item.lineage.clone()),
                        Some(lineage) => lineage.absorb(&item.lineage),
                    }
                }
                found
            }
            Source::Function(columns, lineage, alias) => {
                (columns.iter().any(|item| item.name == name) || alias == name).then(|| lineage.clone())
            }
        }
    }

    pub(super) fn range_whole(&self, range: &Range<'a>) -> Lineage {
        match &range.source {
            Source::Relation(relation, _) => {
                let columns: Vec<Lineage> = relation.columns.iter().map(|column| self.base_column(relation, column.number)).collect();
                Lineage { row: true, ..Lineage::built(&columns) }
            }
            Source::Items(items) => Lineage { row: true, ..items.all() },
            Source::Function(_, lineage, _) => Lineage { row: true, ..lineage.clone() },
        }
    }

    fn whole(&mut self, prefix: &[&str], scope: &Scope<'a, '_>) -> Lineage {
        let (schema, name) = match prefix {
            [] => {
                let ranges: Vec<Lineage> = scope.ranges.iter().map(|range| self.range_whole(range)).collect();
                return Lineage::built(&ranges);
            }
            [name] => (None, *name),
            [.., schema, name] => (Some(*schema), *name),
        };
        match find_range(name, schema, scope) {
            Some(range) => self.range_whole(range),
            None => {
                self.unresolved(|| format!("{name} names nothing in the query"));
                Lineage::opaque()
            }
        }
    }

    pub(super) fn lookup_column(&self, name: &str, scope: &Scope<'a, '_>) -> Option<Lineage> {
        let (found, perhaps) = self.look_up(name, scope);
        match (found, perhaps) {
            (Some(mut found), Some(perhaps)) => {
                found.absorb(&perhaps);
                Some(found)
            }
            (found, perhaps) => found.or(perhaps),
        }
    }

    /// The column of that name, and what may have one of that name nearer by.
    fn look_up(&self, name: &str, scope: &Scope<'a, '_>) -> (Option<Lineage>, Option<Lineage>) {
        let mut level = Some(scope);
        // What has columns that are not known may have this one; if it has not, it is one of further out.
        let mut perhaps: Option<Lineage> = None;
        while let Some(scope) = level {
            let mut found: Option<Lineage> = None;
            let mut here: Option<Lineage> = None;
            for range in &scope.ranges {
                let lineage = match (self.range_column(range, name), &range.source) {
                    (Some(lineage), _) => lineage,
                    (None, source) => {
                        let open = match source {
                            Source::Items(items) if items.complete => items.unnamed(),
                            Source::Items(items) => Some(items.all()),
                            Source::Function(_, lineage, _) => Some(lineage.clone()),
                            Source::Relation(..) => None,
                        };
                        if let Some(open) = open {
                            here.get_or_insert_with(Lineage::default).absorb(&open);
                        }
                        continue;
                    }
                };
                match &mut found {
                    None => found = Some(lineage),
                    Some(known) => known.absorb(&lineage),
                }
            }
            if found.is_some() {
                return (found, perhaps);
            }
            if let Some(here) = here {
                perhaps.get_or_insert_with(Lineage::default).absorb(&here);
            }
            level = scope.parent;
        }
        (None, perhaps)
    }

    /// The lineage of a relation's column, through views, as far as it is of interest.
    pub(super) fn base_column(&self, relation: &'a Relation, number: i16) -> Lineage {
        let id: ColumnId = (relation.oid, number);
        let mut lineage = Lineage { direct: Some(id), ..Lineage::default() };
        match self.interest {
            Interest::Protected(protection) => {
                if protection.is_protected(id) {
                    lineage.sources.push(id);
                    // What a view makes of protected columns may be any of that.
                    lineage.telling = protection.mask(id) == Some(crate::rule::MaskKind::Derived);
                    lineage.row = self.type_of(id).is_some_and(|oid| self.is_composite(oid, 0));
                }
            }
            Interest::All => match relation.view.get() {
                Some(Some(view)) => match usize::try_from(number - 1).ok().and_then(|index| view.columns.get(index)) {
                    Some(column) => {
                        lineage.sources.clone_from(&column.sources);
                        lineage.opaque = column.opaque;
                        lineage.direct = column.direct;
                    }
                    None => lineage.opaque = true,
                },
                Some(None) => lineage.opaque = true,
                None => lineage.sources.push(id),
            },
        }
        lineage
    }
}

/// A type every value can be cast to, without a schema that makes it another.
pub(super) fn is_text_type(name: &pg_query::protobuf::TypeName) -> bool {
    match strings(&name.names).as_deref() {
        _ if !name.array_bounds.is_empty() => false,
        Some([base] | ["pg_catalog", base]) => crate::builtin::takes_anything(base),
        _ => false,
    }
}

/// The range that a name means, innermost first.
pub(super) fn find_range<'s, 'a>(name: &str, schema: Option<&str>, scope: &'s Scope<'a, '_>) -> Option<&'s Range<'a>> {
    let mut level = Some(scope);
    while let Some(scope) = level {
        let named = |range: &&Range<'a>| range.alias == name && (schema.is_none() || range.schema.as_deref() == schema);
        let found = scope.ranges.iter().find(named).or_else(|| scope.hidden.iter().find(named));
        if found.is_some() {
            return found;
        }
        level = scope.parent;
    }
    None
}

/// The name of a node's kind, for notes.
pub(super) fn variant(node: &NodeEnum) -> String {
    let text = format!("{node:?}");
    text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}
