//! What a run leaves behind: files, and a summary on the terminal.

pub mod card;
pub mod comparison;
pub mod files;
pub mod ledger;
pub mod terminal;
