//! Finds the simple property of tokens that explains a neuron best (paper §4.3).

mod chosen;
mod explain;
mod reading;
mod settings;
mod sums;
mod syntax;
mod token_class;
mod token_tests;

pub use chosen::{NeuronChoice, NeuronGroup};
pub use explain::{GroupedTests, TestExplanation, TokenGroup, best_explanations, reduction};
pub use reading::{FamilySums, TestSuite, TokenGrouping, TokenGroups, check};
pub use settings::FamilySettings;
pub use sums::{BYTES_PER_GROUP, GroupSums};
pub use syntax::{LabelKind, LabelSet, Syntax, WordLabels};
pub use token_class::{TokenClass, token_classes};
pub use token_tests::{TokenTest, parse_token_tests, read_token_tests, unigram_tests};
