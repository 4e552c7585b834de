//! Memory that records which bytes were written, by which thread, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Write counts saturate at this value.
pub const MANY: u8 = 3;

/// Global memory: its bytes, and for each byte whether it was ever written (bit 0) and how often in
/// the last launch.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<AtomicU8>,
    state: Vec<AtomicU8>,
    /// Bytes of all buffers of a machine, this one included.
    allocated: Arc<AtomicUsize>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.allocated.fetch_sub(self.len(), Relaxed);
    }
}

impl Buffer {
    pub fn new(bytes: usize) -> Self {
        Self::counted(bytes, Arc::default())
    }

    /// Adds the size of the buffer to `allocated` for as long as it exists.
    pub fn counted(bytes: usize, allocated: Arc<AtomicUsize>) -> Self {
        allocated.fetch_add(bytes, Relaxed);
        let fill = |v: u8| (0..bytes).map(|_| AtomicU8::new(v)).collect();
        // A bit pattern that is NaN in every width.
        Self { bytes: fill(0xff), state: fill(0), allocated }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn begin_launch(&self) {
        self.state.iter().for_each(|s| s.store(s.load(Relaxed) & 1, Relaxed));
    }

    /// Returns how often each byte was written in the last launch, at most [`MANY`].
    pub fn writes(&self) -> Vec<u8> {
        self.state.iter().map(|s| s.load(Relaxed) >> 1).collect()
    }

    pub fn load(&self, at: usize, bytes: usize) -> Result<u64, String> {
        let mut value = 0;
        for i in 0..bytes {
            if self.state[at + i].load(Relaxed) == 0 {
                return Err(format!("reads byte {} before anything was written there", at + i));
            }
            value |= u64::from(self.bytes[at + i].load(Relaxed)) << (8 * i);
        }
        Ok(value)
    }

    pub fn store(&self, at: usize, bytes: usize, value: u64) {
        for i in 0..bytes {
            let state = &self.state[at + i];
            let writes = (state.load(Relaxed) >> 1).saturating_add(1).min(MANY);
            state.store(writes << 1 | 1, Relaxed);
            self.bytes[at + i].store((value >> (8 * i)) as u8, Relaxed);
        }
    }

    /// Writes from the host.
    pub fn fill(&self, at: usize, bytes: &[u8]) {
        for (i, &byte) in bytes.iter().enumerate() {
            self.bytes[at + i].store(byte, Relaxed);
            self.state[at + i].store(1, Relaxed);
        }
    }

    pub fn copy_to(&self, at: usize, bytes: &mut [u8]) -> Result<(), String> {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = self.load(at + i, 1)? as u8;
        }
        Ok(())
    }
}

/// The kind of an access to shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Atomic,
}

#[derive(Debug, Clone, Copy, Default)]
struct Byte {
    value: u8,
    written: bool,
    /// The epoch and thread of the last write, and whether it was atomic.
    write: Option<(u32, u16, bool)>,
    /// The epoch and thread of the last read; no thread if several read in the same epoch.
    read: Option<(u32, Option<u16>)>,
}

/// Shared memory of a block. It detects races: two threads that access the same byte without a
/// barrier in between, at least one of them writing.
#[derive(Debug)]
pub struct Shared {
    bytes: Vec<Byte>,
    /// Number of barriers passed.
    pub epoch: u32,
}

impl Shared {
    pub fn new(bytes: usize) -> Self {
        Self::counted(bytes, Arc::default())
    }

    /// Adds the size of the buffer to `allocated` for as long as it exists.
    pub fn counted(bytes: usize, allocated: Arc<AtomicUsize>) -> Self {
        allocated.fetch_add(bytes, Relaxed);
        Self { bytes: vec![Byte::default(); bytes], epoch: 0 }
    }

    fn touch(&mut self, at: usize, thread: u16, how: Access) -> Result<(), String> {
        let epoch = self.epoch;
        let byte = &mut self.bytes[at];
        let race = |what: &str, who: u16| {
            Err(format!("race at shared byte {at}: thread {who} {what} it since the last barrier"))
        };
        if let Some((then, who, atomic)) = byte.write
            && then == epoch
            && who != thread
            && !(atomic && how == Access::Atomic)
        {
            return race("wrote", who);
        }
        if how == Access::Read {
            byte.read = match byte.read {
                Some((then, who)) if then == epoch && who != Some(thread) => Some((epoch, None)),
                _ => Some((epoch, Some(thread))),
            };
            return Ok(());
        }
        if let Some((then, who)) = byte.read
            && then == epoch
            && who != Some(thread)
        {
            return race("read", who.unwrap_or(u16::MAX));
        }
        byte.write = Some((epoch, thread, how == Access::Atomic));
        Ok(())
    }

    fn inside(&self, at: u64, bytes: usize) -> Result<usize, String> {
        let end = at.checked_add(bytes as u64);
        match end.is_some_and(|end| end <= self.bytes.len() as u64) {
            true => Ok(at as usize),
            false => {
                Err(format!("shared address {at} of {} bytes is out of bounds", self.bytes.len()))
            }
        }
    }

    pub fn load(&mut self, at: u64, bytes: usize, thread: u16, how: Access) -> Result<u64, String> {
        let at = self.inside(at, bytes)?;
        let mut value = 0;
        for i in 0..bytes {
            self.touch(at + i, thread, how)?;
            if !self.bytes[at + i].written {
                return Err(format!(
                    "reads shared byte {} before anything was written there",
                    at + i
                ));
            }
            value |= u64::from(self.bytes[at + i].value) << (8 * i);
        }
        Ok(value)
    }

    pub fn store(
        &mut self,
        at: u64,
        bytes: usize,
        thread: u16,
        how: Access,
        value: u64,
    ) -> Result<(), String> {
        let at = self.inside(at, bytes)?;
        for i in 0..bytes {
            self.touch(at + i, thread, how)?;
            let byte = &mut self.bytes[at + i];
            (byte.value, byte.written) = ((value >> (8 * i)) as u8, true);
        }
        Ok(())
    }

    /// Marks the destination of an asynchronous copy, which nobody may read until the copy has
    /// arrived.
    pub fn expect(&mut self, at: u64, bytes: usize, thread: u16) -> Result<(), String> {
        let at = self.inside(at, bytes)?;
        for i in at..at + bytes {
            self.touch(i, thread, Access::Write)?;
            self.bytes[i].written = false;
        }
        Ok(())
    }
}
