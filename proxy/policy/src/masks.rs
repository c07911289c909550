//! Which columns are masked for a principal, and the plan for one result.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use countersign_masking::detect::Detectors;
use countersign_masking::{
    ColumnMask, ColumnPlan, CopyMasker, Mask as ValueMask, MaskKey, RowMasker, TextStyle, TimeUnit as Unit, ValueScanner,
};

use crate::analysis::{ColumnId, relation_view};
use crate::builtin;
use crate::catalog::{Column, Relation};
use crate::decision::ForeseenColumn;
use crate::decision::{CopyColumn, CopyOutcome, MaskedColumn, Output, Place};
use crate::document::source::TimeUnit;
use crate::pattern::ColumnPattern;
use crate::rule::{Detect, Mask, MaskKind};
use crate::{Catalog, Denial, JudgeRequest, Judgement, MaskOutcome, Policy, Principal, ResultColumn};

/// Greatest chain of views and parents that is followed.
const MOST_LEVELS: usize = 32;

/// A policy's masks as they stand for one principal over one catalog.
pub(crate) struct Protection<'a> {
    policy: &'a Policy,
    catalog: &'a Catalog,
    principal: &'a Principal,
    any: bool,
    detect: Vec<&'a Detect>,
    known: RefCell<HashMap<ColumnId, Option<MaskKind>>>,
}

impl<'a> Protection<'a> {
    pub(crate) fn new(policy: &'a Policy, principal: &'a Principal, catalog: &'a Catalog) -> Self {
        let any = masks_apply(policy, principal);
        let detect = policy.detect().iter().filter(|detect| !detect.unless.as_ref().is_some_and(|who| who.matches(principal))).collect();
        Self { policy, catalog, principal, any, detect, known: RefCell::new(HashMap::new()) }
    }

    /// Whether detectors look at anything for the principal.
    pub(crate) fn detects(&self) -> bool {
        self.detect.iter().any(|detect| !detect.detectors.is_empty())
    }

    /// The detectors of a result column of that name and, where it has one, origin.
    fn detectors(&self, name: &str, column: Option<(&Relation, &Column)>) -> Option<Detectors> {
        let excepted = |patterns: &[ColumnPattern]| {
            column
                .is_some_and(|(relation, column)| patterns.iter().any(|pattern| pattern.is(&relation.schema, &relation.name, &column.name)))
        };
        let detect = self.detect.iter().find(|detect| !excepted(&detect.except))?;
        let names: &[&str] = match &column {
            Some((_, column)) => &[name, column.name.as_str()],
            None => &[name],
        };
        (!detect.detectors.is_empty()).then(|| detect.detectors.for_column(names))
    }

    /// The principal that asks.
    pub(crate) const fn principal(&self) -> &'a Principal {
        self.principal
    }

    pub(crate) const fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// Whether any mask applies to the principal.
    pub(crate) const fn any(&self) -> bool {
        self.any
    }

    pub(crate) fn is_protected(&self, column: ColumnId) -> bool {
        self.any && self.mask(column).is_some()
    }

    /// Whether any column of the relation is protected.
    pub(crate) fn touches(&self, relation: u32) -> bool {
        self.any
            && self
                .catalog
                .relation(relation)
                .is_some_and(|relation| relation.columns.iter().any(|column| self.is_protected((relation.oid, column.number))))
    }

    /// The mask of a column: its own, or that of a column it shows through a view, a parent or a child.
    pub(crate) fn mask(&self, column: ColumnId) -> Option<MaskKind> {
        if !self.any {
            return None;
        }
        if let Some(known) = self.known.borrow().get(&column) {
            return known.clone();
        }
        let found = self.look_up(column, 0);
        self.known.borrow_mut().insert(column, found.clone());
        found
    }

    fn look_up(&self, (oid, number): ColumnId, level: usize) -> Option<MaskKind> {
        let relation = self.catalog.relation(oid)?;
        if level > MOST_LEVELS {
            return Some(MaskKind::Full);
        }
        let column = relation.columns.iter().find(|column| column.number == number)?;
        if builtin::holds_values(&relation.name, &column.name) {
            return Some(MaskKind::Full);
        }
        let named = self.named(relation, column);
        if let Some(mask) = named {
            // What a view makes of protected columns is not what a pattern that was meant for tables knows how to mask.
            return match mask {
                Some(mask) if self.is_made(relation, column, level) && !self.is_named_exactly(relation, column) => {
                    Some(if mask == MaskKind::Null { mask } else { MaskKind::Derived })
                }
                mask => mask,
            };
        }
        if let Some(mask) = self.named_by_kin(relation, &column.name) {
            return Some(mask);
        }
        if self.is_generated_from_masked(relation, column) {
            return Some(MaskKind::Derived);
        }
        if matches!(relation.kind, 'v' | 'm') && !relation.is_system() {
            let index = usize::try_from(number.checked_sub(1)?).ok()?;
            let Some(view) = relation_view(self.catalog, relation) else {
                return Some(MaskKind::Derived);
            };
            let column = view.columns.get(index)?;
            if let Some(direct) = column.direct
                && !column.opaque
            {
                return self.look_up(direct, level + 1);
            }
            let derived = column.opaque || column.sources.iter().any(|source| self.look_up(*source, level + 1).is_some());
            return derived.then_some(MaskKind::Derived);
        }
        None
    }

    /// Whether a view makes the column of protected ones, rather than showing one.
    fn is_made(&self, relation: &Relation, column: &Column, level: usize) -> bool {
        if !matches!(relation.kind, 'v' | 'm') || relation.is_system() {
            return false;
        }
        let index = usize::try_from(column.number).ok().and_then(|number| number.checked_sub(1));
        let Some(column) = relation_view(self.catalog, relation).zip(index).and_then(|(view, index)| view.columns.get(index)) else {
            return true;
        };
        if let Some((oid, number)) = column.direct.filter(|_| !column.opaque) {
            let shown = self.catalog.relation(oid);
            return shown.is_some_and(|relation| {
                let column = relation.columns.iter().find(|column| column.number == number);
                level < MOST_LEVELS && column.is_some_and(|column| self.is_made(relation, column, level + 1))
            });
        }
        column.opaque || column.sources.iter().any(|source| self.look_up(*source, level + 1).is_some())
    }

    /// Whether the mask that decides about a column names it and no other.
    fn is_named_exactly(&self, relation: &Relation, column: &Column) -> bool {
        let exact = |pattern: &ColumnPattern| pattern.is_literal() && pattern.is(&relation.schema, &relation.name, &column.name);
        self.policy.masks().iter().any(|mask| mask.columns.iter().any(exact))
    }

    /// The mask of the column of that name in a parent or child.
    fn named_by_kin(&self, relation: &Relation, name: &str) -> Option<MaskKind> {
        self.kin(relation).find_map(|kin| self.named(kin, kin.column(name)?)?)
    }

    /// Parents and children, near and far.
    fn kin(&self, relation: &Relation) -> impl Iterator<Item = &'a Relation> {
        let catalog = self.catalog;
        let mut pending: Vec<(u32, bool, usize)> = vec![(relation.oid, true, 0), (relation.oid, false, 0)];
        let mut found: VecDeque<&'a Relation> = VecDeque::new();
        std::iter::from_fn(move || {
            while found.is_empty() {
                let (oid, down, depth) = pending.pop()?;
                let Some(relation) = catalog.relation(oid) else { continue };
                for oid in if down { &relation.children } else { &relation.parents } {
                    found.extend(catalog.relation(*oid));
                    if depth < MOST_LEVELS {
                        pending.push((*oid, down, depth + 1));
                    }
                }
            }
            found.pop_front()
        })
    }

    /// Whether a column, or that of its name in a parent or child, is generated from a masked one. Generated columns come from no other generated
    /// ones.
    fn is_generated_from_masked(&self, relation: &Relation, column: &Column) -> bool {
        let from_masked = |relation: &Relation, column: &Column| {
            relation.columns.iter().filter(|source| column.generated_from.contains(&source.number)).any(|source| {
                match self.named(relation, source) {
                    Some(mask) => mask.is_some(),
                    None => self.named_by_kin(relation, &source.name).is_some(),
                }
            })
        };
        from_masked(relation, column)
            || self.kin(relation).any(|kin| kin.column(&column.name).is_some_and(|column| from_masked(kin, column)))
    }

    /// The first mask that names a column decides; its `unless` may leave it clear (`Some(None)`).
    fn named(&self, relation: &Relation, column: &Column) -> Option<Option<MaskKind>> {
        let names = |mask: &&Mask| {
            mask.columns.iter().any(|pattern| pattern.is(&relation.schema, &relation.name, &column.name))
                || column.tags.iter().any(|tag| mask.tags.iter().any(|pattern| pattern.matches(tag)))
        };
        let mask = self.policy.masks().iter().find(names)?;
        Some(applies(mask, self.principal).then(|| mask.mask.clone()))
    }
}

/// Whether some mask is about the principal.
pub(crate) fn masks_apply(policy: &Policy, principal: &Principal) -> bool {
    policy.masks().iter().any(|mask| applies(mask, principal))
}

/// The detectors over what is no column: error texts, notices, payloads.
pub(crate) fn text_detectors(policy: &Policy, principal: &Principal) -> Option<Detectors> {
    let applies = |detect: &&Detect| !detect.unless.as_ref().is_some_and(|who| who.matches(principal));
    policy.detect().iter().find(applies).map(|detect| detect.detectors.clone()).filter(|detectors| !detectors.is_empty())
}

fn applies(mask: &Mask, principal: &Principal) -> bool {
    !mask.unless.as_ref().is_some_and(|who| who.matches(principal))
}

fn value_mask(kind: &MaskKind) -> ValueMask {
    match kind {
        MaskKind::Full => ValueMask::Full,
        MaskKind::Derived => ValueMask::Derived,
        MaskKind::Last4 => ValueMask::Last4,
        MaskKind::Email => ValueMask::Email,
        MaskKind::Null => ValueMask::Null,
        MaskKind::Hash => ValueMask::Hash,
        MaskKind::Constant(value) => ValueMask::Constant { value: value.clone() },
        MaskKind::Truncate(unit) => ValueMask::Truncate {
            unit: match unit {
                TimeUnit::Year => Unit::Year,
                TimeUnit::Month => Unit::Month,
                TimeUnit::Day => Unit::Day,
                TimeUnit::Hour => Unit::Hour,
            },
        },
        MaskKind::Round(to) => ValueMask::Round { to: *to },
        MaskKind::Token => ValueMask::Token,
    }
}

/// How the columns of each statement's result will be shown, as far as they are known without the server; for people.
pub(crate) fn foresee(judgement: &Judgement, request: &JudgeRequest<'_>) -> Vec<Option<Vec<ForeseenColumn>>> {
    let protection = Protection::new(request.policy, request.principal, request.catalog);
    let column = |output: &Output| {
        let found = output.origin.and_then(|(oid, number)| {
            let relation = request.catalog.relation(oid)?;
            let column = relation.columns.iter().find(|column| column.number == number)?;
            Some(format!("{}.{}.{}", relation.schema, relation.name, column.name))
        });
        let mask = match output.origin.and_then(|column| protection.mask(column)) {
            Some(kind) => Some(value_mask(&kind).name().to_owned()),
            None => output.tainted.then(|| ValueMask::Derived.name().to_owned()),
        };
        ForeseenColumn { name: output.name.clone(), source: found, mask }
    };
    judgement.trace.outputs.iter().map(|columns| columns.as_ref().map(|columns| columns.iter().map(column).collect())).collect()
}

/// Plans the masks of one result.
pub(crate) fn plan(
    judgement: &Judgement,
    columns: &[ResultColumn],
    place: Place,
    request: &JudgeRequest<'_>,
    key: &MaskKey,
) -> MaskOutcome {
    let protection = Protection::new(request.policy, request.principal, request.catalog);
    if !protection.any() && !protection.detects() {
        return MaskOutcome::Pass;
    }
    let foreseen = foreseen(judgement, columns.len(), place.statement);
    let mut plans = Vec::with_capacity(columns.len());
    let mut names = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let binary = column.format == 1;
        let origin = Origin::of(column, &protection);
        let expected = foreseen.as_ref().and_then(|tainted| tainted.get(index)).copied();
        let mask = if protection.any() { column_mask(column, &origin, expected, judgement.touches_protected, &protection) } else { None };
        plans.push(match mask {
            Some((kind, source)) => {
                let mask = value_mask(&kind);
                names.push(MaskedColumn { index, column: column.name.clone(), source, mask: mask.name().to_owned() });
                ColumnPlan::Mask(ColumnMask { mask, type_oid: column.type_oid, binary })
            }
            None => match protection.detectors(&column.name, origin.column()) {
                Some(detectors) if ValueScanner::new(&detectors, column.type_oid, binary).is_some() => {
                    names.push(MaskedColumn { index, column: column.name.clone(), source: origin.text(), mask: DETECT.to_owned() });
                    ColumnPlan::Detect { detectors, type_oid: column.type_oid, binary }
                }
                _ => ColumnPlan::Clear,
            },
        });
    }
    if names.is_empty() {
        return MaskOutcome::Pass;
    }
    MaskOutcome::Mask { masker: RowMasker::new(&plans, key, place.style), columns: names, granted: judgement.trace.unmask }
}

/// What the recording says in place of a mask's name where detectors looked.
const DETECT: &str = "detect";

/// Plans the masks of the `nth` COPY to the client of a text; the server announced it in that format with so many columns.
pub(crate) fn plan_copy(
    judgement: &Judgement,
    nth: usize,
    binary: bool,
    count: usize,
    style: TextStyle,
    request: &JudgeRequest<'_>,
    key: &MaskKey,
) -> CopyOutcome {
    let protection = Protection::new(request.policy, request.principal, request.catalog);
    if !protection.any() && !protection.detects() {
        return CopyOutcome::Pass;
    }
    let refuse = |detail: &str| {
        CopyOutcome::Refuse(Denial {
            code: "42501".to_owned(),
            message: "COPY is refused by policy: its data cannot be masked safely".to_owned(),
            detail: Some(detail.to_owned()),
            hint: None,
        })
    };
    let Some(copy) = judgement.trace.copies.get(nth) else { return refuse("it was not foreseen") };
    let mut plans = Vec::with_capacity(copy.columns.len());
    let mut names = Vec::new();
    for (index, column) in copy.columns.iter().enumerate() {
        let origin = column.source.and_then(|(oid, number)| Origin::find(oid, number, &protection)).unwrap_or(Origin::None);
        let mask = copy_mask(column, &origin, &protection);
        let name = || column.name.clone();
        plans.push(match mask {
            Some((kind, source)) => {
                // A value whose type is not known is NULL in every format, which a mask in full of an unknown type gives.
                let type_oid = origin.column().filter(|_| kind != MaskKind::Derived).map_or(0, |(_, column)| column.type_oid);
                let mask = value_mask(&kind);
                names.push(MaskedColumn { index, column: name(), source, mask: mask.name().to_owned() });
                ColumnPlan::Mask(ColumnMask { mask, type_oid, binary })
            }
            None => match protection.detectors(&column.name, origin.column()) {
                Some(detectors) => {
                    // An expression's type is not known: in text anything may be text or a number, in binary what looks like it.
                    let type_oid = origin.column().map_or(u32::MAX, |(_, column)| column.type_oid);
                    if ValueScanner::new(&detectors, type_oid, binary).is_none() {
                        ColumnPlan::Clear
                    } else {
                        names.push(MaskedColumn { index, column: name(), source: origin.text(), mask: DETECT.to_owned() });
                        ColumnPlan::Detect { detectors, type_oid, binary }
                    }
                }
                None => ColumnPlan::Clear,
            },
        });
    }
    if names.is_empty() {
        return CopyOutcome::Pass;
    }
    let Ok(layout) = &copy.layout else { return refuse("its options cannot be followed") };
    if count != copy.columns.len() || binary != (layout.format == countersign_masking::CopyFormat::Binary) {
        return refuse("the server announced another format or other columns than the statement has");
    }
    CopyOutcome::Mask { masker: CopyMasker::new(layout.clone(), &plans, key, style), columns: names, granted: judgement.trace.unmask }
}

fn copy_mask(column: &CopyColumn, origin: &Origin<'_>, protection: &Protection<'_>) -> Option<(MaskKind, String)> {
    if !protection.any() {
        return None;
    }
    if column.direct
        && let Some(id) = column.source
        && let Some(kind) = protection.mask(id)
    {
        return Some((kind, origin.text()));
    }
    column.tainted.then(|| (MaskKind::Derived, "derived".to_owned()))
}

/// What the analysis foresees of each column of a result with so many columns: `(tainted, direct)`. That of the statement whose result it is,
/// where that is sure: a plain read gives one result and no rule adds to it. Else the worst of all statements whose result it may be; `None`
/// when a statement's columns are not known.
fn foreseen(judgement: &Judgement, count: usize, statement: Option<usize>) -> Option<Vec<(bool, bool)>> {
    if judgement.trace.outputs.is_empty() {
        return None;
    }
    if let Some(statement) = statement
        && judgement.trace.outputs.len() == judgement.statements.len()
        && judgement.statements.get(statement).is_some_and(|facts| facts.kind == crate::StatementKind::Read)
        && let Some(outputs) = judgement.trace.outputs.get(statement)?
        && outputs.len() == count
    {
        return Some(outputs.iter().map(|Output { tainted, direct, .. }| (*tainted, *direct)).collect());
    }
    let mut worst: Option<Vec<(bool, bool)>> = None;
    for (outputs, facts) in judgement.trace.outputs.iter().zip(&judgement.statements) {
        let Some(outputs) = outputs else {
            if gives_rows(facts.kind) {
                return None;
            }
            continue;
        };
        if outputs.len() != count {
            continue;
        }
        let these = outputs.iter().map(|Output { tainted, direct, .. }| (*tainted, *direct));
        worst = Some(match worst {
            None => these.collect(),
            Some(known) => known.into_iter().zip(these).map(|(a, b)| (a.0 || b.0, a.1 && b.1)).collect(),
        });
    }
    worst
}

const fn gives_rows(kind: crate::StatementKind) -> bool {
    !matches!(kind, crate::StatementKind::Empty | crate::StatementKind::Transaction | crate::StatementKind::Session)
}

/// Where a result column comes from.
enum Origin<'c> {
    /// No column of a relation.
    None,
    /// A relation or column the catalog does not have.
    Unknown(String),
    /// A whole row.
    Row(&'c Relation),
    /// A column of the system's own.
    System,
    /// A column.
    Column(&'c Relation, &'c Column),
}

impl<'c> Origin<'c> {
    fn of(column: &ResultColumn, protection: &Protection<'c>) -> Self {
        if column.table_oid == 0 {
            return Self::None;
        }
        Self::find(column.table_oid, column.attribute, protection).unwrap_or_else(|| Self::Unknown("unknown relation".to_owned()))
    }

    fn find(oid: u32, number: i16, protection: &Protection<'c>) -> Option<Self> {
        let relation = protection.catalog.relation(oid)?;
        Some(match number {
            ..0 => Self::System,
            0 => Self::Row(relation),
            _ => match relation.columns.iter().find(|known| known.number == number) {
                Some(column) => Self::Column(relation, column),
                None => Self::Unknown(format!("{}.{}.?", relation.schema, relation.name)),
            },
        })
    }

    const fn column(&self) -> Option<(&'c Relation, &'c Column)> {
        match self {
            Self::Column(relation, column) => Some((relation, column)),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Column(relation, column) => format!("{}.{}.{}", relation.schema, relation.name, column.name),
            Self::Unknown(text) => text.clone(),
            _ => "derived".to_owned(),
        }
    }
}

fn column_mask(
    column: &ResultColumn,
    origin: &Origin<'_>,
    expected: Option<(bool, bool)>,
    touches: bool,
    protection: &Protection<'_>,
) -> Option<(MaskKind, String)> {
    let derived = || Some((MaskKind::Derived, "derived".to_owned()));
    match origin {
        Origin::None => match expected {
            Some((true, _)) => derived(),
            None if touches => derived(),
            _ => None,
        },
        Origin::Unknown(text) => Some((MaskKind::Derived, text.clone())),
        Origin::System => None,
        Origin::Row(relation) => {
            if protection.touches(relation.oid) {
                derived()
            } else {
                None
            }
        }
        Origin::Column(relation, _) => match (protection.mask((relation.oid, column.attribute)), expected) {
            (Some(mask), _) => Some((mask, origin.text())),
            (None, Some((true, false))) => derived(),
            (None, _) => None,
        },
    }
}
