//! The rule on a run of six windows and two miners, of which states and checkpoints of the last two windows are kept.

use templar_manifest::{
    BlobId, ContributionId, CutId, HeldOut, Outcome, PublicKey, SecretKey, Shard, ValidatorSpec, Verdict as Outcomes,
    WindowHeader, payload,
};

use super::*;
use crate::configure::{Origin, RunPlan, configure};

const WINDOWS: u64 = 6;

fn hash(text: &str) -> Hash {
    Hash::of(text.as_bytes())
}

fn miner(index: u8) -> PublicKey {
    SecretKey::from_bytes(&[index + 1; 32]).public()
}

/// What the manifests of checkpoints and states name here: one tensor of their own, and one that all share.
fn parts(manifest: &Hash) -> Vec<Hash> {
    vec![Hash::of(manifest.as_bytes()), hash("shared tensor")]
}

fn checkpoint(window: u64) -> Hash {
    hash(&format!("checkpoint before {window}"))
}

/// The state of a miner before a window.
fn state(miner: u8, window: u64) -> Hash {
    hash(&format!("state of {miner} before {window}"))
}

fn contribution(index: u8, window: u64) -> Contribution {
    let blob = |what: &str| BlobId::new(hash(&format!("{what} of {index} in {window}")));
    Contribution {
        run: RunId::default(),
        window: templar_manifest::WindowIndex(window),
        miner: miner(index),
        parent: (window > 0).then(|| ContributionId::new(hash(&format!("contribution of {index} in {}", window - 1)))),
        state_in: state(index, window).into(),
        state_out: state(index, window + 1).into(),
        delta: blob("delta"),
        delta_bytes: 1,
        trace: blob("trace"),
        trace_bytes: 1,
        steps: 1,
        tokens: 1,
        loss_nanonats: 1,
    }
}

fn window(index: u64) -> WindowRecord {
    let outcome = |miner_index| Outcome {
        miner: miner(miner_index),
        contribution: hash(&format!("contribution of {miner_index} in {index}")).into(),
        verdict: Outcomes::Aggregated,
        losses: None,
    };
    let body = WindowBody {
        run: RunId::default(),
        window: templar_manifest::WindowIndex(index),
        checkpoint_before: checkpoint(index).into(),
        cut: CutId::new(hash(&format!("cut {index}"))),
        reveals: Vec::new(),
        seed: hash("seed"),
        scores: vec![hash(&format!("score {index}")).into()],
        outcomes: vec![outcome(0), outcome(1)],
        weights: Vec::new(),
        mints: Vec::new(),
        refuted: Vec::new(),
        slashes: Vec::new(),
        challenges: Vec::new(),
        admissions: Vec::new(),
        aggregate: hash(&format!("aggregate {index}")).into(),
        aggregate_bytes: 1,
        held_out_loss_nanonats: 1,
    };
    let header = WindowHeader {
        run: body.run,
        window: body.window,
        previous: (index > 0).then(|| hash(&format!("record {}", index - 1)).into()),
        checkpoint: checkpoint(index + 1).into(),
        body_root: payload::id_of(&body).into(),
        state_root: hash("state"),
        validators_root: hash("validators"),
    };
    WindowRecord { header, body }
}

/// Whether each of these stays.
fn stays(rule: &Retention, blobs: impl IntoIterator<Item = Hash>) -> Vec<bool> {
    blobs.into_iter().map(|blob| rule.verdict(&blob).unwrap().stays).collect()
}

/// The rule on the run; `absent` is a miner that contributed to window 0 alone.
fn rule(retention: u64, absent: Option<u8>) -> (Retention, Genesis, Dataset) {
    let shard = |text, tokens| Shard { blob: hash(text).into(), tokens };
    let dataset = Dataset {
        name: "text".to_owned(),
        licence: "CC0-1.0".to_owned(),
        source: String::new(),
        tokenizer: hash("tokenizer").into(),
        vocab_size: 2048,
        end_token: 0,
        start_token: None,
        chat_template: Some(hash("chat template").into()),
        token_bytes: 2,
        documents: 1,
        shard_tokens: 4 << 20,
        held_out: HeldOut { block_tokens: 2048, every: 20 },
        training: vec![shard("training", 4 << 20)],
        validation: vec![shard("validation", 40_960)],
    };
    let plan = RunPlan {
        name: "retention".to_owned(),
        dataset_id: hash("dataset").into(),
        dataset: &dataset,
        validators: vec![ValidatorSpec { key: miner(9), stake: 1, chain_anchor: hash("anchor") }],
        miners: vec![miner(0), miner(1)],
        origin: Origin::Drawn { size: "tiny".to_owned(), seed: hash("model") },
    };
    let genesis = configure(&plan, &[format!("state_retention_windows={retention}")]).unwrap();
    let records: Vec<WindowRecord> = (0..WINDOWS).map(window).collect();
    let there = |index: u8, window: u64| absent != Some(index) || window == 0;
    let contributions: Vec<Vec<Contribution>> = (0..=WINDOWS)
        .map(|window| (0..2).filter(|index| there(*index, window)).map(|index| contribution(index, window)).collect())
        .collect();
    let newest = (0..2).map(|index| if absent == Some(index) { state(index, 1) } else { state(index, WINDOWS) });
    let proposed = window(WINDOWS);
    let record = Record {
        run: RunId::new(hash("run")),
        genesis: &genesis,
        dataset: &dataset,
        first: checkpoint(0).into(),
        current: checkpoint(WINDOWS).into(),
        closed: records.iter().zip(contributions.iter().map(|all| all.iter().collect())).collect(),
        open: contributions[WINDOWS as usize].iter().collect(),
        proposed: vec![&proposed],
        newest: newest.map(Into::into).collect(),
    };
    let rule = Retention::of(&record, &parts);
    for blob in ["dataset", "tokenizer", "training", "validation"] {
        assert_eq!(rule.verdict(&hash(blob)), Some(BlobVerdict { sort: Sort::Dataset, stays: true }), "{blob}");
    }
    (rule, genesis, dataset)
}

#[test]
fn what_was_recorded_stays_and_what_follows_from_it_may_go() {
    let (rule, genesis, dataset) = rule(2, None);
    assert_eq!(genesis.state_retention_windows, 2);
    assert_eq!(stays(&rule, (0..=WINDOWS).map(checkpoint)), [true, false, false, false, true, true, true]);
    // Windows 4 and 5 are kept whole, with the states that the contributions to them began with.
    assert_eq!(
        stays(&rule, (0..=WINDOWS).map(|window| state(0, window))),
        [false, false, false, false, true, true, true]
    );
    // Whatever shares a tensor with something that stays.
    assert_eq!(rule.verdict(&hash("shared tensor")), Some(BlobVerdict { sort: Sort::Checkpoint, stays: true }));
    for blob in [checkpoint(4), state(1, 5), checkpoint(2), state(0, 1)] {
        let (own, part) = (rule.verdict(&blob).unwrap(), rule.verdict(&parts(&blob)[0]).unwrap());
        assert_eq!(own, part, "a manifest and its tensors share their fate");
    }
    let evidence =
        ["delta of 0 in 0", "delta of 1 in 6", "trace of 1 in 3", "aggregate 0", "aggregate 5", "cut 2", "score 1"];
    let manifests = ["record 3", "contribution of 0 in 0", "run", "dataset"];
    assert!(stays(&rule, evidence.iter().chain(&manifests).map(|text| hash(text))).iter().all(|stays| *stays));
    assert!(stays(&rule, dataset.blobs().map(|blob| blob.hash())).into_iter().all(|stays| stays));
    assert_eq!(rule.verdict(&hash("something else")), None, "what the run does not name is not judged");
    // A validator has signed what the open window comes to, and others have not yet.
    assert_eq!(stays(&rule, [checkpoint(WINDOWS + 1), hash("aggregate 6")]), [true, true]);
    let goes: Vec<Hash> = rule.released().copied().collect();
    assert!(goes.contains(&checkpoint(3)) && goes.contains(&state(1, 2)) && !goes.contains(&hash("shared tensor")));
}

#[test]
fn a_miner_that_was_away_finds_its_newest_state() {
    let (rule, ..) = rule(1, Some(1));
    assert_eq!(stays(&rule, [state(1, 0), state(1, 1)]), [false, true]);
    assert_eq!(
        stays(&rule, (0..=WINDOWS).map(|window| state(0, window))),
        [false, false, false, false, false, true, true]
    );
}

#[test]
fn without_retention_the_present_stays_and_with_more_than_there_was_all_of_it() {
    let (none, ..) = rule(0, None);
    assert_eq!(stays(&none, (0..=WINDOWS).map(checkpoint)), [true, false, false, false, false, false, true]);
    assert_eq!(stays(&none, [state(0, 5), state(0, 6)]), [false, true]);
    let (all, ..) = rule(u64::MAX, None);
    assert_eq!(all.released().count(), 0);
}

#[test]
fn a_blob_goes_only_where_no_run_wants_it() {
    let (mut rule, ..) = rule(0, None);
    let mut other = Retention::default();
    other.stay(Sort::Checkpoint, [checkpoint(3)]);
    other.may_go(Sort::State, checkpoint(6));
    other.may_go(Sort::State, hash("of the other run"));
    rule.and(other);
    assert_eq!(stays(&rule, [checkpoint(3), checkpoint(6), hash("of the other run")]), [true, true, false]);
}
