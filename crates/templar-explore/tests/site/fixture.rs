//! A small run with real training in one home: one honest miner, one that cheats, and a validator. Its name and its
//! dataset's licence are markup.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use templar_data::bundled;
use templar_home::Home;
use templar_home::access::{Access, AccessSink};
use templar_home::configure::{Origin, RunPlan, configure};
use templar_home::context::RunContext;
use templar_home::replica::Replica;
use templar_manifest::chain::Chain;
use templar_manifest::{Contribution, Hash, PublicKey, RunId, SecretKey, Signed, ValidatorSpec, payload};
use templar_node::executor::{Executor, TrainRequest, TrainWatch};
use templar_protocol::{Entry, Input, Measured, Output};
use templar_testkit::trainer::NoiseTrainer;
use templar_train::StepReport;
use tower::ServiceExt as _;

use templar_explore::Source;
use templar_explore::server::{Site, router};

/// A name that is markup.
pub(super) const NAME: &str = "<script>alert(1)</script>\"'&<b>";

/// The token of the site.
pub(super) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The number of windows of the run.
pub(super) const WINDOWS: u64 = 3;

const SETTINGS: [&str; 10] = [
    "model.sequence_length=16",
    "model.ffn_size=32",
    "model.heads=2",
    "model.kv_heads=1",
    "inner.steps=2",
    "inner.batch_sequences=2",
    "inner.micro_batch_sequences=2",
    "gauntlet.held_out_pages=2",
    "replay.expulsion_windows=0",
    "windows=3",
];

/// The home of the run, and the site of it.
pub(super) struct Stage {
    pub(super) source: Arc<Source>,
    pub(super) site: Arc<Site>,
    pub(super) root: PathBuf,
    pub(super) run: RunId,
    pub(super) honest: PublicKey,
    pub(super) cheat: PublicKey,
    pub(super) validator: PublicKey,
    _dir: tempfile::TempDir,
}

/// The stage that all tests share, as long as one of them uses it.
pub(super) fn stage() -> Arc<Stage> {
    static STAGE: Mutex<Weak<Stage>> = Mutex::new(Weak::new());
    let mut shared = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stage) = shared.upgrade() {
        return stage;
    }
    let stage = Arc::new(Stage::new());
    *shared = Arc::downgrade(&stage);
    stage
}

fn key(name: &str) -> SecretKey {
    SecretKey::from_bytes(Hash::of(name.as_bytes()).as_bytes())
}

struct Silent;

impl TrainWatch for Silent {
    fn step(&mut self, _report: &StepReport) {}
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("home");
        let [validator, honest, cheat] = ["validator", "honest", "cheat"].map(key);
        Home::init(&root, &validator).unwrap();
        let access = Arc::new(Access::write(&root).unwrap());
        let context = set_up(&access, &validator, &[&honest, &cheat]);
        let run = context.run;
        let keeping = access.clone();
        let keep = Arc::new(move |bytes| keeping.put(bytes));
        let executor = Executor::new(context.clone(), access.home.clone(), access.shared_blobs(), keep).unwrap();
        let mut replica = Replica::open(&access.home, context, validator.clone()).unwrap();
        while !replica.node().is_over() {
            play(&executor, &mut replica, [&honest, &cheat]);
        }
        drop((replica, executor));
        drop(Arc::into_inner(access).expect("nobody else has the home"));
        let source = Arc::new(Source::open(&root, None).unwrap());
        let site = Site::new(source.clone(), "127.0.0.1:8460".parse().unwrap(), &[], TOKEN.to_owned());
        let [validator, honest, cheat] = [validator, honest, cheat].map(|key| key.public());
        Self { source, site, root, run, honest, cheat, validator, _dir: dir }
    }

    /// The directory of the run.
    pub(super) fn run_dir(&self) -> PathBuf {
        self.root.join("runs").join(self.run.to_string())
    }

    /// The answer to a request that a browser would send.
    pub(super) fn get(&self, path: &str) -> Reply {
        get(&self.site, path)
    }

    /// The answer to any request.
    pub(super) fn ask(&self, request: Request<Body>) -> Reply {
        ask(&self.site, request)
    }
}

/// The answer of a site to a request that a browser would send.
pub(super) fn get(site: &Arc<Site>, path: &str) -> Reply {
    ask(site, Request::get(path).header("host", "localhost:8460").body(Body::empty()).unwrap())
}

/// The answer of a site to any request, without a socket.
fn ask(site: &Arc<Site>, request: Request<Body>) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (head, body) = router(site.clone()).oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 64 << 20).await.unwrap();
        Reply { status: head.status, headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    })
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn set_up(access: &Access, validator: &SecretKey, miners: &[&SecretKey]) -> RunContext {
    let mut dataset = bundled::import_shakespeare(&mut AccessSink(access)).unwrap();
    dataset.licence = "<img src=x onerror=alert(2)>".to_owned();
    let plan = RunPlan {
        name: NAME.to_owned(),
        dataset_id: access.put(payload::encode(&dataset)).unwrap().into(),
        dataset: &dataset,
        validators: vec![ValidatorSpec {
            key: validator.public(),
            stake: 1,
            chain_anchor: access.home.keep_chain(&Chain::insecure(validator, NAME)).unwrap(),
        }],
        miners: miners.iter().map(|key| key.public()).collect(),
        origin: Origin::Drawn { size: "tiny".to_owned(), seed: Hash::of(b"seed") },
    };
    let genesis = configure(&plan, &SETTINGS.map(str::to_owned)).unwrap();
    let run: RunId = access.put(payload::encode(&genesis)).unwrap().into();
    let (put, durable) = (|bytes| access.put(bytes), |ids: &[Hash]| access.sync(ids));
    let context = RunContext::create(&access.home, access.blobs(), &put, &durable, run).unwrap();
    access.home.set_current_run(&run).unwrap();
    context
}

/// Plays the open window to its end. Of the two miners the second sends noise.
fn play(executor: &Executor, replica: &mut Replica, miners: [&SecretKey; 2]) {
    let closed = replica.node().closed().len();
    let state = replica.node().shared_state();
    for (place, key) in miners.into_iter().enumerate() {
        let honest = TrainRequest::honest(&state, key.public(), 2);
        let request = if place == 0 { honest } else { TrainRequest { trainer: &NoiseTrainer, ..honest } };
        let trained: Contribution = executor.train(request, &mut Silent, &|_| {}).unwrap();
        replica.submit(Input::Entry(Entry::Envelope(Signed::sign(trained, key).envelope()))).unwrap();
    }
    for _ in 0..40 {
        let node = replica.node().clone();
        if node.closed().len() > closed {
            return;
        }
        let mut contributions: Vec<Signed<Contribution>> = node.contributions().cloned().collect();
        contributions.sort_by_key(|signed| signed.payload().miner);
        let todo = node.todo().into_iter().find(|output| !matches!(output, Output::Timer { .. }));
        match todo.expect("something to do") {
            Output::Sign(document) => drop(replica.sign(document).unwrap()),
            Output::Reveal { .. } => drop(replica.reveal().unwrap()),
            Output::Judge(plan) => {
                let entries = executor.judge(&state, &plan, &contributions, false).unwrap();
                let verdicts = executor.judge_late(&plan, true).unwrap();
                let measured =
                    Measured::Judged { window: plan.window, seed: plan.seed, entries, verdicts, contests: Vec::new() };
                replica.submit(Input::Measured(measured)).unwrap();
            }
            Output::Apply { window, outcomes, .. } => {
                let applied = executor.apply(state.checkpoint(), window, &outcomes, &contributions).unwrap();
                let measured = Measured::Applied { window, outcomes, stepped: applied.stepped };
                replica.submit(Input::Measured(measured)).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("the window does not close");
}
