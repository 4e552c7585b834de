//! Counts what kernels move and compute on the virtual machine: the part of their speed that can be
//! proved without a GPU.

use universal_neurons::backend::device::array::{Array, HalfMatrix};
use universal_neurons::backend::device::ops::{self, OperandSums, ProductTarget};
use universal_neurons::hostbench::device;

use super::FORMS;
use crate::ptx_vm::Machine;
use crate::ptx_vm::launch::Counts;

/// Returns the counts of one 128 × 128 tile over `tokens` tokens, whose sums are written or
/// searched for best partners.
fn tile(tokens: usize, judged: bool) -> Counts {
    let machine = Machine::new();
    let value = |row: usize, col: usize| (row + col) as f32 / 300.0;
    let x = HalfMatrix::of(&machine, (128, tokens), FORMS[0], value).unwrap();
    let one = Array::of(&machine, &vec![1.0; 128]).unwrap();
    let side = OperandSums { sum: &one, inverse: &one, at: 0 };
    let mut c = Array::new(&machine, 128 * 128).unwrap();
    if judged {
        ops::correlate(&machine, (&x.all(), &x.all(), tokens), (&side, &side), 1.0, 1).unwrap();
    } else {
        let into = ProductTarget { values: &mut c, at: 0, ld: 128, add: false };
        ops::product(&machine, (&x.all(), &x.all(), tokens), into, None).unwrap();
    }
    *machine.counts.lock().unwrap()
}

#[test]
fn products_have_no_bank_conflicts_and_read_each_value_once() {
    let (few, many) = (tile(128, false), tile(256, false));
    println!("128 x 128 tile, 128 tokens: {few:?}\n256 tokens: {many:?}");
    assert_eq!(few.shared, few.shared_turns, "shared memory without conflicts");
    // One tensor instruction computes 16 × 8 × 16 products.
    assert_eq!(many.mma, 128 * 128 * 256 / (16 * 8 * 16));
    assert_eq!(many.global_read - few.global_read, 2 * 128 * 128 * 2, "each value once");
    assert_eq!(few.global_written, 128 * 128 * 4);
    let per_mma = (many.instructions - few.instructions) as f64 / (many.mma - few.mma) as f64;
    println!("{per_mma:.2} instructions for each mma in the loop");
    assert!(per_mma < 5.0, "{per_mma}");
    let judged = tile(256, true);
    println!("256 tokens, judged: {judged:?}");
    assert!(judged.global_written < many.global_written / 10, "no matrix is written");
}

#[test]
fn rates_of_a_device_are_fractions_of_its_product() {
    let rates = device::measure(&Machine::new(), (130, 40)).unwrap();
    let names: Vec<&str> = rates.iter().map(|rate| rate.what).collect();
    assert_eq!(names, ["product", "pairs", "fused", "gram"]);
    assert_eq!(rates[0].of_peak, 1.0);
    assert!(rates.iter().all(|rate| rate.gflops > 0.0));
}
