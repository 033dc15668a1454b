//! A tiny run that trains in a second, and the hashes that its first window ends in.

use std::sync::OnceLock;

use templar_blob::MemoryBlobs;
use templar_data::{PageReader, Split, bundled};
use templar_manifest::testing::GenesisBuilder;
use templar_manifest::{
    AggregationRule, Dataset, Genesis, Hash, Initial, ModelSpec, PublicKey, Quantiser, RunId, Segment, SegmentShape,
    WindowIndex,
};
use templar_train::{MinerState, Recipe, WindowResult, WindowRun, WindowTask, run_window};

pub(crate) const STEPS: u32 = 3;
pub(crate) const RUN: RunId = RunId::new(Hash::from_bytes([7; 32]));

pub(crate) fn genesis() -> Genesis {
    GenesisBuilder::tiny("two layers that train on the bundled text")
        .with(|genesis| {
            genesis.model = ModelSpec {
                vocab_size: 2048,
                hidden_size: 32,
                layers: 2,
                heads: 4,
                kv_heads: 2,
                ffn_size: 48,
                sequence_length: 24,
                ..genesis.model
            };
            genesis.initial = Initial::Seed(Hash::of(b"seed"));
            (genesis.inner.steps, genesis.inner.batch_sequences, genesis.inner.micro_batch_sequences) = (STEPS, 4, 2);
            genesis.inner.schedule =
                vec![Segment { steps: 30, from_nanos: 5_000_000, to_nanos: 0, shape: SegmentShape::Cosine }];
            (genesis.compression.block_side, genesis.compression.top_k) = (64, 64);
            genesis.compression.quantiser = Quantiser::Templar4;
            genesis.outer.rule = AggregationRule::MeanOfSenders;
            genesis.outer.max_contributions = 4;
            genesis.gauntlet.held_out_pages = 2;
        })
        .build()
}

pub(crate) fn recipe() -> Recipe {
    Recipe::new(RUN, genesis()).unwrap()
}

pub(crate) fn dataset() -> &'static (Dataset, MemoryBlobs) {
    static DATASET: OnceLock<(Dataset, MemoryBlobs)> = OnceLock::new();
    DATASET.get_or_init(|| {
        let mut blobs = MemoryBlobs::new();
        let dataset = bundled::import_shakespeare(&mut blobs).unwrap();
        (dataset, blobs)
    })
}

pub(crate) fn pages() -> PageReader<'static> {
    let (dataset, blobs) = dataset();
    PageReader::new(blobs, dataset, Split::Training, 24).unwrap()
}

pub(crate) fn task(window: u64) -> WindowTask {
    let pages = (0..u64::from(STEPS) * 4).map(|page| (page + window * 12) * 31).collect();
    WindowTask { window: WindowIndex(window), miner: PublicKey::from_bytes([9; 32]), pages, steps: STEPS }
}

pub(crate) fn run(recipe: &Recipe, window: u64, parameters: Vec<f32>, state: MinerState) -> WindowResult {
    let (task, reader) = (task(window), pages());
    let run = WindowRun::new(recipe, &task, parameters, state).unwrap();
    run_window(run, &|page| reader.read(page), &mut ()).unwrap().unwrap()
}

pub(crate) fn initial(recipe: &Recipe) -> Vec<f32> {
    recipe.initial_parameters(&MemoryBlobs::new()).unwrap()
}

pub(crate) fn first(recipe: &Recipe) -> WindowResult {
    run(recipe, 0, initial(recipe), MinerState::zero(recipe.parameter_count()))
}

pub(crate) const FROZEN_TRACE: &str = "8719ff16b9bf3a6705e4f2897788de2b9b418cdc9b132597c16f2f9efe6de616";
pub(crate) const FROZEN_DELTA: &str = "da21967ada171a16a8ed0d78d285457a3a963041b0bcf3e8270d48b4afb67d64";
