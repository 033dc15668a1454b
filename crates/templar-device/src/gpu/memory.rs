//! Buffers in the memory of a driver.

use std::collections::HashMap;

use super::Gpu;
use super::driver::{Driver, DriverError};
use crate::buffer::{Buffer, Element, View};
use crate::device::DeviceError;

/// The memory of a buffer.
pub(super) struct Held<D: Driver> {
    memory: D::Memory,
    /// Words that the memory has room for.
    capacity: u64,
    /// The device that it belongs to.
    device: u64,
    /// For ids: the rows before and after each row with the same id; see [`links`].
    links: Option<D::Memory>,
}

/// Marks the end of a chain of rows with the same id.
const NONE: u32 = u32::MAX;

/// For each row the row before it and the row after it that have the same id.
fn links(ids: &[u32]) -> Vec<u32> {
    let mut links = vec![NONE; 2 * ids.len()];
    let mut last: HashMap<u32, usize> = HashMap::new();
    for (row, id) in ids.iter().enumerate() {
        if let Some(before) = last.insert(*id, row) {
            links[2 * row] = before as u32;
            links[2 * before + 1] = row as u32;
        }
    }
    links
}

impl<D: Driver> Gpu<D> {
    /// Memory for so many words, at least one.
    pub(super) fn allocate(&self, words: u64) -> Result<D::Memory, DeviceError> {
        self.check()?;
        match self.driver.allocate(words.max(1)) {
            // The caller may make do with less: the device itself goes on.
            Err(error @ DriverError::OutOfMemory { .. }) => Err(super::named(self.driver.name(), error)),
            result => result.map_err(|error| self.fail(error)),
        }
    }

    /// Memory that holds these words.
    pub(super) fn with_words(&self, words: &[u32]) -> Result<D::Memory, DeviceError> {
        let memory = self.allocate(words.len() as u64)?;
        if !words.is_empty() {
            self.driver.write(&memory, 0, words).map_err(|error| self.fail(error))?;
        }
        Ok(memory)
    }

    /// Reads words back, once everything before has been done.
    pub(super) fn words(&self, memory: &D::Memory, at: u64, words: &mut [u32]) -> Result<(), DeviceError> {
        self.check()?;
        if words.is_empty() {
            return Ok(());
        }
        self.driver.read(memory, at, words).map_err(|error| self.fail(error))?;
        self.check()
    }

    /// A new buffer with unspecified contents.
    pub(super) fn buffer<T: Element>(&self, len: u64) -> Result<Buffer<T>, DeviceError> {
        let held = Held::<D> { memory: self.allocate(len)?, capacity: len.max(1), device: self.id, links: None };
        Ok(Buffer::new(len, Box::new(held)))
    }

    /// Makes a buffer `len` elements long, in the memory that it has if there is enough.
    pub(super) fn resize_buffer<T: Element>(&self, buffer: &mut Buffer<T>, len: u64) -> Result<(), DeviceError> {
        if buffer.len() == len {
            return Ok(());
        }
        match std::mem::take(buffer).into_memory::<Held<D>>() {
            Some(held) if held.device == self.id && held.capacity >= len => {
                *buffer = Buffer::new(len, Box::new(held));
            }
            // The old memory is given back before the new is asked for.
            held => {
                drop(held);
                *buffer = self.buffer(len)?;
            }
        }
        Ok(())
    }

    /// Puts ids into a buffer, with the links of equal ones.
    pub(super) fn write_ids(&self, ids: &[u32], buffer: &mut Buffer<u32>) -> Result<(), DeviceError> {
        self.resize_buffer(buffer, ids.len() as u64)?;
        if ids.is_empty() {
            return Ok(());
        }
        let links = self.with_words(&links(ids))?;
        let Some(held) = buffer.memory_mut::<Held<D>>() else { return Ok(()) };
        self.driver.write(&held.memory, 0, ids).map_err(|error| self.fail(error))?;
        held.links = Some(links);
        Ok(())
    }

    /// The memory of a view and the element at which it begins.
    ///
    /// # Panics
    /// If the buffer is not this device's.
    pub(super) fn place<'a, T: Element>(&'a self, view: &View<'a, T>) -> (&'a D::Memory, u64) {
        match view.buffer().memory::<Held<D>>() {
            Some(held) => {
                assert_eq!(held.device, self.id, "a buffer in the memory of this device");
                (&held.memory, view.range().start)
            }
            None => {
                assert!(view.is_empty(), "a buffer in the memory of this device");
                (&self.nothing, 0)
            }
        }
    }

    /// The links of a buffer of ids.
    ///
    /// # Panics
    /// If the buffer is not this device's.
    pub(super) fn links_of<'a>(&'a self, ids: &View<'a, u32>) -> &'a D::Memory {
        let held = ids.buffer().memory::<Held<D>>();
        held.and_then(|held| held.links.as_ref()).expect("ids that were uploaded to this device")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_from_each_row_to_its_neighbours_of_the_same_id() {
        assert_eq!(links(&[7, 3, 7, 7, 3]), [NONE, 2, NONE, 4, 0, 3, 2, NONE, 1, NONE]);
        assert!(links(&[]).is_empty());
    }
}
