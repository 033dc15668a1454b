//! Reads the values of one tensor from its body, and checks them on the way.

use std::ops::Range;

use super::TensorFault;
use super::front::{FrontLevels, TensorBody};
use crate::bits::word;
use crate::golomb::{self, Broken, GROUP};
use crate::layout::BlockLayout;
use crate::quantise::{LEVELS, Levels};
use crate::rans;
use crate::scale::MAX_SCALE;

/// The numbers of one part of a body, and the words for an error in them.
struct NumberReader<'a> {
    what: &'static str,
    reader: golomb::GolombReader<'a>,
    m: u32,
    range: Range<usize>,
    /// The position of the front, which states the parameter.
    front: usize,
}

impl<'a> NumberReader<'a> {
    fn new(what: &'static str, bytes: &'a [u8], body: &TensorBody, range: Range<usize>, m: u32) -> Self {
        Self { what, reader: golomb::GolombReader::new(&bytes[range.clone()], m), m, range, front: body.start }
    }

    /// Fills in the next group. `beyond` is the fault where its numbers are larger than any can be.
    fn group(&mut self, numbers: &mut [u32], beyond: TensorFault) -> Result<(), (usize, TensorFault)> {
        self.reader.group(numbers).map_err(|broken| self.fault(broken, beyond))
    }

    /// Checks that nothing is left and that the parameter was that of the mean.
    fn finish(&self) -> Result<(), (usize, TensorFault)> {
        // No number is read here that could be beyond a range.
        self.reader.finish().map_err(|broken| self.fault(broken, TensorFault::Number))
    }

    fn fault(&self, broken: Broken, beyond: TensorFault) -> (usize, TensorFault) {
        let (what, bytes) = (self.what, self.range.len());
        match broken {
            Broken::Overrun => (self.range.end, TensorFault::Overrun { what, bytes }),
            Broken::Range => (self.at(), beyond),
            Broken::Padding => (self.at(), TensorFault::Padding { what, bytes }),
            Broken::Parameter => (self.front, TensorFault::Golomb { what, found: self.m }),
        }
    }

    /// The byte in which the next group begins.
    fn at(&self) -> usize {
        self.range.start + self.reader.byte()
    }
}

/// The scale that follows `before` at this step, if there is one.
fn stepped(before: u16, step: u32) -> Option<u16> {
    let step = (step >> 1) as i32 ^ -((step & 1) as i32);
    u16::try_from(i32::from(before) + step).ok().filter(|scale| *scale <= MAX_SCALE)
}

/// The levels of a tensor with `count` scales: the values that its codes decode to.
pub(crate) fn levels(body: &TensorBody, count: usize, bytes: &[u8]) -> Result<Levels, (usize, TensorFault)> {
    let (first, m, ratios) = match body.levels {
        FrontLevels::Table(levels) => return Ok(Levels::Table(levels)),
        FrontLevels::Scales { first, m, ratios } => (first, m, ratios),
    };
    let mut numbers = NumberReader::new("scales", bytes, body, body.scales.clone(), m);
    let mut scales = Vec::with_capacity(count);
    scales.push(first);
    let mut scale = first;
    let mut steps = [0; GROUP];
    while scales.len() < count {
        let steps = &mut steps[..GROUP.min(count - scales.len())];
        let at = numbers.at();
        numbers.group(steps, TensorFault::Scale { place: scales.len() })?;
        for &step in &*steps {
            scale = stepped(scale, step).ok_or((at, TensorFault::Scale { place: scales.len() }))?;
            scales.push(scale);
        }
    }
    numbers.finish()?;
    Ok(match ratios {
        Some(ratios) => Levels::Ratios(ratios, scales),
        None => Levels::Signs(scales),
    })
}

/// The codes of a tensor as they are read: one bit each, or with an entropy code.
enum Codes<'a> {
    Signs(&'a [u8]),
    Coded(rans::RansReader<'a>),
}

/// The values that are read together: a group of gaps, and a code for each.
struct ValueGroup {
    gaps: [u32; GROUP],
    codes: [u8; GROUP],
    /// The values that are not visited yet.
    left: Range<usize>,
    /// The number of values of the tensor in this group and in those before it.
    read: usize,
    /// The byte in which the positions of the group begin.
    at: usize,
}

/// Reads the kept values of one tensor from its body, block after block in wire order. It never holds more than
/// a group of decoded values. Any spelling but the one that is allowed is refused on the way, with its position
/// in the bytes.
pub(crate) struct Blocks<'a> {
    layout: BlockLayout,
    body: &'a TensorBody,
    levels: Levels,
    positions: NumberReader<'a>,
    codes: Codes<'a>,
    group: ValueGroup,
    block: usize,
    /// How often each code was read, and the set of codes of the values whose scale is not 0.
    counts: [u64; LEVELS],
    used: u8,
    nonzero: bool,
    squares: f64,
}

/// One of each code, as an addend to the counts of the codes but the first. Each count has 21 bits, because no
/// block has more than 2^20 values.
const ONE: [u64; LEVELS] = [0, 1, 1 << 21, 1 << 42];

impl<'a> Blocks<'a> {
    /// Starts to read the blocks of a body that lies within `bytes`.
    pub(crate) fn new(
        layout: &BlockLayout,
        body: &'a TensorBody,
        bytes: &'a [u8],
    ) -> Result<Self, (usize, TensorFault)> {
        let start = body.codes.start;
        let codes = &bytes[body.codes.clone()];
        let codes = if body.frequencies == [0; LEVELS] {
            let (found, expected) = (codes.len(), layout.kept().div_ceil(8));
            if found != expected {
                return Err((start, TensorFault::CodeBytes { found, expected }));
            }
            Codes::Signs(codes)
        } else {
            let reader = rans::RansReader::new(codes, layout.kept(), body.frequencies);
            Codes::Coded(reader.ok_or((start, TensorFault::Codes(codes.len())))?)
        };
        Ok(Self {
            layout: *layout,
            body,
            levels: levels(body, layout.scales(), bytes)?,
            positions: NumberReader::new("positions", bytes, body, body.indices.clone(), body.m),
            codes,
            group: ValueGroup { gaps: [0; GROUP], codes: [0; GROUP], left: 0..0, read: 0, at: body.indices.start },
            block: 0,
            counts: [0; LEVELS],
            used: 0,
            nonzero: false,
            squares: 0.0,
        })
    }

    /// The values that the codes of the next block decode to.
    pub(crate) fn levels(&self) -> [f32; LEVELS] {
        self.levels.of_scale(self.block / self.layout.blocks_per_scale())
    }

    /// Calls `visit` with the position and the code of each value that is sent of the next block.
    #[inline(always)]
    pub(crate) fn next(&mut self, mut visit: impl FnMut(u32, u8)) -> Result<(), (usize, TensorFault)> {
        let (len, kept) = (self.layout.block_len() as u32, self.layout.kept_per_block());
        let mut counts = 0u64;
        let (mut next, mut left) = (0u32, kept);
        while left > 0 {
            if self.group.left.is_empty() {
                self.read_group()?;
            }
            let Range { start, end } = self.group.left;
            let end = end.min(start + left);
            for (&gap, &code) in self.group.gaps[start..end].iter().zip(&self.group.codes[start..end]) {
                // Both are below 2^30.
                let offset = next.wrapping_add(gap);
                if offset >= len {
                    return Err((self.group.at, self.beyond()));
                }
                next = offset.wrapping_add(1);
                counts = counts.wrapping_add(ONE[usize::from(code & 3)]);
                visit(offset, code);
            }
            left -= end - start;
            self.group.left.start = end;
        }
        self.close_block(counts)
    }

    /// Adds the counts of the block that was read, and checks them.
    #[inline(always)]
    fn close_block(&mut self, counts: u64) -> Result<(), (usize, TensorFault)> {
        let mut counts: [u64; LEVELS] = [0, counts & 0x1f_ffff, counts >> 21 & 0x1f_ffff, counts >> 42];
        counts[0] = self.layout.kept_per_block() as u64 - counts[1] - counts[2] - counts[3];
        if !self.levels.is_zero(self.block / self.layout.blocks_per_scale()) {
            self.nonzero = true;
            self.used |= (0..LEVELS).fold(0, |used, code| used | u8::from(counts[code] > 0) << code);
        } else if counts[0] != self.layout.kept_per_block() as u64 {
            return Err((self.body.codes.start, TensorFault::ZeroBlock { block: self.block }));
        }
        let levels = self.levels();
        for ((sum, count), level) in self.counts.iter_mut().zip(counts).zip(levels) {
            *sum += count;
            self.squares += count as f64 * (f64::from(level) * f64::from(level));
        }
        self.block += 1;
        Ok(())
    }

    /// Reads the next group of values of the tensor. A group may begin and end within a block.
    fn read_group(&mut self) -> Result<(), (usize, TensorFault)> {
        let (start, count) = (self.group.read, GROUP.min(self.layout.kept() - self.group.read));
        let beyond = self.beyond();
        self.group.at = self.positions.at();
        if !self.layout.is_whole() {
            self.positions.group(&mut self.group.gaps[..count], beyond)?;
        }
        match &mut self.codes {
            Codes::Coded(reader) => reader.read(&mut self.group.codes[..count]),
            Codes::Signs(bytes) => {
                let bits = word(bytes, start as u64 / 8);
                (0..).zip(&mut self.group.codes).for_each(|(place, code)| *code = (bits >> place & 1) as u8);
            }
        }
        self.group.left = 0..count;
        self.group.read += count;
        Ok(())
    }

    fn beyond(&self) -> TensorFault {
        TensorFault::Position { block: self.block, len: self.layout.block_len() }
    }

    /// Checks, after the last block, that nothing is left and that the front agrees with the values. Returns
    /// the norm, the square root of the sum of squares.
    pub(crate) fn finish(&self) -> Result<f64, (usize, TensorFault)> {
        self.positions.finish()?;
        let (start, codes, kept) = (self.body.start, &self.body.codes, self.layout.kept());
        match &self.codes {
            Codes::Signs(bytes) if kept % 8 != 0 && bytes[kept / 8] >> (kept % 8) != 0 => {
                return Err((codes.start + kept / 8, TensorFault::CodePadding));
            }
            Codes::Coded(reader) if !reader.is_finished() => {
                return Err((codes.start, TensorFault::Codes(codes.len())));
            }
            Codes::Coded(_) if rans::frequencies(self.counts) != self.body.frequencies => {
                return Err((start, TensorFault::Frequencies));
            }
            Codes::Signs(_) | Codes::Coded(_) => {}
        }
        if let FrontLevels::Scales { ratios: Some([small, large]), .. } = self.body.levels {
            let expected = (self.nonzero, self.used >> 2 != 0);
            let fits = (small > 0, large > 0) == expected && (large == 0 || (self.used & 3 != 0 && small < large));
            if !fits {
                return Err((start, TensorFault::Ratios { small, large }));
            }
        }
        Ok(self.squares.sqrt())
    }
}
