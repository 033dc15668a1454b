//! Memory of a device: buffers, and views of a part of one.
//!
//! A buffer is opaque. Only the device that made it knows what its memory is: a `Vec` for a CPU, an allocation of its
//! driver for a GPU. Offsets and lengths are in elements and have 64 bits on every machine.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

/// The type of a buffer's elements: `f32` for numbers, `u32` for token ids.
pub trait Element: Copy + Default + Send + Sync + fmt::Debug + sealed::Sealed + 'static {}

impl Element for f32 {}
impl Element for u32 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u32 {}
}

/// A run of elements in the memory of a device.
///
/// [`Buffer::default`] is empty and belongs to no device; [`Device::resize`](crate::Device::resize) gives it memory.
pub struct Buffer<T: Element = f32> {
    len: u64,
    memory: Box<dyn Any + Send + Sync>,
    element: PhantomData<T>,
}

impl<T: Element> Default for Buffer<T> {
    fn default() -> Self {
        Self::new(0, Box::new(()))
    }
}

impl<T: Element> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer<{}>({} elements)", std::any::type_name::<T>(), self.len)
    }
}

impl<T: Element> Buffer<T> {
    /// A buffer of `len` elements. For devices: `memory` is whatever the device keeps them in.
    pub fn new(len: u64, memory: Box<dyn Any + Send + Sync>) -> Self {
        Self { len, memory, element: PhantomData }
    }

    /// The number of elements in the buffer.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory as the device that made it knows it; `None` where another device made it.
    pub fn memory<M: 'static>(&self) -> Option<&M> {
        self.memory.downcast_ref()
    }

    /// Mutable form of [`Buffer::memory`].
    pub fn memory_mut<M: 'static>(&mut self) -> Option<&mut M> {
        self.memory.downcast_mut()
    }

    /// Owning form of [`Buffer::memory`]: takes the memory out of the buffer.
    pub fn into_memory<M: 'static>(self) -> Option<M> {
        self.memory.downcast().ok().map(|memory| *memory)
    }

    /// The whole buffer, to read.
    pub fn all(&self) -> View<'_, T> {
        View { buffer: self, range: 0..self.len }
    }

    /// The whole buffer, to write.
    pub fn all_mut(&mut self) -> ViewMut<'_, T> {
        ViewMut { range: 0..self.len, buffer: self }
    }

    /// Elements `range`, to read.
    ///
    /// # Panics
    /// If the range does not lie in the buffer.
    pub fn view(&self, range: Range<u64>) -> View<'_, T> {
        check(&range, self.len);
        View { buffer: self, range }
    }

    /// Elements `range`, to write.
    ///
    /// # Panics
    /// If the range does not lie in the buffer.
    pub fn view_mut(&mut self, range: Range<u64>) -> ViewMut<'_, T> {
        check(&range, self.len);
        ViewMut { buffer: self, range }
    }
}

fn check(range: &Range<u64>, len: u64) {
    assert!(range.start <= range.end && range.end <= len, "elements {range:?} of a buffer of {len}");
}

/// A part of a buffer, to read.
#[derive(Debug, Clone)]
pub struct View<'a, T: Element = f32> {
    buffer: &'a Buffer<T>,
    range: Range<u64>,
}

impl<'a, T: Element> View<'a, T> {
    /// The buffer that this is a part of.
    pub fn buffer(&self) -> &'a Buffer<T> {
        self.buffer
    }

    /// The place in the buffer.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The number of elements in the view.
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Elements `range` of this view.
    ///
    /// # Panics
    /// If the range does not lie in the view.
    pub fn part(&self, range: Range<u64>) -> View<'a, T> {
        check(&range, self.len());
        View { buffer: self.buffer, range: self.range.start + range.start..self.range.start + range.end }
    }
}

/// A part of a buffer, to write.
#[derive(Debug)]
pub struct ViewMut<'a, T: Element = f32> {
    buffer: &'a mut Buffer<T>,
    range: Range<u64>,
}

impl<'a, T: Element> ViewMut<'a, T> {
    /// The buffer that this is a part of, for the rest of the view's life.
    pub fn into_buffer(self) -> &'a mut Buffer<T> {
        self.buffer
    }

    /// The place in the buffer.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The number of elements in the view.
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The same part, to read.
    pub fn as_view(&self) -> View<'_, T> {
        View { buffer: self.buffer, range: self.range.clone() }
    }

    /// Elements `range` of this view, borrowed from it.
    ///
    /// # Panics
    /// If the range does not lie in the view.
    pub fn part(&mut self, range: Range<u64>) -> ViewMut<'_, T> {
        check(&range, self.len());
        let range = self.range.start + range.start..self.range.start + range.end;
        ViewMut { buffer: self.buffer, range }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_parts_lie_where_they_should() {
        let mut buffer = Buffer::<f32>::new(10, Box::new(vec![0.0f32; 10]));
        assert_eq!(buffer.view(2..8).part(1..3).range(), 3..5);
        assert_eq!(buffer.view_mut(2..8).part(6..6).range(), 8..8);
        assert!(buffer.memory::<Vec<f32>>().is_some() && buffer.memory::<Vec<u32>>().is_none());
        assert!(Buffer::<u32>::default().is_empty());
    }

    #[test]
    #[should_panic(expected = "elements 2..7 of a buffer of 6")]
    fn a_part_beyond_its_view_is_refused() {
        let _ = Buffer::<f32>::new(10, Box::new(())).view(2..8).part(2..7);
    }
}
