//! The files of a run folder, one type for each.
//!
//! A type both writes and reads its file, so that the two cannot drift apart. [`RunFolder`] reads a
//! whole folder; reports, comparisons, claims and `--universal` read runs only through this module.
//!
//! | file | type |
//! |---|---|
//! | `provenance.json` | [`Provenance`] |
//! | `summary.json` | [`Summary`] |
//! | `neurons.csv`, `neurons.parquet` | [`Table`](crate::table::Table), by [`neurons`] |
//! | `neurons-extra.csv` | [`ExtraRow`] |
//! | `correlations.json`, `correlations.safetensors`, `partners.csv` | [`PartnerCorrelations`] |
//! | `cards.json` | [`CardFile`] |
//! | `figures.json` | [`FigureFile`] |
//! | other tables | [`TextTable`] |

mod cards;
mod correlations;
mod extra;
mod figures;
mod folder;
pub mod neurons;
mod provenance;
mod published;
mod sheet;
mod summary;
mod text_table;
mod validate;

use std::collections::BTreeMap;

pub use cards::{
    CARDS_SCHEMA, Card, CardFile, CardMatch, Context, Explanation, Histogram, JointHistogram,
    PartnerCard, SampledContext,
};
pub use correlations::{PartnerCorrelations, write_correlations, write_partners};
pub use extra::{BestMatch, ExtraRow, read_extra, write_extra};
pub use figures::{FIGURES_SCHEMA, FigureFile, NamedFigures};
pub use folder::{FiguresRecord, RunFolder, RunResults, StudyRecord};
pub use provenance::{ModelDigests, Provenance};
pub use published::{
    PREDICTION_COLUMNS, population_columns, population_table, prediction_table, universal_table,
};
pub use sheet::{MAX_TABLE_BYTES, Sheet};
pub use summary::{
    DrawError, PercentileInterval, Published, Resampling, SUMMARY_SCHEMA, Share, Signature,
    Summary, Timing, TopNeuron, Uncorrelated,
};
pub use text_table::TextTable;

/// The tables of a run, by name.
pub type Tables = BTreeMap<String, TextTable>;
