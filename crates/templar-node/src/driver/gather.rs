//! Brings the blobs that work needs, from peers, and makes this node's own durable before it speaks of them.

use std::sync::Arc;
use std::time::Duration;

use templar_audit::Applied;
use templar_delta::max_bytes;
use templar_manifest::trace::TraceHeader;
use templar_manifest::{
    Checkpoint, CheckpointId, Contribution, Hash, MAX_PAYLOAD_BYTES, Outcome, PublicKey, Signed, State, StateId,
    TensorBlob, Verdict, payload,
};
use templar_net::{FetchError, Net, PeerId};
use templar_protocol::ClosedWindow;
use templar_store::{PutError, Store};
use templar_train::tensors::check_tensors;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::damage::Damage;
use super::stopped;
use crate::compute::compute;
use crate::context::{RunContext, common_blobs};
use crate::tally::Tally;
use crate::workbench::{WorkError, Workbench};

/// The first and the longest pause between two attempts to fetch.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A second that lasts so much longer does not because of other work.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// After so many failures of our own store in a row it is not tried again.
const STORE_FAILURES: u32 = 5;

/// How long an aggregate is waited for: deltas or a whole model do as well.
pub(crate) const AGGREGATE_PATIENCE: Duration = Duration::from_secs(10);

/// Aggregates that are fetched together, before the first of them is applied.
const AGGREGATES_AT_ONCE: usize = 32;

/// Contributions whose blobs are fetched at the same time.
const GATHERED_AT_ONCE: usize = 32;

/// How a node that is behind comes by the current model. Either way ends in the checkpoint that the record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Whichever needs fewer bytes.
    #[default]
    Cheaper,
    /// The model whole.
    Snapshot,
    /// From the newest model that is here, window by window.
    Aggregates,
}

/// Fetches into the store, patiently, until it is told to stop.
#[derive(Clone)]
pub(crate) struct Gatherer {
    net: Net,
    pub(super) store: Store,
    pub(super) damage: Damage,
    tally: Arc<Tally>,
    stopping: Arc<watch::Sender<bool>>,
}

/// The end of a wait that begins now.
pub(crate) fn within(patience: Duration) -> Option<Instant> {
    Some(Instant::now() + patience)
}

fn broken(what: String) -> WorkError {
    WorkError::Evidence(templar_audit::EvidenceError::Broken(what))
}

/// What the next fetch to end came to.
async fn next(fetches: &mut JoinSet<Result<bool, WorkError>>) -> Result<Option<bool>, WorkError> {
    match fetches.join_next().await {
        None => Ok(None),
        Some(Ok(fetched)) => fetched.map(Some),
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Some(Err(_)) => Err(WorkError::Stopped),
    }
}

/// The tensors of a checkpoint or state, with their lengths.
fn tensor_blobs(tensors: &[TensorBlob], vectors: u64) -> Vec<(Hash, u64)> {
    tensors.iter().map(|tensor| (tensor.blob.hash(), tensor.spec.elements() as u64 * 4 * vectors)).collect()
}

impl Gatherer {
    pub(crate) fn new(net: Net, store: Store, tally: Arc<Tally>, damage: Damage) -> Self {
        Self { net, store, damage, tally, stopping: Arc::new(watch::Sender::new(false)) }
    }

    /// Ends every wait.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits, or less long where the node stops.
    pub(crate) async fn sleep(&self, time: Duration) {
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = stopped(&mut stopping) => {}
        }
    }

    /// Waits, a second at a time. Gives up and tells by how much where a second took longer than any machine is busy for: then
    /// this process was stopped, or its clock has jumped.
    pub(crate) async fn stood_still(&self, time: Duration) -> Option<Duration> {
        let mut left = time;
        while !left.is_zero() && !*self.stopping.borrow() {
            let slice = left.min(Duration::from_secs(1));
            let due = Instant::now() + slice;
            self.sleep(slice).await;
            let late = Instant::now().saturating_duration_since(due);
            if late > STOOD_STILL {
                return Some(late);
            }
            left = left.saturating_sub(slice + late);
        }
        None
    }

    /// Fetches blobs, again and again until all are here. Every peer is asked at least once; `false` where some are not
    /// here after `until`.
    pub(crate) async fn fetch(
        &self,
        blobs: &[(Hash, u64)],
        providers: &[PeerId],
        until: Option<Instant>,
    ) -> Result<bool, WorkError> {
        let mut stopping = self.stopping.subscribe();
        let (mut pause, mut failures) = (PAUSES.0, 0);
        let bytes = Tally::bytes_of(blobs);
        self.tally.want(bytes);
        loop {
            let fetching = async {
                // What is here in parts is not taken for left over meanwhile.
                let _importing = self.store.importing().await;
                self.net.fetch_all(blobs, providers).await
            };
            // What has come of a transfer that is dropped stays in the store, and the next one goes on from there.
            let fetched = tokio::select! {
                biased;
                () = stopped(&mut stopping) => return Err(WorkError::Stopped),
                fetched = fetching => fetched,
            };
            match fetched {
                Ok(fetched) => {
                    self.tally.have(bytes.saturating_sub(fetched.received));
                    return Ok(true);
                }
                Err(FetchError::DiskFull { .. }) => return Err(WorkError::Put(PutError::DiskFull)),
                Err(FetchError::Closed) => return Err(WorkError::Stopped),
                // No peer can help where our own store takes nothing.
                Err(FetchError::Store { reason, .. }) => {
                    self.store.check().await?;
                    failures += 1;
                    if failures == STORE_FAILURES {
                        return Err(WorkError::Put(PutError::Io(std::io::Error::other(reason))));
                    }
                }
                // Whoever names a blob says how long it is; a longer one is another's mistake, not a reason to wait.
                Err(error @ FetchError::TooLarge { .. }) => return Err(broken(error.to_string())),
                Err(error) => tracing::debug!(%error, "a fetch failed"),
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
            self.sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn here(&self, id: &Hash) -> bool {
        self.store.has(id).await.unwrap_or(false)
    }

    /// A manifest that is a blob, fetched and decoded.
    async fn manifest<T: templar_manifest::Payload>(
        &self,
        id: &Hash,
        providers: &[PeerId],
        until: Option<Instant>,
    ) -> Result<Option<T>, WorkError> {
        if !self.fetch(&[(*id, MAX_PAYLOAD_BYTES as u64)], providers, until).await? {
            return Ok(None);
        }
        let bytes = self.store.get(id, MAX_PAYLOAD_BYTES as u64).await.map_err(|error| {
            self.damage.note(&error);
            broken(error.to_string())
        })?;
        payload::decode(&bytes).map(Some).map_err(|error| broken(format!("{} manifest {id}: {error}", T::KIND)))
    }

    /// The dataset's shards and the tokenizer.
    pub(crate) async fn common(&self, context: &RunContext, until: Option<Instant>) -> Result<bool, WorkError> {
        self.fetch(&common_blobs(&context.dataset), &[], until).await
    }

    /// A checkpoint with its tensors.
    pub(crate) async fn checkpoint(&self, id: CheckpointId, until: Option<Instant>) -> Result<bool, WorkError> {
        let checkpoint: Option<Checkpoint> = self.manifest(&id.hash(), &[], until).await?;
        let Some(checkpoint) = checkpoint else { return Ok(false) };
        self.fetch(&tensor_blobs(&checkpoint.tensors, 1), &[], until).await
    }

    /// A miner's state with its tensors, which its node has, and whoever has replayed with it. What is no state of this model
    /// is not fetched: nobody has a state of that name.
    pub(super) async fn state(
        &self,
        bench: &Workbench,
        id: StateId,
        node: &PublicKey,
        until: Option<Instant>,
    ) -> Result<bool, WorkError> {
        let providers = [*node.as_bytes()];
        let fetched = async {
            let state: Option<State> = self.manifest(&id.hash(), &providers, until).await?;
            let Some(state) = state else { return Ok(false) };
            if check_tensors(&bench.context().recipe.tensors, &state.tensors).is_err() {
                return Ok(false);
            }
            self.fetch(&tensor_blobs(&state.tensors, 3), &providers, until).await
        };
        match fetched.await {
            // Its miner has made it up. Nobody else's work waits for it.
            Err(WorkError::Evidence(error)) => {
                tracing::debug!(%error, %id, "a state is none");
                Ok(false)
            }
            fetched => fetched,
        }
    }

    /// Delta and trace of every contribution, and the states before those that are to be replayed; `false` where
    /// some did not come before `until`. What is longer than it may be is not fetched: it is refused by its claim.
    pub(crate) async fn evidence(
        &self,
        bench: &Arc<Workbench>,
        contributions: &[Signed<Contribution>],
        replayed: &[PublicKey],
        until: Option<Instant>,
    ) -> Result<bool, WorkError> {
        let recipe = &bench.context().recipe;
        let limit = max_bytes(&recipe.tensors, &recipe.compression).map_err(|error| broken(error.to_string()))?;
        // Many at once: whoever withholds takes no time from those whose blobs are there to be had.
        let (mut fetches, mut all) = (JoinSet::new(), true);
        for signed in contributions {
            if fetches.len() == GATHERED_AT_ONCE {
                all &= next(&mut fetches).await?.unwrap_or(true);
            }
            let contribution = signed.payload();
            let header = TraceHeader::of(contribution, recipe.tensors.len() as u32);
            let mut blobs = Vec::new();
            if contribution.delta_bytes <= limit {
                blobs.push((contribution.delta.hash(), contribution.delta_bytes));
            }
            if contribution.trace_bytes == header.trace_bytes() {
                blobs.push((contribution.trace.hash(), contribution.trace_bytes));
            }
            let needs_state = replayed.contains(&contribution.miner) && !bench.knows_state(&contribution.state_in);
            let (gatherer, node, state_in) = (self.clone(), signed.signer(), contribution.state_in);
            let bench = bench.clone();
            fetches.spawn(async move {
                let mut here = match gatherer.fetch(&blobs, &[*node.as_bytes()], until).await {
                    Err(WorkError::Evidence(_)) => true,
                    fetched => fetched?,
                };
                if needs_state {
                    here &= gatherer.state(&bench, state_in, &node, until).await?;
                }
                Ok(here)
            });
        }
        while let Some(here) = next(&mut fetches).await? {
            all &= here;
        }
        Ok(all)
    }

    /// The deltas that the outcomes aggregate.
    pub(crate) async fn deltas(
        &self,
        outcomes: &[Outcome],
        contributions: &[Signed<Contribution>],
    ) -> Result<(), WorkError> {
        for outcome in outcomes {
            if outcome.verdict != Verdict::Aggregated {
                continue;
            }
            let contribution = contributions.iter().find(|signed| signed.id() == outcome.contribution.hash());
            if let Some(signed) = contribution {
                let blobs = [(signed.payload().delta.hash(), signed.payload().delta_bytes)];
                self.fetch(&blobs, &[*signed.signer().as_bytes()], None).await?;
            }
        }
        Ok(())
    }

    /// The models after closed windows by their aggregates, from the newest that is here, as long as some come within
    /// `patience`. Where `way` says so, nothing is done: by default where the last model whole costs no more.
    pub(crate) async fn aggregates(
        &self,
        bench: &Arc<Workbench>,
        closed: &[ClosedWindow],
        way: Way,
        patience: Duration,
    ) -> Result<(), WorkError> {
        let mut behind = Vec::new();
        for window in closed.iter().map(|closed| &closed.window).rev() {
            if self.here(&window.checkpoint.hash()).await {
                break;
            }
            behind.push(window.clone());
        }
        let cost = behind.iter().fold(0u64, |sum, record| sum.saturating_add(record.aggregate_bytes));
        let whole = 4 * bench.context().recipe.parameter_count() as u64;
        if way == Way::Snapshot || (way == Way::Cheaper && cost >= whole) {
            return Ok(());
        }
        self.tally.behind(behind.len());
        behind.reverse();
        for windows in behind.chunks(AGGREGATES_AT_ONCE) {
            let blobs: Vec<_> =
                windows.iter().map(|record| (record.aggregate.hash(), record.aggregate_bytes)).collect();
            let all = self.fetch(&blobs, &[], within(patience)).await?;
            for record in windows {
                if !self.here(&record.checkpoint_before.hash()).await
                    || !(all || self.here(&record.aggregate.hash()).await)
                {
                    return Ok(());
                }
                let (working, record) = (bench.clone(), record.clone());
                let (window, said) = (record.window, record.checkpoint);
                let found = compute(move || working.apply_aggregate(&record)).await?;
                if found != said {
                    tracing::warn!(%window, %said, %found, "the aggregate does not give the record's checkpoint");
                    return Ok(());
                }
                self.tally.followed();
            }
        }
        Ok(())
    }

    /// The models after closed windows: from the one before by the aggregate, or by the aggregated deltas, or else, for the
    /// last of them, whole from a peer.
    pub(crate) async fn model(&self, bench: &Arc<Workbench>, closed: &[ClosedWindow]) -> Result<(), WorkError> {
        self.aggregates(bench, closed, Way::Cheaper, AGGREGATE_PATIENCE).await?;
        // What was pruned on the way to a model that is here is not wanted.
        let mut newest = closed.len();
        while newest > 0 && !self.here(&closed[newest - 1].window.checkpoint.hash()).await {
            newest -= 1;
        }
        for window in &closed[newest..] {
            let record = &window.window;
            if !self.here(&record.checkpoint_before.hash()).await || self.here(&record.checkpoint.hash()).await {
                continue;
            }
            self.deltas(&record.outcomes, &window.contributions).await?;
            let (working, owned) = (bench.clone(), window.clone());
            let applied = compute(move || {
                let record = &owned.window;
                working.apply(record.checkpoint_before, record.window, &record.outcomes, &owned.contributions)
            })
            .await?;
            if applied.stepped.checkpoint != record.checkpoint {
                let (said, found) = (record.checkpoint, applied.stepped.checkpoint);
                return Err(broken(format!(
                    "window {}: checkpoint is recorded as {said}, found {found}",
                    record.window
                )));
            }
        }
        match closed.last() {
            Some(last) => self.checkpoint(last.window.checkpoint, None).await.map(|_| ()),
            None => Ok(()),
        }
    }

    async fn sync(&self, blobs: &[Hash]) -> Result<(), WorkError> {
        match self.store.sync(blobs).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.store.check().await?;
                Err(WorkError::Put(PutError::Io(std::io::Error::other(error))))
            }
        }
    }

    /// Makes deltas and traces durable as far as they are here, before a score or a record that speaks of them is signed:
    /// whoever vouched for them serves them to the next auditor.
    pub(crate) async fn sync_evidence(&self, contributions: &[Signed<Contribution>]) -> Result<(), WorkError> {
        let named =
            contributions.iter().map(Signed::payload).flat_map(|claim| [claim.delta.hash(), claim.trace.hash()]);
        let mut here = Vec::new();
        for id in named {
            if self.store.has(&id).await.unwrap_or(false) {
                here.push(id);
            }
        }
        self.sync(&here).await
    }

    /// Makes a new checkpoint and the aggregate that gave it durable, before a record that names them is signed.
    pub(crate) async fn sync_checkpoint(&self, applied: &Applied) -> Result<(), WorkError> {
        let mut blobs = vec![applied.stepped.checkpoint.hash(), applied.stepped.aggregate.hash()];
        blobs.extend(applied.checkpoint.tensors.iter().map(|tensor| tensor.blob.hash()));
        self.sync(&blobs).await
    }

    /// Makes a contribution's blobs durable, before it is signed.
    pub(crate) async fn sync_contribution(&self, contribution: &Contribution) -> Result<(), WorkError> {
        let mut blobs = vec![contribution.delta.hash(), contribution.trace.hash(), contribution.state_out.hash()];
        let bytes = self.store.get(&contribution.state_out.hash(), MAX_PAYLOAD_BYTES as u64).await;
        let state: Option<State> = bytes.ok().and_then(|bytes| payload::decode(&bytes).ok());
        blobs.extend(state.iter().flat_map(|state| &state.tensors).map(|tensor| tensor.blob.hash()));
        self.sync(&blobs).await
    }
}
