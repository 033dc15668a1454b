//! Brings the blobs that work needs from peers, and makes this node's own blobs durable before it signs their hashes.

mod durable;
mod heal;

use std::sync::Arc;
use std::time::Duration;

use templar_audit::InputError;
use templar_blob::Damage;
use templar_delta::max_bytes;
use templar_home::context::{RunContext, common_blobs};
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

use crate::compute::compute;
use crate::executor::{Executor, WorkError};
use crate::stop::stopped;
use crate::tally::VisitTally;

/// The first and the longest pause between two attempts to fetch.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// If a wait of a second takes this much longer, the process was suspended: other work does not delay it so much.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// The number of failures of our own store in a row after which fetching gives up.
const STORE_FAILURES: u32 = 5;

/// The longest wait for an aggregate. Deltas or a whole model serve as well.
pub(crate) const AGGREGATE_PATIENCE: Duration = Duration::from_secs(10);

/// The number of aggregates that are fetched together, before the first of them is applied.
const AGGREGATES_AT_ONCE: usize = 32;

/// The number of contributions whose blobs are fetched at the same time.
const GATHERED_AT_ONCE: usize = 32;

/// How a node that is behind gets the current model. Each way ends in the checkpoint that the record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CatchUp {
    /// The way that needs fewer bytes.
    #[default]
    Cheaper,
    /// Fetch the whole model.
    Snapshot,
    /// Apply the aggregates of the missing windows to the newest model that is here.
    Aggregates,
}

/// Fetches blobs into the store, again and again, until it is told to stop. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gatherer {
    net: Net,
    store: Store,
    damage: Damage,
    tally: Arc<VisitTally>,
    stopping: Arc<watch::Sender<bool>>,
}

/// The end of a wait of `patience` that begins now.
pub(crate) fn within(patience: Duration) -> Option<Instant> {
    Some(Instant::now() + patience)
}

fn broken(what: String) -> WorkError {
    WorkError::Inputs(InputError::Broken(what))
}

/// The result of the next fetch that ends. `None` if no fetch is left.
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
    pub(crate) fn new(net: Net, store: Store, tally: Arc<VisitTally>, damage: Damage) -> Self {
        Self { net, store, damage, tally, stopping: Arc::new(watch::Sender::new(false)) }
    }

    /// Ends all waits and fetches.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits for `time`, or until the node stops.
    pub(crate) async fn sleep(&self, time: Duration) {
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = stopped(&mut stopping) => {}
        }
    }

    /// Waits for `time`, one second after the other. If a second takes more than [`STOOD_STILL`] longer, this
    /// process was suspended or its clock has jumped: then this gives up and returns the delay.
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

    /// Fetches blobs, again and again until all are here. Every peer is asked at least once. `false` if some
    /// are not here after `until`.
    pub(crate) async fn fetch(
        &self,
        blobs: &[(Hash, u64)],
        providers: &[PeerId],
        until: Option<Instant>,
    ) -> Result<bool, WorkError> {
        let mut stopping = self.stopping.subscribe();
        let (mut pause, mut failures) = (PAUSES.0, 0);
        let bytes = VisitTally::bytes_of(blobs);
        self.tally.want(bytes);
        loop {
            let fetching = async {
                // Meanwhile the store does not count parts of blobs as left over.
                let _importing = self.store.importing().await;
                self.net.fetch_all(blobs, providers).await
            };
            // The parts that a dropped transfer has brought stay in the store, and the next one continues from there.
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
                // No peer can help if our own store takes nothing.
                Err(FetchError::Store { reason, .. }) => {
                    self.store.check().await?;
                    failures += 1;
                    if failures == STORE_FAILURES {
                        return Err(WorkError::Put(PutError::Io(std::io::Error::other(reason))));
                    }
                }
                // A manifest that names a blob states its length. If the blob is longer, its author was wrong,
                // and waiting does not help.
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

    /// Fetches and decodes a manifest. `None` if it is not here after `until`.
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
            self.damage.note(id, &error);
            InputError::of_run(&format!("{} manifest", T::KIND), id, &error)
        })?;
        payload::decode(&bytes).map(Some).map_err(|error| broken(format!("{} manifest {id}: {error}", T::KIND)))
    }

    /// Fetches the dataset's shards and the tokenizer.
    pub(crate) async fn common(&self, context: &RunContext, until: Option<Instant>) -> Result<bool, WorkError> {
        self.fetch(&common_blobs(&context.genesis, &context.dataset), &[], until).await
    }

    /// Fetches a checkpoint with its tensors.
    pub(crate) async fn checkpoint(&self, id: CheckpointId, until: Option<Instant>) -> Result<bool, WorkError> {
        let checkpoint: Option<Checkpoint> = self.manifest(&id.hash(), &[], until).await?;
        let Some(checkpoint) = checkpoint else { return Ok(false) };
        self.fetch(&tensor_blobs(&checkpoint.tensors, 1), &[], until).await
    }

    /// Fetches a miner's state with its tensors. The miner's node has it, and so have validators that replayed
    /// with it. If the hash names no state of this model, nothing is fetched.
    pub(crate) async fn state(
        &self,
        executor: &Executor,
        id: StateId,
        node: &PublicKey,
        until: Option<Instant>,
    ) -> Result<bool, WorkError> {
        let providers = [*node.as_bytes()];
        let fetched = async {
            let state: Option<State> = self.manifest(&id.hash(), &providers, until).await?;
            let Some(state) = state else { return Ok(false) };
            if check_tensors(&executor.context().recipe.tensors, &state.tensors).is_err() {
                return Ok(false);
            }
            self.fetch(&tensor_blobs(&state.tensors, 3), &providers, until).await
        };
        match fetched.await {
            // The miner has made it up. The work of others does not wait for it.
            Err(WorkError::Inputs(error)) => {
                tracing::debug!(%error, %id, "a state is none");
                Ok(false)
            }
            fetched => fetched,
        }
    }

    /// Fetches delta and trace of every contribution, and the states before those that are to be replayed.
    /// `false` if some did not come before `until`. A blob that claims to be longer than it may be is not
    /// fetched: its claim alone refuses it.
    pub(crate) async fn evidence(
        &self,
        executor: &Arc<Executor>,
        contributions: &[Signed<Contribution>],
        replayed: &[PublicKey],
        until: Option<Instant>,
    ) -> Result<bool, WorkError> {
        let recipe = &executor.context().recipe;
        let limit = max_bytes(&recipe.tensors, &recipe.compression).map_err(|error| broken(error.to_string()))?;
        // Many at once, so that a miner that withholds takes no time from the others.
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
            let needs_state = replayed.contains(&contribution.miner) && !executor.knows_state(&contribution.state_in);
            let (gatherer, node, state_in) = (self.clone(), signed.signer(), contribution.state_in);
            let executor = executor.clone();
            fetches.spawn(async move {
                let mut here = match gatherer.fetch(&blobs, &[*node.as_bytes()], until).await {
                    // The blob is longer than its miner claims, so it does not come.
                    Err(WorkError::Inputs(_)) => false,
                    fetched => fetched?,
                };
                if needs_state {
                    here &= gatherer.state(&executor, state_in, &node, until).await?;
                }
                Ok(here)
            });
        }
        while let Some(here) = next(&mut fetches).await? {
            all &= here;
        }
        Ok(all)
    }

    /// Fetches the deltas that the outcomes aggregate.
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

    /// Makes the models after closed windows from their aggregates, starting with the newest model that is
    /// here, as long as aggregates come within `patience`. With [`CatchUp::Snapshot`] this does nothing, and
    /// with [`CatchUp::Cheaper`] it does nothing if the whole last model costs no more bytes.
    pub(crate) async fn aggregates(
        &self,
        executor: &Arc<Executor>,
        closed: &[ClosedWindow],
        way: CatchUp,
        patience: Duration,
    ) -> Result<(), WorkError> {
        let mut behind = Vec::new();
        for window in closed.iter().map(|closed| &closed.window).rev() {
            if self.here(&window.header.checkpoint.hash()).await {
                break;
            }
            behind.push(window.clone());
        }
        let cost = behind.iter().fold(0u64, |sum, record| sum.saturating_add(record.body.aggregate_bytes));
        let whole = 4 * executor.context().recipe.parameter_count() as u64;
        if way == CatchUp::Snapshot || (way == CatchUp::Cheaper && cost >= whole) {
            return Ok(());
        }
        self.tally.behind(behind.len());
        behind.reverse();
        for windows in behind.chunks(AGGREGATES_AT_ONCE) {
            let blobs: Vec<_> =
                windows.iter().map(|record| (record.body.aggregate.hash(), record.body.aggregate_bytes)).collect();
            let all = self.fetch(&blobs, &[], within(patience)).await?;
            for record in windows {
                if !self.here(&record.body.checkpoint_before.hash()).await
                    || !(all || self.here(&record.body.aggregate.hash()).await)
                {
                    return Ok(());
                }
                let (working, record) = (executor.clone(), record.clone());
                let (window, said) = (record.header.window, record.header.checkpoint);
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

    /// Brings the models after closed windows here: from the model before by the aggregate, or by the
    /// aggregated deltas, or, for the last window, whole from a peer.
    pub(crate) async fn model(&self, executor: &Arc<Executor>, closed: &[ClosedWindow]) -> Result<(), WorkError> {
        self.aggregates(executor, closed, CatchUp::Cheaper, AGGREGATE_PATIENCE).await?;
        // Models before one that is here are not needed, even if they were pruned.
        let mut newest = closed.len();
        while newest > 0 && !self.here(&closed[newest - 1].window.header.checkpoint.hash()).await {
            newest -= 1;
        }
        for window in &closed[newest..] {
            let (record, said) = (&window.window.body, window.window.header.checkpoint);
            if !self.here(&record.checkpoint_before.hash()).await || self.here(&said.hash()).await {
                continue;
            }
            self.deltas(&record.outcomes, &window.contributions).await?;
            let (working, owned) = (executor.clone(), window.clone());
            let applied = compute(move || {
                let record = &owned.window.body;
                working.apply(record.checkpoint_before, record.window, &record.outcomes, &owned.contributions)
            })
            .await?;
            if applied.stepped.checkpoint != said {
                let found = applied.stepped.checkpoint;
                return Err(broken(format!(
                    "window {}: checkpoint is recorded as {said}, found {found}",
                    record.window
                )));
            }
        }
        match closed.last() {
            Some(last) => self.checkpoint(last.window.header.checkpoint, None).await.map(|_| ()),
            None => Ok(()),
        }
    }
}
