//! A kernel in plain Rust for any processor.

/// Adds a 4 × 8 tile of products; fused if the target always has the instruction.
pub unsafe fn portable(k: usize, a: *const u32, b: *const u32, tile: *mut f32, _: *const u32) {
    const MR: usize = 4;
    const NR: usize = 8;
    let fused = cfg!(target_arch = "aarch64");
    let (a, b) = (a.cast::<[f32; MR]>(), b.cast::<[f32; NR]>());
    // SAFETY: the caller gives a whole tile.
    let mut sums = unsafe { tile.cast::<[[f32; NR]; MR]>().read() };
    for step in 0..k {
        // SAFETY: the caller gives `k` packed rows of each.
        let (a, b) = unsafe { (&*a.add(step), &*b.add(step)) };
        for (sums, &a) in sums.iter_mut().zip(a) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum = if fused { a.mul_add(b, *sum) } else { a * b + *sum };
            }
        }
    }
    // SAFETY: the caller gives room for a tile.
    unsafe { tile.cast::<[[f32; NR]; MR]>().write(sums) }
}
