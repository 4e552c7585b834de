//! A state as its parts, which are written to a file and read back.

/// A part of a state, as the writer and the reader of a checkpoint see it.
pub enum Part<'a> {
    /// A count.
    Count(&'a mut u64),
    /// A fixed-length list of counts.
    Counts(&'a mut [u32]),
    /// A fixed-length list of numbers.
    Numbers(&'a mut [f64]),
    /// A list of any length: activations, in the order of the tokens.
    Values(&'a mut Vec<f32>),
    /// The values subtracted from activations before summing (the pilots), one per neuron.
    Pilot(&'a mut Vec<f32>),
    /// The value subtracted from activations before summing (the pilot).
    Shift(&'a mut f64),
}

/// The function that is called with each part. Its error is that of the file.
pub type Visit<'a> = &'a mut dyn FnMut(Part) -> std::io::Result<()>;

/// A state that can be written and read back as parts in a fixed order. The writer and the
/// reader use the same method, so their orders cannot differ.
pub trait State {
    /// Calls `visit` with every part.
    ///
    /// # Errors
    /// Returns the first error of `visit`.
    fn parts(&mut self, visit: Visit) -> std::io::Result<()>;
}

/// A list of any length: activations, in the order of the tokens.
impl State for Vec<f32> {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        visit(Part::Values(self))
    }
}
