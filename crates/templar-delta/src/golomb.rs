//! The Golomb code of the gaps between kept positions and of the steps between scales.
//!
//! With parameter m, a number g is written as the quotient ⌊g ÷ m⌋ in unary and the remainder in truncated
//! binary (Golomb 1966). In the usual order of bits a reader knows where a number begins only after it has read
//! the one before, so it waits for each of them. Here the same bits are sorted. Of 64 numbers come first the
//! bits of the remainders that every number has, then the one bit that some remainders have more, and then the
//! quotients. A reader finds all of the first at once, and the others by counting.
//!
//! A position is written as its distance from the one before, so a list of gaps cannot contain a duplicate or a
//! position out of order. The parameter follows from the mean of the numbers. A reader has seen all numbers at
//! the end, so it can check the parameter.

use crate::bits::{BitWriter, peek, word};

/// The number of numbers that are written together.
pub(crate) const GROUP: usize = 64;

/// The largest sum that the numbers of a group can have, each with m added. Blocks have at most 2^20 elements.
const RANGE: u64 = 1 << 28;

/// The parameter for `count` numbers of sum `sum`: ⌊ln 2 · mean + 0.85⌋ in 65536ths, at least 1.
///
/// The best parameter for geometric gaps is near ln 2 · (mean + 1) (Gallager and van Voorhis 1975).
pub(crate) fn parameter(sum: u64, count: u64) -> u32 {
    // Sum and count are below 2^32: a tensor has less than 2^32 elements, and so does what is left out of it.
    let numerator = u128::from(sum) * 45_426 + u128::from(count) * 55_706;
    (numerator / (u128::from(count).max(1) << 16)).max(1) as u32
}

/// The Golomb code of one parameter, prepared for dividing by it.
#[derive(Debug, Clone, Copy)]
struct Golomb {
    m: u32,
    /// ⌊2^(31+b) ÷ m⌋ + 1 with b = ⌊log2 m⌋, which turns a division by m into a product.
    inverse: u32,
    /// The number of bits of a remainder below `cut`. The others have one bit more.
    short: u32,
    cut: u32,
}

impl Golomb {
    /// The code with parameter m, which is neither 0 nor above 2^20.
    const fn new(m: u32) -> Self {
        let short = m.ilog2();
        Self { m, inverse: ((1 << (31 + short)) / m as u64) as u32 + 1, short, cut: (2 << short) - m }
    }

    /// Quotient and remainder of a number below 2^30.
    // With e = inverse · m − 2^(31+b) ≤ m < 2^(b+1) this is exact where number · e < 2^(31+b).
    #[inline(always)]
    const fn divide(&self, number: u32) -> (u32, u32) {
        let quotient = ((number as u64 * self.inverse as u64) >> (31 + self.short)) as u32;
        (quotient, number.wrapping_sub(quotient.wrapping_mul(self.m)))
    }
}

/// Appends at most [`GROUP`] numbers below 2^30.
// Loops of one idea each, and of those that can be none waits for its last step: so each stays in registers.
#[inline(always)]
fn put_group(writer: &mut BitWriter, code: Golomb, numbers: &[u32]) {
    let (mut quotients, mut remainders) = ([0u32; GROUP], [0u32; GROUP]);
    let count = numbers.len();
    for ((&number, quotient), remainder) in numbers.iter().zip(&mut quotients).zip(&mut remainders) {
        (*quotient, *remainder) = code.divide(number);
    }
    let Golomb { short, cut, .. } = code;
    let (mut last_bits, mut long_ones) = (0u64, 0u32);
    let together = 32 / (short as usize).max(1);
    for remainders in remainders[..count].chunks(together) {
        let (mut bits, mut used) = (0u64, 0u32);
        for &remainder in remainders {
            let long = u32::from(remainder >= cut);
            let both = remainder.wrapping_add(long.wrapping_mul(cut));
            bits |= u64::from(both.wrapping_shr(long)).wrapping_shl(used);
            used = used.wrapping_add(short);
            last_bits |= u64::from(both & long).wrapping_shl(long_ones);
            long_ones = long_ones.wrapping_add(long);
        }
        writer.put(bits, used);
    }
    let half = long_ones.min(32);
    writer.put(last_bits & u64::from(u32::MAX), half);
    writer.put(last_bits >> 32, long_ones - half);
    for &quotient in &quotients[..count] {
        writer.put_unary(quotient);
    }
}

/// Encodes numbers below 2^30 with the parameter of their mean. Returns the parameter and the bytes.
pub(crate) fn encode(numbers: &[u32]) -> (u32, Vec<u8>) {
    let (sum, count) = (numbers.iter().map(|&number| u64::from(number)).sum(), numbers.len() as u64);
    let m = parameter(sum, count);
    (m, encode_with(numbers, m, max_bits(count, sum)))
}

/// Encodes numbers with any parameter, in at most `max_bits` bits.
fn encode_with(numbers: &[u32], m: u32, max_bits: u64) -> Vec<u8> {
    let code = Golomb::new(m);
    let mut writer = BitWriter::new(max_bits);
    for group in numbers.chunks(GROUP) {
        put_group(&mut writer, code, group);
    }
    writer.finish()
}

/// The most bits that `count` numbers with a sum of at most `max_sum` take in the code of their mean.
///
/// The mean is less than 1.66 m, and so is the mean quotient less than 7/4; a remainder takes at most one bit more than
/// the logarithm of m, which grows with the sum.
pub(crate) fn max_bits(count: u64, max_sum: u64) -> u64 {
    let long = parameter(max_sum, count).ilog2() + 1;
    count * u64::from(long + 1) + (7 * count).div_ceil(4)
}

/// The bytes do not hold the numbers that they should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The numbers go on beyond the bytes.
    Overrun,
    /// The numbers of a group are larger together than any can be.
    Range,
    /// There are bytes left, or bits that are not zero.
    Padding,
    /// The parameter is not that of the mean.
    Parameter,
}

/// Reads numbers from bytes, a group at a time. At the end it checks that they had the one right spelling.
pub(crate) struct GolombReader<'a> {
    bytes: &'a [u8],
    /// The parameter in the bytes. It may be 0, although no code has that.
    m: u32,
    code: Golomb,
    /// The position at which the next group begins, in bits.
    position: u64,
    count: u64,
    sum: u64,
}

impl<'a> GolombReader<'a> {
    /// Creates a reader of numbers with parameter m, which is at most 2^20.
    pub(crate) const fn new(bytes: &'a [u8], m: u32) -> Self {
        let code = Golomb::new(if m == 0 { 1 } else { m });
        Self { bytes, m, code, position: 0, count: 0, sum: 0 }
    }

    /// Fills `numbers` with the next group. It has [`GROUP`] numbers, or fewer at the end. Each is below 2^29.
    pub(crate) fn group(&mut self, numbers: &mut [u32]) -> Result<(), Broken> {
        let begin = self.remainders(numbers);
        let mut ends = [0u32; GROUP];
        let ends = &mut ends[..numbers.len()];
        let length = self.ends(begin, ends)?;
        if length * u64::from(self.code.m) > RANGE {
            return Err(Broken::Range);
        }
        let (mut begun, mut sum) = (0u32, 0u64);
        for (number, &end) in numbers.iter_mut().zip(&*ends) {
            // All quotients together, times m, are within the range.
            *number = number.wrapping_add(end.wrapping_sub(begun).wrapping_mul(self.code.m));
            sum = sum.wrapping_add(u64::from(*number));
            begun = end.wrapping_add(1);
        }
        self.position = begin + length;
        self.count += numbers.len() as u64;
        self.sum += sum;
        Ok(())
    }

    /// Fills in the remainders of a group, and returns the position at which its quotients begin.
    fn remainders(&self, numbers: &mut [u32]) -> u64 {
        let Golomb { short, cut, .. } = self.code;
        let mask = (1u64 << short) - 1;
        let mut at = self.position;
        let behind = at + numbers.len() as u64 * u64::from(short);
        // 64 bits, of which a peek gives 57 for certain.
        let mut last_bits = peek(self.bytes, behind) & ((1 << 56) - 1) | peek(self.bytes, behind + 56) << 56;
        let mut count = 0u32;
        for numbers in numbers.chunks_mut(57 / (short as usize).max(1)) {
            let mut bits = peek(self.bytes, at);
            at += numbers.len() as u64 * u64::from(short);
            for number in numbers {
                let first = (bits & mask) as u32;
                bits = bits.wrapping_shr(short);
                let long = first >= cut;
                let both = (first << 1 | (last_bits & 1) as u32).wrapping_sub(cut);
                *number = if long { both } else { first };
                last_bits = last_bits.wrapping_shr(u32::from(long));
                count = count.wrapping_add(u32::from(long));
            }
        }
        behind + u64::from(count)
    }

    /// The positions of the one-bits of a group's quotients, counted from `begin`, and the length of all quotients. The
    /// positions are right where the length is below 2^32.
    fn ends(&self, begin: u64, ends: &mut [u32]) -> Result<u64, Broken> {
        let mut byte = begin / 8;
        let mut ones = word(self.bytes, byte) & u64::MAX << (begin % 8);
        let mut length = 0;
        for end in ends {
            while ones == 0 {
                byte += 8;
                if byte >= self.bytes.len() as u64 {
                    return Err(Broken::Overrun);
                }
                ones = word(self.bytes, byte);
            }
            let place = (8 * byte + u64::from(ones.trailing_zeros())).wrapping_sub(begin);
            ones &= ones.wrapping_sub(1);
            *end = place as u32;
            length = place.wrapping_add(1);
        }
        Ok(length)
    }

    /// Checks that nothing is left and that the parameter is that of the mean.
    pub(crate) fn finish(&self) -> Result<(), Broken> {
        if self.position.div_ceil(8) != self.bytes.len() as u64 || peek(self.bytes, self.position) != 0 {
            return Err(Broken::Padding);
        }
        if self.m == parameter(self.sum, self.count) { Ok(()) } else { Err(Broken::Parameter) }
    }

    /// The byte in which the next group begins.
    pub(crate) fn byte(&self) -> usize {
        (self.position / 8) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], m: u32, count: usize) -> Result<Vec<u32>, Broken> {
        let mut reader = GolombReader::new(bytes, m);
        let mut numbers = vec![0; count];
        numbers.chunks_mut(GROUP).try_for_each(|group| reader.group(group))?;
        reader.finish().map(|()| numbers)
    }

    /// The same bits, one at a time, as the format's text reads.
    fn twin(numbers: &[u32], m: u32) -> Vec<u8> {
        let mut bits = Vec::new();
        let (b, c) = (m.ilog2(), (2 << m.ilog2()) - m);
        for group in numbers.chunks(64) {
            for x in group.iter().map(|g| g % m) {
                let upper = if x < c { x } else { (x + c) >> 1 };
                bits.extend((0..b).map(|bit| upper >> bit & 1));
            }
            bits.extend(group.iter().map(|g| g % m).filter(|&x| x >= c).map(|x| (x + c) & 1));
            for g in group {
                bits.extend((0..g / m).map(|_| 0));
                bits.push(1);
            }
        }
        let byte = |bits: &[u32]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | *bit as u8);
        bits.chunks(8).map(byte).collect()
    }

    /// Numbers below 2^20 of which some are large.
    fn numbers() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec((0u32..20, any::<u32>()).prop_map(|(bits, x)| x & ((1 << bits) - 1)), 1..300)
    }

    proptest! {
        #[test]
        fn the_bits_are_the_twins_within_the_bound_and_read_back(numbers in numbers()) {
            let (m, bytes) = encode(&numbers);
            let (sum, count) = (numbers.iter().map(|&number| u64::from(number)).sum(), numbers.len() as u64);
            prop_assert_eq!(m, parameter(sum, count));
            prop_assert!(bytes.len() as u64 <= max_bits(count, sum).div_ceil(8));
            prop_assert_eq!(&bytes, &twin(&numbers, m));
            prop_assert_eq!(read(&bytes, m, numbers.len()), Ok(numbers));
        }

        #[test]
        fn any_parameter_is_written_as_the_twin_writes_it(numbers in numbers(), m in 300u32..=1 << 20) {
            let bytes = encode_with(&numbers, m, numbers.len() as u64 * 64 + 300_000);
            prop_assert_eq!(&bytes, &twin(&numbers, m));
            let mut reader = GolombReader::new(&bytes, m);
            let mut found = vec![0; numbers.len()];
            // Many large numbers in one group are refused, and only those.
            let large = |group: &[u32]| group.iter().map(|&g| u64::from(g / m + 1)).sum::<u64>() * u64::from(m) > RANGE;
            match found.chunks_mut(GROUP).try_for_each(|group| reader.group(group)) {
                Ok(()) => prop_assert_eq!(found, numbers),
                Err(broken) => prop_assert!(broken == Broken::Range && numbers.chunks(GROUP).any(large)),
            }
        }

        /// Bytes that are read without an error are those that a writer writes.
        #[test]
        fn other_bytes_are_other_numbers_or_broken(
            numbers in numbers(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let (m, mut bytes) = encode(&numbers);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(others) = read(&bytes, m, numbers.len()) {
                prop_assert_eq!(encode(&others), (m, bytes));
            }
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
    fn a_quotient_is_the_product_with_the_inverse() {
        for m in (1..100).chain([255, 256, 257, 4095, 65_537, (1 << 20) - 1, 1 << 20]) {
            let code = Golomb::new(m);
            for gap in (0..200_000).step_by(97).chain((m - 1..m + 2).chain([(1 << 21) - 1, (1 << 21) / m * m - 1])) {
                assert_eq!(code.divide(gap), (gap / m, gap % m), "{gap} {m}");
            }
            let large = (1 << 30) - 1;
            assert_eq!(code.divide(large), (large / m, large % m), "{m}");
            assert_eq!(code.divide(large / m * m - 1), (large / m - 1, m - 1), "{m}");
        }
    }

    #[test]
    fn what_is_too_short_too_long_or_too_large_is_broken() {
        let (m, bytes) = encode(&[5, 900, 31, 64, 0, 77]);
        assert_eq!(read(&bytes[..bytes.len() - 1], m, 6), Err(Broken::Overrun));
        assert_eq!(read(&bytes, m, 5), Err(Broken::Padding));
        assert_eq!(read(&[&bytes[..], &[0]].concat(), m, 6), Err(Broken::Padding));
        assert_eq!(read(&encode_with(&[5, 5], 5, 64), 5, 2), Err(Broken::Parameter));
        assert_eq!(
            (read(&[], 1, 0), read(&[], 0, 0), read(&[], 2, 0)),
            (Ok(vec![]), Err(Broken::Parameter), Err(Broken::Parameter))
        );
        // Zeros without an end, and an end that comes too late for any tensor.
        assert_eq!(read(&[0; 64], 1, 1), Err(Broken::Overrun));
        assert_eq!(read(&[&[0; 1 << 15][..], &[1]].concat(), 1 << 12, 1), Err(Broken::Range));
    }
}
