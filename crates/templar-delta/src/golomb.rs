//! Bits, and the Golomb code of the gaps between kept positions and of the steps between scales.
//!
//! Bits fill a byte from the least significant. A gap g with parameter m is ⌊g ÷ m⌋ one-bits, a zero-bit, and the
//! remainder in truncated binary (Golomb 1966). A position is written as its distance from the one before, so no list of
//! gaps spells a duplicate or a disorder. The parameter follows from the mean of the gaps, so that a reader, who sees
//! them all, knows whether it is the right one.

/// The parameter for `count` gaps of sum `sum`: ⌊ln 2 · mean + 0.85⌋ in 65536ths, at least 1.
///
/// The best parameter for geometric gaps is near ln 2 · (mean + 1) (Gallager and van Voorhis 1975).
pub(crate) fn parameter(sum: u64, count: u64) -> u32 {
    // Sum and count are below 2^32: a tensor has less than 2^32 elements, and so does what is left out of it.
    let numerator = u128::from(sum) * 45_426 + u128::from(count) * 55_706;
    (numerator / (u128::from(count).max(1) << 16)).max(1) as u32
}

/// A Golomb code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Golomb {
    m: u32,
    /// ⌊2^41 ÷ m⌋ + 1: a division by m of numbers below 2^21 as a product.
    inverse: u64,
    /// Remainders below `cut` take this many bits, the others one more.
    short: u32,
    cut: u32,
}

impl Golomb {
    /// The code with parameter m, which is neither 0 nor above 2^20.
    pub(crate) const fn new(m: u32) -> Self {
        let short = m.ilog2();
        Self { m, inverse: (1 << 41) / m as u64 + 1, short, cut: (2 << short) - m }
    }
}

/// Appends bits to bytes, of which there must be room for all and eight more.
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    at: usize,
    pending: u64,
    used: u32,
}

impl BitWriter {
    /// A writer of at most `bits`.
    pub(crate) fn new(bits: u64) -> Self {
        // Bits of a tensor are counted within what the tensor itself takes.
        Self { bytes: vec![0; bits.div_ceil(8) as usize + 8], at: 0, pending: 0, used: 0 }
    }

    /// Appends the low `count` ≤ 56 bits of `value`, which has no others.
    // Always a whole word, so that there is no branch to mispredict.
    #[inline(always)]
    fn put(&mut self, value: u64, count: u32) {
        self.pending |= value << self.used;
        self.used += count;
        self.bytes[self.at..self.at + 8].copy_from_slice(&self.pending.to_le_bytes());
        self.at += self.used as usize / 8;
        self.pending >>= self.used & !7;
        self.used &= 7;
    }

    /// Appends a gap below 2^21.
    #[inline(always)]
    pub(crate) fn put_gap(&mut self, gap: u32, code: Golomb) {
        // With e = inverse · m − 2^41 ≤ m this is exact where gap · e < 2^41; a gap lies within a block of 2^20.
        let mut quotient = ((u64::from(gap) * code.inverse) >> 41) as u32;
        let remainder = gap - quotient * code.m;
        while quotient >= 32 {
            self.put(u64::from(u32::MAX), 32);
            quotient -= 32;
        }
        // The remainder's low bit comes last where it is long, so that the first bits alone tell which it is.
        let long = remainder >= code.cut;
        let value = if long { remainder + code.cut } else { remainder };
        let bits = if long { value >> 1 | (value & 1) << code.short } else { value };
        let ones = (1 << quotient) - 1;
        self.put(ones | u64::from(bits) << (quotient + 1), quotient + 1 + code.short + u32::from(long));
    }

    /// The bytes, the last one padded with zero-bits.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at + usize::from(self.used > 0));
        self.bytes
    }
}

/// Reads bits from bytes; past the end it sees zeros, and [`BitReader::overrun`] tells.
#[derive(Clone, Copy)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    position: u64,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next bits, at least 57 of them, zeros beyond the end.
    #[inline(always)]
    fn peek(&self) -> u64 {
        let byte = usize::try_from(self.position / 8).unwrap_or(usize::MAX).min(self.bytes.len());
        let rest = &self.bytes[byte..];
        let word = match rest.first_chunk::<8>() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => {
                let mut chunk = [0; 8];
                chunk[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(chunk)
            }
        };
        word >> (self.position % 8)
    }

    /// A gap, or `None` when it is above `limit`.
    // The loops that call it are as fast as this stays in registers.
    #[inline(always)]
    pub(crate) fn gap(&mut self, code: Golomb, limit: u32) -> Option<u32> {
        let mut word = self.peek();
        let mut ones = word.trailing_ones();
        let mut quotient = u64::from(ones);
        // A run that might go on beyond the word, or leave no room for the remainder, is read word by word.
        if ones + 2 + code.short > 57 {
            quotient = self.long_run(limit)?;
            word = self.peek();
            ones = 0;
        }
        let rest = word >> (ones + 1);
        let short = (rest & ((1 << code.short) - 1)) as u32;
        let low = (rest >> code.short & 1) as u32;
        let long = short >= code.cut;
        let remainder = if long { 2 * short + low - code.cut } else { short };
        self.position += u64::from(ones + 1 + code.short + u32::from(long));
        let gap = quotient * u64::from(code.m) + u64::from(remainder);
        (gap <= u64::from(limit)).then_some(gap as u32)
    }

    /// Reads a run of one-bits up to the zero-bit behind it; `None` when it is longer than `limit`.
    #[cold]
    fn long_run(&mut self, limit: u32) -> Option<u64> {
        let mut run = 0;
        loop {
            let ones = self.peek().trailing_ones().min(57);
            run += u64::from(ones);
            self.position += u64::from(ones);
            if run > u64::from(limit) {
                return None;
            }
            if ones < 57 {
                return Some(run);
            }
        }
    }

    /// Whether more bits were read than there are.
    pub(crate) fn overrun(&self) -> bool {
        self.position > self.bytes.len() as u64 * 8
    }

    /// The byte that the next bit is in.
    pub(crate) fn byte(&self) -> usize {
        usize::try_from(self.position / 8).unwrap_or(usize::MAX).min(self.bytes.len())
    }

    /// Whether every byte was reached and the bits left in the last one are zero.
    pub(crate) fn is_finished(&self) -> bool {
        self.position.div_ceil(8) == self.bytes.len() as u64 && self.peek() == 0
    }
}

/// The gaps in the Golomb code of their mean, and its parameter.
pub(crate) fn encode(gaps: &[u32]) -> (u32, Vec<u8>) {
    let (sum, count) = (gaps.iter().map(|&gap| u64::from(gap)).sum(), gaps.len() as u64);
    let m = parameter(sum, count);
    let code = Golomb::new(m);
    let mut writer = BitWriter::new(max_bits(count, sum));
    for &gap in gaps {
        writer.put_gap(gap, code);
    }
    (m, writer.finish())
}

/// No `count` gaps of sum at most `max_sum` take more bits in the code of their mean.
///
/// The mean is less than 1.66 m, and so is the mean quotient less than 7/4; a remainder takes at most one bit more than
/// the logarithm of m, which grows with the sum.
pub(crate) fn max_bits(count: u64, max_sum: u64) -> u64 {
    let long = parameter(max_sum, count).ilog2() + 1;
    count * u64::from(long + 1) + (7 * count).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(gaps: &[u32], m: u32) {
        let code = Golomb::new(m);
        let mut writer = BitWriter::new(gaps.iter().map(|&gap| u64::from(gap / m + 1 + code.short + 1)).sum());
        for &gap in gaps {
            writer.put_gap(gap, code);
        }
        let bytes = writer.finish();
        let mut reader = BitReader::new(&bytes);
        for &gap in gaps {
            assert_eq!(reader.gap(code, u32::MAX), Some(gap));
        }
        assert!(!reader.overrun() && reader.is_finished());
    }

    proptest! {
        #[test]
        fn gaps_round_trip_within_the_bound(
            gaps in prop::collection::vec((0u32..20, any::<u32>()).prop_map(|(bits, x)| x & ((1 << bits) - 1)), 1..80),
            m in 1u32..5000,
        ) {
            // Long unary runs are slow to write but must be right: keep them within a block's length.
            let m = if gaps.iter().any(|&gap| gap / m > 5000) { m + 300 } else { m };
            round_trip(&gaps, m);
            let sum = gaps.iter().map(|&gap| u64::from(gap)).sum();
            let (m, bytes) = encode(&gaps);
            prop_assert_eq!(m, parameter(sum, gaps.len() as u64));
            prop_assert!(bytes.len() as u64 <= max_bits(gaps.len() as u64, sum).div_ceil(8));
        }
    }

    /// The parameter is the best one for geometric gaps, or next to it, at every mean.
    #[test]
    fn the_parameter_is_near_the_best() {
        let cost = |gaps: &[u32], m: u32| {
            let code = Golomb::new(m);
            gaps.iter().map(|gap| u64::from(gap / m + 1 + code.short + u32::from(gap % m >= code.cut))).sum::<u64>()
        };
        for keep in [2, 3, 5, 17, 64, 300] {
            // Gaps between the numbers that a fixed mixing sends below 1 in `keep`.
            let mut gaps = Vec::new();
            let (mut gap, mut state) = (0, 1u64);
            for _ in 0..100_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if (state >> 33).is_multiple_of(keep) {
                    gaps.push(std::mem::take(&mut gap));
                } else {
                    gap += 1;
                }
            }
            let m = parameter(gaps.iter().map(|&gap| u64::from(gap)).sum(), gaps.len() as u64);
            let best = (1..1000).map(|m| cost(&gaps, m)).min().unwrap();
            assert!(cost(&gaps, m) as f64 <= best as f64 * 1.001, "{keep}: {m}");
        }
    }

    #[test]
    fn the_code_is_golombs() {
        let bits = |gap: u32, m: u32| {
            let mut writer = BitWriter::new(8);
            writer.put_gap(gap, Golomb::new(m));
            writer.put(1, 1); // marks the end
            let byte = writer.finish()[0];
            (0..7 - byte.leading_zeros()).map(|bit| if byte >> bit & 1 == 1 { '1' } else { '0' }).collect::<String>()
        };
        // Remainders of 5 in truncated binary: 00, 01, 10, 110, 111, the first two bits from the least significant.
        let codes: Vec<String> = (0..7).map(|gap| bits(gap, 5)).collect();
        assert_eq!(codes, ["000", "010", "001", "0110", "0111", "1000", "1010"]);
        assert_eq!(
            (bits(0, 1), bits(3, 1), bits(3, 2), bits(2, 4)),
            ("0".into(), "1110".into(), "101".into(), "001".into())
        );
    }

    #[test]
    fn runs_around_the_word_length_round_trip() {
        for quotient in (0..200).chain([4095, 100_000]) {
            for m in [1, 2, 3, 43, 4096, 5000].into_iter().filter(|m| quotient * m < 1 << 20) {
                round_trip(&[quotient * m, 1, quotient * m + m - 1], m);
            }
        }
    }

    #[test]
    fn a_quotient_is_the_product_with_the_inverse() {
        for m in (1..100).chain([255, 256, 257, 4095, 65_537, (1 << 20) - 1, 1 << 20]) {
            let code = Golomb::new(m);
            for gap in (0..200_000).step_by(97).chain((m - 1..m + 2).chain([(1 << 21) - 1, (1 << 21) / m * m - 1])) {
                assert_eq!(((u64::from(gap) * code.inverse) >> 41) as u32, gap / m, "{gap} {m}");
            }
        }
    }

    #[test]
    fn a_run_without_an_end_is_refused() {
        let ones = [0xff; 64];
        assert_eq!(BitReader::new(&ones).gap(Golomb::new(1), 400), None);
        let mut reader = BitReader::new(&ones);
        assert_eq!(reader.gap(Golomb::new(1), 1 << 20), Some(512));
        assert!(reader.overrun());
        let mut empty = BitReader::new(&[]);
        assert_eq!(empty.gap(Golomb::new(32), 100), Some(0));
        assert!(empty.overrun());
    }
}
