//! The entropy code of two-bit codes: a range variant of asymmetric numeral systems (Duda 2013) with one state.
//!
//! A step of the reader is the exact inverse of a step of the writer, and states outside [2^16, 2^32) never occur between
//! steps. So when the reader ends in the state in which the writer began and no byte is left, the writer would have
//! written these bytes and no others: a list of codes with its frequencies has one spelling.

/// How many codes there are.
const CODES: usize = 4;
/// Frequencies sum to this power of two.
const FREQUENCY_BITS: u32 = 12;
/// The sum of the frequencies.
pub(crate) const FREQUENCY_SUM: u16 = 1 << FREQUENCY_BITS;
/// The state in which a writer begins and a reader ends; no state is below.
const FIRST_STATE: u32 = 1 << 16;

/// How often each code occurs, in 4096ths: ⌊4096·count ÷ n⌋, at least 1 for a code that occurs; what is missing to 4096,
/// or too much, is added to the most frequent code, of several the first. There is at least one code.
pub(crate) fn frequencies(counts: [u64; CODES]) -> [u16; CODES] {
    let total: u64 = counts.iter().sum();
    let mut frequencies = counts.map(|count| {
        // Counts are below 2^32.
        let share = (count << FREQUENCY_BITS) / total.max(1);
        if count == 0 { 0 } else { share.max(1) as u16 }
    });
    let sum: u16 = frequencies.iter().sum();
    let most = (1..CODES).fold(0, |most, code| if counts[code] > counts[most] { code } else { most });
    // At most four are 1 too many, and the most frequent code has at least a quarter.
    frequencies[most] = frequencies[most] + FREQUENCY_SUM - sum;
    frequencies
}

/// Where the frequencies of codes before each code end.
fn starts(frequencies: [u16; CODES]) -> [u32; CODES] {
    let mut start = 0;
    frequencies.map(|frequency| {
        start += u32::from(frequency);
        start - u32::from(frequency)
    })
}

/// Codes with these frequencies: the reader's first state, then 16-bit words in the order in which it takes them.
pub(crate) fn encode(codes: &[u8], frequencies: [u16; CODES]) -> Vec<u8> {
    let starts = starts(frequencies);
    // ⌊2^64 ÷ f⌋ + 1: a division of a state by f as the upper half of a product, exact since state · f < 2^64. A code
    // with f = 1 has none, and leaves its state whole.
    let inverses = frequencies.map(|frequency| (u64::MAX / u64::from(frequency.max(1))).wrapping_add(1));
    let mut words = vec![0u16; max_bytes(codes.len() as u64) as usize / 2 + 1];
    let mut count = 0;
    let mut state = FIRST_STATE;
    for &code in codes.iter().rev() {
        let frequency = u32::from(frequencies[code as usize]);
        // The word counts only where it is taken off the state: no branch to mispredict.
        let take = u64::from(state) >= u64::from(frequency) << (32 - FREQUENCY_BITS);
        words[count] = state as u16;
        count += usize::from(take);
        state >>= 16 * u32::from(take);
        let inverse = inverses[code as usize];
        let quotient = if inverse == 0 { state } else { ((u128::from(state) * u128::from(inverse)) >> 64) as u32 };
        state = (quotient << FREQUENCY_BITS) + (state - quotient * frequency) + starts[code as usize];
    }
    let mut bytes = Vec::with_capacity(4 + 2 * count);
    bytes.extend_from_slice(&state.to_le_bytes());
    bytes.extend(words[..count].iter().rev().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// No `count` codes take more bytes: a code of frequency f takes log2(4096 ÷ f) bits, at most two on average where the
/// frequencies are those of the codes, but for what rounding them costs, and the states at both ends four bytes.
pub(crate) const fn max_bytes(count: u64) -> u64 {
    4 + (count * 2).div_ceil(8) + count / 64 + 2
}

/// Reads codes from bytes; past the end it sees zeros, and [`Reader::is_finished`] tells.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    state: u32,
    frequencies: [u32; CODES],
    starts: [u32; CODES],
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of codes whose frequencies sum to [`FREQUENCY_SUM`]; `None` where the bytes begin with no state.
    pub(crate) fn new(bytes: &'a [u8], frequencies: [u16; CODES]) -> Option<Self> {
        let state = u32::from_le_bytes(*bytes.first_chunk()?);
        let starts = starts(frequencies);
        (state >= FIRST_STATE).then_some(Self { state, frequencies: frequencies.map(u32::from), starts, bytes, at: 4 })
    }

    /// The next code.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> u8 {
        let slot = self.state & u32::from(FREQUENCY_SUM - 1);
        let code = (1..CODES).map(|code| u8::from(slot >= self.starts[code])).sum::<u8>();
        // A code that does not occur shares its start with the one behind it, or ends where all do.
        let place = usize::from(code & 3);
        self.state = self.frequencies[place] * (self.state >> FREQUENCY_BITS) + slot - self.starts[place];
        if self.state < FIRST_STATE {
            let word = self.bytes.get(self.at..self.at + 2).map_or(0, |word| u16::from_le_bytes([word[0], word[1]]));
            self.state = self.state << 16 | u32::from(word);
            self.at += 2;
        }
        code
    }

    /// Whether the state is the first one of a writer and no byte is left or missing.
    pub(crate) fn is_finished(&self) -> bool {
        self.state == FIRST_STATE && self.at == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counted(codes: &[u8]) -> [u16; CODES] {
        let mut counts = [0; CODES];
        codes.iter().for_each(|&code| counts[code as usize] += 1);
        frequencies(counts)
    }

    fn read(bytes: &[u8], frequencies: [u16; CODES], count: usize) -> Option<Vec<u8>> {
        let mut reader = Reader::new(bytes, frequencies)?;
        let codes = (0..count).map(|_| reader.next()).collect();
        reader.is_finished().then_some(codes)
    }

    /// Codes drawn with weights, of which some may be zero.
    fn codes() -> impl Strategy<Value = Vec<u8>> {
        (prop::array::uniform4(0u32..300), prop::collection::vec(any::<u32>(), 1..600)).prop_map(|(weights, draws)| {
            let sum = weights.iter().sum::<u32>() + 1;
            let code = |draw: u32| {
                let mut rest = draw % sum;
                (0..3).find(|&code| {
                    let here = rest < weights[code as usize];
                    rest = rest.saturating_sub(weights[code as usize]);
                    here
                })
            };
            draws.into_iter().map(|draw| code(draw).unwrap_or(3)).collect()
        })
    }

    proptest! {
        #[test]
        fn codes_round_trip_within_the_bound_and_have_one_spelling(
            codes in codes(),
            flip in any::<prop::sample::Index>(),
        ) {
            let frequencies = counted(&codes);
            prop_assert_eq!(frequencies.iter().sum::<u16>(), FREQUENCY_SUM);
            let mut bytes = encode(&codes, frequencies);
            prop_assert!(bytes.len() as u64 <= max_bytes(codes.len() as u64), "{} {}", bytes.len(), codes.len());
            prop_assert_eq!(read(&bytes, frequencies, codes.len()), Some(codes.clone()));
            // Another spelling is another list of codes, or none.
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Some(other) = read(&bytes, frequencies, codes.len()) {
                prop_assert_eq!(encode(&other, frequencies), bytes);
            }
        }
    }

    #[test]
    fn frequencies_sum_up_and_leave_out_what_does_not_occur() {
        assert_eq!(frequencies([1, 0, 0, 0]), [4096, 0, 0, 0]);
        assert_eq!(frequencies([1, 1, 1, 0]), [1366, 1365, 1365, 0]);
        assert_eq!(frequencies([1 << 31, 1, 1, 1]), [4093, 1, 1, 1]);
        assert_eq!(frequencies([0, 5, 5, 1]), [0, 1863, 1861, 372]);
        assert_eq!(frequencies([0, 0, 0, 1 << 31]), [0, 0, 0, 4096]);
    }

    /// A thousand codes of which one in ten is rare: 0.469 bit each by Shannon.
    #[test]
    fn the_length_is_close_to_the_entropy() {
        let codes: Vec<u8> = (0..10_000u32).map(|at| if at % 10 == 3 { 2 } else { 1 }).collect();
        let bytes = encode(&codes, counted(&codes));
        assert!((586..=594).contains(&bytes.len()), "{}", bytes.len());
    }

    #[test]
    fn bytes_that_end_early_or_begin_below_every_state_are_refused() {
        assert!(Reader::new(&[0, 0, 1], [4096, 0, 0, 0]).is_none());
        assert!(Reader::new(&[255, 255, 0, 0], [4096, 0, 0, 0]).is_none());
        assert_eq!(read(&[0, 0, 1, 0], [0, 0, 4096, 0], 3), Some(vec![2; 3]));
        let codes: Vec<u8> = (0..500u32).map(|at| (at * at % 7 % 4) as u8).collect();
        let bytes = encode(&codes, counted(&codes));
        assert!((0..bytes.len()).all(|end| read(&bytes[..end], counted(&codes), 500).is_none()));
        assert_eq!(read(&[&bytes[..], &[0, 0]].concat(), counted(&codes), 500), None);
    }
}
