//! The plan of the experiment: the configuration of a run, its genesis, and the matrix of all runs.
//!
//! All runs see equally many tokens and use the same inner optimiser. Two rows of a table differ only in the
//! subject of the table. The hash of a configuration names its result in the cache.

use serde::Serialize;
use templar_manifest::testing::GenesisBuilder;
use templar_manifest::{
    AggregationRule, CompressionSpec, Hash, Initial, InnerSpec, OuterSegment, Quantiser, RunId, Segment, SegmentShape,
};
use templar_model::sizes;
use templar_train::{Recipe, RecipeError};

/// A version number, raised when the same configuration would give another result.
const FORMAT: u32 = 2;

/// The number of predictions of a sequence.
pub(crate) const SEQUENCE: u32 = 128;
/// The number of sequences in one miner's inner step.
pub(crate) const BATCH: u32 = 2;
/// The tokens that every run trains on, over all miners: 96 windows of 4 miners with 30 inner steps each.
const TOKENS: u64 = 2_949_120;
/// The tokens of a run with the smaller model: 48 windows.
const SMALL_TOKENS: u64 = 1_474_560;
/// The inner learning rate's peak, in 1e-9, and the inner steps that lead to it.
const PEAK_NANOS: u64 = 3_000_000;
const WARM_UP: u64 = 60;

/// The method by which the work of a window becomes a step of the shared parameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// Gradients are averaged at every step and given to one AdamW.
    AdamW,
    /// Dense pseudo-gradients are averaged once per window, followed by outer SGD with Nesterov momentum.
    DiLoCo {
        /// The outer learning rate α.
        rate_ppm: u32,
        /// The outer momentum μ.
        momentum_ppm: u32,
    },
    /// Top-k with a quantiser and error feedback: this project's own code from end to end.
    SparseLoCo(Sparse),
}

/// The settings of SparseLoCo in one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Sparse {
    /// The number of values kept of a block of 4,096.
    pub(crate) top_k: u32,
    /// The quantiser of the kept values.
    pub(crate) quantiser: Quantiser,
    /// The decay β of the error feedback.
    pub(crate) decay_ppm: u32,
    /// The aggregation rule of a window's deltas.
    pub(crate) rule: AggregationRule,
    /// The outer learning rate α.
    pub(crate) rate_ppm: u32,
}

impl Sparse {
    /// These settings as a method.
    pub(crate) fn method(self) -> Method {
        Method::SparseLoCo(self)
    }
}

/// Everything that decides the result of a run, except the text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Config {
    pub(crate) format: u32,
    /// The size of the model, by name.
    pub(crate) size: &'static str,
    /// The seed of the first parameters and of the order of pages.
    pub(crate) seed: u64,
    /// The number of miners, R.
    pub(crate) miners: u32,
    /// The number of inner steps in a window, H.
    pub(crate) steps: u32,
    /// The peak of the inner learning rate, in 1e-9.
    pub(crate) peak_nanos: u64,
    /// The number of tokens of the run.
    pub(crate) tokens: u64,
    /// The method of the run.
    pub(crate) method: Method,
}

impl Config {
    /// A run of the matrix.
    pub(crate) fn new(miners: u32, steps: u32, method: Method) -> Self {
        Self { format: FORMAT, size: "micro", seed: 0, miners, steps, peak_nanos: PEAK_NANOS, tokens: TOKENS, method }
    }

    /// The same run with another seed.
    pub(crate) fn seeded(&self, seed: u64) -> Self {
        Self { seed, ..self.clone() }
    }

    /// The hash that names the result. It covers the configuration and the dataset's id.
    pub(crate) fn id(&self, dataset: &str) -> String {
        let text = serde_json::to_string(&(self, dataset)).expect("numbers and names are JSON");
        blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
    }

    /// The number of windows. For AdamW, a window is a stretch of as many steps.
    pub(crate) fn windows(&self) -> u64 {
        self.tokens / (u64::from(self.miners * self.steps * BATCH) * u64::from(SEQUENCE))
    }

    /// The recipe of the run. Fields that AdamW and DiLoCo do not have are set to valid values and not used.
    pub(crate) fn recipe(&self, vocab_size: u32) -> Result<Recipe, RecipeError> {
        let sparse = match self.method {
            Method::SparseLoCo(sparse) => sparse,
            Method::AdamW | Method::DiLoCo { .. } => SPARSELOCO,
        };
        let segment = |steps, from_nanos, to_nanos, shape| Segment { steps, from_nanos, to_nanos, shape };
        let decay = self.windows() * u64::from(self.steps) - WARM_UP;
        let peak = self.peak_nanos;
        let genesis = GenesisBuilder::tiny("convergence")
            .with(|genesis| {
                genesis.model = sizes::preset(self.size, vocab_size).expect("it is in the table of sizes");
                genesis.initial = Initial::Seed(Hash::of(format!("convergence {}", self.seed).as_bytes()));
                genesis.inner = InnerSpec {
                    steps: self.steps,
                    batch_sequences: BATCH,
                    micro_batch_sequences: BATCH,
                    schedule: vec![
                        segment(WARM_UP, peak / WARM_UP, peak, SegmentShape::Linear),
                        segment(decay, peak, peak / 10, SegmentShape::Cosine),
                    ],
                    ..genesis.inner
                };
                genesis.compression = CompressionSpec {
                    block_side: 64,
                    top_k: sparse.top_k,
                    quantiser: sparse.quantiser,
                    error_decay_ppm: sparse.decay_ppm,
                };
                genesis.outer.rule = sparse.rule;
                genesis.outer.schedule = vec![OuterSegment { from_window: 0, learning_rate_ppm: sparse.rate_ppm }];
                genesis.outer.max_contributions = self.miners;
            })
            .build();
        Recipe::new(RunId::default(), genesis)
    }
}

/// DiLoCo as published: outer learning rate 0.7, Nesterov momentum 0.9.
pub(crate) const DILOCO: Method = Method::DiLoCo { rate_ppm: 700_000, momentum_ppm: 900_000 };

/// SparseLoCo as Covenant-72B was trained.
const TEMPLAR: Sparse = Sparse {
    top_k: 64,
    quantiser: Quantiser::Templar4,
    decay_ppm: 950_000,
    rule: AggregationRule::MeanOfSenders,
    rate_ppm: 1_000_000,
};

/// SparseLoCo with the quantiser that does best here.
pub(crate) const SPARSELOCO: Sparse = Sparse { quantiser: Quantiser::BlockSign, ..TEMPLAR };

/// One table of the document. Its rows are compared with its first row.
pub(crate) struct Section {
    /// The name of the table in the document.
    pub(crate) name: &'static str,
    /// The name and the run of each row.
    pub(crate) rows: Vec<(String, Config)>,
}

/// The seeds of a comparison that is close.
pub(crate) const SEEDS: u64 = 3;

/// The comparisons that are made over several seeds: the two methods, and the two quantisers of which one is a
/// run's default.
pub(crate) fn seeded() -> Vec<(&'static str, Config)> {
    vec![
        ("DiLoCo", Config::new(4, 30, DILOCO)),
        ("SparseLoCo, block-sign", Config::new(4, 30, SPARSELOCO.method())),
        ("SparseLoCo, templar4", Config::new(4, 30, TEMPLAR.method())),
    ]
}

/// The same comparison with the small model of the search of rates, for each quantiser.
pub(crate) fn seeded_small() -> Vec<(&'static str, Config)> {
    let sparse = |quantiser| small(Sparse { quantiser, ..SPARSELOCO }.method());
    vec![
        ("templar4", sparse(Quantiser::Templar4)),
        ("block-levels", sparse(Quantiser::BlockLevels)),
        ("block-sign", sparse(Quantiser::BlockSign)),
        ("DiLoCo", small(DILOCO)),
    ]
}

/// A run with a smaller model and fewer tokens.
fn small(method: Method) -> Config {
    Config { size: "nano", tokens: SMALL_TOKENS, ..Config::new(4, 30, method) }
}

/// All tables of the document, in its order.
pub(crate) fn sections() -> Vec<Section> {
    let sparse = |sparse: Sparse| Config::new(4, 30, sparse.method());
    let mut methods = Vec::new();
    for (miners, steps) in [(4, 30), (4, 15), (8, 30)] {
        // AdamW has no windows, so its two rows are those with as many miners.
        if steps == 30 {
            methods.push((format!("AdamW, R = {miners}"), Config::new(miners, 30, Method::AdamW)));
        }
        for (name, method) in [("DiLoCo", DILOCO), ("SparseLoCo", SPARSELOCO.method())] {
            methods.push((format!("{name}, R = {miners}, H = {steps}"), Config::new(miners, steps, method)));
        }
    }
    let better = Method::DiLoCo { rate_ppm: 700_000, momentum_ppm: 600_000 };
    methods.push(("DiLoCo with μ = 0.6, R = 4, H = 30".to_owned(), Config::new(4, 30, better)));
    let rules = [(AggregationRule::MeanOfSenders, 1_000_000), (AggregationRule::MeanOfAll, 4_000_000)].map(
        |(rule, rate_ppm)| {
            (format!("{rule}, α = {}", f64::from(rate_ppm) / 1e6), sparse(Sparse { rule, rate_ppm, ..SPARSELOCO }))
        },
    );
    let densities = [64, 32, 128].map(|top_k| (format!("k = {top_k}"), sparse(Sparse { top_k, ..SPARSELOCO })));
    let quantisers = [Quantiser::Templar4, Quantiser::BlockLevels, Quantiser::BlockSign]
        .map(|quantiser| (quantiser.to_string(), sparse(Sparse { quantiser, ..SPARSELOCO })));
    let decays = [950_000, 900_000, 999_000].map(|decay_ppm| {
        (format!("β = {}", f64::from(decay_ppm) / 1e6), small(Sparse { decay_ppm, ..SPARSELOCO }.method()))
    });
    let quantisers_small = [Quantiser::Templar4, Quantiser::BlockLevels, Quantiser::BlockSign]
        .map(|quantiser| (quantiser.to_string(), small(Sparse { quantiser, ..SPARSELOCO }.method())));
    let densities_small =
        [64, 32, 128, 256, 512].map(|top_k| (format!("k = {top_k}"), small(Sparse { top_k, ..SPARSELOCO }.method())));
    let lengths = [("AdamW", Method::AdamW), ("DiLoCo", DILOCO), ("SparseLoCo", SPARSELOCO.method())];
    let lengths = [1, 4].into_iter().flat_map(|times| {
        lengths.clone().map(|(name, method)| {
            let config = small(method);
            (format!("{name}, {} windows", config.windows() * times), Config { tokens: SMALL_TOKENS * times, ..config })
        })
    });
    vec![
        Section { name: "search", rows: search() },
        Section { name: "methods", rows: methods },
        Section { name: "rules", rows: rules.into() },
        Section { name: "density", rows: densities.into() },
        Section { name: "density-small", rows: densities_small.into() },
        Section { name: "quantisers", rows: quantisers.into() },
        Section { name: "quantisers-small", rows: quantisers_small.into() },
        Section { name: "decay-small", rows: decays.into() },
        Section { name: "length-small", rows: lengths.collect() },
    ]
}

/// The search of rates, with a smaller model and fewer tokens.
fn search() -> Vec<(String, Config)> {
    let config = |peak_nanos, method| Config { peak_nanos, ..small(method) };
    let mut rows = Vec::new();
    let mut add = |name: &str, peak_nanos, method| {
        rows.push((format!("{name}, inner {}", peak_nanos as f64 / 1e9), config(peak_nanos, method)));
    };
    let senders = |rate_ppm| Sparse { rate_ppm, ..TEMPLAR }.method();
    let all = |rate_ppm| Sparse { rule: AggregationRule::MeanOfAll, rate_ppm, ..TEMPLAR }.method();
    let diloco = |rate_ppm, momentum_ppm| Method::DiLoCo { rate_ppm, momentum_ppm };
    add("AdamW", 3_000_000, Method::AdamW);
    add("AdamW", 1_000_000, Method::AdamW);
    add("DiLoCo, α = 0.7, μ = 0.9", 3_000_000, DILOCO);
    add("DiLoCo, α = 0.7, μ = 0.9", 1_000_000, DILOCO);
    add("DiLoCo, α = 0.4, μ = 0.8", 3_000_000, diloco(400_000, 800_000));
    add("DiLoCo, α = 1, μ = 0", 3_000_000, diloco(1_000_000, 0));
    add("DiLoCo, α = 0.7, μ = 0.6", 3_000_000, diloco(700_000, 600_000));
    add("mean-of-senders, α = 1", 3_000_000, senders(1_000_000));
    add("mean-of-senders, α = 1", 1_000_000, senders(1_000_000));
    add("mean-of-senders, α = 0.5", 3_000_000, senders(500_000));
    add("mean-of-senders, α = 2", 3_000_000, senders(2_000_000));
    add("mean-of-all, α = 8", 3_000_000, all(8_000_000));
    add("mean-of-all, α = 2", 3_000_000, all(2_000_000));
    add("mean-of-all, α = 4", 3_000_000, all(4_000_000));
    add("mean-of-all, α = 1", 3_000_000, all(1_000_000));
    // The result that one of the four miners reaches alone, with its quarter of the tokens.
    let alone = Config { miners: 1, tokens: SMALL_TOKENS / 4, ..config(3_000_000, Method::AdamW) };
    rows.push(("AdamW, one miner, a quarter of the tokens".to_owned(), alone));
    rows
}

/// All runs with their names, each once, in the order in which they are made. The decisive ones come first.
pub(crate) fn runs() -> Vec<(String, Config)> {
    let sections = sections();
    let of = |name: &str| sections.iter().filter(|section| section.name == name).flat_map(|s| s.rows.clone()).collect();
    let seed = |rows: Vec<(&str, Config)>, seed| {
        let row =
            |(name, config): (&str, Config)| (format!("{name}, {}, seed {seed}", config.size), config.seeded(seed));
        rows.into_iter().map(row).collect::<Vec<_>>()
    };
    let mut rows: Vec<(String, Config)> = of("search");
    (0..SEEDS).for_each(|number| rows.extend(seed(seeded_small(), number)));
    rows.push(("AdamW, micro".to_owned(), Config::new(4, 30, Method::AdamW)));
    (0..SEEDS).for_each(|number| rows.extend(seed(seeded(), number)));
    for name in ["density-small", "decay-small", "quantisers-small", "methods", "density", "quantisers", "rules"] {
        rows.extend(of(name));
    }
    rows.extend(of("length-small"));
    let mut runs: Vec<(String, Config)> = Vec::new();
    for (name, config) in rows {
        if runs.iter().all(|(_, known)| *known != config) {
            runs.push((name, config));
        }
    }
    runs
}
