//! Numbers that may not exist, in JSON.
//!
//! JSON has no NaN and no infinity: both are written as null, and null is read as NaN.
//! Every field of a file of a run that holds computed numbers is read by [`or_nan`], so that
//! what one run writes the next command reads, whatever the values are.

use std::collections::BTreeMap;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};

/// Numbers of which some may be null in JSON.
pub trait Nullable: Sized {
    /// The same with a null for each number that does not exist.
    type Stored: DeserializeOwned;

    /// Replaces each null by NaN.
    fn restored(stored: Self::Stored) -> Self;
}

impl Nullable for f64 {
    type Stored = Option<f64>;

    fn restored(stored: Self::Stored) -> Self {
        stored.unwrap_or(f64::NAN)
    }
}

impl<T: Nullable> Nullable for Vec<T> {
    type Stored = Vec<T::Stored>;

    fn restored(stored: Self::Stored) -> Self {
        stored.into_iter().map(T::restored).collect()
    }
}

impl<T: Nullable> Nullable for BTreeMap<String, T> {
    type Stored = BTreeMap<String, T::Stored>;

    fn restored(stored: Self::Stored) -> Self {
        stored.into_iter().map(|(name, value)| (name, T::restored(value))).collect()
    }
}

impl<T: Nullable> Nullable for (String, T) {
    type Stored = (String, T::Stored);

    fn restored((name, value): Self::Stored) -> Self {
        (name, T::restored(value))
    }
}

/// Reads numbers, NaN for null; for `#[serde(deserialize_with)]`.
///
/// # Errors
/// Returns an error if a value is neither a number nor null.
pub fn or_nan<'de, D: Deserializer<'de>, T: Nullable>(from: D) -> Result<T, D::Error> {
    T::Stored::deserialize(from).map(T::restored)
}
