//! Bytes that are no delta of their run, window and miner.

use templar_audit::{Evidence, States, replay_contribution};
use templar_delta::{DecodeError, Delta, inspect, max_bytes};
use templar_manifest::trace::{Trace, TraceHeader};
use templar_manifest::*;
use templar_train::{Claim, MinerState, Recipe, Task, replay};

use super::{Attack, answered, refused};
use crate::vectors::example;

/// Bytes of the header, and of a row of the table.
const HEADER: usize = 94;
const ROW: usize = 25;

fn recipe() -> Recipe {
    let genesis = &example().genesis;
    Recipe::new(genesis.id().into(), genesis.payload().clone()).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Delta, DecodeError> {
    recipe().decode_delta(example().closed.contributions[0].payload(), bytes)
}

/// The example delta with bytes overwritten.
fn with(changes: &[(usize, &[u8])]) -> Result<Delta, DecodeError> {
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
    let row = |tensor: usize| HEADER + ROW * tensor;
    let bodies = row(parts.tensors.len());
    let level = |code: usize, value: f32| with(&[(row(0) + 9 + 4 * code, &value.to_le_bytes())]);
    let all = u32::MAX.to_le_bytes();
    let longest = max_bytes(&recipe().tensors, &recipe().compression).unwrap() as usize;
    let too_long = [&bytes[..], &vec![0; longest + 1 - bytes.len()]].concat();
    let one_less = (parts.tensors[0].kept - 1).to_le_bytes();
    let last_used = parts.tensors[0].levels.iter().rposition(|level| *level != 0.0).unwrap();
    let rice = parts.tensors[0].rice;
    // The last code byte of the first tensor whose codes do not fill it; the padding is its high bits.
    let mut end = bodies;
    let padded = parts.tensors.iter().find_map(|tensor| {
        end += (tensor.index_bytes + tensor.code_bytes) as usize;
        (tensor.kept % 4 != 0).then_some(end - 1)
    });
    let mut attacks = vec![
        refused("no bytes", decode(&[])),
        refused("another file", decode(&example().traces[0][..500])),
        refused("a later version", with(&[(8, &[1])])),
        refused("an unknown quantiser", with(&[(9, &[9])])),
        refused("another quantiser than the run's", with(&[(9, &[1])])),
        refused("another block side than the run's", with(&[(10, &32u32.to_le_bytes())])),
        refused("another top-k than the run's", with(&[(14, &63u32.to_le_bytes())])),
        refused("the header of another run", with(&[(18, &[0; 32])])),
        refused("the header of another window", with(&[(50, &[1])])),
        refused("the header of another miner: a copied delta", decode(&example().deltas[1])),
        refused("one tensor less than the model", with(&[(90, &[parts.tensors.len() as u8 - 1])])),
        refused("a million tensors announced", with(&[(90, &1_000_000u32.to_le_bytes())])),
        refused("4,294,967,295 tensors announced", with(&[(90, &all)])),
        refused("a tensor of another shape", with(&[(row(0), &one_less)])),
        refused(
            "more than ten gigabytes announced",
            with(&[(row(0), &all), (row(0) + 4, &all), (row(1), &all), (row(1) + 4, &all)]),
        ),
        refused("positions announced with 4 gigabytes", with(&[(row(0) + 4, &all)])),
        refused("longer than any delta of the run", decode(&too_long)),
        refused("cut off", decode(&bytes[..bytes.len() - 1])),
        refused("a byte behind the end", decode(&[&bytes[..], &[0]].concat())),
        refused("a level that is not a number", level(3, f32::NAN)),
        refused("an infinite level", level(0, f32::NEG_INFINITY)),
        refused("a level beyond 2^100", level(3, 1.3e30)),
        refused("levels out of order", level(last_used, -1e20)),
        refused("a gap past the end of its block", with(&[(bodies, &[0xff; 200])])),
        refused("another Rice parameter than the gaps were written with", with(&[(row(0) + 8, &[rice + 1])])),
        refused("a Rice parameter beyond any", with(&[(row(0) + 8, &[255])])),
    ];
    if let Some(at) = padded {
        attacks.push(refused("padding that is not zero", with(&[(at, &[bytes[at] | 0xc0])])));
    }
    attacks.extend(claims());
    attacks
}

/// Contributions whose delta is well formed, or only claimed: found when they are replayed.
fn claims() -> Vec<Attack> {
    let example = example();
    let recipe = recipe();
    let evidence = Evidence::new(&recipe, example.dataset.payload(), &example.blobs).unwrap();
    let parameters = recipe.initial_parameters();
    let judged = |contribution: &Contribution| {
        let states = States::default();
        let replayed =
            replay_contribution(&evidence, &example.before, contribution, &parameters, |id| states.get(&evidence, id))
                .unwrap();
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
        let task = Task {
            window: honest.window,
            miner: honest.miner,
            pages: example.before.assignment().slot(0).unwrap().to_vec(),
            steps: honest.steps,
        };
        let state = MinerState::zero(parameters.len());
        let claim = Claim { contribution: honest, trace: &trace };
        match replay(&recipe, &task, parameters.clone(), state, claim, &|page| evidence.page(page)).unwrap().verdict {
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
