//! Buffers whose memory is the host's: a `Vec` each. Every device that computes on the host shares these functions.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;
use templar_numerics::{Angles, Mat, Op};

use crate::buffer::{Buffer, Element, View, ViewMut};
use crate::device::{Matrix, RotaryBuffers};

/// The panic message for a view of another device's buffer.
const FOREIGN: &str = "a buffer in the memory of the host";

/// The elements of a view.
///
/// # Panics
/// If the buffer is not one of the host's.
pub fn slice<'a, T: Element>(view: &View<'a, T>) -> &'a [T] {
    let range = place(view.range());
    if range.is_empty() {
        return &[];
    }
    &view.buffer().memory::<Vec<T>>().expect(FOREIGN)[range]
}

/// The elements of a view, to write.
///
/// # Panics
/// If the buffer is not one of the host's.
pub fn slice_mut<'a, T: Element>(view: ViewMut<'a, T>) -> &'a mut [T] {
    let range = place(view.range());
    if range.is_empty() {
        return &mut [];
    }
    &mut view.into_buffer().memory_mut::<Vec<T>>().expect(FOREIGN)[range]
}

/// A matrix of the host as the functions of `templar-numerics` take it: the stored elements, and whether the
/// product sees their transpose.
///
/// # Panics
/// If the buffer is not one of the host's.
pub fn operand<'a>(matrix: &Matrix<'a>) -> (Mat<'a>, Op) {
    let op = if matrix.is_transposed { Op::T } else { Op::N };
    (Mat::new(slice(&matrix.elements), matrix.rows as usize, matrix.cols as usize), op)
}

/// Rotary tables of the host, for heads of `width` elements, as the functions of `templar-numerics` take them.
///
/// # Panics
/// If the buffers are not the host's.
pub fn angles(width: usize, tables: &RotaryBuffers) -> Angles<'_> {
    Angles::new(width, slice(&tables.cos.all()), slice(&tables.sin.all()))
}

/// A range as an index into a `Vec`; every buffer of the host is addressable.
fn place(range: Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// A buffer that owns `values`.
pub fn buffer<T: Element>(values: Vec<T>) -> Buffer<T> {
    Buffer::new(values.len() as u64, Box::new(values))
}

/// A buffer of `len` zeros.
pub fn zeros(len: u64) -> Buffer {
    buffer(vec![0.0; len as usize])
}

/// [`Device::resize`](crate::Device::resize): the `Vec` keeps its capacity.
pub fn resize<T: Element>(buffer: &mut Buffer<T>, len: u64) {
    if buffer.len() == len {
        return;
    }
    let mut values = std::mem::take(buffer).into_memory::<Vec<T>>().unwrap_or_default();
    values.resize(len as usize, T::default());
    *buffer = self::buffer(values);
}

/// [`Device::upload`](crate::Device::upload): owned values are moved.
pub fn upload(values: Cow<'_, [f32]>) -> Buffer {
    buffer(values.into_owned())
}

/// [`Device::upload_ids`](crate::Device::upload_ids) for memory of the host.
pub fn upload_ids(ids: &[u32], buffer: &mut Buffer<u32>) {
    resize(buffer, ids.len() as u64);
    slice_mut(buffer.all_mut()).copy_from_slice(ids);
}

/// [`Device::download`](crate::Device::download): the values are moved.
///
/// # Panics
/// If the buffer is not one of the host's.
pub fn download(buffer: Buffer) -> Vec<f32> {
    if buffer.is_empty() {
        return Vec::new();
    }
    buffer.into_memory().expect(FOREIGN)
}

/// [`Device::hash`](crate::Device::hash). The threads of the current rayon pool share the ranges.
///
/// # Panics
/// If a buffer is not one of the host's, or a range does not lie in it.
pub fn hash(parts: &[&Buffer], ranges: &[Range<u64>], key: Option<&[u8; 32]>) -> Vec<[u8; 32]> {
    let one = |range: &Range<u64>| {
        let mut hasher = key.map_or_else(blake3::Hasher::new, blake3::Hasher::new_keyed);
        for part in parts {
            update(&mut hasher, slice(&part.view(range.clone())));
        }
        hasher.finalize().into()
    };
    ranges.par_iter().map(one).collect()
}

/// Gives the little-endian bytes of `values` to a hasher, without a copy where memory holds them so.
fn update(hasher: &mut blake3::Hasher, values: &[f32]) {
    const PIECE: usize = 16 << 10;
    if cfg!(target_endian = "little") {
        hasher.update(bytemuck::cast_slice(values));
        return;
    }
    for piece in values.chunks(PIECE) {
        let bytes: Vec<u8> = piece.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
}
