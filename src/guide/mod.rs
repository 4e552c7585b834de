//! The guide: everything around the program that is not the description of one item.
//!
//! Each chapter is a Markdown file beside this one, which the repository's page shows too.
//! The README says which chapter to read for what.

/// Declares a chapter. Links between chapters are written as `[text][chapter]`; a file defines
/// them for the repository's page, and the definitions here, which come first and therefore
/// take precedence, lead to the modules.
macro_rules! chapters {
    ($($name:ident: $file:literal, $summary:literal;)*) => {$(
        #[doc = $summary]
        ///
        /// [adding]: crate::guide::adding
        /// [architecture]: crate::guide::architecture
        /// [claims_and_evidence]: crate::guide::claims_and_evidence
        /// [corpora_and_models]: crate::guide::corpora_and_models
        /// [contributing]: crate::guide::contributing
        /// [experiments]: crate::guide::experiments
        /// [files_of_a_run]: crate::guide::files_of_a_run
        /// [glossary]: crate::guide::glossary
        /// [graphics_processors]: crate::guide::graphics_processors
        /// [large_runs]: crate::guide::large_runs
        /// [method]: crate::guide::method
        #[doc = concat!("[rooms_picture]: ", include_str!("rooms.uri"))]
        ///
        #[doc = include_str!($file)]
        pub mod $name {}
    )*};
}

chapters! {
    architecture: "architecture.md", "How the program is built, and where things are.";
    method: "method.md", "Definitions with their equations.";
    glossary: "glossary.md", "One term per thing.";
    experiments: "experiments.md", "Kinds of experiment, and how to write one.";
    files_of_a_run: "files-of-a-run.md", "What a run writes, and how to read it.";
    corpora_and_models: "corpora-and-models.md", "What is read and what is refused.";
    large_runs: "large-runs.md", "Cost, checkpoints, shares, screening, the paper's own experiment.";
    graphics_processors: "graphics-processors.md", "NVIDIA cards, and the kernels.";
    claims_and_evidence: "claims-and-evidence.md", "What a verdict rests on.";
    troubleshooting: "troubleshooting.md", "Exit codes, symptoms and remedies.";
    adding: "adding.md", "How to add a kind, a claim, a chart, a kernel and more.";
    contributing: "contributing.md", "What must pass, and how the code is written.";
    changelog: "changelog.md", "What changed.";
}
