//! Short visits to the network: joining a run, and fetching what a window or a run needs.
//!
//! A visit is two-way: while it lasts, peers pull this home's entries too. So a validator that fetches the deltas of a cut
//! hands the cut to the miners that way, and a miner whose node shares will serve its delta.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use templar_manifest::{Contribution, Hash, Signed, WindowIndex};
use templar_net::{BindError, BlobTicket, EmptyLog, FetchError, Net, PeerAddr, PeerId, Pulled, ServeNone, Ticket};
use templar_protocol::ClosedWindow;
use templar_store::{PutError, Repaired, Store};
use templar_train::Recipe;

use crate::compute::compute;
use crate::context::{RunContext, RunError, common_blobs, read_manifest};
use crate::driver::{AGGREGATE_PATIENCE, Damage, Gatherer, Way, within, workbench};
use crate::home::{Home, HomeError};
use crate::peers;
use crate::replica::{Replica, SubmitError, Taken};
use crate::settings::Networking;
use crate::tally::Tally;
use crate::workbench::{WorkError, Workbench};

/// The most bytes of one blob that is fetched by its bare hash.
pub const MAX_BLOB_BYTES: u64 = 1 << 40;

/// Between two looks at whether the peers that have not answered can be reached at all.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a visit failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The endpoint cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Nobody is known who could be asked.
    #[error("this home knows no peers")]
    NoPeers,
    /// The run has no such window yet, for all that this home and its peers know.
    #[error("window {window} is not open, for all that is known here and at the peers that answered")]
    NoWindow {
        /// The window that is wanted.
        window: WindowIndex,
        /// The window that is open, or would be if the run went on.
        open: WindowIndex,
    },
    /// A blob could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What was fetched cannot be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// This home's own entries or journal.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// Gathering.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// What is wanted of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything that an audit of this window needs.
    Window(WindowIndex),
    /// Everything that an audit of the run needs, and the current model.
    Run,
    /// The current model, and what following the run from here needs.
    Model(Way),
    /// One blob.
    Blob(Hash),
    /// Entries, and nothing that they name.
    Entries,
}

/// What a visit brought.
#[derive(Debug, Clone, Default)]
pub struct Visit {
    /// New entries.
    pub entries: usize,
    /// Peers that gave all they had.
    pub peers: usize,
    /// Known peers that could not be reached, or broke off, with the reason.
    pub absent: Vec<(PeerId, String)>,
    /// Whether everything wanted is here.
    pub complete: bool,
}

/// Where what is fetched goes, and who fetches.
#[derive(Debug, Clone)]
pub struct Destination<'a> {
    /// The home, whose lock the caller holds.
    pub home: &'a Home,
    /// Its store.
    pub store: &'a Store,
    /// Its key.
    pub secret_key: [u8; 32],
    /// How the network is used meanwhile.
    pub networking: &'a Networking,
    /// How far it is.
    pub tally: Arc<Tally>,
}

/// Fetches what a home needs to take part in the run of a ticket: genesis, dataset, tokenizer, shards, and the tensors that
/// genesis starts from if it names any. The caller sets up the run afterwards.
pub async fn join(to: &Destination<'_>, ticket: &Ticket) -> Result<(), ExchangeError> {
    let nobody = Arc::new(EmptyLog::new(ticket.run));
    let net = Net::bind(to.networking.config(to.secret_key), to.store.clone(), nobody, Arc::new(ServeNone)).await?;
    to.tally.watch(&net);
    let result = fetch_run(&net, to, ticket).await;
    net.shutdown().await;
    result?;
    Ok(peers::save(to.home, &ticket.peers)?)
}

async fn fetch_run(net: &Net, to: &Destination<'_>, ticket: &Ticket) -> Result<(), ExchangeError> {
    let store = to.store;
    for peer in &ticket.peers {
        if let Err(error) = net.add_peer(peer.clone()) {
            tracing::warn!(%error, "a peer of the ticket is of no use");
        }
    }
    let small = templar_manifest::MAX_PAYLOAD_BYTES as u64;
    net.fetch(&ticket.run, small, &[]).await?;
    let genesis: templar_manifest::Genesis = manifest(store, ticket.run).await?;
    net.fetch(&genesis.dataset.hash(), small, &[]).await?;
    let dataset: templar_manifest::Dataset = manifest(store, genesis.dataset.hash()).await?;
    let recipe = Recipe::new(ticket.run.into(), genesis).map_err(RunError::from)?;
    for blobs in [common_blobs(&dataset), recipe.initial_blobs()] {
        let bytes = Tally::bytes_of(&blobs);
        to.tally.want(bytes);
        let fetched = net.fetch_all(&blobs, &[]).await?;
        to.tally.have(bytes.saturating_sub(fetched.received));
    }
    Ok(())
}

async fn manifest<T: templar_manifest::Payload + Send + 'static>(store: &Store, id: Hash) -> Result<T, RunError> {
    let blobs = templar_store::BlockingStore::new(store.clone(), tokio::runtime::Handle::current());
    compute(move || read_manifest::<T>(&blobs, &id)).await
}

/// Fetches what a blob ticket names, from whom it names.
pub async fn fetch_ticket(
    to: &Destination<'_>,
    ticket: &BlobTicket,
) -> Result<templar_net::FetchedTicket, ExchangeError> {
    let nobody = Arc::new(EmptyLog::new(Hash::default()));
    let net = Net::bind(to.networking.config(to.secret_key), to.store.clone(), nobody, Arc::new(ServeNone)).await?;
    to.tally.watch(&net);
    let fetched = net.fetch_ticket(ticket, MAX_BLOB_BYTES).await;
    net.shutdown().await;
    Ok(fetched?)
}

/// What became of a damaged blob.
#[derive(Debug)]
pub struct Mended {
    /// The blob.
    pub id: Hash,
    /// Why it is not whole; `None` where it is whole again, verified and on the disk.
    pub problem: Option<String>,
}

/// Repairs damaged blobs and fetches what is gone of them, one after the other, from the peers of the home and from `others`.
/// `seen` hears of each.
///
/// # Errors
/// Where nobody is known who could be asked, or this home's own disk fails; what a peer does not give is in the result.
pub async fn mend(
    to: &Destination<'_>,
    others: &[PeerAddr],
    damaged: &[Hash],
    mut seen: impl FnMut(&Mended),
) -> Result<Vec<Mended>, ExchangeError> {
    let known: Vec<PeerAddr> = others.iter().cloned().chain(peers::load(to.home)?).collect();
    if known.is_empty() {
        return Err(ExchangeError::NoPeers);
    }
    let nobody = Arc::new(EmptyLog::new(Hash::default()));
    let net = Net::bind(to.networking.config(to.secret_key), to.store.clone(), nobody, Arc::new(ServeNone)).await?;
    for peer in known {
        if let Err(error) = net.add_peer(peer) {
            tracing::warn!(%error, "a peer's address is of no use");
        }
    }
    let mut all = Vec::new();
    let mut failed = None;
    for id in damaged {
        match mend_one(&net, to.store, id).await {
            Ok(problem) => {
                let mended = Mended { id: *id, problem };
                seen(&mended);
                all.push(mended);
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    net.shutdown().await;
    failed.map_or(Ok(all), Err)
}

/// Why the blob is not whole, if it is not.
async fn mend_one(net: &Net, store: &Store, id: &Hash) -> Result<Option<String>, ExchangeError> {
    let size = store.size(id).await;
    if repair(store, id).await? != Repaired::Whole {
        match net.fetch(id, size.unwrap_or(MAX_BLOB_BYTES), &[]).await {
            Ok(_) => {}
            Err(error @ (FetchError::DiskFull { .. } | FetchError::Store { .. } | FetchError::Closed)) => {
                return Err(error.into());
            }
            Err(error) => return Ok(Some(error.to_string())),
        }
    }
    store.sync(&[*id]).await.map_err(|error| PutError::Io(std::io::Error::other(error))).map_err(WorkError::from)?;
    Ok(match store.repair(id).await {
        Ok(Repaired::Whole) => None,
        _ => Some("it is corrupt again: the disk may be failing".to_owned()),
    })
}

async fn repair(store: &Store, id: &Hash) -> Result<Repaired, WorkError> {
    match store.repair(id).await {
        Ok(repaired) => Ok(repaired),
        Err(error) => {
            store.check().await?;
            Err(WorkError::Put(PutError::Io(std::io::Error::other(error))))
        }
    }
}

/// Visits the peers of a home and of `others`: takes the entries they have, then fetches what is wanted. Waits at most
/// `patience` for entries, and again for blobs.
pub async fn visit(
    to: &Destination<'_>,
    replica: &mut Replica,
    others: &[PeerAddr],
    wanted: Wanted,
    patience: Duration,
) -> Result<Visit, ExchangeError> {
    let Destination { home, store, secret_key, networking, ref tally } = *to;
    let known: Vec<PeerAddr> = others.iter().cloned().chain(peers::load(home)?).collect();
    if known.is_empty() {
        return Err(ExchangeError::NoPeers);
    }
    if let Wanted::Blob(id) = wanted {
        // One that is here and corrupt would not be fetched.
        repair(store, &id).await?;
    }
    let bench = Arc::new(workbench(home, store, replica.context.clone(), Damage::default())?);
    let net =
        Net::bind(networking.config(secret_key), store.clone(), replica.log(), Arc::new(replica.policy())).await?;
    for peer in known {
        if let Err(error) = net.add_peer(peer) {
            tracing::warn!(%error, "a peer's address is of no use");
        }
    }
    tally.watch(&net);
    let gatherer = Gatherer::new(net.clone(), store.clone(), tally.clone(), Damage::default());
    let result = exchange(&net, &gatherer, tally, replica, &bench, wanted, patience).await;
    let met = net.peers();
    net.shutdown().await;
    let visit = result?;
    peers::save(home, &met)?;
    Ok(visit)
}

async fn exchange(
    net: &Net,
    gatherer: &Gatherer,
    tally: &Tally,
    replica: &mut Replica,
    bench: &Arc<Workbench>,
    wanted: Wanted,
    patience: Duration,
) -> Result<Visit, ExchangeError> {
    let mut visit = Visit::default();
    let mut entries = net.pull_entries();
    let mut caught_up = BTreeSet::new();
    let patience_ends = tokio::time::sleep(patience);
    tokio::pin!(patience_ends);
    while net.neighbours().is_empty() || !net.neighbours().iter().all(|peer| caught_up.contains(peer)) {
        tokio::select! {
            pulled = entries.recv() => match pulled {
                Some(Pulled::Entry { peer, bytes }) => {
                    let new = take(net, replica, &peer, &bytes)?;
                    visit.entries += new;
                    tally.entries(new);
                }
                Some(Pulled::CaughtUp { peer }) => drop(caught_up.insert(peer)),
                None => break,
            },
            // That somebody cannot be reached is no message.
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = &mut patience_ends => break,
        }
        // Everything that one peer has, and a reason why each other is silent, is enough to go on with: whoever is away
        // is tried again while blobs are fetched.
        let problems = net.problems();
        let heard = |peer: &PeerId| caught_up.contains(peer) || problems.contains_key(peer);
        if !caught_up.is_empty() && entries.is_empty() && net.neighbours().iter().all(heard) {
            break;
        }
    }
    visit.peers = caught_up.len();
    let problems = net.problems();
    visit.absent = problems.into_iter().filter(|(peer, _)| !caught_up.contains(peer)).collect();

    if let Wanted::Window(window) = wanted {
        let node = replica.node();
        let open = node.state().window();
        if window > open || (window == open && node.is_over()) {
            return Err(ExchangeError::NoWindow { window, open });
        }
    }
    let list = Evidence::of(replica, wanted);
    let fetching = list.bring(gatherer, bench, patience);
    tokio::pin!(fetching);
    visit.complete = loop {
        tokio::select! {
            complete = &mut fetching => break complete?,
            Some(pulled) = entries.recv() => {
                if let Pulled::Entry { peer, bytes } = pulled {
                    visit.entries += take(net, replica, &peer, &bytes)?;
                }
            }
        }
    };
    // Where nobody answered, nobody knows which model is the current one.
    visit.complete &= visit.peers > 0 || !matches!(wanted, Wanted::Model(_));
    Ok(visit)
}

/// Takes an entry. Gives how many were accepted for it: it may be the one that others were held for.
fn take(net: &Net, replica: &mut Replica, peer: &PeerId, bytes: &[u8]) -> Result<usize, SubmitError> {
    let before = replica.entries();
    match replica.take(bytes)? {
        Taken::Faulty(reason) => net.blame(peer, &reason),
        Taken::TooEarly => net.read_again(peer),
        Taken::In(_) | Taken::OutOfTime => {}
    }
    Ok(replica.entries() - before)
}

/// What is wanted, as contributions and hashes.
struct Evidence {
    context: RunContext,
    common: bool,
    /// Whether the tensors that genesis names are wanted.
    initial: bool,
    contributions: Vec<Signed<Contribution>>,
    /// Miners whose states before the window are wanted.
    states: Vec<templar_manifest::PublicKey>,
    checkpoints: Vec<templar_manifest::CheckpointId>,
    /// Windows whose aggregates lead to the last of the checkpoints.
    closed: Vec<ClosedWindow>,
    way: Way,
    blob: Option<Hash>,
}

impl Evidence {
    fn of(replica: &Replica, wanted: Wanted) -> Self {
        let node = replica.node();
        let mut list = Self {
            context: replica.context.clone(),
            common: true,
            initial: false,
            contributions: Vec::new(),
            states: Vec::new(),
            checkpoints: Vec::new(),
            closed: Vec::new(),
            way: Way::Cheaper,
            blob: None,
        };
        match wanted {
            Wanted::Entries => list.common = false,
            Wanted::Blob(id) => {
                list.common = false;
                list.blob = Some(id);
            }
            Wanted::Model(way) => {
                list.initial = true;
                list.checkpoints.push(node.state().checkpoint());
                list.closed = node.closed().to_vec();
                list.way = way;
            }
            Wanted::Run => {
                list.contributions = node.closed().iter().flat_map(|closed| closed.contributions.clone()).collect();
                list.initial = true;
                list.checkpoints.push(node.state().checkpoint());
                list.closed = node.closed().to_vec();
            }
            Wanted::Window(window) => {
                if let Some(closed) = node.closed().get(window.0 as usize) {
                    list.contributions.clone_from(&closed.contributions);
                    list.checkpoints.push(closed.window.checkpoint_before);
                } else if window == node.state().window() {
                    // Before the cut nobody serves a delta.
                    if node.cut().is_some() {
                        list.contributions = node.contributions().cloned().collect();
                    }
                    list.checkpoints.push(node.state().checkpoint());
                    list.closed = node.closed().to_vec();
                }
                list.states = list.contributions.iter().map(|signed| signed.payload().miner).collect();
            }
        }
        list
    }

    /// Fetches it, with `patience` for each sort of thing; `false` where something did not come in time.
    async fn bring(self, gatherer: &Gatherer, bench: &Arc<Workbench>, patience: Duration) -> Result<bool, WorkError> {
        let mut complete = true;
        if self.common {
            complete &= gatherer.common(&self.context, within(patience)).await?;
        }
        if self.initial {
            complete &= gatherer.fetch(&self.context.recipe.initial_blobs(), &[], within(patience)).await?;
        }
        complete &= gatherer.evidence(bench, &self.contributions, &self.states, within(patience)).await?;
        gatherer.aggregates(bench, &self.closed, self.way, patience.min(AGGREGATE_PATIENCE)).await?;
        for checkpoint in &self.checkpoints {
            complete &= gatherer.checkpoint(*checkpoint, within(patience)).await?;
        }
        if let Some(id) = self.blob {
            complete &= gatherer.fetch(&[(id, MAX_BLOB_BYTES)], &[], within(patience)).await?;
        }
        Ok(complete)
    }
}
