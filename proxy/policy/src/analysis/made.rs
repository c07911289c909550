//! What may be made of a protected value: only what cannot answer a question by failing, by leaving something out, or by its size.
//!
//! A result made of protected columns is masked in full, so that any of it may be shown. But the client chooses what is made: where a function
//! fails for some values and not for others, where a value decides whether something else is calculated, or where it decides how large something
//! grows, the mere success of a statement answers. So there are three kinds of values: columns as they stand; what is put together of them without
//! a look at what is in them (`a || b`, `upper(a)`, `row_to_json(t)`), of which the same may be made again; and what is
//! [telling](super::Lineage), of which next to nothing is made any more. What is not known to be harmless counts as not.

use pg_query::protobuf::{AExpr, AExprKind, FuncCall, XmlExprOp};
use pg_query::{Node, NodeEnum};

use super::expression::{find_range, is_text_type};
use super::{ColumnId, Interest, Lineage, Scope, Walk, strings};
use crate::builtin::{self, Makes};
use crate::rule::MaskKind;

pub(super) const FAILS: &str = "a protected column is handed to a function that can fail: whether it does shows its value";
const FURTHER: &str = "something more is made of what was made of a protected column: whether that fails shows its value";
const OTHERS: &str =
    "a protected column is handed to a function beside what is no constant: whether that fails, or how much comes of it, shows its value";
const PATTERN: &str =
    "a protected column is matched with what is no constant, or refers back to what it matched: failure and time of that show its value";
const OPERATES: &str = "a protected column is an operand of what is not known to work with any value: whether it fails shows its value";
pub(super) const COMPARED: &str =
    "what was made of a protected column, or a row with one, is compared with what is no constant: whether that fails shows its value";
const SKIPS: &str = "a protected column decides what else it is compared with: time and errors of that show its value";

/// Comparisons: they work with any two values that can be compared at all.
const COMPARES: &[&str] = &["=", "<>", "!=", "<", "<=", ">", ">=", "@>", "<@", "&&", "?", "?|", "?&", "^@"];

/// Operators that take a part out of a JSON value.
const PARTS: &[&str] = &["->", "->>", "#>", "#>>"];

/// Operators whose right operand is a pattern.
const LIKE: &[&str] = &["~~", "!~~", "~~*", "!~~*"];
const MATCHES: &[&str] = &["~", "!~", "~*", "!~*"];

impl Walk<'_> {
    /// What a call of a built-in function makes of its arguments. Gives nothing where that is a telling value or none at all.
    pub(super) fn made_by(&mut self, names: &[&str], call: &FuncCall, each: &[Lineage]) -> Option<Lineage> {
        let ([name] | ["pg_catalog", name]) = names else { return None };
        if !builtin::is_harmless(name) || !each.iter().any(Lineage::is_protected) {
            return None;
        }
        if each.iter().any(|lineage| lineage.telling) {
            let others = call.args.iter().zip(each).filter(|(_, lineage)| !lineage.is_protected());
            let alone = each.iter().filter(|lineage| lineage.is_protected()).count() == 1;
            let lessens = builtin::lessens(name) && !matches!(builtin::makes(name, 0, each.len()), Makes::Fails);
            if !alone || !lessens || !others.into_iter().all(|(node, _)| is_constant(node)) {
                self.expose_all(each, FURTHER);
            }
            return None;
        }
        let mut form = true;
        let mut joins = true;
        let formats = *name == "format" && call.args.first().and_then(super::call::constant).is_some_and(|text| only_strings(&text));
        for (index, lineage) in each.iter().enumerate().filter(|(_, lineage)| lineage.is_protected()) {
            match builtin::makes(name, index, each.len()) {
                Makes::Fails if formats && index > 0 => {}
                // Of a range these are its bounds, of which it may have none.
                Makes::Text if matches!(*name, "upper" | "lower") && !self.is_text_or_made(lineage) => form = false,
                Makes::Text => {}
                // Not every number can be written so.
                Makes::Answer if *name == "to_char" && !call.args.get(1).is_some_and(is_plain_format) => self.expose(lineage, FAILS),
                Makes::Form => {
                    joins = false;
                    // `lag(value, 1, default)`: values of two kinds come together.
                    let alone = !matches!(*name, "lag" | "lead");
                    form &= alone || call.args.iter().zip(each).all(|(node, other)| other.is_protected() || is_small(node));
                }
                Makes::Answer => {
                    form = false;
                    if !call.args.iter().zip(each).all(|(node, other)| other.is_protected() || is_constant(node)) {
                        self.expose(lineage, OTHERS);
                    }
                }
                Makes::Match => {
                    form = false;
                    self.by_literal = true;
                    // `substring(s, 2)` takes numbers, and numbers are no patterns.
                    let pattern = call.args.get(1).is_none_or(|node| is_number(node) || is_pattern(node));
                    if !pattern || !call.args.iter().skip(1).all(is_constant) {
                        self.expose(lineage, PATTERN);
                    }
                }
                Makes::Fails => self.expose(lineage, FAILS),
            }
        }
        form.then(|| Lineage { joins, ..Lineage::built(each) })
    }

    /// What decides nothing unless it is protected.
    pub(super) fn expose_protected(&mut self, lineage: &Lineage, how: &'static str) {
        if lineage.is_protected() {
            self.expose(lineage, how);
        }
    }

    fn expose_all(&mut self, each: &[Lineage], how: &'static str) {
        for lineage in each {
            self.expose(lineage, how);
        }
    }

    /// What an operator makes of two values.
    pub(super) fn made_of(
        &mut self,
        operation: &AExpr,
        (left, of_left): (Option<&Node>, &Lineage),
        of_right: &Lineage,
        scope: &Scope<'_, '_>,
    ) -> Lineage {
        let mut made = of_left.clone();
        made.absorb(of_right);
        if !made.is_protected() {
            return made;
        }
        self.operates = true;
        let right = operation.rexpr.as_deref();
        let names = strings(&operation.name).unwrap_or_default();
        let name = names.last().copied().unwrap_or_default();
        let rows = [left, right].into_iter().flatten().any(is_row);
        let wrong = match AExprKind::try_from(operation.kind) {
            Ok(AExprKind::AexprLike | AExprKind::AexprIlike) => self.wrong_pattern(false, right, [of_left, of_right]),
            Ok(AExprKind::AexprOp) if LIKE.contains(&name) => self.wrong_pattern(false, right, [of_left, of_right]),
            Ok(AExprKind::AexprOp) if MATCHES.contains(&name) => self.wrong_pattern(true, right, [of_left, of_right]),
            Ok(AExprKind::AexprOp) if name == "||" => {
                let fits = |part: &Lineage| !part.is_protected() || self.joins(part);
                // What a client has grown by doubling it would fail by how long it is.
                let sound = |telling: &Lineage, side: Option<&Node>| !telling.telling || side.is_some_and(is_constant);
                if fits(of_left) && fits(of_right) && sound(of_left, right) && sound(of_right, left) {
                    return Lineage { joins: true, ..Lineage::built([of_left, of_right]) };
                }
                Some(OPERATES)
            }
            Ok(AExprKind::AexprOp) if PARTS.contains(&name) => {
                // Not every JSON value has a text: of one that the client put in place of another it may be seen which it is.
                let simple = right.is_some_and(|right| if of_left.telling { is_constant(right) } else { self.is_simple(right, scope) });
                (!simple || of_right.is_protected() || (of_left.telling && self.replaced)).then_some(OPERATES)
            }
            Ok(
                AExprKind::AexprOp
                | AExprKind::AexprOpAny
                | AExprKind::AexprOpAll
                | AExprKind::AexprDistinct
                | AExprKind::AexprNotDistinct
                | AExprKind::AexprNullif,
            ) if COMPARES.contains(&name) => {
                let simple = !rows || [left, right].into_iter().flatten().all(|side| self.is_simple(side, scope));
                let fails = !rows && self.cannot_compare(&[(left, of_left), (right, of_right)], scope);
                if fails { Some(COMPARED) } else { (!simple).then_some(SKIPS) }
            }
            Ok(
                AExprKind::AexprIn
                | AExprKind::AexprBetween
                | AExprKind::AexprNotBetween
                | AExprKind::AexprBetweenSym
                | AExprKind::AexprNotBetweenSym,
            ) => {
                let simple = right.is_some_and(|right| self.is_simple(right, scope))
                    && left.is_none_or(|left| !is_row(left) || self.is_simple(left, scope));
                let fails = !rows && (of_left.row || of_right.row);
                if fails { Some(COMPARED) } else { (!simple).then_some(SKIPS) }
            }
            _ => Some(OPERATES),
        };
        if let Some(how) = wrong {
            self.expose(&made, how);
        }
        made
    }

    /// Whether it is to be seen anyway if a value is NULL: that of a column as it stands, whose NULLs the mask leaves what they are.
    pub(super) fn shows_null(&self, lineage: &Lineage) -> bool {
        let Interest::Protected(protection) = self.interest else { return false };
        let mask = lineage.direct.and_then(|column| protection.mask(column));
        !lineage.row && !lineage.telling && mask.is_some_and(|mask| !matches!(mask, MaskKind::Null | MaskKind::Derived))
    }

    /// Whether a comparison may fail for some values and not for others: rows half-way, and what is NULL or not, beside what is no constant, since
    /// of two collations that contradict each other only a comparison that takes place complains.
    pub(super) fn cannot_compare(&self, sides: &[(Option<&Node>, &Lineage)], scope: &Scope<'_, '_>) -> bool {
        let told = sides.iter().filter(|(_, lineage)| lineage.telling).count();
        let beside = sides.iter().filter(|(_, lineage)| !lineage.telling);
        let simple = |node: &Option<&Node>| node.is_some_and(|node| self.is_simple(node, scope));
        sides.iter().any(|(_, lineage)| lineage.row) || told > 1 || (told == 1 && !beside.into_iter().all(|(node, _)| simple(node)))
    }

    /// The pattern must be a constant that cannot fail half-way: a LIKE pattern that ends in an escape does so only for what matches up to there.
    fn wrong_pattern(&mut self, expression: bool, pattern: Option<&Node>, [left, right]: [&Lineage; 2]) -> Option<&'static str> {
        self.by_literal = true;
        let sound = pattern.is_some_and(|pattern| if expression { is_pattern(pattern) } else { ends_plainly(pattern) });
        (!sound || left.telling || right.is_protected()).then_some(PATTERN)
    }

    /// One of several values, chosen by nothing that is protected. Where a clear one is among them that is no small constant, the client may
    /// have put in something of which sums grow too large.
    pub(super) fn made_choice<'l>(&mut self, choices: impl IntoIterator<Item = (&'l Node, &'l Lineage)>, scope: &Scope<'_, '_>) -> Lineage {
        let choices: Vec<_> = choices.into_iter().collect();
        if let Some((_, telling)) = choices.iter().find(|(_, lineage)| lineage.telling) {
            let others = choices.iter().filter(|(_, lineage)| !lineage.telling);
            let mut simple = true;
            for (node, _) in others {
                simple &= self.is_simple(node, scope);
                self.replaced |= is_chosen(node);
            }
            if !simple {
                self.expose(telling, FURTHER);
            }
        }
        let mut made = Lineage::built(choices.iter().map(|(_, lineage)| *lineage));
        let fits = |node: &Node, lineage: &Lineage| {
            if lineage.is_protected() { !lineage.telling } else { is_small(node) || self.is_text(lineage) }
        };
        made.telling = made.is_protected() && !choices.iter().all(|(node, lineage)| fits(node, lineage));
        made.joins = choices.iter().all(|(_, lineage)| !lineage.is_protected() || self.joins(lineage));
        made
    }

    /// What takes no time and never fails, or is put together of such.
    pub(super) fn is_simple(&self, node: &Node, scope: &Scope<'_, '_>) -> bool {
        match &node.node {
            Some(NodeEnum::RowExpr(row)) => row.args.iter().all(|part| self.is_simple(part, scope)),
            Some(NodeEnum::List(list)) => list.items.iter().all(|part| self.is_simple(part, scope)),
            Some(NodeEnum::AArrayExpr(array)) => array.elements.iter().all(|part| self.is_simple(part, scope)),
            _ => is_constant(node) || self.is_plain(node, scope),
        }
    }

    /// A value that takes no time and never fails. The server puts what a sub-select calculates in the place of its columns' names, so that only
    /// columns of tables count.
    fn is_plain(&self, node: &Node, scope: &Scope<'_, '_>) -> bool {
        match &node.node {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
            Some(NodeEnum::ColumnRef(column)) => {
                let fields = strings(&column.fields);
                let found = match fields.as_deref() {
                    Some([name]) => self.lookup_column(name, scope),
                    Some([relation, name]) => find_range(relation, None, scope).and_then(|range| self.range_column(range, name)),
                    Some([.., schema, relation, name]) => {
                        find_range(relation, Some(schema), scope).and_then(|range| self.range_column(range, name))
                    }
                    _ => None,
                };
                found.is_some_and(|lineage| !lineage.row && lineage.direct.is_some_and(|column| self.is_stored(column, 0)))
            }
            Some(NodeEnum::TypeCast(cast)) => {
                cast.type_name.as_ref().is_some_and(is_text_type) && cast.arg.as_deref().is_some_and(|value| self.is_plain(value, scope))
            }
            _ => false,
        }
    }

    /// Whether a column is one of a table, maybe by way of views.
    fn is_stored(&self, (oid, number): ColumnId, level: usize) -> bool {
        let Some(relation) = self.catalog.relation(oid) else { return false };
        if relation.kind != 'v' {
            return relation.columns.iter().any(|column| column.number == number && column.generated_from.is_empty());
        }
        let view = relation.view.get().and_then(Option::as_ref);
        let column = view.and_then(|view| view.columns.get(usize::try_from(number).ok()?.checked_sub(1)?));
        level < 16 && column.and_then(|column| column.direct).is_some_and(|column| self.is_stored(column, level + 1))
    }

    /// What an XML expression makes of its parts.
    pub(super) fn made_xml(&mut self, operation: i32, parts: &Lineage) -> Lineage {
        let total = matches!(XmlExprOp::try_from(operation), Ok(XmlExprOp::IsXmlelement | XmlExprOp::IsXmlforest | XmlExprOp::IsXmlconcat));
        if !total || parts.telling {
            self.expose_protected(parts, FAILS);
        }
        Lineage { joins: true, ..parts.clone() }
    }

    /// A cast: to text every value can be.
    pub(super) fn made_text(&mut self, lineage: &Lineage, to: Option<&pg_query::protobuf::TypeName>) -> Lineage {
        let text = to.is_some_and(is_text_type);
        if !text {
            self.expose(lineage, "a protected column is cast: whether that fails shows its value");
        }
        let mut made = Lineage::built([lineage]);
        made.joins = text;
        made.row &= !text;
        made
    }
}

/// A row of values, or several of them.
fn is_row(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::RowExpr(_)) => true,
        Some(NodeEnum::List(list)) => list.items.iter().any(is_row),
        _ => false,
    }
}

/// A literal, maybe of a type of the server: that reads it before it runs anything. Those of users may have checks that it makes later.
pub(super) fn is_constant(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => {
            let literal = cast.arg.as_deref().is_some_and(|arg| matches!(arg.node, Some(NodeEnum::AConst(_))));
            let own = cast.type_name.as_ref().and_then(|name| strings(&name.names)).is_some_and(|names| match names.as_slice() {
                [name] => builtin::is_type(name),
                ["pg_catalog", _] => true,
                _ => false,
            });
            literal && own
        }
        _ => false,
    }
}

/// A constant of which nothing large is made: no literal with digits, since `'9e131071'` is a number where one is asked for.
fn is_small(node: &Node) -> bool {
    use pg_query::protobuf::a_const::Val;
    match &node.node {
        Some(NodeEnum::AConst(value)) => match &value.val {
            None | Some(Val::Ival(_) | Val::Boolval(_)) => true,
            Some(Val::Sval(text)) => !text.sval.bytes().any(|byte| byte.is_ascii_digit()),
            _ => false,
        },
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_small),
        _ => false,
    }
}

/// What may be any JSON value: a parameter, or a literal with escapes, of which some have no text.
fn is_chosen(node: &Node) -> bool {
    use pg_query::protobuf::a_const::Val;
    match &node.node {
        Some(NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::AConst(value)) => matches!(&value.val, Some(Val::Sval(text)) if text.sval.contains('\\')),
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_chosen),
        _ => false,
    }
}

/// A format of `to_char` without Roman numerals and shifts, which large numbers do not fit.
fn is_plain_format(node: &Node) -> bool {
    super::call::constant(node)
        .is_some_and(|format| !format.to_ascii_uppercase().contains(['V']) && !format.to_ascii_uppercase().contains("RN"))
}

/// A format that puts in values as they are, one after the other.
fn only_strings(format: &str) -> bool {
    let mut bytes = format.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' && !matches!(bytes.next(), Some(b's' | b'%')) {
            return false;
        }
    }
    true
}

fn is_number(node: &Node) -> bool {
    use pg_query::protobuf::a_const::Val;
    matches!(&node.node, Some(NodeEnum::AConst(value)) if matches!(value.val, Some(Val::Ival(_) | Val::Fval(_))))
}

/// A regular expression that takes time by its length and that of the text: without references to what it matched.
fn is_pattern(node: &Node) -> bool {
    let Some(text) = super::call::constant(node) else { return false };
    !text.as_bytes().windows(2).any(|pair| matches!(pair, [b'\\', b'1'..=b'9']))
}

/// A LIKE pattern that does not end in the middle of an escape.
fn ends_plainly(node: &Node) -> bool {
    super::call::constant(node).is_some_and(|text| {
        let escapes = text.bytes().rev().take_while(|byte| *byte == b'\\').count();
        escapes.is_multiple_of(2)
    })
}
