//! Reductions in interleaved parts: a fixed order that vectorises.

use super::wide::Both;

/// Folds value i into part i mod `N`.
#[inline(always)]
pub fn fold_in_parts<const N: usize>(
    values: &[f32],
    parts: &mut [f32; N],
    fold: impl Fn(f32, f32) -> f32,
) {
    let (whole, rest) = values.as_chunks::<N>();
    for values in whole {
        Both(parts.iter_mut(), values.iter()).for_each(|(part, v)| *part = fold(*part, *v));
    }
    Both(parts.iter_mut(), rest.iter()).for_each(|(part, v)| *part = fold(*part, *v));
}

/// Adds a term of each two values to a sum in `N` parts: that of the values i to part i mod `N`.
#[inline(always)]
pub fn add_in_parts<T: Copy, const N: usize>(
    a: &[T],
    b: &[T],
    parts: &mut [f64; N],
    term: impl Fn(T, T) -> f64,
) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<N>(), b.as_chunks::<N>());
    for (a, b) in Both(a.iter(), b.iter()) {
        Both(parts.iter_mut(), Both(a.iter(), b.iter())).for_each(|(p, (a, b))| *p += term(*a, *b));
    }
    let rest = Both(a_rest.iter(), b_rest.iter());
    Both(parts.iter_mut(), rest).for_each(|(p, (a, b))| *p += term(*a, *b));
}
