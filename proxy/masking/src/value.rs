//! One value in one wire format.

use crate::Mask;

/// A mask bound to a result column: the mask, the column's type and the format its values arrive in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMask {
    /// What to do.
    pub mask: Mask,
    /// `pg_type.oid` of the column.
    pub type_oid: u32,
    /// Whether values arrive in binary format (format code 1).
    pub binary: bool,
}
