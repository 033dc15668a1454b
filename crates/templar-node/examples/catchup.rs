//! Measures how a node that is behind gets the current model: whole, by the aggregates of the windows that it
//! lacks, or by the way that a node chooses itself.
//!
//! `cargo run --release -p templar -p templar-node --example catchup -- --windows 200 --near 40`
//!
//! A validator and two miners play a whole run in this process. Then two sorts of homes visit the validator:
//! homes that know nothing of the run, and homes that followed it until `--near` windows before its end. Other
//! arguments are settings of the genesis. On a slow link: `unshare -rn sh -c 'ip link set lo mtu 1500 up; tc
//! qdisc add dev lo root tbf rate 110mbit burst 64kb latency 50ms; …'`.
#![allow(clippy::disallowed_methods, reason = "prints how long it took")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use templar_data::bundled;
use templar_home::Home;
use templar_home::access::Access;
use templar_home::access::AccessSink;
use templar_home::configure::{Origin, RunPlan, configure};
use templar_home::context::RunContext;
use templar_home::replica::Replica;
use templar_manifest::chain::Chain;
use templar_manifest::{Hash, RunId, SecretKey, ValidatorSpec, payload};
use templar_net::Ticket;
use templar_node::driver::{self, DriverConfig, NodeParts, NodeRole};
use templar_node::event::NodeEvent;
use templar_node::exchange::{self, Destination, Wanted};
use templar_node::gather::CatchUp;
use templar_node::settings::Networking;
use templar_node::tally::VisitProgress;
use templar_store::{BlockingStore, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const NAMES: [&str; 3] = ["validator", "miner-1", "miner-2"];

fn key(name: &str) -> SecretKey {
    SecretKey::from_bytes(Hash::of(name.as_bytes()).as_bytes())
}

/// Makes homes for all nodes. The validator's home has the run.
fn stage(dir: &Path, size: &str, settings: &[String]) -> Outcome<RunId> {
    for name in NAMES {
        Home::init(&dir.join(name), &key(name))?;
    }
    let chain_anchor = Home::open(&dir.join(NAMES[0]))?.keep_chain(&Chain::insecure(&key(NAMES[0]), "catchup"))?;
    let access = Access::write(&dir.join(NAMES[0]))?;
    let dataset = bundled::import_shakespeare(&mut AccessSink(&access))?;
    let validator = key(NAMES[0]);
    let plan = RunPlan {
        name: "catchup".to_owned(),
        dataset_id: access.put(payload::encode(&dataset))?.into(),
        dataset: &dataset,
        validators: vec![ValidatorSpec { key: validator.public(), stake: 1, chain_anchor }],
        miners: NAMES[1..].iter().map(|name| key(name).public()).collect(),
        origin: Origin::Drawn { size: size.to_owned(), seed: Hash::of(b"catchup") },
    };
    let run: RunId = access.put(payload::encode(&configure(&plan, settings)?))?.into();
    let (put, durable) = (|bytes| access.put(bytes), |blobs: &[Hash]| access.sync(blobs));
    RunContext::create(&access.home, access.blobs(), &put, &durable, run)?;
    access.home.set_current_run(&run)?;
    Ok(run)
}

/// An open home and its run, joined by `ticket` if the home does not have it yet.
async fn open(dir: &Path, name: &str, run: RunId, ticket: Option<&Ticket>) -> Outcome<(Home, Store, RunContext)> {
    let root = dir.join(name);
    let home = if root.exists() { Home::open(&root)? } else { Home::init(&root, &key(name))? };
    let store = Store::open(&home.store_dir()).await?;
    let is_new = home.current_run()?.is_none();
    if let Some(ticket) = ticket.filter(|_| is_new) {
        let networking = Networking::default();
        exchange::join(&to(&home, &store, &networking), ticket).await?;
    }
    let (opened, kept, handle) = (home.clone(), store.clone(), tokio::runtime::Handle::current());
    let context = spawn_blocking(move || -> Outcome<RunContext> {
        let blobs = BlockingStore::new(kept.clone(), handle.clone());
        if is_new {
            let put = |bytes| handle.block_on(kept.put(bytes));
            let durable = |blobs: &[Hash]| handle.block_on(kept.sync(blobs));
            RunContext::create(&opened, &blobs, &put, &durable, run)?;
            opened.set_current_run(&run)?;
        }
        Ok(RunContext::open(&opened, &blobs, run)?)
    })
    .await??;
    Ok((home, store, context))
}

fn to<'a>(home: &'a Home, store: &'a Store, networking: &'a Networking) -> Destination<'a> {
    Destination { home, store, secret_key: [9; 32], networking, tally: Arc::default() }
}

/// A node that plays.
struct Playing {
    events: mpsc::Receiver<NodeEvent>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), driver::DriverError>>,
}

async fn play(dir: &Path, name: &str, run: RunId, ticket: Option<&Ticket>) -> Outcome<Playing> {
    let (home, store, context) = open(dir, name, run, ticket).await?;
    let role = if name == NAMES[0] { NodeRole::Validator } else { NodeRole::Miner };
    let mut config = DriverConfig::new(role, Networking::default());
    config.peers = ticket.map(|ticket| ticket.peers.clone()).unwrap_or_default();
    let ((sender, events), (stop, stopped)) = (mpsc::channel(1024), watch::channel(false));
    let parts = NodeParts { lock: home.lock()?, home, store, context, key: key(name) };
    Ok(Playing { events, stop, task: tokio::spawn(driver::run(parts, config, sender, stopped)) })
}

impl Playing {
    async fn until<T>(&mut self, wanted: impl Fn(NodeEvent) -> Option<T>) -> Outcome<T> {
        while let Some(event) = self.events.recv().await {
            if let Some(found) = wanted(event) {
                return Ok(found);
            }
        }
        Err("a node stopped".into())
    }

    /// Reads and drops all further events, so that the node never waits for a reader.
    fn drain(mut self) -> (watch::Sender<bool>, JoinHandle<Result<(), driver::DriverError>>) {
        tokio::spawn(async move { while self.events.recv().await.is_some() {} });
        (self.stop, self.task)
    }
}

/// The result of a visit.
struct Caught {
    progress: VisitProgress,
    seconds: f64,
    windows: usize,
}

/// Makes a visit of the home `name` that ends with the current model.
async fn catch_up(dir: &Path, name: &str, run: RunId, ticket: &Ticket, way: CatchUp) -> Outcome<Caught> {
    let (home, store, context) = open(dir, name, run, Some(ticket)).await?;
    let networking = Networking::default();
    let (opened, own) = (home.clone(), key(name));
    let mut replica = spawn_blocking(move || Replica::open(&opened, context, own)).await??;
    let to = to(&home, &store, &networking);
    let started = Instant::now();
    let patience = Duration::from_secs(120);
    let visit = exchange::visit(&to, &mut replica, &ticket.peers, Wanted::Model(way), patience).await?;
    let seconds = started.elapsed().as_secs_f64();
    let (windows, checkpoint, is_over) = {
        let node = replica.node();
        (node.closed().len(), node.state().checkpoint(), node.is_over())
    };
    // While the run goes on, another window may close during the visit.
    let here = !is_over || store.has(&checkpoint.hash()).await?;
    store.shutdown().await;
    if !visit.complete || !here {
        return Err(format!("the model did not come: {visit:?}").into());
    }
    Ok(Caught { progress: to.tally.progress(), seconds, windows })
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let (mut size, mut windows, mut near) = ("tiny".to_owned(), 200u64, 40u64);
    let mut settings: Vec<String> = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--size" => size = value()?,
            "--windows" => windows = value()?.parse()?,
            "--near" => near = value()?.parse()?,
            _ => settings.push(arg),
        }
    }
    settings.push(format!("windows={windows}"));
    let dir = tempfile::tempdir()?;
    let root = dir.path().to_owned();
    let run = spawn_blocking({
        let root = root.clone();
        move || stage(&root, &size, &settings)
    })
    .await??;

    let mut validator = play(&root, NAMES[0], run, None).await?;
    let started = |event| if let NodeEvent::Started { ticket, .. } = event { Some(ticket) } else { None };
    let ticket: Ticket = validator.until(started).await?.parse()?;
    let mut others = Vec::new();
    for name in &NAMES[1..] {
        others.push(play(&root, name, run, Some(&ticket)).await?.drain());
    }
    let reached =
        |wanted| move |event| matches!(event, NodeEvent::Closed { window, .. } if window + 1 == wanted).then_some(());
    validator.until(reached(windows - near)).await?;
    let there = catch_up(&root, "near", run, &ticket, CatchUp::Cheaper).await?.windows;
    validator.until(|event| matches!(event, NodeEvent::Finished { .. }).then_some(())).await?;
    let validator = validator.drain();

    println!("| joiner | way | bytes received | windows applied | seconds |");
    println!("|---|---|---:|---:|---:|");
    for (joiner, behind) in [("new", windows as usize), ("near", windows as usize - there)] {
        for (way, name) in
            [(CatchUp::Snapshot, "snapshot"), (CatchUp::Aggregates, "aggregates"), (CatchUp::Cheaper, "chosen")]
        {
            let home = format!("{joiner}-{name}");
            if joiner == "near" {
                copy(&root.join("near"), &root.join(&home))?;
            } else {
                // Blobs that every joiner needs, whichever way it takes, are fetched before and not measured.
                open(&root, &home, run, Some(&ticket)).await?.1.shutdown().await;
            }
            let Caught { progress, seconds, .. } = catch_up(&root, &home, run, &ticket, way).await?;
            println!(
                "| {behind} windows behind | {name} | {} | {} | {seconds:.2} |",
                progress.received_bytes, progress.windows_followed
            );
        }
    }
    for (stop, task) in others.into_iter().chain([validator]) {
        stop.send_replace(true);
        task.await??;
    }
    Ok(())
}
