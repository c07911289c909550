//! Masks for column values, as they stand on the wire.
//!
//! Owns: what a masked value looks like for each type and format, and the rewriting of one `DataRow`. Does not own: which column
//! is masked for whom (that is `countersign-policy`), nor where rows come from or go to (`countersign-session`).

mod constant;
mod data_row;
mod mask;
mod number;
mod secret;
mod text;
mod time;
mod types;
mod value;

pub use data_row::{MaskError, RowMasker};
pub use mask::{InvalidMask, Mask, MaskKey, TimeUnit};
pub use value::{ColumnMask, ValueMasker};
