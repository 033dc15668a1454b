//! Opens the parts of a node: its local socket, its replica, its metrics, its endpoint.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use templar_blob::Damage;
use templar_home::registration::Application;
use templar_home::replica::Replica;
use templar_net::Net;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Span;

use super::company::Company;
use super::config::{DriverConfig, DriverError, NodeParts, NodeRole};
use super::noticed::{Ears, Present};
use super::pruner::Pruner;
use super::task::{TaskContext, Tasks};
use super::warnings::Warnings;
use super::{Driver, Followed, PeerNotes};
use crate::compute::compute;
use crate::event::NodeEvent;
use crate::executor::Executor;
use crate::gather::Gatherer;
use crate::local_socket::LocalAsk;
use crate::serving::{ServedBlobs, ServedLog};
use crate::{local_socket, metrics, peers};

impl Driver {
    /// Opens a node. Its servers on this machine, for commands and for metrics, run in `locals`. Gives the
    /// driver, the requests of commands, and the address at which metrics are answered.
    pub(super) async fn open(
        parts: &NodeParts,
        config: DriverConfig,
        events: mpsc::Sender<NodeEvent>,
        locals: &mut JoinSet<()>,
    ) -> Result<(Self, mpsc::Receiver<LocalAsk>, Option<SocketAddr>), DriverError> {
        let NodeParts { home, store, context, key, .. } = parts;
        let me = key.public();
        if config.role == NodeRole::Validator && context.genesis.validator(&me).is_none() {
            return Err(DriverError::NotAValidator(me));
        }

        let (asked, requests) = local_socket::requests();
        match local_socket::bind(&home.socket_path()) {
            Ok(listener) => drop(locals.spawn(local_socket::serve(listener, store.clone(), asked))),
            // The system bounds the length of a socket's path. A node can take part in a run without the socket.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                let message =
                    format!("reading commands cannot work beside this node, its home's path is too long: {error}");
                let _ = events.send(NodeEvent::warning(message)).await;
            }
            Err(error) => return Err(DriverError::Socket(error)),
        }

        let damage = Damage::default();
        let executor = Executor::on_store(home, store, context.clone(), damage.clone())?;
        let known = peers::load(home)?;
        // Folding a long journal takes long, so it must not block this thread.
        let opened = {
            let (home, context, key) = (home.clone(), context.clone(), key.clone());
            // A seeder fetches the evidence of all windows, so it forgets none.
            let open = if config.role == NodeRole::Seeder { Replica::open } else { Replica::resume };
            move || open(&home, context, key)
        };
        let replica = compute(opened).await?;
        let pruner = if config.prune { Some(Pruner::new(home, store, context.run).await?) } else { None };
        let metrics_at = match config.metrics {
            Some(addr) => Some(metrics::listen(addr).await.map_err(|source| DriverError::Metrics { addr, source })?),
            None => None,
        };
        let (log, policy) = (ServedLog::of(&replica), ServedBlobs::of(&replica));
        let net = Net::bind(config.networking.config(key.to_bytes()), store.clone(), log, policy).await?;
        for peer in known.into_iter().chain(config.peers.iter().cloned()) {
            if let Err(error) = net.add_peer(peer) {
                tracing::warn!(%error, "a peer's address is of no use");
            }
        }
        let mut metrics_addr = None;
        if let Some(listener) = metrics_at {
            metrics_addr = listener.local_addr().ok();
            let source = metrics::MetricsSource::new(net.clone(), replica.position(), home.store_dir());
            locals.spawn(metrics::serve(listener, Arc::new(source)));
        }
        let shared = TaskContext {
            executor: Arc::new(executor),
            gatherer: Gatherer::new(net.clone(), store.clone(), Arc::default(), damage),
            events,
            warnings: Arc::new(Warnings::new()),
            stopping: Arc::new(AtomicBool::new(false)),
        };
        let company = Company::new(config.role == NodeRole::Sharer, shared.warnings.now());
        let driver = Self {
            replica,
            net,
            config,
            home: home.clone(),
            shared,
            tasks: Tasks::default(),
            followed: Followed::default(),
            peers: PeerNotes { remembered: Vec::new(), told_of_clock: false, company },
            failures: 0,
            pruner,
            application: Application::kept(home, &context.run)?,
            ears: Ears::default(),
            challenged: BTreeSet::new(),
            called: None,
            span: (None, Span::none()),
            present: Present::default(),
        };
        Ok((driver, requests, metrics_addr))
    }
}
