//! Plants faults in the PTX and checks that a test fails for each: a test that passes on a broken
//! kernel proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use universal_neurons::backend::device::PtxModule;

use super::{elementwise, products};
use crate::ptx_vm::Machine;

/// A change to one line of a kernel.
struct Fault {
    what: &'static str,
    module: PtxModule,
    entry: &'static str,
    /// The `nth` line of the kernel that contains this text is changed.
    line: &'static str,
    nth: usize,
    /// In that line, the first text is replaced by the second; if the first is empty, the whole
    /// line is replaced.
    edit: (&'static str, &'static str),
    caught_by: fn(&Machine),
}

impl Fault {
    fn plant(&self, ptx: &str) -> String {
        let start = ptx.find(&format!(".entry {}(", self.entry)).expect("the kernel");
        let (before, kernel) = ptx.split_at(start);
        let mut count = 0;
        let mut changed = false;
        let mut edit = |line: &str| {
            let here = line.contains(self.line);
            count += usize::from(here);
            if !here || count != self.nth {
                return line.to_owned();
            }
            let (from, to) = self.edit;
            let edited = match from {
                "" => to.to_owned(),
                SWAP => swap_first_two(line),
                _ => line.replacen(from, to, 1),
            };
            changed = edited != line;
            edited
        };
        let kernel: Vec<String> = kernel.lines().map(&mut edit).collect();
        assert!(changed, "{}: nothing to change; the kernel is another by now", self.what);
        format!("{before}{}", kernel.join("\n"))
    }
}

/// A marker: exchange the first two registers of a list in braces.
const SWAP: &str = "{a, b} becomes {b, a}";

fn swap_first_two(line: &str) -> String {
    let (before, list) = line.split_once('{').expect("a list");
    let (a, rest) = list.split_once(", ").expect("two registers");
    let (b, rest) = rest.split_once(", ").expect("more registers");
    format!("{before}{{{b}, {a}, {rest}")
}

const FAULTS: [Fault; 19] = [
    Fault {
        what: "a barrier of the pipeline is dropped",
        module: PtxModule::Correlate,
        entry: "product_f16",
        line: "bar.sync",
        nth: 1,
        edit: ("", ""),
        caught_by: products::products_are_sums_of_products,
    },
    Fault {
        what: "a slab is used before it has come",
        module: PtxModule::Correlate,
        entry: "product_f16",
        line: "cp.async.wait_group 1",
        nth: 1,
        edit: ("1", "2"),
        caught_by: products::products_are_sums_of_products,
    },
    Fault {
        what: "a copy reads beyond the end of a row",
        module: PtxModule::Correlate,
        entry: "product_f16",
        line: "cp.async.cg",
        nth: 1,
        edit: ("16, %", "16, 16; // %"),
        caught_by: products::products_are_sums_of_products,
    },
    Fault {
        what: "a fragment is read as another kind of number",
        module: PtxModule::Correlate,
        entry: "product_f16",
        line: "mma.sync",
        nth: 3,
        edit: ("row.col.f32.f16.f16.f32", "row.col.f32.bf16.bf16.f32"),
        caught_by: products::products_are_sums_of_products,
    },
    Fault {
        what: "two fragments are swapped",
        module: PtxModule::Correlate,
        entry: "product_f16",
        line: "ldmatrix",
        nth: 2,
        edit: (SWAP, ""),
        caught_by: products::products_are_sums_of_products,
    },
    Fault {
        what: "the permutation of pieces differs between writing and reading",
        module: PtxModule::Correlate,
        entry: "product_bf16",
        line: ", 48;",
        nth: 1,
        edit: (", 48;", ", 16;"),
        caught_by: products::products_are_sums_of_products,
    },
    Fault {
        what: "the tail guard of rows and columns lets one of them pass",
        module: PtxModule::Correlate,
        entry: "product_f16",
        line: "or.pred",
        nth: 2,
        edit: ("or.pred", "and.pred"),
        caught_by: products::products_are_added_with_bias_at_an_offset,
    },
    Fault {
        what: "lanes compare themselves with the wrong lane",
        module: PtxModule::Correlate,
        entry: "fused_f16",
        line: "shfl.sync.bfly",
        nth: 1,
        edit: ("bfly", "idx"),
        caught_by: products::comparisons_find_the_best_partners,
    },
    Fault {
        what: "the histogram is written without taking turns",
        module: PtxModule::Correlate,
        entry: "fused_f16",
        line: "red.shared.add.u32",
        nth: 1,
        edit: ("red.shared.add.u32", "st.shared.u32"),
        caught_by: products::comparisons_find_the_best_partners,
    },
    Fault {
        what: "the smallest is merged in place of the largest",
        module: PtxModule::Reduce,
        entry: "merge_best",
        line: "setp.gt.f32",
        nth: 2,
        edit: ("gt", "lt"),
        caught_by: products::comparisons_find_the_best_partners,
    },
    Fault {
        what: "one half of a symmetric product is not written",
        module: PtxModule::Gram,
        entry: "gram_f16",
        line: "st.global.f32",
        nth: 2,
        edit: ("", ""),
        caught_by: products::gram_is_a_product_with_itself,
    },
    Fault {
        what: "pairs are read with the wrong stride",
        module: PtxModule::Candidates,
        entry: "candidates_f16",
        line: "shl.b64",
        nth: 1,
        edit: (", 1;", ", 2;"),
        caught_by: products::candidates_are_summed_in_f64,
    },
    Fault {
        what: "activations are turned round before all are there",
        module: PtxModule::Activation,
        entry: "activation_f16",
        line: "bar.sync",
        nth: 1,
        edit: ("", ""),
        caught_by: elementwise::activations_are_their_definition,
    },
    Fault {
        what: "softmax subtracts the smallest score",
        module: PtxModule::Forward,
        entry: "attention_f16",
        line: "max.f32",
        nth: 1,
        edit: ("max", "min"),
        caught_by: elementwise::attention_is_its_definition,
    },
    Fault {
        what: "a position sees the one after it",
        module: PtxModule::Forward,
        entry: "attention_f16",
        line: "setp.gt.s32",
        nth: 1,
        edit: ("gt", "ge"),
        caught_by: elementwise::attention_is_its_definition,
    },
    Fault {
        what: "a value on an edge falls in the bin above it",
        module: PtxModule::Activation,
        entry: "histogram",
        line: "cvt.rpi.s32.f64",
        nth: 1,
        edit: ("rpi", "rmi"),
        caught_by: elementwise::pre_activations_are_counted_by_bin,
    },
    Fault {
        what: "a pair of dimensions is mirrored instead of turned",
        module: PtxModule::Forward,
        entry: "rotate",
        line: "sub.f32",
        nth: 1,
        edit: ("sub", "add"),
        caught_by: elementwise::rotation_is_its_definition,
    },
    Fault {
        what: "a change is not bounded from below",
        module: PtxModule::Change,
        entry: "change_values",
        line: "max.f32",
        nth: 1,
        edit: ("max", "min"),
        caught_by: elementwise::changes_are_their_definition,
    },
    Fault {
        what: "the low half of a changed operand stays",
        module: PtxModule::Change,
        entry: "change_operand_f16",
        line: "st.global.u16",
        nth: 2,
        edit: ("", ""),
        caught_by: elementwise::changes_are_their_definition,
    },
];

#[test]
fn planted_faults_are_caught() {
    for fault in &FAULTS {
        let machine = Machine::with(|module, ptx| match module == fault.module {
            true => fault.plant(ptx),
            false => ptx.to_owned(),
        });
        let caught = catch_unwind(AssertUnwindSafe(|| (fault.caught_by)(&machine)));
        let how = caught.expect_err(fault.what);
        let said = how.downcast_ref::<String>().map_or("", String::as_str);
        println!("{}: {}", fault.what, said.lines().next().unwrap_or(""));
    }
}
