//! One tensor of a delta as bytes: the front that says how to read it, the positions, the scales of blocks, the codes.
//!
//! A body can be read alone, and has one spelling: [`Blocks`] visits every value once and refuses all others on the way.
//! The crate's documentation specifies the bytes.

use std::ops::Range;

use crate::compress::MAX_MAGNITUDE;
use crate::golomb::{self, BitReader, Golomb};
use crate::layout::Layout;
use crate::quantise::{LEVELS, Levels, Quantised};
use crate::rans;
use crate::scale::MAX_SCALE;
use crate::settings::Quantiser;
use crate::wire::{put_number, take_number};

/// No Golomb parameter is larger: no block has more elements.
const MAX_PARAMETER: u64 = 1 << 20;

/// What is wrong with a tensor of a delta.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The bytes of the tensor end within its front, or before the parts that the front announces.
    #[error("the tensor ends after {0} bytes, before what its front announces")]
    Truncated(u64),
    /// A number is spelled longer than it must be, or beyond its range.
    #[error("a number is not in its shortest spelling or out of range")]
    Number,
    /// A Golomb parameter is not that of the mean.
    #[error("golomb parameter {found} of the {what} is not that of their mean")]
    Golomb {
        /// Of the positions or of the scales.
        what: &'static str,
        /// What the bytes say.
        found: u32,
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
    /// The padding of the last byte of signs is not zero.
    #[error("the padding after the codes is not zero")]
    CodePadding,
    /// The codes do not end where their bytes do, in the state in which a writer begins.
    #[error("the codes do not end with their {0} bytes")]
    Codes(usize),
    /// The set of codes is empty, or of others than the four.
    #[error("no set of codes is {0:#x}")]
    CodeSet(u8),
    /// The frequencies of the codes are not those of the codes that follow.
    #[error("the frequencies are not those of the codes")]
    Frequencies,
    /// A level is not finite, too large, or −0.
    #[error("level {code} is {value}, not a number of magnitude at most 2^100")]
    Level {
        /// Which of the four.
        code: usize,
        /// Its value.
        value: f32,
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

/// The elements left out before each position, counted from the one before or the start of the block.
fn gaps(layout: &Layout, offsets: &[u32]) -> Vec<u32> {
    let mut gaps = Vec::with_capacity(offsets.len());
    for block in offsets.chunks_exact(layout.kept_per_block()) {
        let mut next = 0;
        for &offset in block {
            gaps.push(offset - next);
            next = offset + 1;
        }
    }
    gaps
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
pub(crate) fn encode(layout: &Layout, offsets: &[u32], quantised: &Quantised) -> Vec<u8> {
    let (m, indices) = golomb::encode(&if layout.is_whole() { Vec::new() } else { gaps(layout, offsets) });
    let mut body = Vec::with_capacity(indices.len() + quantised.codes.len() / 4 + 64);
    put_number(&mut body, m.into());
    put_number(&mut body, indices.len() as u64);

    let signs = matches!(quantised.levels, Levels::Signs(_));
    let mut frequencies = [0; LEVELS];
    if !signs {
        let mut counts = [0; LEVELS];
        quantised.codes.iter().for_each(|&code| counts[code as usize] += 1);
        frequencies = rans::frequencies(counts);
        put_frequencies(&mut body, frequencies);
    }
    let mut scale_bytes = Vec::new();
    match &quantised.levels {
        Levels::Table(levels) => {
            for (level, _) in levels.iter().zip(frequencies).filter(|&(_, frequency)| frequency > 0) {
                body.extend_from_slice(&level.to_le_bytes());
            }
        }
        Levels::Signs(scales) => scale_bytes = put_scales(&mut body, scales),
        Levels::Ratios([small, large], scales) => {
            body.extend_from_slice(&small.to_le_bytes());
            body.extend_from_slice(&large.to_le_bytes());
            scale_bytes = put_scales(&mut body, scales);
        }
    }
    body.extend_from_slice(&indices);
    body.extend_from_slice(&scale_bytes);
    if signs {
        body.extend(quantised.codes.chunks(8).map(|codes| codes.iter().rev().fold(0, |byte, code| byte << 1 | code)));
    } else {
        body.extend_from_slice(&rans::encode(&quantised.codes, frequencies));
    }
    body
}

/// Appends the set of codes that occur, and the frequencies of all of them but the last.
fn put_frequencies(body: &mut Vec<u8>, frequencies: [u16; LEVELS]) {
    let used = (0..LEVELS).filter(|&code| frequencies[code] > 0);
    body.push(used.clone().fold(0, |set, code| set | 1 << code));
    let last = used.clone().next_back();
    for code in used.filter(|&code| Some(code) != last) {
        body.extend_from_slice(&frequencies[code].to_le_bytes());
    }
}

/// Appends the first scale and what tells how to read the steps to the others, and gives their bytes.
fn put_scales(body: &mut Vec<u8>, scales: &[u16]) -> Vec<u8> {
    let (m, bytes) = golomb::encode(&steps(scales));
    put_number(body, scales[0].into());
    put_number(body, m.into());
    put_number(body, bytes.len() as u64);
    bytes
}

/// No body of this tensor is longer.
pub(crate) fn max_body_bytes(layout: &Layout, quantiser: Quantiser) -> u64 {
    // At most: two numbers of five bytes, seven bytes of frequencies, and four levels or two ratios and three numbers.
    const FRONT: u64 = 40;
    let kept = layout.kept() as u64;
    let left_out = layout.elements() as u64 - kept;
    let index_bits = if layout.is_whole() { 0 } else { golomb::max_bits(kept, left_out) };
    let steps = layout.scales() as u64 - 1;
    let scale_bits = golomb::max_bits(steps, steps * 2 * u64::from(MAX_SCALE));
    let (scale_bits, code_bytes) = match quantiser {
        Quantiser::Templar4 | Quantiser::SignLevels => (0, rans::max_bytes(kept)),
        Quantiser::BlockSign => (scale_bits, kept.div_ceil(8)),
        Quantiser::BlockLevels => (scale_bits, rans::max_bytes(kept)),
    };
    FRONT + index_bits.div_ceil(8) + scale_bits.div_ceil(8) + code_bytes
}

/// The front of a body, parsed, and where its parts lie in the delta.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Body {
    pub(crate) start: usize,
    /// The Golomb parameter of the positions.
    pub(crate) m: u32,
    /// Of the codes; all zero where they are signs.
    pub(crate) frequencies: [u16; LEVELS],
    pub(crate) levels: Front,
    pub(crate) indices: Range<usize>,
    pub(crate) scales: Range<usize>,
    pub(crate) codes: Range<usize>,
}

/// What the front says about levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Front {
    /// The levels; zero where no code uses one.
    Table([f32; LEVELS]),
    /// The first scale, the Golomb parameter of the steps to the others, and the multiples if there are.
    Scales { first: u16, m: u32, ratios: Option<[u16; 2]> },
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
        Self { start, indices, scales, codes, ..*self }
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

        let m = number(&mut at, MAX_PARAMETER)? as u32;
        let index_bytes = number(&mut at, u32::MAX.into())?;
        let mut frequencies = [0; LEVELS];
        if quantiser != Quantiser::BlockSign {
            let set = byte(&mut at)?;
            if set == 0 || set >> LEVELS != 0 {
                return Err((at - 1, Fault::CodeSet(set)));
            }
            let mut rest = rans::FREQUENCY_SUM;
            let last = set.ilog2() as usize;
            for code in (0..last).filter(|code| set >> code & 1 == 1) {
                let first = at;
                let frequency = half(&mut at)?;
                if frequency == 0 || frequency >= rest {
                    return Err((first, Fault::Frequencies));
                }
                (frequencies[code], rest) = (frequency, rest - frequency);
            }
            frequencies[last] = rest;
        }
        let mut scale_bytes = 0;
        let levels = match quantiser {
            Quantiser::Templar4 | Quantiser::SignLevels => {
                let mut levels = [0f32; LEVELS];
                let mut last = None;
                for code in (0..LEVELS).filter(|&code| frequencies[code] > 0) {
                    let first = at;
                    let value = f32::from_le_bytes([byte(&mut at)?, byte(&mut at)?, byte(&mut at)?, byte(&mut at)?]);
                    let usable = value.abs() <= MAX_MAGNITUDE && value.to_bits() != (-0f32).to_bits(); // false for NaN
                    if !usable {
                        return Err((first, Fault::Level { code, value }));
                    }
                    if last.is_some_and(|last| value <= last) {
                        return Err((first, Fault::LevelOrder { code }));
                    }
                    (levels[code], last) = (value, Some(value));
                }
                Front::Table(levels)
            }
            Quantiser::BlockSign | Quantiser::BlockLevels => {
                let ratios = match quantiser {
                    Quantiser::BlockLevels => Some([half(&mut at)?, half(&mut at)?]),
                    _ => None,
                };
                let first = number(&mut at, MAX_SCALE.into())? as u16;
                let m = number(&mut at, MAX_PARAMETER)? as u32;
                scale_bytes = number(&mut at, u32::MAX.into())?;
                Front::Scales { first, m, ratios }
            }
        };
        // Each is below 2^32, so the sums do not overflow.
        let (indices, scales) = (at + index_bytes, at + index_bytes + scale_bytes);
        if scales > end {
            return Err(truncated(end));
        }
        let (indices, scales, codes) = (at..indices, indices..scales, scales..end);
        Ok(Self { start, m, frequencies, levels, indices, scales, codes })
    }
}

/// Reads the bits of one part and knows at the end whether they were spelled as they must be.
struct Gaps<'a> {
    what: &'static str,
    reader: BitReader<'a>,
    m: u32,
    code: Golomb,
    count: u64,
    sum: u64,
    range: Range<usize>,
    /// Where the front begins, which says the parameter.
    front: usize,
}

impl<'a> Gaps<'a> {
    fn new(what: &'static str, bytes: &'a [u8], body: &Body, range: Range<usize>, m: u32) -> Self {
        let reader = BitReader::new(&bytes[range.clone()]);
        Self { what, reader, m, code: Golomb::new(m.max(1)), count: 0, sum: 0, range, front: body.start }
    }

    /// The next gap, or `None` where it is above `limit`.
    fn gap(&mut self, limit: u32) -> Option<u32> {
        let gap = self.reader.gap(self.code, limit)?;
        self.saw(1, gap);
        Some(gap)
    }

    /// Counts gaps that were read.
    fn saw(&mut self, count: usize, sum: u32) {
        self.count += count as u64;
        self.sum += u64::from(sum);
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

    /// Checks that nothing is left and that the parameter was that of the mean.
    fn finish(&self) -> Result<(), (usize, Fault)> {
        self.check_end()?;
        if !self.reader.is_finished() {
            let at = self.range.start + self.reader.byte();
            return Err((at, Fault::Padding { what: self.what, bytes: self.range.len() }));
        }
        if self.m == golomb::parameter(self.sum, self.count) {
            return Ok(());
        }
        Err((self.front, Fault::Golomb { what: self.what, found: self.m }))
    }
}

/// What the codes of a tensor with `count` scales decode to.
pub(crate) fn levels(body: &Body, count: usize, bytes: &[u8]) -> Result<Levels, (usize, Fault)> {
    let (first, m, ratios) = match body.levels {
        Front::Table(levels) => return Ok(Levels::Table(levels)),
        Front::Scales { first, m, ratios } => (first, m, ratios),
    };
    let mut gaps = Gaps::new("scales", bytes, body, body.scales.clone(), m);
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

/// The codes of a tensor as they are read: one bit each, or with an entropy code.
enum Codes<'a> {
    Signs { bytes: &'a [u8], place: usize },
    Coded(rans::Reader<'a>),
}

/// One tensor's kept values, block after block in wire order, out of its body: what is decoded is never held. Whatever is
/// not the one spelling of the values is refused on the way, with where in the bytes it is.
pub(crate) struct Blocks<'a> {
    layout: Layout,
    body: &'a Body,
    levels: Levels,
    positions: Gaps<'a>,
    codes: Codes<'a>,
    block: usize,
    /// How often each code was read, and the codes that values with a scale have.
    counts: [u64; LEVELS],
    used: u8,
    nonzero: bool,
}

impl<'a> Blocks<'a> {
    /// The blocks of a body that lies within `bytes`.
    pub(crate) fn new(layout: &Layout, body: &'a Body, bytes: &'a [u8]) -> Result<Self, (usize, Fault)> {
        let start = body.codes.start;
        let codes = &bytes[body.codes.clone()];
        let codes = if body.frequencies == [0; LEVELS] {
            let (found, expected) = (codes.len(), layout.kept().div_ceil(8));
            if found != expected {
                return Err((start, Fault::CodeBytes { found, expected }));
            }
            Codes::Signs { bytes: codes, place: 0 }
        } else {
            Codes::Coded(rans::Reader::new(codes, body.frequencies).ok_or((start, Fault::Codes(codes.len())))?)
        };
        Ok(Self {
            layout: *layout,
            body,
            levels: levels(body, layout.scales(), bytes)?,
            positions: Gaps::new("positions", bytes, body, body.indices.clone(), body.m),
            codes,
            block: 0,
            counts: [0; LEVELS],
            used: 0,
            nonzero: false,
        })
    }

    /// Visits the position in its block, the code and the value of everything that is sent of the next block.
    #[inline]
    pub(crate) fn next(&mut self, visit: impl FnMut(u32, u8, f32)) -> Result<(), (usize, Fault)> {
        // The readers are copied so that their state stays in registers while a block is read.
        let counts = match self.codes {
            Codes::Signs { bytes, place } => {
                let mut at = place;
                let read = || {
                    let code = bytes[at / 8] >> (at % 8) & 1;
                    at += 1;
                    code
                };
                let counts = self.read_block(read, visit)?;
                self.codes = Codes::Signs { bytes, place: at };
                counts
            }
            Codes::Coded(mut reader) => {
                let counts = self.read_block(|| reader.next(), visit)?;
                self.codes = Codes::Coded(reader);
                counts
            }
        };
        self.positions.check_end()?;
        let used = (0..LEVELS).fold(0, |used, code| used | u8::from(counts[code] > 0) << code);
        if !self.levels.is_zero(self.block / self.layout.blocks_per_scale()) {
            self.nonzero = true;
            self.used |= used;
        } else if used != 1 {
            return Err((self.body.codes.start, Fault::ZeroBlock { block: self.block }));
        }
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum += u64::from(count);
        }
        self.block += 1;
        Ok(())
    }

    /// Reads the positions of the next block, and a code for each, and counts the codes.
    #[inline(always)]
    fn read_block(
        &mut self,
        mut code: impl FnMut() -> u8,
        mut visit: impl FnMut(u32, u8, f32),
    ) -> Result<[u32; LEVELS], (usize, Fault)> {
        let (whole, len, kept) = (self.layout.is_whole(), self.layout.block_len() as u32, self.layout.kept_per_block());
        let values = self.levels.of_scale(self.block / self.layout.blocks_per_scale());
        let (mut reader, golomb) = (self.positions.reader, self.positions.code);
        let mut counts = [0u32; LEVELS];
        let mut next = 0u32;
        for _ in 0..kept {
            let offset = if whole {
                next
            } else {
                // The least that leaves no element: one more than the last position.
                let gap = (len - next).checked_sub(1).and_then(|limit| reader.gap(golomb, limit));
                let Some(gap) = gap else {
                    self.positions.reader = reader;
                    return Err(self.positions.fault(Fault::Position { block: self.block, len: len as usize }));
                };
                next + gap
            };
            next = offset + 1;
            let code = code();
            let place = usize::from(code & 3);
            counts[place] += 1;
            visit(offset, code, values[place]);
        }
        if !whole {
            self.positions.reader = reader;
            // All that lies before the last position and was not kept.
            self.positions.saw(kept, next - kept as u32);
        }
        Ok(counts)
    }

    /// Visits the position in its block and the value of everything sent of the next block of a body that was checked.
    pub(crate) fn values(&mut self, mut visit: impl FnMut(u32, f32)) {
        self.next(|offset, _, value| visit(offset, value)).expect("these bytes were checked");
    }

    /// After the last block: nothing may be left, and the front must say what was found.
    pub(crate) fn finish(&self) -> Result<(), (usize, Fault)> {
        self.positions.finish()?;
        let (start, codes) = (self.body.start, &self.body.codes);
        match &self.codes {
            Codes::Signs { bytes, place } if place % 8 != 0 && bytes[place / 8] >> (place % 8) != 0 => {
                return Err((codes.start + place / 8, Fault::CodePadding));
            }
            Codes::Coded(reader) if !reader.is_finished() => return Err((codes.start, Fault::Codes(codes.len()))),
            Codes::Coded(_) if rans::frequencies(self.counts) != self.body.frequencies => {
                return Err((start, Fault::Frequencies));
            }
            Codes::Signs { .. } | Codes::Coded(_) => {}
        }
        if let Front::Scales { ratios: Some([small, large]), .. } = self.body.levels {
            let expected = (self.nonzero, self.used >> 2 != 0);
            let fits = (small > 0, large > 0) == expected && (large == 0 || (self.used & 3 != 0 && small < large));
            if !fits {
                return Err((start, Fault::Ratios { small, large }));
            }
        }
        Ok(())
    }
}
