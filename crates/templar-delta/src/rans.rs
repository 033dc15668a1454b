//! The entropy code of two-bit codes: the range variant of asymmetric numeral systems (Duda 2013).
//!
//! A step of the reader is the exact inverse of a step of the writer, and a state outside [2^16, 2^32) never
//! occurs between steps. So a list of codes with its frequencies has one spelling. When a reader ends in the
//! state in which a writer begins and no byte is left, a writer would have written exactly these bytes.
//!
//! Each step waits for the step before it in the same state. Long lists therefore have four states, which take turns.

/// The number of different codes.
const CODES: usize = 4;
/// The frequencies sum to 2 to this power.
const FREQUENCY_BITS: u32 = 10;
/// The sum of all frequencies of a list.
pub(crate) const FREQUENCY_SUM: u16 = 1 << FREQUENCY_BITS;
/// The state in which a writer begins and a reader ends. No state is below it.
const FIRST_STATE: u32 = 1 << 16;
/// A list of at least so many codes has four states. A shorter list has one.
const LONG: usize = 4096;
/// The number of states of a long list.
const STATES: usize = 4;

/// Counts how often each code occurs.
pub(crate) fn counts(codes: &[u8]) -> [u64; CODES] {
    let mut counts = [0; CODES];
    // Four counts in one number, none of which can run over.
    for codes in codes.chunks(u16::MAX as usize) {
        let sum = codes.iter().fold(0u64, |sum, &code| sum.wrapping_add(1u64.wrapping_shl(16 * u32::from(code & 3))));
        for (count, code) in counts.iter_mut().zip(0..) {
            *count += sum >> (16 * code) & u64::from(u16::MAX);
        }
    }
    counts
}

/// The frequency of each code in 1024ths: ⌊1024·count ÷ n⌋, and at least 1 for a code that occurs. The most
/// frequent code, of several the first, is corrected so that the sum is 1024. The list has at least one code.
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

/// Encodes codes with these frequencies. The bytes are the first states of the reader, and then 16-bit words in
/// the order in which the reader takes them.
pub(crate) fn encode(codes: &[u8], frequencies: [u16; CODES]) -> Vec<u8> {
    if codes.len() < LONG { encode_by::<1>(codes, frequencies) } else { encode_by::<STATES>(codes, frequencies) }
}

/// The numbers of a code that a step of the writer needs.
#[derive(Clone, Copy)]
struct Symbol {
    frequency: u32,
    start: u32,
    /// ⌊2^64 ÷ f⌋ + 1, which turns a division of a state by f into the upper half of a product. It is exact because
    /// state · f < 2^64. A code with f = 1 has none, because the quotient is the state itself.
    inverse: u64,
}

fn symbols(frequencies: [u16; CODES]) -> [Symbol; CODES] {
    let mut start = 0;
    frequencies.map(|frequency| {
        let inverse = (u64::MAX / u64::from(frequency.max(1))).wrapping_add(1);
        let frequency = u32::from(frequency);
        start += frequency;
        Symbol { frequency, start: start - frequency, inverse }
    })
}

fn encode_by<const N: usize>(codes: &[u8], frequencies: [u16; CODES]) -> Vec<u8> {
    let symbols = symbols(frequencies);
    let mut words = Vec::with_capacity(max_bytes(codes.len() as u64) as usize / 2);
    let mut step = |state: &mut u32, code: u8| {
        let Symbol { frequency, start, inverse } = symbols[usize::from(code & 3)];
        if u64::from(*state) >= u64::from(frequency) << (32 - FREQUENCY_BITS) {
            words.push(*state as u16);
            *state >>= 16;
        }
        let quotient = if inverse == 0 { *state } else { ((u128::from(*state) * u128::from(inverse)) >> 64) as u32 };
        // quotient · 1024 + remainder + start, which is below 2^32.
        let more = quotient.wrapping_mul(u32::from(FREQUENCY_SUM).wrapping_sub(frequency));
        *state = state.wrapping_add(start).wrapping_add(more);
    };
    let mut states = [FIRST_STATE; N];
    let (turns, rest) = codes.as_chunks::<N>();
    for (state, &code) in states.iter_mut().zip(rest).rev() {
        step(state, code);
    }
    for turn in turns.iter().rev() {
        for (state, &code) in states.iter_mut().zip(turn).rev() {
            step(state, code);
        }
    }
    let states = states.iter().flat_map(|state| state.to_le_bytes());
    states.chain(words.iter().rev().flat_map(|word| word.to_le_bytes())).collect()
}

/// The most bytes that `count` codes can take. A code of frequency f takes log2(1024 ÷ f) bits. That is at most
/// two on average where the frequencies are those of the codes, apart from the cost of rounding them. The
/// states at both ends take sixteen bytes.
pub(crate) const fn max_bytes(count: u64) -> u64 {
    4 * STATES as u64 + (count * 2).div_ceil(8) + count / 64 + 2
}

/// Reads codes from bytes. Past the end it reads zeros, which [`RansReader::is_finished`] notices.
pub(crate) struct RansReader<'a> {
    /// For each value of the low bits of a state: the frequency of the code, the place within it, and the code,
    /// in 16, 14 and 2 bits.
    table: Box<[u32; FREQUENCY_SUM as usize]>,
    states: [u32; STATES],
    long: bool,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> RansReader<'a> {
    /// Creates a reader of `count` codes whose frequencies sum to [`FREQUENCY_SUM`]. It is `None` where the
    /// bytes do not begin with valid states.
    pub(crate) fn new(bytes: &'a [u8], count: usize, frequencies: [u16; CODES]) -> Option<Self> {
        let long = count >= LONG;
        let mut states = [FIRST_STATE; STATES];
        let used = if long { &mut states[..] } else { &mut states[..1] };
        let first = bytes.get(..4 * used.len())?;
        for (state, bytes) in used.iter_mut().zip(first.as_chunks().0) {
            *state = u32::from_le_bytes(*bytes);
        }
        let at = first.len();
        if states.iter().any(|&state| state < FIRST_STATE) {
            return None;
        }
        let mut table = Box::new([0; FREQUENCY_SUM as usize]);
        let entries = (0u32..).zip(frequencies).flat_map(|(code, frequency)| {
            (0..u32::from(frequency)).map(move |place| u32::from(frequency) << 16 | place << 2 | code)
        });
        table.iter_mut().zip(entries).for_each(|(place, entry)| *place = entry);
        Some(Self { table, states, long, bytes, at })
    }

    /// Reads the next codes. Only the last call may ask for a number that is not a multiple of four.
    pub(crate) fn read(&mut self, codes: &mut [u8]) {
        if self.long { self.read_by::<STATES>(codes) } else { self.read_by::<1>(codes) }
    }

    #[inline(always)]
    fn read_by<const N: usize>(&mut self, codes: &mut [u8]) {
        let (table, bytes, mut at) = (&self.table, self.bytes, self.at);
        let mut step = |state: &mut u32| {
            let entry = table[(*state & u32::from(FREQUENCY_SUM - 1)) as usize];
            // Below 2^32: a frequency times a 1024th of a state.
            let whole = (entry >> 16).wrapping_mul(*state >> FREQUENCY_BITS);
            *state = whole.wrapping_add(entry >> 2 & 0x3fff);
            if *state < FIRST_STATE {
                let word = bytes.get(at..at + 2).map_or(0, |word| u16::from_le_bytes([word[0], word[1]]));
                *state = *state << 16 | u32::from(word);
                at += 2;
            }
            (entry & 3) as u8
        };
        let mut states = *self.states.first_chunk::<N>().expect("one or all");
        let (turns, rest) = codes.as_chunks_mut::<N>();
        for turn in turns {
            for (state, code) in states.iter_mut().zip(turn) {
                *code = step(state);
            }
        }
        for (state, code) in states.iter_mut().zip(rest) {
            *code = step(state);
        }
        self.states[..N].copy_from_slice(&states);
        self.at = at;
    }

    /// Tells whether the states are those in which a writer begins, and no byte is left or missing.
    pub(crate) fn is_finished(&self) -> bool {
        self.states == [FIRST_STATE; STATES] && self.at == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counted(codes: &[u8]) -> [u16; CODES] {
        frequencies(counts(codes))
    }

    fn read(bytes: &[u8], frequencies: [u16; CODES], count: usize) -> Option<Vec<u8>> {
        let mut reader = RansReader::new(bytes, count, frequencies)?;
        let mut codes = vec![0; count];
        codes.chunks_mut(64).for_each(|codes| reader.read(codes));
        reader.is_finished().then_some(codes)
    }

    /// So many that one state serves, or four.
    fn draws() -> impl Strategy<Value = Vec<u32>> {
        prop_oneof![prop::collection::vec(any::<u32>(), 1..600), prop::collection::vec(any::<u32>(), LONG..LONG + 70)]
    }

    /// Codes drawn with weights, of which some may be zero.
    fn codes() -> impl Strategy<Value = Vec<u8>> {
        (prop::array::uniform4(0u32..300), draws()).prop_map(|(weights, draws)| {
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
    fn counts_are_whole_beyond_a_chunk() {
        let codes: Vec<u8> = (0..200_000u32).map(|at| [3, 3, 3, 1, 3][at as usize % 5]).collect();
        assert_eq!(counts(&codes), [0, 40_000, 0, 160_000]);
        assert_eq!((counts(&[2; 1 << 17]), counts(&[])), ([0, 0, 1 << 17, 0], [0; 4]));
    }

    #[test]
    fn frequencies_sum_up_and_leave_out_what_does_not_occur() {
        assert_eq!(frequencies([1, 0, 0, 0]), [1024, 0, 0, 0]);
        assert_eq!(frequencies([1, 1, 1, 0]), [342, 341, 341, 0]);
        assert_eq!(frequencies([1 << 31, 1, 1, 1]), [1021, 1, 1, 1]);
        assert_eq!(frequencies([0, 5, 5, 1]), [0, 466, 465, 93]);
        assert_eq!(frequencies([0, 0, 0, 1 << 31]), [0, 0, 0, 1024]);
    }

    /// Ten thousand codes of which one in ten is rare: 0.469 bit each by Shannon, and four states.
    #[test]
    fn the_length_is_close_to_the_entropy() {
        let codes: Vec<u8> = (0..10_000u32).map(|at| if at % 10 == 3 { 2 } else { 1 }).collect();
        let bytes = encode(&codes, counted(&codes));
        assert!((586..=602).contains(&bytes.len()), "{}", bytes.len());
    }

    #[test]
    fn bytes_that_end_early_or_begin_below_every_state_are_refused() {
        let one = [1024, 0, 0, 0];
        assert!(RansReader::new(&[0, 0, 1], 9, one).is_none());
        assert!(RansReader::new(&[255, 255, 0, 0], 9, one).is_none());
        assert!(RansReader::new(&[0, 0, 1, 0].repeat(3), LONG, one).is_none());
        assert!(
            RansReader::new(&[[0, 0, 1, 0], [0, 0, 1, 0], [255, 255, 0, 0], [0, 0, 1, 0]].concat(), LONG, one)
                .is_none()
        );
        assert_eq!(read(&[0, 0, 1, 0], [0, 0, 1024, 0], 3), Some(vec![2; 3]));
        assert_eq!(read(&[0, 0, 1, 0].repeat(4), [0, 0, 1024, 0], LONG), Some(vec![2; LONG]));
        for count in [500, LONG as u32 + 500] {
            let codes: Vec<u8> = (0..count).map(|at| (at * at % 7 % 4) as u8).collect();
            let (bytes, frequencies) = (encode(&codes, counted(&codes)), counted(&codes));
            assert!((0..bytes.len()).all(|end| read(&bytes[..end], frequencies, codes.len()).is_none()));
            assert_eq!(read(&[&bytes[..], &[0, 0]].concat(), frequencies, codes.len()), None);
        }
    }
}
