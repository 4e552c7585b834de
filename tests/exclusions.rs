//! `statistics.exclude`: moments over other tokens than correlations, as in the published tables.

use tempfile::TempDir;
use universal_neurons::findings::Outcome;
use universal_neurons::plan::Plan;
use universal_neurons::run::{Control, Session};
use universal_neurons::spec::{Exclusion, MomentKind, Screen, Spec};
use universal_neurons::table::Column;

use crate::device;
use crate::ptx_vm::Machine;
use crate::scale::shares;

/// Columns of the statistics of activations over tokens.
const STATISTICS: [Column; 5] =
    [Column::Mean, Column::Var, Column::Skew, Column::Kurt, Column::Sparsity];

fn plan(folder: &TempDir, change: impl FnOnce(&mut Spec)) -> Plan {
    device::plan(folder.path(), |spec| {
        spec.models.also_reference = vec!["c".into()];
        change(spec);
    })
}

/// The columns of all judged models, as bits: those of the statistics, or all others.
fn bits(found: &Outcome, of_statistics: bool) -> Vec<Vec<u64>> {
    let judged = || std::iter::once(&found.reference).chain(&found.also);
    assert_eq!(judged().count(), 2);
    let columns = Column::ALL.iter().filter(|c| STATISTICS.contains(c) == of_statistics);
    let of = |column: &Column| {
        let values = judged().flat_map(|findings| findings.table.column(*column));
        values.map(|value| value.to_bits()).collect()
    };
    columns.map(of).collect()
}

fn all_tokens(spec: &mut Spec) {
    spec.statistics.exclude = Some(Vec::new());
}

/// A run has the correlations of one text and the statistics of the other, bit for bit, however it
/// is carried out.
#[test]
fn statistics_are_those_of_a_run_over_their_own_tokens() {
    let folder = TempDir::new().expect("folder");
    device::family(folder.path());
    for moments in [MomentKind::Exact, MomentKind::Binned] {
        let with = |change: fn(&mut Spec)| {
            device::on_cpu(&plan(&folder, |spec| {
                spec.statistics.moments = moments;
                change(spec);
            }))
        };
        let masked = with(|_| ());
        let whole = with(|spec| spec.corpus.exclude.clear());
        let separate = with(all_tokens);
        assert_ne!(bits(&masked, true), bits(&whole, true), "the tokens differ");
        assert_eq!(bits(&separate, true), bits(&whole, true), "{moments:?}");
        assert_eq!(bits(&separate, false), bits(&masked, false), "{moments:?}");
        let batches = with(|spec| {
            all_tokens(spec);
            spec.batch.tokens = 33;
        });
        assert_eq!(bits(&batches, true), bits(&whole, true), "{moments:?}");
        let same = with(|spec| {
            spec.statistics.exclude = Some(vec![Exclusion::Newline, Exclusion::Bos]);
        });
        assert_eq!(bits(&same, true), bits(&masked, true), "{moments:?}");
    }
}

#[test]
fn screened_and_merged_runs_have_them_too() {
    let folder = TempDir::new().expect("folder");
    device::family(folder.path());
    let want = bits(&device::on_cpu(&plan(&folder, all_tokens)), true);
    let screened = plan(&folder, |spec| {
        all_tokens(spec);
        let screen = Screen { sample: 100, candidates: 2, standard_errors: 4.0 };
        spec.correlation.screen = Some(screen);
    });
    assert_eq!(bits(&device::on_cpu(&screened), true), want);
    let plan = plan(&folder, all_tokens);
    let shares = shares(&plan, 2, folder.path());
    let mut control = Control::default();
    let merged = Session::new(&plan, &mut control).merge(&shares).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(bits(&merged, true), want);
}

#[test]
fn a_device_agrees_with_the_cpu_about_them() {
    let folder = TempDir::new().expect("folder");
    device::family(folder.path());
    let plan = plan(&folder, all_tokens);
    device::assert_same(&device::on(&Machine::new(), &plan), &device::on_cpu(&plan), 2e-4);
}
