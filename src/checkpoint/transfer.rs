//! Adding a state to another one in memory, as the shares of a run are added from files.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::thread;

use super::file::{Hashed, add, read_state, write_state};
use super::state::State;

/// Bytes between the two threads.
const BUFFER: usize = 1 << 20;

/// Adds the parts of `from` to those of `to`. Neither is copied as a whole: one thread writes what
/// another adds.
///
/// # Errors
/// Returns an error of one of the states, or one that says how they do not belong together: they
/// have other pilots or another shape.
pub fn add_state(to: &mut dyn State, from: &mut (dyn State + Send)) -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    thread::scope(|scope| {
        let writing = scope.spawn(move || {
            let mut out = BufWriter::with_capacity(BUFFER, writer);
            write_state(&mut Hashed::new(&mut out as &mut dyn Write), from)?;
            out.flush()
        });
        let mut stored = BufReader::with_capacity(BUFFER, reader);
        let added = read_state(&mut Hashed::new(&mut stored as &mut dyn Read), to, add);
        // Closes the pipe, so that a writer whose bytes are no longer read ends.
        drop(stored);
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match added {
            // The state ended early because the writer failed: its error is the cause.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => written.and(Err(e)),
            Err(e) => Err(e),
            Ok(()) => written,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::state::{Part, Visit};
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Sums {
        n: u64,
        bins: Vec<u32>,
        sums: Vec<f64>,
        pending: Vec<f32>,
        pilot: Vec<f32>,
        fails: bool,
    }

    impl State for Sums {
        fn parts(&mut self, visit: Visit) -> io::Result<()> {
            visit(Part::Count(&mut self.n))?;
            visit(Part::Pilot(&mut self.pilot))?;
            visit(Part::Counts(&mut self.bins))?;
            if self.fails {
                return Err(io::Error::other("the card fell off the bus"));
            }
            visit(Part::Numbers(&mut self.sums))?;
            visit(Part::Values(&mut self.pending))
        }
    }

    /// Sums that are larger than what is buffered.
    fn sums(n: u64) -> Sums {
        let x = n as f64;
        Sums {
            n,
            bins: vec![n as u32; 3],
            sums: (0..400_000).map(|i| x + f64::from(i)).collect(),
            pending: vec![x as f32; 20_000],
            pilot: vec![0.5, -0.0],
            fails: false,
        }
    }

    #[test]
    fn parts_are_added_and_lists_appended() {
        let (mut to, mut from) = (sums(1), sums(2));
        add_state(&mut to, &mut from).expect("added");
        assert_eq!(from, sums(2), "what is added stays");
        assert_eq!((to.n, to.bins), (3, vec![3; 3]));
        assert!(to.sums.iter().zip(0..).all(|(v, i)| *v == 3.0 + 2.0 * f64::from(i)));
        assert_eq!(to.pending, [vec![1.0; 20_000], vec![2.0; 20_000]].concat());
    }

    #[test]
    fn states_that_do_not_belong_together_are_refused() {
        let refused = |change: &dyn Fn(&mut Sums)| {
            let mut from = sums(2);
            change(&mut from);
            add_state(&mut sums(1), &mut from).expect_err("refused").to_string()
        };
        assert!(refused(&|from| from.pilot[0] = 0.25).contains("relative to other values"));
        assert_eq!(refused(&|from| from.fails = true), "the card fell off the bus");
        for shape in [399_999, 400_001] {
            refused(&|from| from.sums.resize(shape, 0.0));
        }
    }
}
