//! Which columns are masked for a principal, and the plan for one result.

use std::cell::RefCell;
use std::collections::HashMap;

use countersign_masking::{ColumnMask, Mask as ValueMask, MaskKey, RowMasker, TimeUnit as Unit};

use crate::analysis::{ColumnId, relation_view};
use crate::decision::Output;
use crate::document::source::TimeUnit;
use crate::rule::{Mask, MaskKind};
use crate::{Catalog, JudgeRequest, Judgement, MaskOutcome, Policy, Principal, ResultColumn};

/// Greatest chain of views and parents that is followed.
const MOST_LEVELS: usize = 32;

/// A policy's masks as they stand for one principal over one catalog.
pub(crate) struct Protection<'a> {
    policy: &'a Policy,
    catalog: &'a Catalog,
    principal: &'a Principal,
    any: bool,
    known: RefCell<HashMap<ColumnId, Option<MaskKind>>>,
}

impl<'a> Protection<'a> {
    pub(crate) fn new(policy: &'a Policy, principal: &'a Principal, catalog: &'a Catalog) -> Self {
        let any = policy.masks().iter().any(|mask| applies(mask, principal));
        Self { policy, catalog, principal, any, known: RefCell::new(HashMap::new()) }
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
        if let Some(mask) = self.named(&relation.schema, &relation.name, &column.name) {
            return Some(mask);
        }
        let mut pending: Vec<(u32, bool, usize)> = vec![(oid, true, 0), (oid, false, 0)];
        while let Some((oid, down, depth)) = pending.pop() {
            let Some(relation) = self.catalog.relation(oid) else { continue };
            let next = if down { &relation.children } else { &relation.parents };
            for oid in next {
                if let Some(kin) = self.catalog.relation(*oid)
                    && kin.column(&column.name).is_some()
                    && let Some(mask) = self.named(&kin.schema, &kin.name, &column.name)
                {
                    return Some(mask);
                }
                if depth < MOST_LEVELS {
                    pending.push((*oid, down, depth + 1));
                }
            }
        }
        if matches!(relation.kind, 'v' | 'm') && !relation.is_system() {
            let index = usize::try_from(number.checked_sub(1)?).ok()?;
            let Some(view) = relation_view(self.catalog, relation) else {
                return Some(MaskKind::Full);
            };
            let column = view.columns.get(index)?;
            if let Some(direct) = column.direct
                && !column.opaque
            {
                return self.look_up(direct, level + 1);
            }
            let derived = column.opaque || column.sources.iter().any(|source| self.look_up(*source, level + 1).is_some());
            return derived.then_some(MaskKind::Full);
        }
        None
    }

    /// The first mask that names a column decides; its `unless` may leave it clear.
    fn named(&self, schema: &str, relation: &str, column: &str) -> Option<MaskKind> {
        let mask =
            self.policy.masks().iter().find(|mask| {
                mask.columns.iter().any(|pattern| pattern.relation.matches(schema, relation) && pattern.column.matches(column))
            })?;
        applies(mask, self.principal).then(|| mask.mask.clone())
    }
}

fn applies(mask: &Mask, principal: &Principal) -> bool {
    !mask.unless.as_ref().is_some_and(|who| who.matches(principal))
}

fn value_mask(kind: &MaskKind) -> ValueMask {
    match kind {
        MaskKind::Full => ValueMask::Full,
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

/// Plans the masks of one result.
pub(crate) fn plan(judgement: &Judgement, columns: &[ResultColumn], request: &JudgeRequest<'_>, key: &MaskKey) -> MaskOutcome {
    let protection = Protection::new(request.policy, request.principal, request.catalog);
    if !protection.any() {
        return MaskOutcome::Pass;
    }
    let foreseen = foreseen(judgement, columns.len());
    let mut masks = Vec::with_capacity(columns.len());
    let mut names = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let expected = foreseen.as_ref().and_then(|tainted| tainted.get(index)).copied();
        let (mask, origin) = column_mask(column, expected, judgement.touches_protected, &protection);
        if let Some(kind) = &mask {
            let shown = value_mask(kind);
            names.push((column.name.clone(), origin, shown.name().to_owned()));
        }
        masks.push(mask.map(|kind| ColumnMask { mask: value_mask(&kind), type_oid: column.type_oid, binary: column.format == 1 }));
    }
    if names.is_empty() {
        return MaskOutcome::Pass;
    }
    MaskOutcome::Mask { masker: RowMasker::new(masks, key.clone()), columns: names }
}

/// What the analysis foresees of each column of a result with so many columns: `(tainted, direct)`, the worst of all statements
/// whose result it may be. `None` when a statement's columns are not known.
fn foreseen(judgement: &Judgement, count: usize) -> Option<Vec<(bool, bool)>> {
    if judgement.trace.outputs.is_empty() {
        return None;
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

fn column_mask(
    column: &ResultColumn,
    expected: Option<(bool, bool)>,
    touches: bool,
    protection: &Protection<'_>,
) -> (Option<MaskKind>, String) {
    let derived = || (Some(MaskKind::Full), "derived".to_owned());
    if column.table_oid == 0 {
        return match expected {
            Some((false, _)) => (None, String::new()),
            Some((true, _)) => derived(),
            None if touches => derived(),
            None => (None, String::new()),
        };
    }
    let Some(relation) = protection.catalog.relation(column.table_oid) else {
        return (Some(MaskKind::Full), "unknown relation".to_owned());
    };
    if column.attribute < 0 {
        return (None, String::new());
    }
    if column.attribute == 0 {
        return if protection.touches(relation.oid) { derived() } else { (None, String::new()) };
    }
    let Some(known) = relation.columns.iter().find(|known| known.number == column.attribute) else {
        return (Some(MaskKind::Full), format!("{}.{}.?", relation.schema, relation.name));
    };
    let origin = format!("{}.{}.{}", relation.schema, relation.name, known.name);
    match (protection.mask((relation.oid, column.attribute)), expected) {
        (Some(mask), _) => (Some(mask), origin),
        (None, Some((true, false))) => derived(),
        (None, _) => (None, String::new()),
    }
}
