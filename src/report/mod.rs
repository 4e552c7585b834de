//! What a run leaves behind: files, and a summary on the terminal.

pub mod card;
pub mod comparison;
pub mod files;
pub mod folder;
pub mod interop;
pub mod ledger;
pub mod page;
mod study_charts;
pub mod terminal;
mod validate;
