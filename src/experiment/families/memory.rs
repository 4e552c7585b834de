//! How many neurons' sums fit into the memory that a spec allows.

use crate::families::BYTES_PER_GROUP;
use crate::plan::Workload;

/// Returns the bytes that the sums of one neuron take over all groups of tokens.
pub fn bytes_of_a_neuron(groups: usize) -> usize {
    groups * BYTES_PER_GROUP
}

/// Returns the number of neurons whose sums, of `bytes` each, fit into `batch.memory_gib` beside
/// weights and activations: at least 1, and all neurons if there is no limit.
pub fn neurons_at_once(work: &Workload, bytes: usize) -> usize {
    let Some(gib) = work.spec.batch.memory_gib else { return work.reference().n_neurons() };
    let limit = (gib * f64::from(1 << 30)) as usize;
    (limit.saturating_sub(work.bytes_without_sums()) / bytes).max(1)
}
