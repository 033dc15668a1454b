//! Fuzzing of every decoder that reads bytes from strangers: a bad input gives an error, and never a panic.
//!
//! `fuzz/targets.rs` lists the targets. Here each runs on some thousand mutations of valid inputs, always the
//! same ones, which takes seconds; `FUZZ_MUTATIONS` and `FUZZ_SEED` ask for more and for others. `.ci/long fuzz` runs
//! the same targets under libFuzzer, which looks for inputs that reach new code (the package `fuzz/Cargo.toml`, a
//! workspace of its own).

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use targets::{TARGETS, Target};

/// Mutations of all seeds of a target together.
const MUTATIONS: u64 = 3_000;

/// What the environment says, where it is a number: `FUZZ_MUTATIONS` for more of them, and `FUZZ_SEED` for others.
#[expect(clippy::disallowed_methods, reason = "a longer run is asked for by the environment")]
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Numbers that break bounds more often than others do.
const EDGES: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff, b'{', b'"'];

/// Random numbers from BLAKE3's extendable output.
struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: &str) -> Self {
        Self(blake3::Hasher::new().update(seed.as_bytes()).finalize_xof())
    }

    /// A number in `0..bound`, where `bound` is not 0.
    fn below(&mut self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % bound as u64) as usize
    }

    /// A range of at most `longest` bytes inside `0..length`.
    fn range(&mut self, length: usize, longest: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(longest) + 1)
    }
}

/// Changes the bytes in one place. `other` is another valid input, from which a piece may be copied.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let length = bytes.len();
    match random.below(8) {
        0 | 1 if length > 0 => bytes[random.below(length)] ^= 1 << random.below(8),
        2 if length > 0 => bytes[random.below(length)] = EDGES[random.below(EDGES.len())],
        3 if length > 0 => {
            let at = random.below(length);
            bytes[at] = bytes[at].wrapping_add(random.below(9) as u8).wrapping_sub(4);
        }
        4 => drop(bytes.drain(random.range(length, 16))),
        5 => {
            let piece = bytes[random.range(length, 16)].to_vec();
            let at = random.below(length + 1);
            bytes.splice(at..at, piece);
        }
        6 => {
            let piece = other[random.range(other.len(), 64)].to_vec();
            bytes.splice(random.range(length, 64), piece);
        }
        _ => bytes.truncate(random.below(length + 1)),
    }
}

/// Runs a target on its seeds, then on mutations of them.
fn fuzz(target: &Target) {
    let seeds = (target.seeds)();
    let run = |bytes: &[u8], what: &str| {
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
        assert!(outcome.is_ok(), "{}, {what}: panics on {}", target.name, data_encoding::HEXLOWER.encode(bytes));
    };
    for (index, seed) in seeds.iter().enumerate() {
        run(seed, &format!("seed {index}"));
    }
    let seed = number("FUZZ_SEED", 0);
    let mut random = Random::new(&if seed == 0 { target.name.to_owned() } else { format!("{} {seed}", target.name) });
    for mutation in 0..number("FUZZ_MUTATIONS", MUTATIONS) / target.cost {
        let mut bytes = seeds[mutation as usize % seeds.len()].clone();
        for _ in 0..=random.below(3) {
            let other = &seeds[random.below(seeds.len())];
            mutate(&mut bytes, other, &mut random);
        }
        run(&bytes, &format!("mutation {mutation}"));
    }
}

#[test]
fn no_mutation_makes_a_decoder_panic() {
    std::thread::scope(|scope| {
        let running: Vec<_> = TARGETS.iter().map(|target| scope.spawn(|| fuzz(target))).collect();
        let failed = running.into_iter().filter_map(|thread| thread.join().err()).count();
        assert_eq!(failed, 0, "targets that fail; what they say is above");
    });
}

#[test]
fn every_target_has_a_name_and_accepts_its_seeds() {
    for (index, target) in TARGETS.iter().enumerate() {
        assert!(TARGETS[..index].iter().all(|other| other.name != target.name), "{}", target.name);
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (index, seed) in seeds.iter().enumerate() {
            assert!((target.accepts)(seed), "{}: seed {index} is not valid", target.name);
        }
    }
}
