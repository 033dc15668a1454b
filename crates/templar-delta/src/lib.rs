//! SparseLoCo's delta: the pseudo-gradient of one miner for one window, small enough for a home connection.
//!
//! On the way of the data this crate stands between the training of a window and its record:
//!
//! - [`compress`] turns the pseudo-gradient Δ = θ_start − θ_end into bytes.
//! - [`decode`] turns a stranger's bytes into a [`Delta`], or into an error that names the tensor and the byte.
//! - An [`Aggregate`] of the deltas of a window steps the parameters.
//! - [`overlap_ppm`] compares two deltas, to find copies.
//!
//! Nothing here touches the network or a file.
//!
//! ```
//! use templar_delta::{DeltaHeader, DeltaSettings, Quantiser, compress, decode};
//! use templar_manifest::{Hash, TensorSpec};
//!
//! // One matrix of 64 × 64 is one block, of which the 64 largest of 4,096 values are sent, with a sign each.
//! let specs = [TensorSpec::new("weight", &[64, 64])];
//! let settings = DeltaSettings::new(64, 64, Quantiser::BlockSign, 950_000)?;
//! let header = DeltaHeader { run: Hash::of(b"a run"), window: 7, miner: [1; 32] };
//! let pseudo_gradient: Vec<f32> = (0..4096).map(|i| ((i * 37 % 101) as f32 - 50.0) * 1e-3).collect();
//!
//! // The error feedback keeps the rest for later windows.
//! let mut error = vec![0.0; 4096];
//! let bytes = compress(&specs, &settings, &header, &pseudo_gradient, &mut error)?;
//! assert!(bytes.len() < 300, "16,384 bytes become {}", bytes.len());
//!
//! let delta = decode(&bytes, &specs, &settings, &header)?;
//! assert_eq!(delta.kept(), 64);
//! for (index, value) in delta.tensor(0).entries() {
//!     assert_eq!(value + error[index as usize], pseudo_gradient[index as usize]);
//! }
//!
//! // Nobody else can use these bytes: they name the miner that made them.
//! let thief = DeltaHeader { miner: [2; 32], ..header };
//! assert!(decode(&bytes, &specs, &settings, &thief).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Arithmetic
//!
//! The same inputs give the same bytes on every machine and with any number of threads. Every operation is one
//! of IEEE 754: `+ − × ÷ √`, comparison and conversion, rounded to nearest even. A *chain* is a sum from +0 in
//! the order stated.
//!
//! - Blocks: for every dimension the side is its largest divisor ≤ `block_side`. *Wire order*: blocks row by row of the
//!   grid, elements row by row within a block. A matrix keeps k = ⌈`top_k`·len ÷ `block_side`²⌉ of a block of len
//!   elements (the density of a full block); a vector is cut into runs of one side and keeps min(`top_k`, len) of each.
//! - Error feedback: e ← f32(f64(β)·f64(e) + f64(Δ)), with β = `error_decay_ppm` ÷ 10^6 in f64; the product and the sum
//!   round separately. It is refused unless |e| ≤ 2^100.
//! - Top-k: the k of a block with the largest |e|, of equals the earlier ones.
//! - `templar4`, over the n kept values v of a tensor in wire order: shift = f32(Σ v ÷ n), the chain and the
//!   quotient in f64; c = v − shift in f32; scale = f32(6·√(Σ c² ÷ (n − 1)) ÷ 4) in f64, 1 where that is 0 or
//!   not finite; x = c ÷ scale + 2 in f32; code = [x > 0.5] + [x ≥ 1.5] + [x > 2.5], which is rounding half to
//!   even, clamped to 0–3. A level is f32(Σ c ÷ count), chain and quotient in f64 over the members of the code,
//!   plus shift in f32. Levels are made canonical: clamped to ±2^100; −0 becomes +0; a level in use that is not
//!   above the one in use before it is merged into that one's code; unused levels are +0.
//! - Scales: ⌈32 ÷ k⌉ consecutive blocks share one, the last of a tensor perhaps fewer; it is the mean of their
//!   |v|, an f64 chain divided in f64, as an index s: 0 where it is 0, else e + 1193, e = 8·x + j for mean =
//!   2^x·m, 1 ≤ m < 2, with j the number of the eight odd i for which m ≥ 2^(i ÷ 16) in f64, clamped to
//!   −1192..=800. S = 2^(e ÷ 8), the f64 nearest to 2^((e mod 8) ÷ 8) times a power of two, or 0.
//! - `block-sign`: `code = [v < 0]`; 0 decodes to f32(S), 1 to −f32(S).
//! - `block-levels`: a value is large where |v| > t·S, in f64. t is 1 at first; at most eight times: r = Σ
//!   |v|·S ÷ Σ S² of the small and of the large (f64 chains over the values with S > 0), t ← (r + r′) ÷ 2,
//!   until it stays. Both r are rounded (half to even) to 4096ths, 1 to 65535, and t becomes half their sum;
//!   where a group is empty at any time, or the r are not in order, all are small with the r of all, and the
//!   large r is 0. `code = [v < 0] + 2·[large]`, and it decodes to ±f32(min(r·S, 2^100)).
//! - Then e ← e − the decoded value in f32 at the positions sent.
//! - Outer step, per tensor: norm = √(Σ count · level²), an f64 chain over the blocks in wire order and in each
//!   over the codes from 0 to 3, with how many values of the block have the code and what it decodes to there;
//!   median = element ⌊(R−1)/2⌋ of the R sorted norms; a contributor with norm > median has its values
//!   multiplied by median ÷ norm in f64. g = the chain of a coordinate's values in the order of the record ÷ R
//!   (`mean-of-all`) or ÷ the number of senders (`mean-of-senders`). θ ← f32(f64(θ) − f64(lr)·g). A coordinate
//!   that nobody sent keeps its bits.
//!
//! # Format, version 0
//!
//! Integers and floats are little-endian; bits fill a byte from the least significant.
//!
//! A *number* has seven bits in a byte from the least significant, the high bit set on all bytes but the last, and no
//! more bytes than it needs.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | `TPLDELTA` |
//! | 1 | version, 0 |
//! | 1 | quantiser: 0 `templar4`, 1 `block-sign`, 2 `block-levels` |
//! | 32 | run id |
//! | 32 | miner |
//! | number | window |
//! | number | block side |
//! | number | top-k |
//! | number | T, the number of tensors, at most 2^20 |
//! | T numbers | the directory: the bytes of each tensor's body, in the order of the model |
//! | | the bodies, in the same order, without gaps |
//!
//! A body begins with its front:
//!
//! | bytes | field |
//! |---|---|
//! | number | m of the positions, at most 2^20 |
//! | number | index bytes |
//! | 1 | not `block-sign`: the set of the codes that occur, bit c for code c |
//! | 2·(u − 1) | not `block-sign`: the frequency of each of these u codes but the last, u16 |
//! | 4·u | `templar4`: the level of each of these codes, f32 |
//! | 4 | `block-levels`: the small and the large r, u16 |
//! | number | `block-sign`, `block-levels`: the index of the first scale, at most 1993 |
//! | number | `block-sign`, `block-levels`: m of the scales, at most 2^20 |
//! | number | `block-sign`, `block-levels`: scale bytes |
//!
//! then come the index bytes, the scale bytes, and to the end the codes in wire order.
//!
//! - Positions: for each block in wire order, for each kept position p in ascending order, the gap g = p − (the
//!   position before + 1), counting from 0 at the block's start. A tensor of which every element is sent (k =
//!   len) has none.
//! - Scales: for each but the first, its distance from the one before, 0, −1, 1, −2, … as g = 0, 1, 2, 3, …
//! - Golomb: the n numbers g of a part are taken 64 at a time, the last time perhaps fewer. Of each group come
//!   first the remainders x = g mod m: with b = ⌊log2 m⌋ and c = 2^(b+1) − m, the b bits of x if x < c, else
//!   the upper b of the b + 1 bits of x + c; then the lowest bit of x + c for each x ≥ c; then for each g as
//!   many zero-bits as ⌊g ÷ m⌋ and a one-bit. m = ⌊(45426·Σg + 55706·n) ÷ (65536·n)⌋ for this part of this
//!   tensor, 1 where that is 0 or n is.
//! - Codes of `block-sign`: one bit each.
//! - Other codes: the frequency of a code with count c of n is f = ⌊1024·c ÷ n⌋, 1 where that is 0 and c is
//!   not. The code with the largest c, of several the first, is corrected so that the f sum to 1024. The start
//!   of a code is the sum of the f before it. There are s states, 4 where n ≥ 4096 and else 1; the writer
//!   begins with each x = 2^16 and takes the codes from the last to the first, code i (from 0) with state i mod
//!   s: if x ≥ f·2^22, the low 16 bits of x are put before the words written so far and x ← ⌊x ÷ 2^16⌋; then x
//!   ← ⌊x ÷ f⌋·1024 + x mod f + start. The codes are the last x of each state in order, u32, and the words, u16
//!   (rANS, Duda 2013).
//!
//! One delta has one spelling. A reader refuses: padding bits that are not zero; parts that are too short or
//! too long; a position beyond its block; another m than that of the g; a state below 2^16 at its start,
//! another than 2^16 at its end; frequencies other than those of the codes; a level that is not finite, beyond
//! 2^100, −0, or not above the one before it; a code other than 0 where the scale is 0; a small r of 0 except
//! where all scales are, a large r of 0 except where no code with a scale uses it, r out of order; bytes after
//! the last body; and any header but the one expected. Duplicate or unordered positions cannot be written, and
//! a reader's step of the rANS is the inverse of a writer's, so that what ends in the states in which a writer
//! begins was spelled as a writer spells it.
//!
//! # Aggregate, version 0
//!
//! | bytes | field |
//! |---|---|
//! | 8 | `TPLAGGRE` |
//! | 1 | version, 0 |
//! | 1 | quantiser, as in a delta |
//! | 32 | run id |
//! | number | window |
//! | number | block side |
//! | number | top-k |
//! | number | R, the number of contributors, at most 2^16; 0 where nothing is applied |
//! | number | T, the number of tensors |
//! | T·R numbers | the directory: per tensor, per contributor in the order of the record, the bytes of its body |
//! | | the bodies, in the same order, without gaps |
//!
//! Bodies are those of the deltas, and are read as strictly. So one tensor is read alone, and the whole is shorter than
//! the deltas by their headers, less its own.

mod aggregate;
mod apply;
mod bits;
mod body;
mod compress;
mod decode;
mod error;
mod fields;
mod golomb;
mod inspect;
mod layout;
mod overlap;
mod quantise;
mod rans;
mod scale;
mod settings;
mod wire;

#[cfg(test)]
mod tests;

pub use aggregate::{Aggregate, AggregateHeader, MAX_CONTRIBUTORS};
pub use apply::{ApplyReport, TensorReport, apply_trial};
pub use body::TensorFault;
pub use compress::{CompressError, compress};
pub use decode::{Delta, SparseTensor, decode};
pub use error::{AggregateError, DeltaError, OuterStepError};
pub use inspect::{DeltaSizes, TensorSizes, inspect};
pub use layout::{MAX_TENSORS, ShapeError};
pub use overlap::{overlap_ppm, overlaps_ppm};
pub use scale::MAX_MAGNITUDE;
pub use settings::{DeltaSettings, DeltaSettingsError, MAX_BLOCK_SIDE, PPM};
pub use templar_manifest::{AggregationRule, Quantiser};
pub use wire::{DeltaHeader, max_bytes};
