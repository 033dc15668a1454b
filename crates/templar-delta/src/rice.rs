//! Bits, and the Golomb–Rice code of the gaps between kept positions.
//!
//! Bits fill a byte from the least significant. A gap g with parameter r is ⌊g/2^r⌋ one-bits, a zero-bit, and the low r
//! bits of g, least significant first (Rice 1979, Golomb 1966 with m = 2^r). A position is written as its distance from
//! the one before, so no list of gaps spells a duplicate or a disorder.

/// The largest parameter: no block has more than 2^20 elements.
pub(crate) const MAX_RICE: u32 = 20;

/// Appends bits to bytes.
#[derive(Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    used: u32,
}

impl BitWriter {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), pending: 0, used: 0 }
    }

    /// Appends the low `count` ≤ 32 bits of `value`, which has no others.
    pub(crate) fn put(&mut self, value: u64, count: u32) {
        self.pending |= value << self.used;
        self.used += count;
        if self.used >= 32 {
            self.bytes.extend_from_slice(&(self.pending as u32).to_le_bytes());
            self.pending >>= 32;
            self.used -= 32;
        }
    }

    pub(crate) fn put_gap(&mut self, gap: u32, rice: u32) {
        let mut quotient = gap >> rice;
        while quotient >= 31 {
            self.put((1 << 31) - 1, 31);
            quotient -= 31;
        }
        self.put((1 << quotient) - 1, quotient + 1);
        self.put(u64::from(gap) & ((1 << rice) - 1), rice);
    }

    /// The bytes, the last one padded with zero-bits.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let rest = self.used.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.pending.to_le_bytes()[..rest]);
        self.bytes
    }
}

/// Reads bits from bytes; past the end it sees zeros, and [`BitReader::overrun`] tells.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    position: u64,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next bits, at least 57 of them, zeros beyond the end.
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
    pub(crate) fn gap(&mut self, rice: u32, limit: u32) -> Option<u32> {
        let mut word = self.peek();
        let mut ones = word.trailing_ones();
        let mut quotient = u64::from(ones);
        // A run that might go on beyond the word, or leave no room for the remainder, is read word by word.
        if ones + 1 + rice > 57 {
            quotient = 0;
            loop {
                ones = self.peek().trailing_ones().min(57);
                quotient += u64::from(ones);
                self.position += u64::from(ones);
                if quotient > u64::from(limit) {
                    return None;
                }
                if ones < 57 {
                    break;
                }
            }
            word = self.peek();
            ones = 0;
        }
        let remainder = (word >> (ones + 1)) & ((1 << rice) - 1);
        self.position += u64::from(ones + 1 + rice);
        let gap = (quotient << rice) | remainder;
        (gap <= u64::from(limit)).then_some(gap as u32)
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

/// How many bits the gaps cost with parameter `rice`.
fn cost(gaps: &[u32], rice: u32) -> u64 {
    let quotients: u64 = gaps.iter().map(|&gap| u64::from(gap >> rice)).sum();
    quotients + gaps.len() as u64 * u64::from(rice + 1)
}

/// The parameter that costs the fewest bits, the smallest of several.
///
/// The cost is convex in the parameter (its differences Σ⌈q/2⌉ − n fall as the quotients q halve), so walking downhill
/// from any start ends at the minimum.
pub(crate) fn cheapest(gaps: &[u32]) -> u32 {
    let total: u64 = gaps.iter().map(|&gap| u64::from(gap)).sum();
    let mean = total / (gaps.len() as u64).max(1);
    let mut rice = mean.checked_ilog2().unwrap_or(0).min(MAX_RICE);
    let mut bits = cost(gaps, rice);
    while rice > 0 {
        let lower = cost(gaps, rice - 1);
        if lower > bits {
            break;
        }
        (rice, bits) = (rice - 1, lower);
    }
    while rice < MAX_RICE {
        let higher = cost(gaps, rice + 1);
        if higher >= bits {
            break;
        }
        (rice, bits) = (rice + 1, higher);
    }
    rice
}

/// Watches gaps go by and tells in the end whether their parameter was the one that [`cheapest`] names, without keeping
/// them: by convexity it is enough to compare with both neighbours.
#[derive(Default)]
pub(crate) struct CostWatch {
    count: u64,
    here: u64,
    above: u64,
    below: u64,
}

impl CostWatch {
    pub(crate) fn see(&mut self, gap: u32, rice: u32) {
        self.count += 1;
        self.here += u64::from(gap >> rice);
        self.above += u64::from(gap >> (rice + 1));
        self.below += u64::from(gap >> rice.saturating_sub(1));
    }

    pub(crate) fn is_cheapest(&self, rice: u32) -> bool {
        let here = self.here + self.count * u64::from(rice + 1);
        let above = self.above + self.count * u64::from(rice + 2);
        let below = self.below + self.count * u64::from(rice);
        (rice == 0 || below > here) && (rice == MAX_RICE || above >= here)
    }
}

/// The most bits that the gaps of `blocks` blocks can cost when each keeps `kept` of `len` elements and the parameter is
/// the cheapest: the gaps of a block sum to at most len − kept, and rounding down only helps.
pub(crate) fn max_bits(blocks: u64, kept: u64, len: u64) -> u64 {
    (0..=MAX_RICE)
        .map(|rice| ((blocks * (len - kept)) >> rice) + blocks * kept * u64::from(rice + 1))
        .min()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(gaps: &[u32], rice: u32) {
        let mut writer = BitWriter::default();
        for &gap in gaps {
            writer.put_gap(gap, rice);
        }
        let bytes = writer.finish();
        assert_eq!(bytes.len() as u64, cost(gaps, rice).div_ceil(8));
        let mut reader = BitReader::new(&bytes);
        for &gap in gaps {
            assert_eq!(reader.gap(rice, u32::MAX), Some(gap));
        }
        assert!(!reader.overrun() && reader.is_finished());
    }

    proptest! {
        #[test]
        fn gaps_round_trip_and_the_cheapest_parameter_is_found(
            gaps in prop::collection::vec((0u32..20, any::<u32>()).prop_map(|(bits, x)| x & ((1 << bits) - 1)), 1..80),
            rice in 0u32..=20,
        ) {
            // Long unary runs are slow to write by hand but must be right: keep them within a block's length.
            let rice = if gaps.iter().any(|&gap| gap >> rice > 5000) { 8 } else { rice };
            round_trip(&gaps, rice);
            let best = (0..=MAX_RICE).min_by_key(|&r| (cost(&gaps, r), r)).unwrap();
            prop_assert_eq!(cheapest(&gaps), best);
            for r in 0..=MAX_RICE {
                let mut watch = CostWatch::default();
                gaps.iter().for_each(|&gap| watch.see(gap, r));
                prop_assert_eq!(watch.is_cheapest(r), r == best);
            }
        }
    }

    #[test]
    fn runs_around_the_word_length_round_trip() {
        for quotient in (0..200).chain([4095, 100_000]) {
            for rice in [0, 1, 5, 12] {
                round_trip(&[quotient << rice, 1, (quotient << rice) | 1], rice.max(1));
            }
            round_trip(&[quotient, 0, quotient], 0);
        }
    }

    #[test]
    fn a_run_without_an_end_is_refused() {
        let ones = [0xff; 64];
        assert_eq!(BitReader::new(&ones).gap(0, 400), None);
        let mut reader = BitReader::new(&ones);
        assert_eq!(reader.gap(0, 1 << 20), Some(512));
        assert!(reader.overrun());
        let mut empty = BitReader::new(&[]);
        assert_eq!(empty.gap(5, 100), Some(0));
        assert!(empty.overrun());
    }
}
