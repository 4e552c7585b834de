//! Compares two series of numbers and returns how much they differ. NaN and infinities never count
//! as equal to anything.

use std::fmt;

/// The allowed difference of a value from the expected one. Meeting either bound is enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Largest absolute difference.
    pub absolute: f64,
    /// Largest difference as a fraction of the expected value.
    pub relative: f64,
}

impl Tolerance {
    /// Returns a tolerance with only an absolute bound.
    pub const fn absolute(absolute: f64) -> Self {
        Self { absolute, relative: 0.0 }
    }

    /// Returns the allowed difference from `want`.
    fn allowed(self, want: f64) -> f64 {
        self.absolute.max(self.relative * want.abs())
    }
}

/// The largest difference between two series, relative to the tolerance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Index in the series.
    pub index: usize,
    /// The value compared.
    pub got: f64,
    /// The value expected.
    pub want: f64,
    /// Difference as a fraction of the tolerance; infinite if a value is not finite.
    pub share: f64,
}

impl Difference {
    fn new(index: usize, got: f64, want: f64, tolerance: Tolerance) -> Self {
        let (off, allowed) = ((got - want).abs(), tolerance.allowed(want));
        let share = match (off, allowed) {
            (0.0, _) => 0.0,
            // NaN and infinities differ from everything, including themselves.
            (off, allowed) if off.is_finite() && allowed > 0.0 => off / allowed,
            _ => f64::INFINITY,
        };
        Self { index, got, want, share }
    }

    /// Returns whether the difference is within the tolerance.
    pub fn within(&self) -> bool {
        self.share <= 1.0
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, got, want, share } = self;
        let off = (got - want).abs();
        write!(f, "[{index}]: got {got}, expected {want}; ")?;
        write!(f, "off by {off:.2e} ({:.2e} of it), {share:.2} tolerances", off / want.abs())
    }
}

/// Returns the largest difference between two series, or `None` if they are empty.
///
/// # Panics
/// Panics if the lengths differ.
pub fn largest_difference(got: &[f64], want: &[f64], tolerance: Tolerance) -> Option<Difference> {
    assert_eq!(got.len(), want.len(), "series of different lengths");
    let pairs = got.iter().zip(want).enumerate();
    pairs
        .map(|(i, (&got, &want))| Difference::new(i, got, want, tolerance))
        .max_by(|a, b| a.share.total_cmp(&b.share))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(got: f64, want: f64, tolerance: Tolerance) -> bool {
        largest_difference(&[got], &[want], tolerance).is_some_and(|d| d.within())
    }

    #[test]
    fn either_bound_is_enough_and_both_are_inclusive() {
        let t = Tolerance { absolute: 0.5, relative: 0.125 };
        assert!(within(1.5, 1.0, t) && !within(1.501, 1.0, t));
        assert!(within(9.0, 8.0, t) && !within(9.01, 8.0, t));
        assert!(within(2.0, 2.0, Tolerance::absolute(0.0)), "equal values need no tolerance");
    }

    #[test]
    fn what_is_not_finite_never_agrees() {
        let t = Tolerance::absolute(f64::MAX);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!within(bad, 1.0, t) && !within(1.0, bad, t) && !within(bad, bad, t));
        }
    }

    #[test]
    fn the_worst_place_is_named() {
        let worst =
            largest_difference(&[1.0, 2.5, 3.1], &[1.0, 2.0, 3.0], Tolerance::absolute(1.0));
        assert_eq!(worst.map(|d| (d.index, d.share)), Some((1, 0.5)));
    }
}
