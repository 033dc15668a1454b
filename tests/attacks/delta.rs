//! Bytes that are no delta of their run, window and miner.

use templar_audit::{AuditInputs, States, replay_contribution};
use templar_delta::{Delta, DeltaError, inspect, max_bytes};
use templar_manifest::trace::{Trace, TraceHeader};
use templar_manifest::*;
use templar_train::{Claim, MinerState, Recipe, WindowStart, WindowTask, replay};

use super::{Attack, answered, refused};
use crate::vectors::example;

/// The offsets of the fields in a delta's header. Each number of the example takes one byte.
const QUANTISER: usize = 9;
const RUN: usize = 10;
const WINDOW: usize = 74;
const SIDE: usize = 75;
const TOP_K: usize = 76;
const TENSORS: usize = 77;
const DIRECTORY: usize = 78;

fn recipe() -> Recipe {
    let genesis = &example().genesis;
    Recipe::new(genesis.id().into(), genesis.payload().clone()).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Delta, DeltaError> {
    recipe().decode_delta(example().closed.contributions[0].payload(), bytes)
}

/// The example delta with bytes overwritten.
fn with(changes: &[(usize, &[u8])]) -> Result<Delta, DeltaError> {
    let mut bytes = example().deltas[0].clone();
    for (at, replacement) in changes {
        bytes[*at..at + replacement.len()].copy_from_slice(replacement);
    }
    decode(&bytes)
}

pub(super) fn attacks() -> Vec<Attack> {
    let bytes = &example().deltas[0];
    assert!(decode(bytes).is_ok());
    let (_, parts) = inspect(bytes).unwrap();
    assert_eq!(parts.header_bytes as usize, DIRECTORY);
    let body = DIRECTORY + parts.directory_bytes as usize;
    let first = parts.tensors[0];
    // After the parameter and the number of index bytes come the set of codes, their frequencies and the
    // levels.
    let set = body + 3;
    assert!((body..set).all(|at| bytes[at] < 128 || at + 2 == set), "one byte and two");
    let used = bytes[set].count_ones() as usize;
    let levels = set + 1 + 2 * (used - 1);
    let positions = body + first.front_bytes as usize;
    assert_eq!(levels + 4 * used, positions);
    let codes = positions + first.index_bytes as usize;
    let level = |code: usize, value: f32| with(&[(levels + 4 * code, &value.to_le_bytes())]);
    // A number without an end: ten bytes, each of which says that another follows.
    let endless = [0xff; 10];
    let number = |at: usize, number: &[u8]| decode(&[&bytes[..at], number, &bytes[at + 1..]].concat());
    let last = used - 1;
    let longest = max_bytes(&recipe().tensors, &recipe().compression).unwrap() as usize;
    let too_long = [&bytes[..], &vec![0; longest + 1 - bytes.len()]].concat();
    let mut attacks = vec![
        refused("no bytes", decode(&[])),
        refused("another file", decode(&example().traces[0][..500])),
        refused("a later version", with(&[(8, &[1])])),
        refused("an unknown quantiser", with(&[(QUANTISER, &[9])])),
        refused("another quantiser than the run's", with(&[(QUANTISER, &[1])])),
        refused("another block side than the run's", with(&[(SIDE, &[32])])),
        refused("a top-k of zero", with(&[(TOP_K, &[0])])),
        refused("the header of another run", with(&[(RUN, &[0; 32])])),
        refused("the header of another window", with(&[(WINDOW, &[1])])),
        refused("the header of another miner: a copied delta", decode(&example().deltas[1])),
        refused("a number spelled longer than it must be", number(WINDOW, &[0x80, 0])),
        refused("a number without an end", number(WINDOW, &endless)),
        refused("one tensor less than the model", with(&[(TENSORS, &[parts.tensors.len() as u8 - 1])])),
        refused("a million tensors announced", number(TENSORS, &[0xc0, 0x84, 0x3d])),
        refused("4,294,967,295 tensors announced", number(TENSORS, &[0xff, 0xff, 0xff, 0xff, 0x0f])),
        refused("a tensor of ten gigabytes announced", number(DIRECTORY, &[0x80, 0x80, 0x80, 0xa0, 0x25])),
        refused(
            "a tensor with a byte of the next",
            with(&[(DIRECTORY, &[bytes[DIRECTORY] + 1]), (DIRECTORY + 2, &[bytes[DIRECTORY + 2] - 1])]),
        ),
        refused("longer than any delta of the run", decode(&too_long)),
        refused("cut off", decode(&bytes[..bytes.len() - 1])),
        refused("a byte behind the end", decode(&[&bytes[..], &[0]].concat())),
        refused("a level that is not a number", level(last, f32::NAN)),
        refused("an infinite level", level(0, f32::NEG_INFINITY)),
        refused("a level beyond 2^100", level(last, 1.3e30)),
        refused("levels out of order", level(last, -1e20)),
        refused("a set of codes that is none", with(&[(set, &[16])])),
        refused("frequencies beyond their sum", with(&[(set + 1, &[0, 16])])),
        refused("frequencies of other codes", with(&[(set + 1, &[bytes[set + 1] ^ 1])])),
        refused("codes that do not end", with(&[(codes, &[bytes[codes] ^ 1])])),
        refused("codes that begin with no state", with(&[(codes + 2, &[0; 2])])),
        refused("a gap past the end of its block", with(&[(positions, &[0; 200])])),
        refused("another parameter than the gaps were written with", with(&[(body, &[bytes[body] + 1])])),
        refused("a parameter of zero", with(&[(body, &[0])])),
    ];
    attacks.extend(claims());
    attacks
}

/// Contributions with a well-formed delta, or with a delta that is only claimed. A replay finds them.
fn claims() -> Vec<Attack> {
    let example = example();
    let recipe = recipe();
    let inputs = AuditInputs::new(&recipe, example.dataset.payload(), &example.blobs).unwrap();
    let parameters = inputs.initial_parameters().unwrap();
    let judged = |contribution: &Contribution| {
        let states = States::default();
        let task = example.before.unproven_task(contribution).unwrap();
        let replayed = replay_contribution(&inputs, &task, &parameters, |id| states.get(&inputs, id)).unwrap();
        match replayed.verdict {
            Replay::Refused(refusal) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let honest = example.closed.contributions[0].payload();
    let with = |change: fn(&mut Contribution)| {
        let mut contribution = honest.clone();
        change(&mut contribution);
        judged(&contribution)
    };
    let departing = {
        let header = TraceHeader::of(honest, recipe.tensors.len() as u32);
        let mut trace = Trace::decode(&example.traces[0], &header).unwrap();
        trace.leaves[2].tensors[1] = Hash::of(b"another");
        let task = WindowTask {
            window: honest.window,
            miner: honest.miner,
            pages: example.before.assignment().slot(0).unwrap().to_vec(),
            steps: honest.steps,
        };
        let state = MinerState::zero(parameters.len());
        let claim = Claim { contribution: honest, trace: &trace };
        let start = WindowStart { task: &task, parameters: (&parameters).into(), state };
        match replay(&recipe, start, claim, &[], &|page| inputs.page(task.window, page)).unwrap().verdict {
            Replay::Refused(refusal) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    };
    vec![
        answered("a delta that nobody computed", judged(example.closed.contributions[1].payload())),
        answered("a delta claimed with ten gigabytes", with(|c| c.delta_bytes = 10 << 30)),
        answered("a delta claimed one byte longer", with(|c| c.delta_bytes += 1)),
        answered("a trace claimed one byte longer", with(|c| c.trace_bytes += 1)),
        answered("a trace in place of the delta", with(|c| (c.delta, c.delta_bytes) = (c.trace, c.trace_bytes))),
        answered("a state that does not follow", with(|c| c.state_out = Hash::of(b"state").into())),
        answered("a loss that is too good", with(|c| c.loss_nanonats -= 1)),
        answered("a trace that departs in the second step", departing),
    ]
}
