//! Deltas, and the aggregates that they merge into.

use templar_delta::{
    Aggregate, AggregateHeader, DeltaHeader, DeltaSettings, Quantiser, apply_trial, decode, inspect, max_bytes,
};
use templar_manifest::{Hash, TensorSpec};
use templar_testkit::noise::random_delta;

/// Shapes of small models. The last one has so many codes that their decoder has four states, and is slower.
const SHAPES: [&[u64]; 5] = [&[32, 24], &[6], &[7, 3], &[5, 64], &[4096]];

/// The first bytes of an input choose the quantiser and the model. The third one chooses the form: the bytes as they
/// are, bodies behind a header and a directory that fit, or a valid delta with edits.
struct Choice<'a> {
    quantiser: u8,
    settings: DeltaSettings,
    specs: Vec<TensorSpec>,
    form: u8,
    data: &'a [u8],
}

fn header() -> DeltaHeader {
    DeltaHeader { run: Hash::of(b"run"), window: 3, miner: [7; 32] }
}

impl<'a> Choice<'a> {
    fn of(input: &'a [u8]) -> Option<Self> {
        let (&[choice, form], data) = input.split_first_chunk::<2>()?;
        let shapes = if choice & 32 == 0 { &SHAPES[..4] } else { &SHAPES[..] };
        let specs = shapes.iter().map(|shape| TensorSpec::new("tensor", *shape)).collect();
        let quantiser = choice % Quantiser::ALL.len() as u8;
        let settings = DeltaSettings::new(8, 10, Quantiser::ALL[usize::from(quantiser)], 0).expect("valid settings");
        Some(Self { quantiser, settings, specs, form, data })
    }

    fn bytes(&self) -> Vec<u8> {
        match self.form / 64 {
            0 => self.data.to_vec(),
            1 => self.wrapped(),
            _ => {
                let mut bytes = self.valid(self.form);
                for edit in self.data.chunks_exact(3) {
                    let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
                    bytes[at] = edit[2];
                }
                bytes
            }
        }
    }

    /// A delta of noise, a different one for each seed.
    fn valid(&self, seed: u8) -> Vec<u8> {
        random_delta(&self.specs, &self.settings, &header(), &[seed; 32], 1.0).expect("valid settings")
    }

    /// A header that is expected, and a directory of the bodies that the data is cut into. Each body has its length
    /// before it.
    fn wrapped(&self) -> Vec<u8> {
        let header = header();
        let mut bytes = [b"TPLDELTA", &[0, self.quantiser][..], header.run.as_bytes(), &header.miner].concat();
        let tensors = self.specs.len();
        let (block_side, top_k) = (self.settings.block_side() as usize, self.settings.top_k() as usize);
        [header.window as usize, block_side, top_k, tensors].into_iter().for_each(|value| number(&mut bytes, value));
        let mut data = self.data;
        let mut bodies = Vec::new();
        for _ in 0..tensors {
            let (length, rest) = data.split_first().map_or((0, data), |(&length, rest)| (usize::from(length), rest));
            let (body, rest) = rest.split_at(length.min(rest.len()));
            number(&mut bytes, body.len());
            bodies.extend_from_slice(body);
            data = rest;
        }
        bytes.extend_from_slice(&bodies);
        bytes
    }
}

/// Appends a number as LEB128.
fn number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(super) fn decode_delta(input: &[u8]) -> bool {
    let Some(choice) = Choice::of(input) else { return false };
    let (bytes, specs, settings) = (choice.bytes(), &choice.specs, &choice.settings);
    let _ = inspect(&bytes);
    let Ok(delta) = decode(&bytes, specs, settings, &header()) else { return false };
    assert!(bytes.len() as u64 <= max_bytes(specs, settings).expect("valid shapes"));
    assert_eq!(delta.bytes(), bytes);
    assert!((0..specs.len()).all(|index| delta.norm(index).is_finite()));
    let sent: usize = (0..specs.len()).map(|index| delta.tensor(index).entries().count()).sum();
    assert_eq!(sent as u64, delta.kept());
    let mut params = vec![0.0; specs.iter().map(TensorSpec::elements).sum()];
    apply_trial(specs, &delta, 1e-3, &mut params).expect("values are at most 2^100");
    let aggregate = Aggregate::new(specs, settings, header().run, 3, &[&delta, &delta]).expect("one window");
    let again = Aggregate::decode(aggregate.bytes().to_vec(), specs, settings, &merged());
    assert_eq!(again, Ok(aggregate));
    true
}

/// The header of an aggregate of two deltas.
fn merged() -> AggregateHeader {
    AggregateHeader { run: header().run, window: 3, contributors: 2 }
}

pub(super) fn decode_aggregate(input: &[u8]) -> bool {
    let Some(choice) = Choice::of(input) else { return false };
    let (specs, settings) = (&choice.specs, &choice.settings);
    let Ok(aggregate) = Aggregate::decode(choice.data.to_vec(), specs, settings, &merged()) else { return false };
    assert_eq!(aggregate.bytes(), choice.data);
    true
}

/// Both models with every quantiser.
fn choices() -> impl Iterator<Item = [u8; 2]> {
    (0..Quantiser::ALL.len() as u8).flat_map(|quantiser| {
        let large = (32..64u8).find(|choice| choice % Quantiser::ALL.len() as u8 == quantiser).expect("32 in a row");
        [[quantiser, 0], [large, 0]]
    })
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let plain = choices().map(|start| {
        let valid = Choice::of(&start).expect("two bytes are a choice").valid(1);
        [&start[..], &valid].concat()
    });
    let edited = choices().map(|[choice, _]| vec![choice, 200]);
    plain.chain(edited).collect()
}

pub(super) fn aggregate_seeds() -> Vec<Vec<u8>> {
    choices()
        .map(|start| {
            let choice = Choice::of(&start).expect("two bytes are a choice");
            let open = |seed| decode(&choice.valid(seed), &choice.specs, &choice.settings, &header());
            let (first, second) = (open(1).expect("a valid delta"), open(2).expect("a valid delta"));
            let aggregate = Aggregate::new(&choice.specs, &choice.settings, header().run, 3, &[&first, &second]);
            [&start[..], aggregate.expect("one window").bytes()].concat()
        })
        .collect()
}
