//! Masks for column values and detectors for free text, over values as they stand on the wire.
//!
//! Owns: what a masked value looks like for each type and format, the rewriting of one `DataRow` and of the rows of `COPY … TO STDOUT`,
//! finding personal data by its pattern, and the text of a statement without it. Does not own: which column is masked for whom (that is `countersign-policy`), nor where rows come from or go to
//! (`countersign-session`).

mod constant;
mod copy;
mod data_row;
pub mod detect;
mod mask;
mod number;
mod scan;
mod secret;
mod statement;
mod style;
mod text;
mod time;
mod types;
mod value;

pub use copy::{CopyFormat, CopyLayout, CopyMasker};
pub use data_row::{ColumnPlan, MaskError, RowMasker};
pub use mask::{InvalidMask, Mask, MaskKey, TimeUnit};
pub use scan::ValueScanner;
pub use statement::{Extent, Literals, MARK};
pub use style::TextStyle;
pub use value::{ColumnMask, ValueMasker};
