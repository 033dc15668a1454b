//! The supervisor of the swarm keeps one task for each peer that may deliver a wanted blob.
//!
//! Invariant: when it returns, all of its tasks have ended and every wait has been answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::error::ProviderAnswer;
use crate::foreign::ForeignText;
use crate::peers::peer::{PeerId, short};
use crate::swarm::{Swarm, bump, peer_task};

/// Keeps a task for each peer that may deliver something, until `stop` says so.
pub(crate) async fn supervise(swarm: Arc<Swarm>, mut stop: watch::Receiver<bool>) {
    let mut work = swarm.work.subscribe();
    let mut book = swarm.book.changes();
    let mut running: BTreeMap<tokio::task::Id, PeerId> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        work.borrow_and_update();
        book.borrow_and_update();
        for peer in candidates(&swarm, &running.values().copied().collect()) {
            let span = tracing::debug_span!("swarm", peer = short(&peer));
            let task = tasks.spawn(peer_task::run(swarm.clone(), peer).instrument(span));
            running.insert(task.id(), peer);
        }
        tokio::select! {
            _ = work.changed() => {}
            _ = book.changed() => {}
            Some(ended) = tasks.join_next_with_id() => {
                let id = match &ended {
                    Ok((id, ())) => *id,
                    Err(error) => {
                        tracing::error!(%error, "a peer task of the swarm ended badly");
                        error.id()
                    }
                };
                if let Some(peer) = running.remove(&id) {
                    farewell(&swarm, &peer, ended.is_err());
                }
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    tasks.shutdown().await;
    swarm.close();
}

/// Records the end of a peer's task, and the rate at which the peer served us. `badly` says that the task
/// panicked.
fn farewell(swarm: &Swarm, peer: &PeerId, badly: bool) {
    swarm.change(|plan, now| {
        if badly {
            plan.dismiss(peer, &ProviderAnswer::Lost(ForeignText::of("an error of ours")));
        }
        if let Some(rate) = plan.farewell(peer, now) {
            swarm.book.served(peer, rate);
        }
    });
}

/// The peers that need a task now, the best first. Blobs that no peer can deliver any more fail here.
fn candidates(swarm: &Swarm, running: &BTreeSet<PeerId>) -> Vec<PeerId> {
    let mut board = swarm.lock();
    let named: Vec<PeerId> = board.plan.named_providers().into_iter().collect();
    let everybody = swarm.book.order(&named);
    if board.plan.fail_exhausted(&everybody) {
        bump(&swarm.settled);
    }
    let (blamed, good): (Vec<PeerId>, Vec<PeerId>) =
        everybody.iter().copied().partition(|peer| swarm.book.is_blamed(peer));
    let mut candidates: Vec<PeerId> = good.iter().copied().filter(|peer| board.plan.is_useful(peer)).collect();
    // A blamed peer is asked only for blobs that no other peer can deliver.
    candidates.extend(blamed.into_iter().filter(|peer| board.plan.is_last_hope(peer, &good)));
    candidates.retain(|peer| !running.contains(peer));
    candidates.truncate(swarm.limits.providers_at_once.max(1).saturating_sub(running.len()));
    for peer in &candidates {
        board.plan.welcome(peer, swarm.book.rate(peer));
    }
    candidates
}
