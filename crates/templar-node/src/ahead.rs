//! Asks the peers of a home what they know beyond its journal, for a command that only reads.
//!
//! The question is asked with a key that takes part in nothing, so it may be asked beside a running node, and no peer
//! remembers it. The answers are bounded in time, count and bytes, and nothing in them is checked here: the rules
//! decide which entries are worth something.

use std::sync::Arc;
use std::time::Duration;

use templar_manifest::{Hash, RunId};
use templar_net::{BindError, PeerAddr, Prober};
use templar_protocol::Entry;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::settings::Networking;

/// The greatest number of peers that are asked.
const MAX_PEERS: usize = 16;

/// The greatest number of entries that one peer may give: some hundred windows of a small run.
const MAX_ENTRIES: usize = 4096;

/// The time in which peers may answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The entries that each of the `peers` has after the newest of the records `reached`, of those peers that answer
/// within five seconds. Bytes that are no entry are left out. `reached` begins with the newest record, and
/// `secret_key` is drawn for this question.
///
/// # Errors
/// No endpoint can be bound.
pub async fn ask(
    networking: &Networking,
    secret_key: [u8; 32],
    run: RunId,
    reached: &[Hash],
    peers: &[PeerAddr],
) -> Result<Vec<Vec<Entry>>, BindError> {
    let prober = Arc::new(Prober::bind(networking.aside().config(secret_key), run.hash()).await?);
    let mut asking = JoinSet::new();
    for peer in peers.iter().take(MAX_PEERS) {
        let (prober, peer, reached) = (prober.clone(), peer.clone(), reached.to_vec());
        asking.spawn(async move { prober.entries(&peer, reached, MAX_ENTRIES).await });
    }
    let mut heard = Vec::new();
    let patience_ends = sleep(PATIENCE);
    tokio::pin!(patience_ends);
    loop {
        tokio::select! {
            answered = asking.join_next() => match answered {
                Some(Ok(Ok(entries))) => {
                    heard.push(entries.iter().filter_map(|bytes| Entry::decode(bytes).ok()).collect());
                }
                // A peer that does not answer says nothing.
                Some(_) => {}
                None => break,
            },
            () = &mut patience_ends => break,
        }
    }
    asking.shutdown().await;
    if let Ok(prober) = Arc::try_unwrap(prober) {
        prober.close().await;
    }
    Ok(heard)
}
