//! What the folder of a run holds, one type for each kind of file.

mod text_table;

use std::collections::BTreeMap;

pub use text_table::TextTable;

/// The tables of a run, by name.
pub type Tables = BTreeMap<String, TextTable>;
