//! Miners whose states are missing, over real endpoints: one withholds its state, one serves a made-up state,
//! and one has lost its state and derives it again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use templar_home::access::Access;
use templar_home::inventory::parts;
use templar_home::replica::{AfterTheCut, Replica, Taken};
use templar_manifest::*;
use templar_net::{Net, PeerId, Pulled, ServePolicy, Ticket};
use templar_node::driver::NodeParts;
use templar_node::event::NodeEvent;
use templar_node::executor::{Executor, StartingState, TrainRequest};
use templar_node::serving::ServedLog;
use templar_node::settings::Networking;
use templar_protocol::{Output, RunState};
use templar_store::BlockingStore;
use tokio::sync::watch;

use super::alone::Silent;
use super::{Running, arrive, forgeries, key, stage, start};

/// All validators replay everything, in the score of the window after it, and look for a state for a quarter of
/// `judge_ms`. Members are paid by steps, so that every miner has pay to lose, independent of luck.
const LATE: [&str; 6] = [
    "replay.before_close=false",
    "replay.fraction_ppm=1000000",
    "replay.verdict_windows=2",
    "replay.challenge_windows=1",
    "deadlines.judge_ms=10000",
    "gauntlet.weights=proven-steps",
];

/// The window before which all nodes that do as they should are started again.
const RESTART: WindowIndex = WindowIndex(2);

/// The treatment that a hostile miner gives to the states that it leaves behind.
#[derive(Clone, Copy, PartialEq)]
enum Hostile {
    /// Trains as it should, and serves none.
    Keeps,
    /// Names in the first window one that is none, serves that, and says in the second one that it goes on from
    /// there.
    MakesUp,
}

/// Serves its deltas and traces and the made-up state, and nothing else.
struct Few {
    rest: AfterTheCut,
    served: Mutex<BTreeSet<Hash>>,
}

impl ServePolicy for Few {
    fn may_serve(&self, blob: &Hash, _to: &PeerId) -> bool {
        self.served.lock().unwrap().contains(blob) && self.rest.may_serve(blob)
    }
}

impl Hostile {
    /// Mines until it is told to stop, and waits with its contribution to [`RESTART`] until `go_on` is true.
    async fn mine(
        self,
        dir: PathBuf,
        name: &'static str,
        ticket: Ticket,
        mut go_on: watch::Receiver<bool>,
        mut stop: watch::Receiver<bool>,
    ) {
        let NodeParts { home, lock, store, context, key } = arrive(&dir, name, ticket.run.into(), Some(&ticket)).await;
        let (me, secret_key) = (key.public(), key.to_bytes());
        let handle = tokio::runtime::Handle::current();
        let (keeping, blobs) = (store.clone(), Arc::new(BlockingStore::new(store.clone(), handle.clone())));
        let keep = Arc::new(move |bytes: Vec<u8>| handle.block_on(keeping.put(bytes)));
        let executor = Arc::new(Executor::new(context.clone(), home.clone(), blobs, keep).unwrap());
        let mut replica = Replica::open(&home, context, key).unwrap();
        let policy = Arc::new(Few { rest: replica.policy(), served: Mutex::default() });
        let config = Networking::default().config(secret_key);
        let net = Net::bind(config, store.clone(), ServedLog::of(&replica), policy.clone()).await.unwrap();
        for peer in &ticket.peers {
            net.add_peer(peer.clone()).unwrap();
        }
        let mut entries = net.pull_entries();
        let made_up = store.put(b"a state of nobody".to_vec()).await.unwrap();
        policy.served.lock().unwrap().insert(made_up);
        let mut followed = 0;
        loop {
            let node = replica.node().clone();
            for closed in &node.closed()[followed..] {
                // Both validators have it, or there were no record.
                let (record, executor) = (closed.window.clone(), executor.clone());
                while net.fetch(&record.body.aggregate.hash(), record.body.aggregate_bytes, &[]).await.is_err() {
                    tokio::task::yield_now().await;
                }
                let said = record.header.checkpoint;
                let found = tokio::task::spawn_blocking(move || executor.apply_aggregate(&record)).await.unwrap();
                assert_eq!(found.unwrap(), said);
                followed += 1;
            }
            if node.todo().iter().any(|output| matches!(output, Output::Train { .. })) {
                let state = node.state().clone();
                if state.window() == RESTART {
                    go_on.wait_for(|go_on| *go_on).await.unwrap();
                }
                let (executor, rest) = (executor.clone(), policy.rest.clone());
                let contribution =
                    tokio::task::spawn_blocking(move || self.train(&executor, &rest, &state, me, made_up))
                        .await
                        .unwrap();
                policy.served.lock().unwrap().extend([contribution.delta.hash(), contribution.trace.hash()]);
                replica.contribute(contribution).unwrap();
                continue;
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                pulled = entries.recv() => if let Some(Pulled::Entry { peer, bytes }) = pulled
                    && let Taken::TooEarly = replica.take(&bytes).unwrap()
                {
                    net.read_again(&peer);
                },
            }
        }
        net.shutdown().await;
        store.shutdown().await;
        drop(lock);
    }

    fn train(
        self,
        executor: &Executor,
        gate: &AfterTheCut,
        state: &RunState,
        me: PublicKey,
        made_up: Hash,
    ) -> Contribution {
        let window = state.window().0;
        let goes_on = self == Self::MakesUp && window == 1;
        let from = if goes_on { StartingState::Zero } else { StartingState::Recorded };
        let request = TrainRequest { from, ..TrainRequest::honest(state, me, 3) };
        let mut contribution = executor.train(request, &mut Silent, &|blobs| gate.gate(blobs)).unwrap();
        if goes_on {
            let parent = state.parent(&me).expect("the record of the first window has taken it");
            assert_eq!(parent.state_out.hash(), made_up);
            (contribution.parent, contribution.state_in) = (Some(parent.contribution), parent.state_out);
        }
        if self == Self::MakesUp && window == 0 {
            contribution.state_out = made_up.into();
        }
        contribution
    }
}

/// Removes every state that a miner has left behind in closed windows from its disk.
fn lose_states(root: &Path) {
    let access = Access::write(root).unwrap();
    let node = access.fold(&access.run(None).unwrap()).unwrap();
    let me = access.home.key().unwrap().public();
    let own = node.closed().iter().flat_map(|closed| &closed.contributions).map(Signed::payload);
    let states: Vec<Hash> = own.filter(|claimed| claimed.miner == me).map(|claimed| claimed.state_out.hash()).collect();
    assert_eq!(states.len() as u64, RESTART.0);
    let lost: BTreeSet<Hash> =
        states.iter().flat_map(|state| parts(access.blobs(), state).into_iter().chain([*state])).collect();
    assert!(lost.len() > states.len());
    access.runtime().block_on(access.store().unwrap().remove(&lost)).unwrap();
    assert!(lost.iter().all(|blob| !access.blobs().contains(blob)));
}

/// The messages with which a node warns until the run is over. No work fails here, so none says that it tries again.
async fn warnings(node: &mut Running) -> Vec<String> {
    let mut warnings = Vec::new();
    node.until(|event| match event {
        NodeEvent::Warning { message, .. } => {
            assert!(!message.contains("trying again"), "{message}");
            warnings.push(message);
            None
        }
        NodeEvent::Finished { .. } => Some(()),
        _ => None,
    })
    .await;
    warnings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_serves_no_state_is_slashed_and_who_has_lost_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let (run, _) = tokio::task::spawn_blocking(move || stage(&path, 4, false, &LATE)).await.unwrap();
    let (go_on, waits) = watch::channel(false);
    let (stop, stopped) = watch::channel(false);
    let mut hostile = Vec::new();
    let mut honest = Vec::new();
    for life in 0..2 {
        honest.push(start(dir.path(), "validator-1", run, None, None).await);
        let started = |event| if let NodeEvent::Started { ticket, .. } = event { Some(ticket) } else { None };
        let ticket: Ticket = honest[0].until(started).await.parse().unwrap();
        for name in ["validator-2", "miner-1"] {
            honest.push(start(dir.path(), name, run, Some(&ticket), None).await);
        }
        if life == 1 {
            break;
        }
        for (name, way) in [("miner-2", Hostile::Keeps), ("miner-3", Hostile::MakesUp)] {
            let mining = way.mine(dir.path().to_owned(), name, ticket.clone(), waits.clone(), stopped.clone());
            hostile.push(tokio::spawn(mining));
        }
        // Validators hold replayed states in memory and would miss none that follows from them, so they are
        // started again.
        for node in &mut honest {
            node.until(|event| matches!(event, NodeEvent::Closed { window: 1, .. }).then_some(())).await;
        }
        for node in honest.drain(..) {
            node.end().await;
        }
        let miner = dir.path().join("miner-1");
        tokio::task::spawn_blocking(move || lose_states(&miner)).await.unwrap();
    }
    go_on.send_replace(true);
    let mut said = Vec::new();
    for node in &mut honest {
        said.push(warnings(node).await);
    }
    let answered =
        "the state before this miner's contribution to window 1 is here and served; replayed contributions: 1";
    assert!(said[2].iter().any(|message| message == answered), "{said:?}");
    stop.send_replace(true);
    for miner in hostile {
        miner.await.unwrap();
    }
    for node in honest {
        node.end().await;
    }
    let path = dir.path().to_owned();
    tokio::task::spawn_blocking(move || recorded(&path)).await.unwrap();
}

/// Checks the challenges and slashes of the records, and that an audit finds them again.
fn recorded(dir: &Path) {
    let access = Access::read(&dir.join("validator-1")).unwrap();
    let context = access.run(None).unwrap();
    let node = access.fold(&context).unwrap();
    let (loser, keeper, liar) = (key("miner-1").public(), key("miner-2").public(), key("miner-3").public());
    let records = || node.closed().iter().map(|closed| &closed.window.body);
    let sorted = |mut miners: Vec<(PublicKey, u64)>| {
        miners.sort_unstable();
        miners
    };
    let challenges: Vec<Vec<(PublicKey, u64)>> = records()
        .map(|record| record.challenges.iter().map(|listed| (listed.miner, listed.window.0)).collect())
        .collect();
    let expected = [vec![], vec![], sorted(vec![(loser, 1), (keeper, 1), (liar, 1)]), vec![(keeper, 2)]];
    assert_eq!(challenges, expected);
    let slashes: Vec<Vec<(PublicKey, SlashCause, u64)>> = records()
        .map(|record| record.slashes.iter().map(|slash| (slash.account, slash.cause, slash.window.0)).collect())
        .collect();
    let unanswered =
        sorted(vec![(keeper, 1), (liar, 1)]).into_iter().map(|(miner, window)| (miner, SlashCause::Unanswered, window));
    assert_eq!(slashes, [vec![], vec![(liar, SlashCause::Mismatch, 0)], vec![], unanswered.collect()]);
    let slashed = records().flat_map(|record| &record.slashes).filter(|slash| slash.account == keeper);
    assert!(slashed.map(|slash| slash.amount_micros).sum::<u64>() > 0);

    // The miner that answered has lost nothing, and its challenged contribution is replayed.
    let state = node.state();
    assert_eq!((state.strike(&loser), state.strike(&keeper)), (None, Some(WindowIndex(3))));
    let vesting = |miner: &PublicKey| state.ledger().accounts().get(miner).map_or(0, |own| own.vesting_micros());
    assert!(vesting(&loser) > 0);
    assert_eq!(vesting(&keeper), 0);
    for score in &node.closed()[3].scores {
        let verdicts = &score.payload().verdicts;
        let said = |miner: PublicKey| {
            verdicts.iter().find(|said| (said.miner, said.window.0) == (miner, 1)).map(|said| &said.replay)
        };
        assert_eq!(said(loser), Some(&Replay::Match));
        assert_eq!(said(keeper), Some(&Replay::Refused(Refusal::Withheld)));
        assert_eq!(said(liar), Some(&Replay::Refused(Refusal::Withheld)));
    }
    for found in forgeries::audit(&context, node.closed(), access.blobs()).unwrap() {
        let audit = &found.audit;
        for verdict in [&audit.record_verdict, &audit.ledger_verdict, &audit.checkpoint_verdict] {
            assert_eq!(*verdict, AuditVerdict::Match);
        }
    }
}
