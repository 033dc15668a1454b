//! The flat gradient of a step, which grows micro-batch by micro-batch.
//!
//! The gradient of each micro-batch begins at +0. The step's gradient is the first micro-batch's, to which the others
//! are added in their order. So the first one is written in place. Each later one is computed tensor by tensor in a
//! room beside it and added: that takes the memory of the largest tensor, not of a second gradient.

use std::ops::Range;

use templar_device::{Buffer, Device, DeviceError, ViewMut};

use crate::layout::Layout;

/// Room for the gradients of a later micro-batch.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    /// One tensor of a layer, or one norm.
    tensor: Buffer,
    /// The embedding or the output head, `[vocab, hidden]`. Where the two are tied it is gathered during the whole
    /// backward pass.
    vocabulary: Buffer,
}

impl Rooms {
    /// Makes the rooms as large as the tensors of `layout`.
    pub(crate) fn resize(&mut self, device: &dyn Device, layout: &Layout) -> Result<(), DeviceError> {
        let len = |range: &Range<u64>| range.end - range.start;
        let of_layer = layout.layers.iter().flat_map(|layer| {
            [&layer.qkv, &layer.attention_out, &layer.gate, &layer.up, &layer.down, &layer.attention_norm]
        });
        device.resize(&mut self.tensor, of_layer.map(len).max().unwrap_or(0))?;
        device.resize(&mut self.vocabulary, len(&layout.embedding))
    }
}

/// The flat gradient while one micro-batch adds to it.
#[derive(Debug)]
pub(crate) struct StepGradient<'a> {
    device: &'a dyn Device,
    /// The gradient of the step, `[parameter_count]`.
    flat: &'a mut Buffer,
    /// Where a later micro-batch is computed; the first one is computed in place.
    rooms: Option<&'a mut Rooms>,
}

impl<'a> StepGradient<'a> {
    /// The gradient `flat` for its first micro-batch, or, with rooms, for a later one.
    pub(crate) fn new(device: &'a dyn Device, flat: &'a mut Buffer, rooms: Option<&'a mut Rooms>) -> Self {
        Self { device, flat, rooms }
    }

    /// Takes up the gradient of the tensors at `place`, which `compute` writes whole.
    pub(crate) fn write(&mut self, place: &Range<u64>, compute: impl FnOnce(ViewMut<'_>)) {
        match &mut self.rooms {
            None => compute(self.flat.view_mut(place.clone())),
            Some(rooms) => {
                let room = 0..place.end - place.start;
                compute(rooms.tensor.view_mut(room.clone()));
                self.device.add(self.flat.view_mut(place.clone()), rooms.tensor.view(room));
            }
        }
    }

    /// Takes up the gradient of the tensor at `place`, which `compute` adds to zeros.
    pub(crate) fn gather(&mut self, place: &Range<u64>, compute: impl FnOnce(ViewMut<'_>)) {
        let device = self.device;
        self.write(place, |mut gradient| {
            device.fill(gradient.part(0..place.end - place.start), 0.0);
            compute(gradient);
        });
    }

    /// Where this micro-batch's gradient of the embedding or of the head, which lies at `place`, is gathered until
    /// [`StepGradient::add_vocabulary`].
    pub(crate) fn vocabulary(&mut self, place: &Range<u64>) -> ViewMut<'_> {
        match &mut self.rooms {
            None => self.flat.view_mut(place.clone()),
            Some(rooms) => rooms.vocabulary.all_mut(),
        }
    }

    /// Takes up what was gathered in [`StepGradient::vocabulary`] for `place`.
    pub(crate) fn add_vocabulary(&mut self, place: &Range<u64>) {
        if let Some(rooms) = &self.rooms {
            self.device.add(self.flat.view_mut(place.clone()), rooms.vocabulary.all());
        }
    }
}
