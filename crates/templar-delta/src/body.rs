//! One tensor of a delta as bytes: the front that says how to read it, the positions, the scales of blocks, the codes.
//!
//! A body can be read alone, and has one spelling: [`Blocks`] visits every value once and refuses all others on the way.
//! The crate's documentation specifies the bytes.

use std::ops::Range;

use crate::compress::MAX_MAGNITUDE;
use crate::layout::Layout;
use crate::quantise::{LEVELS, Levels, Quantised};
use crate::rice::{BitReader, BitWriter, CostWatch, MAX_RICE, cheapest, max_bits};
use crate::scale::MAX_SCALE;
use crate::settings::Quantiser;
use crate::wire::{put_number, take_number};

/// What is wrong with a tensor of a delta.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The bytes of the tensor end within its front, or before the parts that the front announces.
    #[error("the tensor ends after {0} bytes, before what its front announces")]
    Truncated(u64),
    /// A number is spelled longer than it must be, or beyond its range.
    #[error("a number is not in its shortest spelling or out of range")]
    Number,
    /// A Rice parameter is not the cheapest.
    #[error("rice parameter {found} of the {what} is not the cheapest")]
    Rice {
        /// Of the positions or of the scales.
        what: &'static str,
        /// What the bytes say.
        found: u8,
    },
    /// A position lies beyond its block.
    #[error("a position of block {block} is beyond its {len} elements")]
    Position {
        /// The block, in wire order.
        block: usize,
        /// How many elements it has.
        len: usize,
    },
    /// Positions or scales need more bytes than announced.
    #[error("the {what} go on beyond their {bytes} bytes")]
    Overrun {
        /// Positions or scales.
        what: &'static str,
        /// The bytes announced.
        bytes: usize,
    },
    /// Positions or scales end before the bytes announced do, or their padding is not zero.
    #[error("the {what} end before their {bytes} bytes do, or the padding is not zero")]
    Padding {
        /// Positions or scales.
        what: &'static str,
        /// The bytes announced.
        bytes: usize,
    },
    /// The shape asks for another number of code bytes.
    #[error("{found} bytes of codes, the tensor's shape asks for {expected}")]
    CodeBytes {
        /// What is there.
        found: usize,
        /// What the shape asks for.
        expected: usize,
    },
    /// The padding of the last byte of codes is not zero.
    #[error("the padding after the codes is not zero")]
    CodePadding,
    /// The set of listed levels is not one of four codes, or empty.
    #[error("no set of levels is {0:#x}")]
    LevelSet(u8),
    /// A level is not finite, too large, or −0.
    #[error("level {code} is {value}, not a number of magnitude at most 2^100")]
    Level {
        /// Which of the four.
        code: usize,
        /// Its value.
        value: f32,
    },
    /// A level is listed that no value uses, or a value uses one that is not.
    #[error("level {code} is listed but not used, or used but not listed")]
    UnusedLevel {
        /// Which of the four.
        code: usize,
    },
    /// Levels do not ascend.
    #[error("level {code} is not above the one before it")]
    LevelOrder {
        /// Which of the four.
        code: usize,
    },
    /// A scale is below zero or beyond 2^100.
    #[error("scale {place} is none")]
    Scale {
        /// Which of the tensor's scales.
        place: usize,
    },
    /// A block of zeros has a sign.
    #[error("block {block} has scale 0 and a code that is not 0")]
    ZeroBlock {
        /// The block, in wire order.
        block: usize,
    },
    /// The multiples of the scale are not what the values ask for.
    #[error("ratios {small} and {large}: not ascending, or not used as they say")]
    Ratios {
        /// The smaller one, in 4096ths.
        small: u16,
        /// The larger one, in 4096ths.
        large: u16,
    },
}

/// How many bits a code takes.
pub(crate) const fn code_bits(quantiser: Quantiser) -> usize {
    match quantiser {
        Quantiser::Templar4 | Quantiser::SignLevels | Quantiser::BlockLevels => 2,
        Quantiser::BlockSign => 1,
    }
}

/// The elements left out before each position of a block.
fn gaps(offsets: &[u32]) -> impl Iterator<Item = u32> {
    let mut next = 0;
    offsets.iter().map(move |&offset| {
        let gap = offset - next;
        next = offset + 1;
        gap
    })
}

/// The gaps in the cheapest Rice code, and its parameter.
fn rice_code(gaps: &[u32]) -> (u8, Vec<u8>) {
    let rice = cheapest(gaps);
    let mut writer = BitWriter::with_capacity(gaps.len() + 8);
    for &gap in gaps {
        writer.put_gap(gap, rice);
    }
    (rice as u8, writer.finish())
}

/// The steps from each scale to the next, zigzag: 0, −1, 1, −2, … are 0, 1, 2, 3, …
fn steps(scales: &[u16]) -> Vec<u32> {
    let step = |pair: &[u16]| {
        let step = i32::from(pair[1]) - i32::from(pair[0]);
        (step << 1 ^ step >> 31) as u32
    };
    scales.windows(2).map(step).collect()
}

/// The scale after `before`.
fn stepped(before: u16, step: u32) -> Option<u16> {
    let step = (step >> 1) as i32 ^ -((step & 1) as i32);
    u16::try_from(i32::from(before) + step).ok().filter(|scale| *scale <= MAX_SCALE)
}

/// The body of one tensor.
pub(crate) fn encode(layout: &Layout, quantiser: Quantiser, offsets: &[u32], quantised: &Quantised) -> Vec<u8> {
    let (rice, indices) = if layout.is_whole() {
        (0, Vec::new())
    } else {
        rice_code(&offsets.chunks_exact(layout.kept_per_block()).flat_map(gaps).collect::<Vec<_>>())
    };
    let bits = code_bits(quantiser);
    let mut body = Vec::with_capacity(indices.len() + quantised.codes.len() * bits / 8 + 64);
    body.push(rice);
    put_number(&mut body, indices.len() as u64);
    let scales = match &quantised.levels {
        Levels::Table(levels) => {
            let used = quantised.codes.iter().fold(0u8, |used, &code| used | 1 << code);
            body.push(used);
            for (_, level) in levels.iter().enumerate().filter(|(code, _)| used >> code & 1 == 1) {
                body.extend_from_slice(&level.to_le_bytes());
            }
            None
        }
        Levels::Signs(scales) => Some(scales),
        Levels::Ratios([small, large], scales) => {
            body.extend_from_slice(&small.to_le_bytes());
            body.extend_from_slice(&large.to_le_bytes());
            Some(scales)
        }
    };
    let mut scale_bytes = Vec::new();
    if let Some(scales) = scales {
        let rice;
        (rice, scale_bytes) = rice_code(&steps(scales));
        put_number(&mut body, scales[0].into());
        body.push(rice);
        put_number(&mut body, scale_bytes.len() as u64);
    }
    body.extend_from_slice(&indices);
    body.extend_from_slice(&scale_bytes);
    for codes in quantised.codes.chunks(8 / bits) {
        body.push(codes.iter().rev().fold(0, |byte, &code| byte << bits | code));
    }
    body
}

/// No body of this tensor is longer.
pub(crate) fn max_body_bytes(layout: &Layout, quantiser: Quantiser) -> u64 {
    const FRONT: u64 = 32;
    let (blocks, kept, len) = (layout.blocks() as u64, layout.kept_per_block() as u64, layout.block_len() as u64);
    let index_bits = if layout.is_whole() { 0 } else { max_bits(blocks, kept, len) };
    // With parameter 12 no step between scales takes more than 13 bits.
    let scale_bits = match quantiser {
        Quantiser::Templar4 | Quantiser::SignLevels => 0,
        Quantiser::BlockSign | Quantiser::BlockLevels => (layout.scales() as u64 - 1) * 13,
    };
    let code_bits = blocks * kept * code_bits(quantiser) as u64;
    FRONT + index_bits.div_ceil(8) + scale_bits.div_ceil(8) + code_bits.div_ceil(8)
}

/// The front of a body, parsed, and where its parts lie in the delta.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Body {
    pub(crate) start: usize,
    pub(crate) rice: u8,
    pub(crate) levels: Front,
    pub(crate) indices: Range<usize>,
    pub(crate) scales: Range<usize>,
    pub(crate) codes: Range<usize>,
}

/// What the front says about levels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Front {
    /// The levels that are listed, and which they are.
    Table { used: u8, levels: [f32; LEVELS] },
    /// The first block's scale, the Rice parameter of the steps to the others, and the multiples if there are.
    Blocks { first: u16, rice: u8, ratios: Option<[u16; 2]> },
}

impl Body {
    /// The whole of it.
    pub(crate) const fn range(&self) -> Range<usize> {
        self.start..self.codes.end
    }

    /// The same body where it begins at `start` of other bytes.
    pub(crate) fn moved(&self, start: usize) -> Self {
        let moved = |range: &Range<usize>| range.start - self.start + start..range.end - self.start + start;
        let (indices, scales, codes) = (moved(&self.indices), moved(&self.scales), moved(&self.codes));
        Self { start, rice: self.rice, levels: self.levels.clone(), indices, scales, codes }
    }

    /// Parses the front of the body at `range` of a delta's bytes; the parts that it announces lie within the range.
    pub(crate) fn parse(bytes: &[u8], range: Range<usize>, quantiser: Quantiser) -> Result<Self, (usize, Fault)> {
        let Range { start, end } = range;
        let mut at = start;
        let truncated = |at: usize| (at, Fault::Truncated((end - start) as u64));
        let byte = |at: &mut usize| match bytes[..end].get(*at) {
            Some(&byte) => {
                *at += 1;
                Ok(byte)
            }
            None => Err(truncated(*at)),
        };
        let number = |at: &mut usize, limit: u64| {
            let first = *at;
            let mut rest = &bytes[first..end];
            let number = take_number(&mut rest).map_err(|error| match error {
                None => truncated(end),
                Some(()) => (first, Fault::Number),
            })?;
            *at = end - rest.len();
            if number > limit { Err((first, Fault::Number)) } else { Ok(number as usize) }
        };
        let half = |at: &mut usize| Ok(u16::from_le_bytes([byte(at)?, byte(at)?]));

        let rice = byte(&mut at)?;
        let index_bytes = number(&mut at, u32::MAX.into())?;
        let mut scale_bytes = 0;
        let levels = match quantiser {
            Quantiser::Templar4 | Quantiser::SignLevels => {
                let used = byte(&mut at)?;
                if used == 0 || used >> LEVELS != 0 {
                    return Err((at - 1, Fault::LevelSet(used)));
                }
                let mut levels = [0f32; LEVELS];
                let mut last = None;
                for (code, level) in levels.iter_mut().enumerate().filter(|(code, _)| used >> code & 1 == 1) {
                    let first = at;
                    let value = f32::from_le_bytes([byte(&mut at)?, byte(&mut at)?, byte(&mut at)?, byte(&mut at)?]);
                    let usable = value.abs() <= MAX_MAGNITUDE && value.to_bits() != (-0f32).to_bits(); // false for NaN
                    if !usable {
                        return Err((first, Fault::Level { code, value }));
                    }
                    if last.is_some_and(|last| value <= last) {
                        return Err((first, Fault::LevelOrder { code }));
                    }
                    (*level, last) = (value, Some(value));
                }
                Front::Table { used, levels }
            }
            Quantiser::BlockSign | Quantiser::BlockLevels => {
                let ratios = match quantiser {
                    Quantiser::BlockLevels => Some([half(&mut at)?, half(&mut at)?]),
                    _ => None,
                };
                let first = number(&mut at, MAX_SCALE.into())? as u16;
                let rice = byte(&mut at)?;
                scale_bytes = number(&mut at, u32::MAX.into())?;
                Front::Blocks { first, rice, ratios }
            }
        };
        // Each is below 2^32, so the sums do not overflow.
        let (indices, scales) = (at + index_bytes, at + index_bytes + scale_bytes);
        if scales > end {
            return Err(truncated(end));
        }
        Ok(Self { start, rice, levels, indices: at..indices, scales: indices..scales, codes: scales..end })
    }
}

/// Reads the bits of one part and knows at the end whether they were spelled as they must be.
struct Gaps<'a> {
    what: &'static str,
    reader: BitReader<'a>,
    watch: CostWatch,
    rice: u32,
    range: Range<usize>,
    /// Where the front begins, which says the parameter.
    front: usize,
}

impl<'a> Gaps<'a> {
    fn new(
        what: &'static str,
        bytes: &'a [u8],
        body: &Body,
        range: Range<usize>,
        rice: u8,
        max_rice: u32,
    ) -> Result<Self, (usize, Fault)> {
        if u32::from(rice) > max_rice {
            return Err((body.start, Fault::Rice { what, found: rice }));
        }
        let reader = BitReader::new(&bytes[range.clone()]);
        Ok(Self { what, reader, watch: CostWatch::default(), rice: rice.into(), range, front: body.start })
    }

    /// The next gap, or `None` where it is above `limit`.
    fn gap(&mut self, limit: u32) -> Option<u32> {
        let gap = self.reader.gap(self.rice, limit)?;
        self.watch.see(gap, self.rice);
        Some(gap)
    }

    /// The fault at a gap that is none: `other` where there was one to read.
    fn fault(&self, other: Fault) -> (usize, Fault) {
        match self.check_end() {
            Ok(()) => (self.range.start + self.reader.byte(), other),
            Err(fault) => fault,
        }
    }

    fn check_end(&self) -> Result<(), (usize, Fault)> {
        if self.reader.overrun() {
            return Err((self.range.end, Fault::Overrun { what: self.what, bytes: self.range.len() }));
        }
        Ok(())
    }

    /// Checks that nothing is left and that the parameter was the cheapest.
    fn finish(&self) -> Result<(), (usize, Fault)> {
        self.check_end()?;
        if !self.reader.is_finished() {
            let at = self.range.start + self.reader.byte();
            return Err((at, Fault::Padding { what: self.what, bytes: self.range.len() }));
        }
        if self.watch.is_cheapest(self.rice) {
            return Ok(());
        }
        Err((self.front, Fault::Rice { what: self.what, found: self.rice as u8 }))
    }
}

/// What the codes of a tensor with `count` scales decode to.
pub(crate) fn levels(body: &Body, count: usize, bytes: &[u8]) -> Result<Levels, (usize, Fault)> {
    let (first, rice, ratios) = match body.levels {
        Front::Table { levels, .. } => return Ok(Levels::Table(levels)),
        Front::Blocks { first, rice, ratios } => (first, rice, ratios),
    };
    let mut gaps = Gaps::new("scales", bytes, body, body.scales.clone(), rice, MAX_RICE)?;
    let mut scales = Vec::with_capacity(count);
    scales.push(first);
    let mut scale = first;
    for place in 1..count {
        let step = gaps.gap(2 * u32::from(MAX_SCALE));
        scale = step.and_then(|step| stepped(scale, step)).ok_or_else(|| gaps.fault(Fault::Scale { place }))?;
        scales.push(scale);
    }
    gaps.finish()?;
    Ok(match ratios {
        Some(ratios) => Levels::Ratios(ratios, scales),
        None => Levels::Signs(scales),
    })
}

/// One tensor's kept values, block after block in wire order, out of its body: what is decoded is never held. Whatever is
/// not the one spelling of the values is refused on the way, with where in the bytes it is.
pub(crate) struct Blocks<'a> {
    layout: Layout,
    body: &'a Body,
    levels: Levels,
    positions: Gaps<'a>,
    codes: &'a [u8],
    code_bits: usize,
    block: usize,
    place: usize,
    /// A bit for each code that a value with a scale has, and whether there is one.
    used: u8,
    nonzero: bool,
}

impl<'a> Blocks<'a> {
    /// The blocks of a body that lies within `bytes`.
    pub(crate) fn new(
        layout: &Layout,
        quantiser: Quantiser,
        body: &'a Body,
        bytes: &'a [u8],
    ) -> Result<Self, (usize, Fault)> {
        let code_bits = code_bits(quantiser);
        let codes = &bytes[body.codes.clone()];
        let expected = (layout.kept() * code_bits).div_ceil(8);
        if codes.len() != expected {
            return Err((body.codes.start, Fault::CodeBytes { found: codes.len(), expected }));
        }
        let max_rice = if layout.is_whole() { 0 } else { MAX_RICE };
        Ok(Self {
            layout: *layout,
            body,
            levels: levels(body, layout.scales(), bytes)?,
            positions: Gaps::new("positions", bytes, body, body.indices.clone(), body.rice, max_rice)?,
            codes,
            code_bits,
            block: 0,
            place: 0,
            used: 0,
            nonzero: false,
        })
    }

    /// Visits the position in its block, the code and the value of everything that is sent of the next block.
    pub(crate) fn next(&mut self, mut visit: impl FnMut(u32, u8, f32)) -> Result<(), (usize, Fault)> {
        let (bits, per_byte) = (self.code_bits, 8 / self.code_bits);
        let (whole, len) = (self.layout.is_whole(), self.layout.block_len() as u32);
        let scale = self.block / self.layout.blocks_per_scale();
        let values = self.levels.of_scale(scale);
        let mut used = 0u8;
        let mut next = 0u32;
        for place in self.place..self.place + self.layout.kept_per_block() {
            let offset = if whole {
                next
            } else {
                // The least that leaves no element: one more than the last position.
                let gap = (len - next).checked_sub(1).and_then(|limit| self.positions.gap(limit));
                let Some(gap) = gap else {
                    return Err(self.positions.fault(Fault::Position { block: self.block, len: len as usize }));
                };
                next + gap
            };
            next = offset + 1;
            let code = self.codes[place / per_byte] >> (bits * (place % per_byte)) & ((1 << bits) - 1);
            used |= 1 << code;
            visit(offset, code, values[code as usize]);
        }
        self.place += self.layout.kept_per_block();
        self.positions.check_end()?;
        if !self.levels.is_zero(scale) {
            self.nonzero = true;
            self.used |= used;
        } else if used != 1 {
            let at = self.body.codes.start + (self.place - 1) / per_byte;
            return Err((at, Fault::ZeroBlock { block: self.block }));
        }
        self.block += 1;
        Ok(())
    }

    /// Visits the position in its block and the value of everything sent of the next block of a body that was checked.
    pub(crate) fn values(&mut self, mut visit: impl FnMut(u32, f32)) {
        self.next(|offset, _, value| visit(offset, value)).expect("these bytes were checked");
    }

    /// After the last block: nothing may be left, and the front must say what was found.
    pub(crate) fn finish(&self) -> Result<(), (usize, Fault)> {
        self.positions.finish()?;
        let (start, codes_start) = (self.body.start, self.body.codes.start);
        let per_byte = 8 / self.code_bits;
        let (byte, rest) = (self.place / per_byte, self.place % per_byte);
        if rest != 0 && self.codes[byte] >> (self.code_bits * rest) != 0 {
            return Err((codes_start + byte, Fault::CodePadding));
        }
        match self.body.levels {
            Front::Table { used: listed, .. } if listed != self.used => {
                let code = (listed ^ self.used).trailing_zeros() as usize;
                Err((start, Fault::UnusedLevel { code }))
            }
            Front::Blocks { ratios: Some([small, large]), .. } => {
                let expected = (self.nonzero, self.used >> 2 != 0);
                let fits = (small > 0, large > 0) == expected && (large == 0 || (self.used & 3 != 0 && small < large));
                if fits { Ok(()) } else { Err((start, Fault::Ratios { small, large })) }
            }
            Front::Table { .. } | Front::Blocks { .. } => Ok(()),
        }
    }
}
