//! Arrays put together: of arrays of unlike shapes none can be made, so that whether it can be tells something of what they were made of.

use super::{ColumnId, Lineage, Walk};

/// `pg_type.oid` of `jsonb`.
pub(super) const JSONB: u32 = 3802;

/// `pg_type.oid` of `name`, `text`, `bpchar` and `varchar`.
const TEXTS: [u32; 4] = [19, 25, 1042, 1043];

/// Functions that put arrays together.
const BUILDERS: [&str; 5] = ["array_agg", "array_append", "array_prepend", "array_cat", "array_agg_array_transfn"];

impl Walk<'_> {
    /// Something becomes part of an array: a column as it stands, unless it has arrays itself, cannot make that fail.
    pub(super) fn weigh_element(&mut self, lineage: &Lineage) {
        let plain = lineage.direct.and_then(|column| self.type_of(column)).is_some_and(|oid| !self.holds_arrays(oid));
        if !plain && (lineage.telling || !lineage.joins) {
            self.expose(lineage, "what is made of a protected column becomes part of an array: whether that fails shows its value");
        }
    }

    /// The same of a function's arguments, where the function puts arrays together.
    pub(super) fn weigh_elements(&mut self, names: &[&str], arguments: &[Lineage]) {
        if let [name] | ["pg_catalog", name] = names
            && BUILDERS.contains(name)
        {
            for lineage in arguments {
                self.weigh_element(lineage);
            }
        }
    }

    /// Whether `||` makes text of a value, whatever it holds: of arrays it makes arrays, of `jsonb` objects.
    pub(super) fn joins(&self, lineage: &Lineage) -> bool {
        let jsonb = |oid| oid == JSONB || self.catalog.type_by_oid(oid).is_some_and(|found| found.class == 'd' && found.base == JSONB);
        lineage.joins || lineage.direct.and_then(|column| self.type_of(column)).is_some_and(|oid| !self.holds_arrays(oid) && !jsonb(oid))
    }

    /// Whether a value is a column of text as it stands.
    pub(super) fn is_text(&self, lineage: &Lineage) -> bool {
        lineage.direct.and_then(|column| self.type_of(column)).is_some_and(|oid| TEXTS.contains(&oid))
    }

    /// Whether a value is a column of text, or made of something by what gives text.
    pub(super) fn is_text_or_made(&self, lineage: &Lineage) -> bool {
        let range =
            |oid: u32| matches!(oid, 3904 | 3906 | 3908 | 3910 | 3912 | 3926 | 4451 | 4532..=4536) || oid >= crate::catalog::FIRST_USER_OID;
        lineage
            .direct
            .and_then(|column| self.type_of(column))
            .is_none_or(|oid| !range(oid) || self.catalog.type_by_oid(oid).is_some_and(|found| found.class == 'd'))
    }

    /// The type of a column.
    pub(super) fn type_of(&self, (oid, number): ColumnId) -> Option<u32> {
        let relation = self.catalog.relation(oid)?;
        relation.columns.iter().find(|column| column.number == number).map(|column| column.type_oid)
    }

    /// Whether a type is of rows, or made of such.
    pub(super) fn is_composite(&self, oid: u32, level: usize) -> bool {
        match self.catalog.type_by_oid(oid) {
            Some(found) if level < 16 => {
                let inner = |inner: u32| inner != 0 && inner != oid && self.is_composite(inner, level + 1);
                found.class == 'c' || inner(found.base) || inner(found.element)
            }
            _ => false,
        }
    }

    pub(super) fn holds_arrays(&self, oid: u32) -> bool {
        match self.catalog.type_by_oid(oid) {
            Some(found) if found.class == 'd' => found.base != oid && self.holds_arrays(found.base),
            Some(found) => found.element != 0,
            None => is_array_type(oid),
        }
    }
}

/// `pg_type.oid` of the server's own array types.
const fn is_array_type(oid: u32) -> bool {
    matches!(
        oid,
        143 | 199 | 210 | 270..=273 | 629 | 651 | 719 | 775 | 791 | 1000..=1003 | 1005..=1017 | 1019..=1023 | 1027 | 1028 | 1034 | 1040 | 1041
            | 1115 | 1182 | 1183 | 1185 | 1187 | 1231 | 1263 | 1270 | 1561 | 1563 | 2201 | 2207..=2211 | 2287 | 2949 | 2951 | 3221 | 3643..=3645
            | 3735 | 3770 | 3807 | 3905 | 3907 | 3909 | 3911 | 3913 | 3927 | 4073 | 4090 | 4097 | 4192 | 5039 | 6150..=6157
    )
}
