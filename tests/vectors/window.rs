//! One really computed window of a tiny run: two miners, two validators and one auditor in one process.
//!
//! Every key is derived from a fixed text, so the result has the same bytes everywhere. `manifests/` holds
//! them. One miner trains. The other commits to a delta that it did not compute, and is refused.

use std::convert::Infallible;
use std::sync::Arc;

use templar_audit::{AuditInputs, AuditTask, JudgeTask, States, apply, audit_window, judge, replay_contribution};
use templar_blob::MemoryBlobs;
use templar_data::{PageReader, Split, bundled};
use templar_delta::DeltaHeader;
use templar_manifest::chain::Chain;
use templar_manifest::testing::GenesisBuilder;
use templar_manifest::*;
use templar_protocol::{ClosedWindow, Judgement, RunState, VoteCertificate, Witness};
use templar_testkit::noise::random_delta;
use templar_train::tensors::checkpoint_of;
use templar_train::{MinerState, Recipe, WindowResult, WindowRun, WindowTask, run_window};

/// The name of the example run, from which the validators' hash chains are drawn.
pub(crate) const NAME: &str = "example";

/// The results of the window, and its inputs.
pub(crate) struct Example {
    pub(crate) dataset: Signed<Dataset>,
    pub(crate) genesis: Signed<Genesis>,
    pub(crate) zero: State,
    pub(crate) start: Checkpoint,
    /// The state before the window.
    pub(crate) before: RunState,
    /// The states after the window, in the order of the contributions.
    pub(crate) states: Vec<State>,
    pub(crate) deltas: Vec<Vec<u8>>,
    pub(crate) traces: Vec<Vec<u8>>,
    pub(crate) closed: ClosedWindow,
    pub(crate) end: Checkpoint,
    pub(crate) audit: Signed<Audit>,
    /// Dataset, deltas and traces.
    pub(crate) blobs: MemoryBlobs,
}

/// The secret key of a role, for examples only.
pub(crate) fn key(role: &str) -> SecretKey {
    SecretKey::from_bytes(Hash::of(format!("templar example key of {role}").as_bytes()).as_bytes())
}

/// The keys of a role in the order of their public halves.
fn keys(role: &str, count: usize) -> Vec<SecretKey> {
    let mut keys: Vec<SecretKey> = (0..count).map(|number| key(&format!("{role} {number}"))).collect();
    keys.sort_by_key(SecretKey::public);
    keys
}

pub(crate) fn validators() -> Vec<SecretKey> {
    keys("validator", 2)
}

pub(crate) fn miners() -> Vec<SecretKey> {
    keys("miner", 2)
}

/// The key of the newcomer, which genesis does not name and which asks for a slot.
pub(crate) fn newcomer() -> SecretKey {
    key("newcomer")
}

/// Registration rules with two slots more than first members, and with work that is found at once.
fn registration() -> RegistrationSpec {
    let spec = RegistrationSpec::customary(4, miners().iter().map(SecretKey::public).collect());
    let hashcash = PriceRule { first: 1 << 12, least: 1 << 8, ..spec.hashcash };
    RegistrationSpec { immunity_windows: 8, anchor_windows: 4, hashcash, ..spec }
}

/// The newcomer's registration for the open window, with a node key of its own.
pub(crate) fn asked(before: &RunState) -> Registration {
    let (owner, node) = (newcomer(), key("newcomer's node"));
    let anchor = before.members().newest_anchor().unwrap();
    let hasher = WorkHasher::new(before.run(), anchor.window, &anchor.seed, &owner.public(), &node.public());
    let nonce = (0..).find(|nonce| hasher.digest(*nonce) <= largest_digest(before.members().hashes())).unwrap();
    let payment = Payment::Hashcash { nonce };
    let certificate = Certificate { owner: owner.public(), node: node.public(), anchor: anchor.window, payment };
    let owner_signature = certificate.sign(before.run(), &owner);
    Registration { run: before.run(), window: before.window(), certificate, owner_signature }
}

fn genesis(dataset: &Dataset) -> Genesis {
    let validators = validators();
    GenesisBuilder::tiny(NAME)
        .validators(validators.iter().zip([3, 2]).map(|(key, stake)| ValidatorSpec {
            key: key.public(),
            stake,
            chain_anchor: Chain::insecure(key, NAME).anchor(),
        }))
        .with(|genesis| {
            genesis.model = ModelSpec {
                vocab_size: dataset.vocab_size,
                hidden_size: 16,
                heads: 2,
                ffn_size: 32,
                rope_scaling: Some(RopeScaling::Llama3 {
                    factor_ppm: 8_000_000,
                    low_freq_factor_ppm: 1_000_000,
                    high_freq_factor_ppm: 4_000_000,
                    original_positions: 16,
                }),
                sequence_length: 32,
                ..genesis.model
            };
            genesis.initial = Initial::Seed(Hash::of(b"templar example model"));
            genesis.tokenizer = dataset.tokenizer;
            genesis.dataset = payload::id_of(dataset).into();
            (genesis.inner.batch_sequences, genesis.inner.micro_batch_sequences) = (4, 2);
            genesis.inner.schedule = vec![
                Segment { steps: 2, from_nanos: 1_000_000, to_nanos: 3_000_000, shape: SegmentShape::Linear },
                Segment { steps: 100, from_nanos: 3_000_000, to_nanos: 300_000, shape: SegmentShape::Cosine },
            ];
            let questions = QuestionsSpec {
                task: "arc_easy".to_owned(),
                files: vec![BlobId::of(b"questions")],
                limit: Some(100),
                shots: 2,
                example_files: vec![BlobId::of(b"examples")],
            };
            genesis.benchmarks = vec![BenchmarkSpec { every_windows: 5, measures: Measures::Questions(questions) }];
            genesis.context = vec![ContextSegment {
                from_window: 50,
                sequence_length: 64,
                batch_sequences: 2,
                micro_batch_sequences: 1,
                rope_theta: 40_000,
                rope_scaling: None,
            }];
            (genesis.compression.block_side, genesis.compression.top_k) = (64, 64);
            genesis.compression.quantiser = Quantiser::Templar4;
            genesis.outer = OuterSpec {
                rule: AggregationRule::MeanOfSenders,
                schedule: vec![
                    OuterSegment { from_window: 0, learning_rate_ppm: 1_000_000 },
                    OuterSegment { from_window: 40, learning_rate_ppm: 400_000 },
                ],
                max_contributions: 20,
                null_windows: 0,
            };
            genesis.gauntlet = GauntletSpec {
                assigned_pages: 2,
                unassigned_pages: 64,
                trial_step_ppm: 500_000,
                held_out_pages: 4,
                evaluators: 2,
                ..GauntletSpec::customary()
            };
            // Two miners of three steps each would mint all, and one of them is refused.
            genesis.emission.target_steps = 6;
            genesis.replay.fraction_ppm = 0;
            genesis.deadlines = Deadlines { commit_ms: 60_000, reveal_ms: 60_000, judge_ms: 60_000 };
            genesis.registration = registration();
            genesis.state_retention_windows = 8;
            genesis.state_reset_every = 16;
            genesis.windows = 4;
        })
        .build()
}

fn train(recipe: &Recipe, before: &RunState, parameters: &[f32], pages: &PageReader<'_>, slot: usize) -> WindowResult {
    let task = WindowTask {
        window: before.window(),
        miner: before.genesis().miners()[slot],
        pages: before.assignment().slot(slot).unwrap().to_vec(),
        steps: before.genesis().inner.steps,
    };
    let run = WindowRun::new(recipe, &task, parameters, MinerState::zero(parameters.len())).unwrap();
    run_window(run, &|page| pages.read(page), &mut ()).unwrap().unwrap()
}

fn witness<T: Payload>(payload: &T, key: &SecretKey) -> Witness {
    let signed = Signed::sign(payload.clone(), key).envelope();
    Witness { signer: signed.signer, signature: signed.signature }
}

/// The certificate of a payload that the first of these validators publishes and all agree on in the first attempt.
pub(crate) fn certificate<T: Payload>(body: &T, on: VoteOn, validators: &[SecretKey]) -> VoteCertificate {
    let publisher = witness(body, &validators[0]);
    let mut certificate = VoteCertificate { attempt: 0, publisher, witnesses: Vec::new() };
    let vote = certificate.vote(body.run().unwrap(), WindowIndex(0), on, body);
    certificate.witnesses = validators.iter().map(|key| witness(&vote, key)).collect();
    certificate
}

/// Computes the window from its keys and the bundled dataset.
pub(crate) fn compute() -> Example {
    let mut blobs = MemoryBlobs::new();
    let dataset = Signed::sign(bundled::import_shakespeare(&mut blobs).unwrap(), &key("publisher"));
    let genesis = Signed::sign(genesis(dataset.payload()), &key("publisher"));
    let recipe = Recipe::new(genesis.id().into(), genesis.payload().clone()).unwrap();
    let parameters = recipe.initial_parameters(&blobs).unwrap();
    let start = checkpoint_of(recipe.run, WindowIndex(0), &recipe.tensors, &parameters);
    let zero = MinerState::zero(parameters.len());
    let Ok(zero) = zero.write(recipe.run, &recipe.tensors, |_| Ok::<(), Infallible>(()));
    let (start_id, zero_id) = (payload::id_of(&start).into(), StateId::new(payload::id_of(&zero)));
    let before =
        RunState::new(Arc::new(recipe.genesis.clone()), start_id, zero_id, dataset.payload().training_tokens())
            .unwrap();

    let text = blobs.clone();
    let reader =
        PageReader::new(&text, dataset.payload(), Split::Training, recipe.genesis.model.sequence_length).unwrap();
    let (mut contributions, mut states, mut deltas, mut traces) = (vec![], vec![], vec![], vec![]);
    for (slot, key) in miners().iter().enumerate() {
        let mut result = train(&recipe, &before, &parameters, &reader, slot);
        if slot == 1 {
            let header = DeltaHeader { run: recipe.run.hash(), window: 0, miner: *key.public().as_bytes() };
            result.delta = random_delta(&recipe.tensors, &recipe.compression, &header, &[7; 32], 0.01).unwrap();
        }
        contributions.push(Signed::sign(result.contribution(&recipe, None, zero_id), key));
        traces.push(result.trace.encode());
        states.push(result.state_manifest);
        deltas.push(result.delta);
    }
    for bytes in deltas.iter().chain(&traces) {
        blobs.insert(bytes.clone());
    }
    let inputs = AuditInputs::new(&recipe, dataset.payload(), &blobs).unwrap();
    let closed = close(&inputs, &before, contributions, &parameters);
    let auditor = key("auditor");
    let mut states_cache = States::default();
    let task = AuditTask { before: &before, parameters: &parameters, closed: &closed, auditor: auditor.public() };
    let found = audit_window(&inputs, &task, &mut states_cache, &mut |_| {});
    assert_eq!(found.verdict(), &AuditVerdict::Match);
    let end = checkpoint_of(recipe.run, WindowIndex(1), &recipe.tensors, &found.parameters.unwrap());
    let audit = Signed::sign(found.audit, &auditor);
    drop(reader);
    Example { dataset, genesis, zero, start, before, states, deltas, traces, closed, end, audit, blobs }
}

/// The part of the validators: inboxes, cut, reveals, scores, record, and their signatures.
fn close(
    inputs: &AuditInputs<'_>,
    before: &RunState,
    contributions: Vec<Signed<Contribution>>,
    parameters: &[f32],
) -> ClosedWindow {
    let (run, window, validators) = (before.run(), before.window(), validators());
    let named: Vec<CutEntry> = contributions
        .iter()
        .map(|signed| CutEntry { miner: signed.signer(), contribution: signed.id().into() })
        .collect();
    let asked = Signed::sign(asked(before), &key("newcomer's node"));
    let registrations =
        vec![CutRegistration { owner: asked.payload().certificate.owner, registration: asked.id().into() }];
    let inbox = |key: &SecretKey| {
        let (contributions, registrations) = (named.clone(), registrations.clone());
        Inbox { run, window, validator: key.public(), contributions, registrations }
    };
    let inboxes: Vec<Signed<Inbox>> = validators.iter().map(|key| Signed::sign(inbox(key), key)).collect();
    let listed: Vec<(InboxId, &Inbox)> = inboxes.iter().map(|inbox| (inbox.id().into(), inbox.payload())).collect();
    let cut = before.cut(&listed).unwrap();
    let value = |key: &SecretKey| Chain::insecure(key, NAME).value(window).unwrap();
    let reveals = validators.iter().map(|key| Reveal { validator: key.public(), value: value(key) }).collect();
    let claimed = contributions.iter().map(Signed::payload);
    let judging = before.judging(&cut, claimed, [asked.payload()], reveals).unwrap();
    let score = |key: &SecretKey| {
        let plan = before.judge_plan(&judging, &key.public()).unwrap();
        let replay = |contribution: &Contribution| {
            let task = before.replay_task(&judging, &contribution.miner).unwrap();
            replay_contribution(inputs, &task, parameters, |id| inputs.state(id))
                .map(|replayed| (replayed.verdict, replayed.claims))
        };
        let task = JudgeTask { plan: &plan, contributions: &contributions, parameters };
        let entries = judge(inputs, &task, replay, |_, _| false).unwrap();
        Signed::sign(before.score(&judging, &key.public(), Judgement::of_the_window(entries)).unwrap(), key)
    };
    let scores: Vec<Signed<Score>> = validators.iter().map(score).collect();
    let counted: Vec<&Score> = scores.iter().map(Signed::payload).collect();
    let outcomes = before.outcomes(&judging, &counted);
    let applied = apply(inputs, window, &outcomes, &contributions, parameters.to_vec()).unwrap();
    let record = before.close(&judging, &counted, applied.stepped).unwrap();
    ClosedWindow {
        record: record.id(),
        cut_certificate: certificate(&cut, VoteOn::Cut, &validators),
        reveals_certificate: certificate(&RevealSet::of(&record.body), VoteOn::Reveals, &validators),
        record_certificate: certificate(&record.header, VoteOn::Window, &validators),
        window: record,
        cut,
        inboxes,
        contributions,
        registrations: vec![asked],
        scores,
        refuted: Vec::new(),
    }
}
