//! All claims, and how to judge them.

use super::claim::{Claim, registry};
use super::evidence::Evidence;
use super::ledger::Ledger;
use super::sources::Evidences;
use super::tier::Tier;
use crate::correlation::Layout;
use crate::error::Result;
use crate::table::Table;

/// The claims of the papers, which can be judged on a neuron table.
///
/// # Examples
///
/// The model has the shape of the bundled model `desk-a`. Every neuron has the same values, of
/// which the last, the excess correlation, makes it universal, so a claim about a range of the
/// universal share fails.
///
/// ```
/// use universal_neurons::Claims;
/// use universal_neurons::claims::ledger::Verdict;
/// use universal_neurons::correlation::Layout;
/// use universal_neurons::table::{Column, NeuronId, Table};
///
/// let layout = Layout { n_layers: 3, d_mlp: 1024 };
/// let mut table = Table::new();
/// for i in 0..layout.n_neurons() {
///     table.push(NeuronId::of(i, layout.d_mlp), [0.6; Column::ALL.len()]);
/// }
/// let ledger = Claims::bundled()?.judge_table("a", layout, table)?.expect("a known shape");
/// let share = ledger.entries.iter().find(|entry| entry.id == "prevalence.range").unwrap();
/// assert_eq!((share.measured[0], &share.verdict), (100.0, &Verdict::Fails));
/// # Ok::<(), universal_neurons::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Claims(Vec<Claim>);

impl Claims {
    /// Returns the claims of `expected/claims/`, which the program contains.
    ///
    /// # Errors
    /// Returns an error if a file of claims is malformed.
    pub fn bundled() -> Result<Self> {
        Ok(Self(registry()?))
    }

    /// Returns the claims, in the order of their files.
    pub fn list(&self) -> &[Claim] {
        &self.0
    }

    /// Judges the claims that are about a model, on a table of all neurons of a model of its shape.
    /// Claims about the paper's models are judged if `model` is the name of one of them, otherwise
    /// claims about the bundled models. A table does not say whose weights it is of, so every
    /// verdict is one on weights of unknown origin. Returns `None` if no claim is about a model of
    /// this shape.
    ///
    /// # Errors
    /// Returns an error if the list of models is malformed.
    pub fn judge_table(&self, model: &str, layout: Layout, table: Table) -> Result<Option<Ledger>> {
        let found = Evidences::of_run(Evidence::of_neurons(layout, table), model)?;
        found.map(|(evidences, tier)| self.judge(Some(tier), &evidences)).transpose()
    }

    /// Judges the claims on all evidence, or on the evidence of one kind.
    ///
    /// # Errors
    /// Returns an error if evidence is damaged.
    pub fn judge(&self, tier: Option<Tier>, evidences: &Evidences) -> Result<Ledger> {
        Ledger::judge(&self.0, tier, evidences)
    }
}
