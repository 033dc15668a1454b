//! Short visits to the network: joining a run, and fetching the blobs that a window or a run needs.
//!
//! A visit works both ways: while it lasts, peers pull this home's entries too. For example, a validator that
//! fetches the deltas of a cut hands the cut to the miners in the same visit, and then their nodes serve their
//! deltas.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use templar_blob::Damage;
use templar_home::context::{RunContext, RunError, common_blobs, read_manifest};
use templar_home::replica::{Replica, SubmitError, Taken};
use templar_home::{Home, HomeError};
use templar_manifest::{Contribution, Hash, Signed, WindowIndex};
use templar_net::{
    BindError, BlobTicket, EmptyLog, FetchError, Fetched, Net, PeerAddr, PeerId, Pulled, ServeNone, Ticket,
};
use templar_protocol::ClosedWindow;
use templar_store::{PutError, Repaired, Store};
use templar_train::Recipe;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::compute::compute;
use crate::executor::{Executor, WorkError};
use crate::gather::{AGGREGATE_PATIENCE, CatchUp, Gatherer, within};
use crate::peers;
use crate::serving::{ServedBlobs, ServedLog};
use crate::settings::Networking;
use crate::tally::{MAX_BLOB_BYTES, VisitTally};

/// The pause between two checks whether silent peers can be reached at all.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The longest wait for a busy peer while a home joins a run.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);

/// The pause before a busy peer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A visit to the network failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The endpoint cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No peer is known that could be asked.
    #[error("this home knows no peers")]
    NoPeers,
    /// The run has no such window yet, for all that this home and its peers know.
    #[error("window {window} is not open, as far as this home and the peers that answered know")]
    NoWindow {
        /// The window that is wanted.
        window: WindowIndex,
        /// The window that is open, or would be if the run went on.
        open: WindowIndex,
    },
    /// A blob could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A fetched manifest cannot be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// This home's own entries or journal.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// Fetched work cannot be done or its result cannot be kept.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// A file of the home cannot be read or written.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// The things of a run that a visit is to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything that an audit of this window needs.
    Window(WindowIndex),
    /// Everything that an audit of the run needs, and the current model.
    Run,
    /// The current model, and what following the run from here needs.
    Model(CatchUp),
    /// One blob, by its hash.
    Blob(Hash),
    /// Entries, and nothing that they name.
    Entries,
}

/// The result of a visit.
#[derive(Debug, Clone, Default)]
pub struct Visit {
    /// The number of new entries.
    pub entries: usize,
    /// The number of peers that gave all their entries.
    pub peers: usize,
    /// Known peers that could not be reached or broke off, each with the reason.
    pub absent: Vec<(PeerId, String)>,
    /// Whether everything wanted is here.
    pub complete: bool,
}

/// The home into which blobs are fetched, and the key and network settings used for it.
#[derive(Debug, Clone)]
pub struct Destination<'a> {
    /// The home, whose lock the caller holds.
    pub home: &'a Home,
    /// The blob store of the home.
    pub store: &'a Store,
    /// The secret key of the home.
    pub secret_key: [u8; 32],
    /// The use of the network during the visit.
    pub networking: &'a Networking,
    /// The progress of the visit.
    pub tally: Arc<VisitTally>,
}

/// Fetches the blobs that a home needs to take part in the run of a ticket: genesis, dataset, tokenizer,
/// shards, and the tensors from which the genesis starts if it names any. The caller sets up the run
/// afterwards. A busy peer is asked again for half a minute.
///
/// # Errors
/// No peer of the ticket gives a blob, or a manifest cannot be used.
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
    fetch_all(net, &[(ticket.run, small)]).await?;
    let genesis: templar_manifest::Genesis = manifest(store, ticket.run).await?;
    fetch_all(net, &[(genesis.dataset.hash(), small)]).await?;
    let dataset: templar_manifest::Dataset = manifest(store, genesis.dataset.hash()).await?;
    let recipe = Recipe::new(ticket.run.into(), genesis).map_err(RunError::from)?;
    for blobs in [common_blobs(&recipe.genesis, &dataset), recipe.initial_blobs()] {
        let bytes = VisitTally::bytes_of(&blobs);
        to.tally.want(bytes);
        let fetched = fetch_all(net, &blobs).await?;
        to.tally.have(bytes.saturating_sub(fetched.received));
    }
    Ok(())
}

/// Fetches blobs, each with its bound in bytes. A busy peer is asked again.
async fn fetch_all(net: &Net, blobs: &[(Hash, u64)]) -> Result<Fetched, FetchError> {
    let until = within(JOIN_PATIENCE);
    loop {
        match net.fetch_all(blobs, &[]).await {
            Ok(fetched) => return Ok(fetched),
            Err(error) => wait_to_ask_again(error, until).await?,
        }
    }
}

/// Waits before a fetch is tried again. Fails with its `error` if another try cannot help, or not before `until`.
async fn wait_to_ask_again(error: FetchError, until: Option<Instant>) -> Result<(), FetchError> {
    if !error.may_pass() || until.is_some_and(|until| Instant::now() >= until) {
        return Err(error);
    }
    tracing::debug!(%error, "a fetch is tried again");
    tokio::time::sleep(ASK_AGAIN).await;
    Ok(())
}

async fn manifest<T: templar_manifest::Payload + Send + 'static>(store: &Store, id: Hash) -> Result<T, RunError> {
    let blobs = templar_store::BlockingStore::new(store.clone(), tokio::runtime::Handle::current());
    compute(move || read_manifest::<T>(&blobs, &id)).await
}

/// Fetches the blob or collection that a ticket names, from the peers that it names. Busy peers are asked again for
/// `patience`.
///
/// # Errors
/// None of these peers gives it.
pub async fn fetch_ticket(
    to: &Destination<'_>,
    ticket: &BlobTicket,
    patience: Duration,
) -> Result<templar_net::FetchedTicket, ExchangeError> {
    let nobody = Arc::new(EmptyLog::new(Hash::default()));
    let net = Net::bind(to.networking.config(to.secret_key), to.store.clone(), nobody, Arc::new(ServeNone)).await?;
    to.tally.watch(&net);
    let until = within(patience);
    let fetched = loop {
        match net.fetch_ticket(ticket, MAX_BLOB_BYTES).await {
            Ok(fetched) => break Ok(fetched),
            Err(error) => match wait_to_ask_again(error, until).await {
                Ok(()) => {}
                Err(error) => break Err(error),
            },
        }
    };
    net.shutdown().await;
    Ok(fetched?)
}

/// The result of healing a damaged blob.
#[derive(Debug)]
pub struct Mended {
    /// The hash of the blob.
    pub id: Hash,
    /// The reason why it is not whole. `None` if it is whole again, verified and durable.
    pub problem: Option<String>,
}

/// Repairs damaged blobs one after the other and fetches their missing parts from the peers of the home and
/// from `others`. `seen` is called with each result.
///
/// # Errors
/// No peer is known that could be asked, or this home's own disk fails. A blob that no peer gives is in the result.
pub async fn mend(
    to: &Destination<'_>,
    others: &[PeerAddr],
    damaged: &[Hash],
    mut seen: impl FnMut(&Mended),
) -> Result<Vec<Mended>, ExchangeError> {
    let net = without_a_run(to, others).await?;
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

/// The network for fetching blobs that belong to no run, with the peers of the home and `others`.
async fn without_a_run(to: &Destination<'_>, others: &[PeerAddr]) -> Result<Net, ExchangeError> {
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
    Ok(net)
}

/// Fetches one blob from the peers of a home and from `others`, without a run. Waits at most `patience`. Returns
/// whether it is here.
///
/// # Errors
/// No peer is known that could be asked, or this home's own disk fails.
pub async fn fetch_blob(
    to: &Destination<'_>,
    others: &[PeerAddr],
    id: &Hash,
    patience: Duration,
) -> Result<bool, ExchangeError> {
    let net = without_a_run(to, others).await?;
    to.tally.watch(&net);
    let gatherer = Gatherer::new(net.clone(), to.store.clone(), to.tally.clone(), Damage::default());
    let fetched = match repair(to.store, id).await {
        Ok(_) => gatherer.fetch(&[(*id, MAX_BLOB_BYTES)], &[], within(patience)).await,
        Err(error) => Err(error),
    };
    net.shutdown().await;
    Ok(fetched?)
}

/// Heals one blob. Gives the reason if it is not whole afterwards.
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

/// Visits the peers of a home and of `others`: takes the entries they have, then fetches what is wanted. Waits
/// at most `patience` for entries, and again for blobs.
///
/// # Errors
/// Nobody is known who could be asked, the run has no such window, or this home's own disk fails. Peers that
/// cannot be reached are in the result.
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
        // A blob that is here and corrupt would not be fetched, so it is repaired first.
        repair(store, &id).await?;
    }
    let executor = Arc::new(Executor::on_store(home, store, replica.context.clone(), Damage::default())?);
    let (log, policy) = (ServedLog::of(replica), ServedBlobs::of(replica));
    let net = Net::bind(networking.config(secret_key), store.clone(), log, policy).await?;
    for peer in known {
        if let Err(error) = net.add_peer(peer) {
            tracing::warn!(%error, "a peer's address is of no use");
        }
    }
    tally.watch(&net);
    let gatherer = Gatherer::new(net.clone(), store.clone(), tally.clone(), Damage::default());
    let visiting = Visiting { entries: net.pull_entries(), net: &net, tally, replica, visit: Visit::default() };
    let result = visiting.exchange(Fetching { gatherer, executor, wanted }, patience).await;
    let met = net.peers();
    net.shutdown().await;
    let visit = result?;
    peers::save(home, &met)?;
    Ok(visit)
}

/// The means of fetching, and the things to fetch.
struct Fetching {
    gatherer: Gatherer,
    executor: Arc<Executor>,
    wanted: Wanted,
}

/// A visit under way.
struct Visiting<'a> {
    net: &'a Net,
    entries: mpsc::Receiver<Pulled>,
    tally: &'a VisitTally,
    replica: &'a mut Replica,
    visit: Visit,
}

impl Visiting<'_> {
    /// Takes entries, then fetches what is wanted.
    async fn exchange(mut self, fetching: Fetching, patience: Duration) -> Result<Visit, ExchangeError> {
        self.take_entries(patience).await?;
        let Fetching { gatherer, executor, wanted } = fetching;
        if let Wanted::Window(window) = wanted {
            let node = self.replica.node();
            let open = node.state().window();
            if window > open || (window == open && node.is_over()) {
                return Err(ExchangeError::NoWindow { window, open });
            }
        }
        let list = WantedBlobs::of(self.replica, wanted);
        let fetching = list.bring(&gatherer, &executor, patience);
        tokio::pin!(fetching);
        self.visit.complete = loop {
            tokio::select! {
                complete = &mut fetching => break complete?,
                Some(pulled) = self.entries.recv() => {
                    if let Pulled::Entry { peer, bytes } = pulled {
                        self.visit.entries += self.take(&peer, &bytes)?;
                    }
                }
            }
        };
        // If no peer answered, it is not known which model is the current one.
        self.visit.complete &= self.visit.peers > 0 || !matches!(wanted, Wanted::Model(_));
        Ok(self.visit)
    }

    /// Takes the entries that peers have, for at most `patience`.
    async fn take_entries(&mut self, patience: Duration) -> Result<(), ExchangeError> {
        let mut caught_up = BTreeSet::new();
        let patience_ends = tokio::time::sleep(patience);
        tokio::pin!(patience_ends);
        while self.net.neighbours().is_empty() || !self.net.neighbours().iter().all(|peer| caught_up.contains(peer)) {
            tokio::select! {
                pulled = self.entries.recv() => match pulled {
                    Some(Pulled::Entry { peer, bytes }) => {
                        let new = self.take(&peer, &bytes)?;
                        self.visit.entries += new;
                        self.tally.entries(new);
                    }
                    Some(Pulled::CaughtUp { peer }) => drop(caught_up.insert(peer)),
                    None => break,
                },
                // An unreachable peer sends no message, so this looks for itself.
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = &mut patience_ends => break,
            }
            // The entries of one peer are enough to continue, once it is known of every other peer why it is
            // silent. Peers that are away are tried again while blobs are fetched.
            let problems = self.net.problems();
            let heard = |peer: &PeerId| caught_up.contains(peer) || problems.contains_key(peer);
            if !caught_up.is_empty() && self.entries.is_empty() && self.net.neighbours().iter().all(heard) {
                break;
            }
        }
        if !caught_up.is_empty() {
            self.replica.caught_up()?;
        }
        self.visit.peers = caught_up.len();
        let problems = self.net.problems();
        self.visit.absent = problems
            .into_iter()
            .filter(|(peer, _)| !caught_up.contains(peer))
            .map(|(peer, problem)| (peer, problem.to_string()))
            .collect();
        Ok(())
    }

    /// Takes an entry. Gives the number of entries accepted with it, since others may have waited for this one.
    fn take(&mut self, peer: &PeerId, bytes: &[u8]) -> Result<usize, SubmitError> {
        let before = self.replica.entries();
        match self.replica.take(bytes)? {
            Taken::Faulty(reason) => self.net.blame(peer, &reason),
            Taken::TooEarly => self.net.read_again(peer),
            Taken::In(_) | Taken::OutOfTime => {}
        }
        Ok(self.replica.entries() - before)
    }
}

/// The blobs to fetch, as contributions and hashes.
struct WantedBlobs {
    context: RunContext,
    common: bool,
    /// Whether to fetch the tensors that the genesis names.
    initial: bool,
    contributions: Vec<Signed<Contribution>>,
    /// Miners whose states before the window are to be fetched.
    states: Vec<templar_manifest::PublicKey>,
    checkpoints: Vec<templar_manifest::CheckpointId>,
    /// Windows whose aggregates lead to the last of the checkpoints.
    closed: Vec<ClosedWindow>,
    way: CatchUp,
    blob: Option<Hash>,
}

impl WantedBlobs {
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
            way: CatchUp::Cheaper,
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
                if let Some(closed) = node.closed_window(window) {
                    list.contributions.clone_from(&closed.contributions);
                    list.checkpoints.push(closed.window.body.checkpoint_before);
                } else if window == node.state().window() {
                    // No miner serves its delta before the cut.
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

    /// Fetches all of it, with `patience` for each sort of blob. `false` if something did not come in time.
    async fn bring(self, gatherer: &Gatherer, executor: &Arc<Executor>, patience: Duration) -> Result<bool, WorkError> {
        let mut complete = true;
        if self.common {
            complete &= gatherer.common(&self.context, within(patience)).await?;
        }
        if self.initial {
            complete &= gatherer.fetch(&self.context.recipe.initial_blobs(), &[], within(patience)).await?;
        }
        complete &= gatherer.evidence(executor, &self.contributions, &self.states, within(patience)).await?;
        gatherer.aggregates(executor, &self.closed, self.way, patience.min(AGGREGATE_PATIENCE)).await?;
        for checkpoint in &self.checkpoints {
            complete &= gatherer.checkpoint(*checkpoint, within(patience)).await?;
        }
        if let Some(id) = self.blob {
            complete &= gatherer.fetch(&[(id, MAX_BLOB_BYTES)], &[], within(patience)).await?;
        }
        Ok(complete)
    }
}
