//! The layout of a tensor: how it is cut into blocks, and how many values of each block are sent.
//!
//! In every dimension, the side of a block is the largest divisor of the dimension that is at most
//! `block_side`. So the blocks cover the tensor exactly, and all blocks of a tensor have the same shape. For
//! example, with a `block_side` of 64, a matrix of 128 × 352 has blocks of 64 × 44.
//!
//! *Wire order* is the order of blocks by row of the grid and then by column, and within a block of elements
//! row by row. The kept values of one row of blocks are contiguous in it, and so are the parameters they belong
//! to. Threads therefore share rows of blocks.

use templar_manifest::TensorSpec;

use crate::settings::DeltaSettings;

/// The most tensors that a model can have.
pub const MAX_TENSORS: usize = 1 << 20;

/// A list of tensors cannot be laid out in blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A tensor is neither a vector nor a matrix.
    #[error("tensor {tensor}: {dimensions} dimensions, expected 1 or 2")]
    Dimensions {
        /// The name of the tensor.
        tensor: String,
        /// The number of its dimensions.
        dimensions: usize,
    },
    /// A dimension is zero.
    #[error("tensor {tensor}: a dimension is zero")]
    Empty {
        /// The name of the tensor.
        tensor: String,
    },
    /// A position in the tensor does not fit 32 bits.
    #[error("tensor {tensor}: more than 2^32 - 1 elements")]
    TooLarge {
        /// The name of the tensor.
        tensor: String,
    },
    /// There are more tensors than [`MAX_TENSORS`].
    #[error("{0} tensors, at most {MAX_TENSORS} are supported")]
    TooMany(usize),
    /// All tensors together do not fit the address space.
    #[error("the model has more parameters than this machine can address")]
    Model,
}

/// The blocks of one tensor. A vector is laid out as the matrix whose rows are its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockLayout {
    dimensions: usize,
    rows: usize,
    columns: usize,
    height: usize,
    width: usize,
    kept_per_block: usize,
}

fn largest_divisor(n: usize, limit: usize) -> usize {
    (1..=limit.min(n)).rev().find(|side| n.is_multiple_of(*side)).unwrap_or(1)
}

impl BlockLayout {
    /// The blocks of a tensor of this shape.
    ///
    /// A matrix keeps the density of a full block, rounded up: of a block of `len` elements, ⌈top_k · len ÷
    /// block_side²⌉ values are sent. A vector is cut into runs, and `min(top_k, len)` values of each run are
    /// sent. So with the usual settings the few weights of a norm are all sent, as in Templar.
    pub(crate) fn new(spec: &TensorSpec, settings: &DeltaSettings) -> Result<Self, ShapeError> {
        let tensor = || spec.name.clone();
        if !matches!(spec.shape.len(), 1 | 2) {
            return Err(ShapeError::Dimensions { tensor: tensor(), dimensions: spec.shape.len() });
        }
        if spec.shape.contains(&0) {
            return Err(ShapeError::Empty { tensor: tensor() });
        }
        match spec.checked_elements() {
            Some(elements) if u32::try_from(elements).is_ok() => {}
            _ => return Err(ShapeError::TooLarge { tensor: tensor() }),
        }
        // Both fit, since their product does.
        let side = settings.block_side() as usize;
        let top_k = settings.top_k() as usize;
        let dimensions = spec.shape.len();
        let (rows, columns, height, width) = if dimensions == 1 {
            let length = spec.shape[0] as usize;
            let width = largest_divisor(length, side);
            (length / width, width, 1, width)
        } else {
            let (rows, columns) = (spec.shape[0] as usize, spec.shape[1] as usize);
            (rows, columns, largest_divisor(rows, side), largest_divisor(columns, side))
        };
        let len = height * width;
        let kept_per_block = if dimensions == 1 {
            top_k.min(len)
        } else {
            // At most 2^20 times 2^20: beyond 32 bits, so in u64.
            ((top_k as u64 * len as u64).div_ceil((side * side) as u64)) as usize
        };
        Ok(Self { dimensions, rows, columns, height, width, kept_per_block })
    }

    /// The layouts of all tensors, in order, and the number of parameters that they have together.
    pub(crate) fn all(specs: &[TensorSpec], settings: &DeltaSettings) -> Result<(Vec<Self>, usize), ShapeError> {
        if specs.len() > MAX_TENSORS {
            return Err(ShapeError::TooMany(specs.len()));
        }
        let layouts = specs.iter().map(|spec| Self::new(spec, settings)).collect::<Result<Vec<_>, _>>()?;
        let mut total = 0usize;
        for layout in &layouts {
            total = total.checked_add(layout.elements()).ok_or(ShapeError::Model)?;
        }
        Ok((layouts, total))
    }

    pub(crate) const fn elements(&self) -> usize {
        self.rows * self.columns
    }

    /// The number of elements of a block.
    pub(crate) const fn block_len(&self) -> usize {
        self.height * self.width
    }

    pub(crate) const fn kept_per_block(&self) -> usize {
        self.kept_per_block
    }

    pub(crate) const fn blocks(&self) -> usize {
        self.elements() / self.block_len()
    }

    /// The number of values of the tensor that are sent.
    pub(crate) const fn kept(&self) -> usize {
        self.blocks() * self.kept_per_block
    }

    /// The number of consecutive blocks that share a scale: ⌈32 ÷ k⌉, so that a scale serves at least 32 values.
    pub(crate) const fn blocks_per_scale(&self) -> usize {
        32usize.div_ceil(self.kept_per_block)
    }

    /// The number of scales of the tensor.
    pub(crate) const fn scales(&self) -> usize {
        self.blocks().div_ceil(self.blocks_per_scale())
    }

    /// Tells whether every element is sent. Then no positions are sent.
    pub(crate) const fn is_whole(&self) -> bool {
        self.kept_per_block == self.block_len()
    }

    /// The number of blocks in one row of blocks.
    pub(crate) const fn blocks_across(&self) -> usize {
        self.columns / self.width
    }

    /// The number of elements in one row of blocks. They are contiguous in the tensor.
    pub(crate) const fn band_len(&self) -> usize {
        self.height * self.columns
    }

    /// The number of values of one row of blocks that are sent. They are contiguous in wire order.
    pub(crate) const fn band_kept(&self) -> usize {
        self.blocks_across() * self.kept_per_block
    }

    /// The number of rows of blocks that one task should take together, so that a task is worth its start.
    pub(crate) fn bands_per_task(&self) -> usize {
        (16_384 / self.band_len()).max(1)
    }

    /// The position of block `across` in its row of blocks, counted from the row's first element.
    pub(crate) const fn block_start(&self, across: usize) -> usize {
        across * self.width
    }

    /// The position in the tensor of the element at `offset` of a block, counted from the block's first element.
    pub(crate) const fn within_block(&self, offset: usize) -> usize {
        offset / self.width * self.columns + offset % self.width
    }

    pub(crate) const fn columns(&self) -> usize {
        self.columns
    }

    /// The number of elements in one row of a block.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    /// Copies the block that starts at `start` of a row of blocks, in wire order.
    pub(crate) fn gather(&self, band: &[f32], start: usize, block: &mut Vec<f32>) {
        block.clear();
        for row in 0..self.height {
            let from = start + row * self.columns;
            block.extend_from_slice(&band[from..from + self.width]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_manifest::Quantiser;

    fn layout(shape: &[u64], side: u32, top_k: u32) -> Result<BlockLayout, ShapeError> {
        let settings = DeltaSettings::new(side, top_k, Quantiser::Templar4, 0).unwrap();
        BlockLayout::new(&TensorSpec::new("t", shape), &settings)
    }

    #[test]
    fn a_side_is_the_largest_divisor_within_the_limit() {
        // (dimension, limit) → side, from the original's own tests.
        for (n, limit, side) in [(8, 64, 8), (64, 7, 4), (64, 100, 64), (100, 16, 10), (64, 8, 8), (97, 64, 1)] {
            assert_eq!(largest_divisor(n, limit), side, "{n} {limit}");
        }
    }

    #[test]
    fn matrices_keep_the_density_and_vectors_are_sent_whole() {
        let full = layout(&[128, 192], 64, 64).unwrap();
        assert_eq!((full.blocks(), full.block_len(), full.kept_per_block()), (6, 4096, 64));
        let narrow = layout(&[64, 352], 64, 64).unwrap(); // 352 = 8 · 44
        assert_eq!((narrow.block_len(), narrow.kept_per_block()), (64 * 44, 44));
        let prime = layout(&[4099, 64], 64, 64).unwrap();
        assert_eq!((prime.block_len(), prime.kept_per_block()), (64, 1));
        assert_eq!((prime.blocks(), prime.blocks_per_scale(), prime.scales()), (4099, 32, 129));
        assert_eq!((full.blocks_per_scale(), narrow.blocks_per_scale()), (1, 1));
        let norm = layout(&[256], 64, 64).unwrap();
        assert_eq!((norm.blocks(), norm.kept()), (4, 256));
        assert!(norm.is_whole() && !full.is_whole());
        assert_eq!(layout(&[256], 64, 16).unwrap().kept(), 64);
    }

    #[test]
    fn shapes_that_cannot_be_laid_out_are_refused() {
        assert!(matches!(layout(&[], 64, 64), Err(ShapeError::Dimensions { dimensions: 0, .. })));
        assert!(matches!(layout(&[2, 2, 2], 64, 64), Err(ShapeError::Dimensions { dimensions: 3, .. })));
        assert!(matches!(layout(&[4, 0], 64, 64), Err(ShapeError::Empty { .. })));
        assert!(matches!(layout(&[1 << 16, 1 << 16], 64, 64), Err(ShapeError::TooLarge { .. })));
        assert!(matches!(layout(&[u64::MAX, 3], 64, 64), Err(ShapeError::TooLarge { .. })));
    }
}
