//! SparseLoCo's delta: the pseudo-gradient of one miner for one window, small enough for a home connection.
//!
//! On the way of the data it stands between a window's training and its record: [`compress`] turns Δ = θ_start − θ_end
//! into bytes, [`decode`] turns a stranger's bytes into a [`Delta`] or an error, an [`Aggregate`] of the deltas of a window
//! steps the parameters, and [`overlap_ppm`] tells copies from work. Nothing here touches the network or a file.
//!
//! # Arithmetic
//!
//! The same inputs give the same bytes on every machine, for any number of threads. Everything is IEEE 754 `+ − × ÷ √`,
//! comparison and conversion, round to nearest even; "chain" is a sum from +0 in the order stated.
//!
//! - Blocks: for every dimension the side is its largest divisor ≤ `block_side`. *Wire order*: blocks row by row of the
//!   grid, elements row by row within a block. A matrix keeps k = ⌈`top_k`·len ÷ `block_side`²⌉ of a block of len
//!   elements (the density of a full block); a vector is cut into runs of one side and keeps min(`top_k`, len) of each.
//! - Error feedback: e ← f32(f64(β)·f64(e) + f64(Δ)), with β = `error_decay_ppm` ÷ 10^6 in f64; the product and the sum
//!   round separately. It is refused unless |e| ≤ 2^100.
//! - Top-k: the k of a block with the largest |e|, of equals the earlier ones.
//! - `templar4`, over the n kept values v of a tensor in wire order: shift = f32(Σ v ÷ n), the chain and the quotient in
//!   f64; c = v − shift in f32; scale = f32(6·√(Σ c² ÷ (n − 1)) ÷ 4) in f64, 1 where that is 0 or not finite;
//!   x = c ÷ scale + 2 in f32; code = [x > 0.5] + [x ≥ 1.5] + [x > 2.5], which is rounding half to even, clamped to 0–3.
//!   A level is f32(Σ c ÷ count), chain and quotient in f64 over the members of the code, plus shift in f32.
//! - `sign-levels`: a threshold t on |v|, first the mean (f64 chain); at most eight times: t ← (mean of the |v| ≤ t + mean
//!   of the |v| > t) ÷ 2, until it stays or a group is empty. Codes: 0 for v < 0 and |v| > t, 1 for other v < 0, 2 for
//!   v ≥ 0 and |v| ≤ t, 3 above. A level is f32(Σ v ÷ count) over the members of its code.
//! - Levels are made canonical: clamped to ±2^100; −0 becomes +0; a level in use that is not above the one in use before it is merged into
//!   that one's code; unused levels are +0. Then e ← e − level in f32 at the positions sent.
//! - Outer step, per tensor: norm = √(Σ v²) over the decoded values v in wire order, an f64 chain; median = element
//!   ⌊(R−1)/2⌋ of the R sorted norms; a contributor with norm > median has its values multiplied by median ÷ norm in f64.
//!   g = the chain of a coordinate's values in the order of the record ÷ R (`mean-of-all`) or ÷ the number of senders
//!   (`mean-of-senders`).
//!   θ ← f32(f64(θ) − f64(lr)·g). A coordinate that nobody sent keeps its bits.
//!
//! # Format, version 0
//!
//! Integers and floats are little-endian; bits fill a byte from the least significant.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `TPLDELTA` |
//! | 8 | 1 | version, 0 |
//! | 9 | 1 | quantiser: 0 `templar4`, 1 `sign-levels` |
//! | 10 | 4 | block side, u32 |
//! | 14 | 4 | top-k, u32 |
//! | 18 | 32 | run id |
//! | 50 | 8 | window, u64 |
//! | 58 | 32 | miner |
//! | 90 | 4 | T, the number of tensors, u32, at most 2^20 |
//! | 94 | 25·T | the table, one row for each tensor in the order of the model |
//! | 94 + 25·T | | the bodies, in the same order, without gaps |
//!
//! A row of the table:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | n, the number of values sent, u32: blocks × k, as the tensor's shape asks |
//! | 4 | 4 | index bytes, u32 |
//! | 8 | 1 | Rice parameter r |
//! | 9 | 16 | the four levels, f32: what codes 0–3 decode to |
//!
//! A body is the index bytes, then ⌈n/4⌉ code bytes. Codes take two bits each, in wire order.
//!
//! Positions: for each block in wire order, for each kept position p in ascending order, the gap g = p − (the position
//! before + 1), counting from 0 at the block's start, as ⌊g/2^r⌋ one-bits, a zero-bit, and the low r bits of g. r is the
//! number in 0–20 with the fewest bits in all for this tensor, the smallest of several. A tensor of which every element
//! is sent (k = len) has no index bytes and r = 0.
//!
//! One delta has one spelling. A reader refuses: padding bits that are not zero; index bytes that are too few or too
//! many; a position beyond its block; another r than the cheapest; a level that is not finite, beyond 2^100, −0, not +0
//! though no code uses it, or not above the level in use before it; bytes after the last body; and any header but the one
//! expected. Duplicate or unordered positions cannot be written.
//!
//! # Aggregate, version 0
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `TPLAGGRE` |
//! | 8 | 1 | version, 0 |
//! | 9 | 41 | quantiser, block side, top-k and run id, as in a delta |
//! | 50 | 8 | window, u64 |
//! | 58 | 4 | R, the number of contributors, u32, at most 2^16; 0 where nothing is applied |
//! | 62 | 4 | T, the number of tensors, u32 |
//! | 66 | 25·T·R | the table: for each tensor, for each contributor in the order of the record, its delta's row |
//! | 66 + 25·T·R | | the bodies, in the same order, without gaps |
//!
//! Rows and bodies are those of the deltas, and are read as strictly. So one tensor is read alone, and the whole is 94
//! bytes a contributor shorter than the deltas, less its own header.

mod aggregate;
mod apply;
mod compress;
mod decode;
mod layout;
mod noise;
mod overlap;
mod quantise;
mod rice;
mod settings;
mod wire;

#[cfg(test)]
mod tests;

pub use aggregate::{Aggregate, AggregateError, AggregateHeader, MAX_CONTRIBUTORS};
pub use apply::{ApplyError, ApplyReport, TensorReport, apply_trial};
pub use compress::{CompressError, MAX_MAGNITUDE, compress, max_bytes};
pub use decode::{DecodeError, Delta, Fault, SparseTensor, decode};
pub use layout::{MAX_TENSORS, ShapeError};
pub use noise::random_delta;
pub use overlap::{overlap_ppm, overlaps_ppm};
pub use settings::{MAX_BLOCK_SIDE, PPM, ParseNameError, Quantiser, Rule, Settings, SettingsError};
pub use wire::{Header, Parts, TensorParts, inspect};
