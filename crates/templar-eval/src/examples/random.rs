//! `random.Random(seed).sample` of CPython 3: the Mersenne Twister MT19937 with its seeding by an array, numbers below
//! a bound by rejection, and the two ways of drawing without repetition.
//!
//! Prompts depend on it to the last draw. No crate keeps CPython's choice of methods.

use std::collections::BTreeSet;

/// Words of the state, and the distance of the words that are mixed.
const WORDS: usize = 624;
const DISTANCE: usize = 397;

/// The generator behind Python's `random.Random`.
#[derive(Debug, Clone)]
pub(super) struct PythonRandom {
    state: Vec<u32>,
    next: usize,
}

impl PythonRandom {
    /// `random.Random(seed)`.
    pub(super) fn new(seed: u32) -> Self {
        let mut state = vec![0u32; WORDS];
        state[0] = 19_650_218;
        for at in 1..WORDS {
            state[at] = 1_812_433_253u32.wrapping_mul(mixed(state[at - 1])).wrapping_add(at as u32);
        }
        // The array of a seed below 2^32 is the seed alone, so the index into it stays 0.
        let mut at = 1;
        for _ in 0..WORDS {
            state[at] = (state[at] ^ mixed(state[at - 1]).wrapping_mul(1_664_525)).wrapping_add(seed);
            at = following(at, &mut state);
        }
        for _ in 1..WORDS {
            state[at] = (state[at] ^ mixed(state[at - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(at as u32);
            at = following(at, &mut state);
        }
        state[0] = 0x8000_0000;
        Self { state, next: WORDS }
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            for at in 0..WORDS {
                let joined = (self.state[at] & 0x8000_0000) | (self.state[(at + 1) % WORDS] & 0x7fff_ffff);
                let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[at] = self.state[(at + DISTANCE) % WORDS] ^ (joined >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// A number below `bound`, which is not 0: as many high bits of a word as the bound has, until they are below it.
    fn below(&mut self, bound: usize) -> usize {
        let bits = u32::try_from(bound).map_or(u32::BITS, |bound| u32::BITS - bound.leading_zeros());
        loop {
            let number = (self.word() >> (u32::BITS - bits)) as usize;
            if number < bound {
                return number;
            }
        }
    }

    /// `sample(range(size), count)`.
    ///
    /// # Panics
    /// `count` is larger than `size`.
    pub(super) fn sample(&mut self, size: usize, count: usize) -> Vec<usize> {
        assert!(count <= size, "{count} of {size}");
        // From this size on, Python remembers what was drawn and keeps no pool.
        let mut set_size = 21;
        if count > 5 {
            let mut power = 1;
            while power < count * 3 {
                power *= 4;
            }
            set_size += power;
        }
        if size > set_size {
            let mut drawn = BTreeSet::new();
            return (0..count)
                .map(|_| {
                    let mut place = self.below(size);
                    while !drawn.insert(place) {
                        place = self.below(size);
                    }
                    place
                })
                .collect();
        }
        let mut pool: Vec<usize> = (0..size).collect();
        (0..count)
            .map(|round| {
                let place = self.below(size - round);
                let chosen = pool[place];
                pool[place] = pool[size - round - 1];
                chosen
            })
            .collect()
    }
}

fn mixed(word: u32) -> u32 {
    word ^ (word >> 30)
}

/// The place after `at`. After the last word, the first one becomes the last.
fn following(at: usize, state: &mut [u32]) -> usize {
    if at + 1 < WORDS {
        return at + 1;
    }
    state[0] = state[WORDS - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS_OF_PYTHON: [u32; 4] = [4150886329, 3342196574, 1892932127, 501869158];
    const LATER_WORD: u32 = 2861468013;
    /// `[(n, r.sample(range(n), k)) …]` of one generator.
    const SAMPLES: [(usize, &[usize]); 10] = [
        (570, &[451, 119, 7, 92, 35]),
        (21, &[2, 3, 11, 7, 0]),
        (22, &[0, 11, 20, 19, 15]),
        (5, &[4, 3, 0, 2, 1]),
        (
            2000,
            &[
                1461, 234, 1731, 29, 1030, 996, 1803, 1976, 511, 132, 1366, 1108, 1868, 954, 140, 1231, 1382, 182,
                1054, 1185, 94, 552, 1688, 1139, 129,
            ],
        ),
        (100, &[82, 38, 61, 45, 34, 31, 83, 25, 58, 67, 85, 2, 65, 9, 0, 42, 18, 60, 48, 21, 6, 86, 75, 63, 20]),
        (285, &[38, 110, 73, 13, 177, 56]),
        (
            40000,
            &[
                34713, 9255, 20014, 29762, 2594, 27279, 18139, 2634, 11622, 17804, 10129, 19678, 10128, 30441, 2691,
                36903, 25308, 22910, 32496, 22394, 38198, 30678, 31190, 2970, 30856, 38988,
            ],
        ),
        (1, &[0]),
        (3, &[]),
    ];

    /// python3 -c 'import random; r = random.Random(1234); print([r.getrandbits(32) for _ in range(4)])'
    #[test]
    fn the_words_are_pythons() {
        let mut random = PythonRandom::new(1234);
        assert_eq!(WORDS_OF_PYTHON, std::array::from_fn(|_| random.word()));
        let later = (4..1300).map(|_| random.word()).last();
        assert_eq!(later, Some(LATER_WORD), "across two twists");
    }

    #[test]
    fn the_samples_are_pythons() {
        let mut random = PythonRandom::new(1234);
        for (size, expected) in SAMPLES {
            assert_eq!(random.sample(size, expected.len()), expected, "of {size}");
        }
    }
}
