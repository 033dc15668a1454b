//! Whole runs over real endpoints on loopback, in one process. Every order of events ends in the same model, a
//! cheat is refused, a node that was away continues, and an audit of the remaining blobs finds everything
//! again.

#[path = "network/alone.rs"]
mod alone;
#[path = "network/challenges.rs"]
mod challenges;
#[path = "network/devices.rs"]
mod devices;
#[path = "network/flood.rs"]
mod flood;
#[path = "network/forgeries.rs"]
mod forgeries;
#[path = "network/forgetful.rs"]
mod forgetful;
#[path = "network/light.rs"]
mod light;
#[path = "network/resume.rs"]
mod resume;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use templar_data::bundled;
use templar_home::Home;
use templar_home::access::Access;
use templar_home::access::AccessSink;
use templar_home::configure::{Origin, RunPlan, configure};
use templar_home::context::RunContext;
use templar_manifest::chain::Chain;
use templar_manifest::{
    AuditVerdict, CheckpointId, Hash, RunId, SecretKey, SlashCause, ValidatorSpec, WindowIndex, payload,
};
use templar_net::Ticket;
use templar_node::driver::{self, DriverConfig, NodeParts, NodeRole};
use templar_node::event::{NodeEvent, Refused};
use templar_node::exchange::{self, Destination};
use templar_node::settings::Networking;
use templar_store::Store;
use templar_testkit::pacing::RandomPauses;
use templar_testkit::trainer::NoiseTrainer;
use templar_train::Recipe;
use templar_train::tensors::checkpoint;
use tokio::sync::{mpsc, watch};

const SETTINGS: [&str; 7] = [
    "model.sequence_length=16",
    "inner.steps=3",
    "inner.batch_sequences=2",
    "inner.micro_batch_sequences=2",
    "gauntlet.held_out_pages=2",
    "model.ffn_size=32",
    "model.heads=2",
];

fn key(name: &str) -> SecretKey {
    SecretKey::from_bytes(Hash::of(name.as_bytes()).as_bytes())
}

/// Makes a run of two validators and three miners, whose first home is ready. Gives the run and all names.
///
/// With `trained` the run starts from tensors that only the first home has, so that the others must fetch them.
fn stage(dir: &Path, windows: u64, trained: bool, extra: &[&str]) -> (RunId, Vec<&'static str>) {
    let names = vec!["validator-1", "validator-2", "miner-1", "miner-2", "miner-3"];
    for name in &names {
        Home::init(&dir.join(name), &key(name)).unwrap();
    }
    let access = Access::write(&dir.join(names[0])).unwrap();
    let dataset = bundled::import_shakespeare(&mut AccessSink(&access)).unwrap();
    let validator = |name: &str| {
        let (home, key) = (Home::open(&dir.join(name)).unwrap(), key(name));
        let chain_anchor = home.keep_chain(&Chain::insecure(&key, "test")).unwrap();
        ValidatorSpec { key: key.public(), stake: 1, chain_anchor }
    };
    let mut settings: Vec<String> = SETTINGS.iter().map(ToString::to_string).collect();
    settings.push("model.kv_heads=1".to_owned());
    settings.push(format!("windows={windows}"));
    settings.extend(extra.iter().map(ToString::to_string));
    let mut plan = RunPlan {
        name: "test".to_owned(),
        dataset_id: access.put(payload::encode(&dataset)).unwrap().into(),
        dataset: &dataset,
        validators: names[..2].iter().map(|name| validator(name)).collect(),
        miners: names[2..].iter().map(|name| key(name).public()).collect(),
        origin: Origin::Drawn { size: "tiny".to_owned(), seed: Hash::of(b"seed") },
    };
    if trained {
        let recipe = Recipe::new(RunId::default(), configure(&plan, &settings).unwrap()).unwrap();
        let parameters = recipe.initial_parameters(access.blobs()).unwrap();
        let put = |bytes| access.put(bytes).map(|_| ());
        let named = checkpoint(recipe.run, WindowIndex(0), &recipe.tensors, &parameters, put).unwrap();
        let tensors = named.tensors.iter().map(|tensor| tensor.blob).collect();
        plan.origin = Origin::Trained { model: recipe.genesis.model, tensors };
    }
    let genesis = configure(&plan, &settings).unwrap();
    let run: RunId = access.put(payload::encode(&genesis)).unwrap().into();
    RunContext::create(&access.home, access.blobs(), &|bytes| access.put(bytes), &|ids| access.sync(ids), run).unwrap();
    access.home.set_current_run(&run).unwrap();
    (run, names)
}

/// A node that runs in this process.
struct Running {
    events: mpsc::Receiver<NodeEvent>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), driver::DriverError>>,
}

/// The parts of the node of this name. A home that has no run yet joins by the ticket.
async fn arrive(dir: &Path, name: &str, run: RunId, ticket: Option<&Ticket>) -> NodeParts {
    let home = Home::open(&dir.join(name)).unwrap();
    let lock = home.lock().unwrap();
    let store = Store::open(&home.store_dir()).await.unwrap();
    let secret = key(name);
    let networking = Networking::default();
    if let Some(ticket) = ticket
        && home.current_run().unwrap().is_none()
    {
        let (secret_key, tally) = (secret.to_bytes(), Arc::default());
        let to = Destination { home: &home, store: &store, secret_key, networking: &networking, tally };
        exchange::join(&to, ticket).await.unwrap();
    }
    let context = tokio::task::spawn_blocking({
        let (home, store, handle) = (home.clone(), store.clone(), tokio::runtime::Handle::current());
        move || {
            let blobs = templar_store::BlockingStore::new(store.clone(), handle.clone());
            let put = |bytes: Vec<u8>| handle.block_on(store.put(bytes));
            let durable = |ids: &[Hash]| handle.block_on(store.sync(ids));
            if home.current_run().unwrap().is_none() {
                RunContext::create(&home, &blobs, &put, &durable, run).unwrap();
                home.set_current_run(&run).unwrap();
            }
            RunContext::open(&home, &blobs, run).unwrap()
        }
    })
    .await
    .unwrap();
    NodeParts { home, lock, store, context, key: secret }
}

async fn start(dir: &Path, name: &str, run: RunId, ticket: Option<&Ticket>, delays: Option<u64>) -> Running {
    let parts = arrive(dir, name, run, ticket).await;
    let role = if name.starts_with("validator") { NodeRole::Validator } else { NodeRole::Miner };
    let mut config = DriverConfig::new(role, Networking::default());
    config.peers = ticket.map(|ticket| ticket.peers.clone()).unwrap_or_default();
    if name == "miner-3" {
        config.trainer = Arc::new(NoiseTrainer);
    }
    if let Some(seed) = delays {
        config.pacing = Some(Arc::new(RandomPauses::new(Duration::from_millis(150), seed)));
    }
    let (sender, events) = mpsc::channel(1024);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(driver::run(parts, config, sender, stopped));
    Running { events, stop, task }
}

impl Running {
    async fn until<T>(&mut self, mut wanted: impl FnMut(NodeEvent) -> Option<T>) -> T {
        loop {
            let event = self.events.recv().await.expect("the node runs");
            assert!(!matches!(event, NodeEvent::Deadline { .. }), "{event:?}");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    async fn end(self) {
        self.stop.send_replace(true);
        drop(self.events);
        self.task.await.unwrap().unwrap();
    }
}

/// Runs all nodes to the end of the run. Gives the last model and the refused contributions. With `interrupt`
/// the last two of `order` end after the first window and start again.
async fn play(
    dir: &Path,
    windows: u64,
    order: &[usize],
    delays: Option<u64>,
    interrupt: bool,
    trained: bool,
    extra: &'static [&'static str],
) -> (CheckpointId, Vec<Refused>) {
    let (run, names) = {
        let dir = dir.to_owned();
        tokio::task::spawn_blocking(move || stage(&dir, windows, trained, extra)).await.unwrap()
    };
    let mut first = start(dir, names[0], run, None, delays).await;
    let ticket: Ticket = first
        .until(|event| match event {
            NodeEvent::Started { ticket, .. } => Some(ticket),
            _ => None,
        })
        .await
        .parse()
        .unwrap();
    let mut others = Vec::new();
    for &index in order {
        others.push(start(dir, names[index], run, Some(&ticket), delays.map(|seed| seed + index as u64)).await);
    }
    let mut all_refused = Vec::new();
    if interrupt {
        let refused = first
            .until(|event| match event {
                NodeEvent::Closed { refused, .. } => Some(refused),
                _ => None,
            })
            .await;
        all_refused.extend(refused);
        for _ in 0..2 {
            others.pop().expect("it was started").end().await;
        }
        for &index in &order[order.len() - 2..] {
            others.push(start(dir, names[index], run, Some(&ticket), None).await);
        }
    }
    let checkpoint = first
        .until(|event| match event {
            NodeEvent::Closed { refused, .. } => {
                all_refused.extend(refused);
                None
            }
            NodeEvent::Finished { checkpoint } => Some(checkpoint),
            _ => None,
        })
        .await;
    for other in &mut others {
        let same = other
            .until(|event| match event {
                NodeEvent::Finished { checkpoint } => Some(checkpoint),
                _ => None,
            })
            .await;
        assert_eq!(same, checkpoint);
    }
    for node in others.into_iter().chain([first]) {
        node.end().await;
    }
    (checkpoint, all_refused)
}

/// Audits every window from the first validator's home.
fn audit(dir: &Path) -> Vec<AuditVerdict> {
    let access = Access::read(&dir.join("validator-1")).unwrap();
    let context = access.run(None).unwrap();
    let node = access.fold(&context).unwrap();
    let found = forgeries::audit(&context, node.closed(), access.blobs()).unwrap();
    found.into_iter().map(|found| found.verdict().clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_order_of_events_ends_in_the_same_model_and_the_cheat_is_refused() {
    let mut ends = Vec::new();
    let plays = [
        ([1, 2, 3, 4], None, false),
        ([4, 3, 2, 1], Some(1), false),
        ([3, 1, 4, 2], Some(100), false),
        // A validator and a miner are away for a while.
        ([3, 4, 1, 2], None, true),
    ];
    for (order, delays, interrupt) in plays {
        let dir = tempfile::tempdir().unwrap();
        let (checkpoint, refused) = play(dir.path(), 3, &order, delays, interrupt, false, &[]).await;
        assert_eq!(refused.len(), 2, "one in each window, until the second costs the slot");
        let cheat = key("miner-3").public();
        for refused in &refused {
            assert_eq!(refused.miner, cheat);
            assert_eq!(refused.reason, "replay differs from step 1, first in model.embed_tokens.weight");
        }
        ends.push(checkpoint);
        let path = dir.path().to_owned();
        let verdicts = tokio::task::spawn_blocking(move || {
            light::follows_by_aggregates(&path.join("miner-1"));
            audit(&path)
        })
        .await
        .unwrap();
        assert_eq!(verdicts, vec![AuditVerdict::Match; 3]);
    }
    assert_eq!(ends, vec![ends[0]; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_audit_finds_every_forgery() {
    let dir = tempfile::tempdir().unwrap();
    play(dir.path(), 2, &[1, 2, 3, 4], None, false, true, &[]).await;
    let path = dir.path().to_owned();
    tokio::task::spawn_blocking(move || {
        let access = Access::read(&path.join("validator-1")).unwrap();
        let context = access.run(None).unwrap();
        let closed = access.fold(&context).unwrap().closed().to_vec();
        forgeries::one_changed_blob(&context, &closed, access.blobs());
        forgeries::one_changed_number(&context, &closed, access.blobs());
    })
    .await
    .unwrap();
}

/// Sampled replay after the close, over real endpoints. The cheat's delta is in the first checkpoints, verdicts
/// come in the scores of later windows, and the cheat loses its unvested pay, then its slot. An audit replays
/// every verdict.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn late_verdicts_burn_and_an_audit_replays_them() {
    const LATE: [&str; 4] = [
        "replay.before_close=false",
        "replay.fraction_ppm=500000",
        "replay.verdict_windows=2",
        "replay.challenge_windows=1",
    ];
    let dir = tempfile::tempdir().unwrap();
    let (_, refused) = play(dir.path(), 4, &[1, 2, 3, 4], None, false, false, &LATE).await;
    assert!(refused.is_empty(), "nothing is refused before it is replayed: {refused:?}");
    let path = dir.path().to_owned();
    tokio::task::spawn_blocking(move || {
        let access = Access::read(&path.join("validator-1")).unwrap();
        let context = access.run(None).unwrap();
        let node = access.fold(&context).unwrap();
        let (closed, cheat) = (node.closed().to_vec(), key("miner-3").public());
        let causes: Vec<Vec<(SlashCause, u64)>> = closed
            .iter()
            .map(|closed| closed.window.body.slashes.iter().map(|slash| (slash.cause, slash.window.0)).collect())
            .collect();
        // A mismatch of a window before the first one was recorded does not count as a second one.
        let expected = [
            vec![],
            vec![(SlashCause::Mismatch, 0)],
            vec![(SlashCause::Mismatch, 1)],
            vec![(SlashCause::Expulsion, 2)],
        ];
        assert_eq!(causes, expected);
        assert!(closed.iter().flat_map(|closed| &closed.window.body.slashes).all(|slash| slash.account == cheat));
        assert!(node.state().is_expelled(&cheat));
        let challenged: Vec<_> = closed.iter().flat_map(|closed| &closed.window.body.challenges).collect();
        assert!(challenged.is_empty(), "what a validator has replayed it need not ask for: {challenged:?}");
        assert!(node.state().ledger().accounts().get(&cheat).is_none_or(|own| own.vesting_micros() == 0));
        let found = forgeries::audit(&context, &closed, access.blobs()).unwrap();
        for found in &found {
            assert_eq!(found.audit.record_verdict, AuditVerdict::Match);
            assert_eq!(found.audit.ledger_verdict, AuditVerdict::Match);
            assert_eq!(found.audit.checkpoint_verdict, AuditVerdict::Match);
            for entry in &found.audit.contributions {
                let honest = entry.verdict == AuditVerdict::Match;
                assert_eq!(honest, entry.miner != cheat, "{entry:?}");
            }
        }
        forgeries::one_changed_verdict(&context, &closed, access.blobs());
    })
    .await
    .unwrap();
}
