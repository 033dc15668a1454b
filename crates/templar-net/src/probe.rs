//! Asks peers whether they can be reached, what their clocks say, and whether a relay takes us in: for diagnosis.
//!
//! A [`Prober`] has a key of its own that is forgotten with it and takes part in nothing, so it may work beside a running
//! node: nobody puts it into an address book. Invariant: what a peer answers is bounded and only reported.

use std::time::Duration;

use iroh::Endpoint;
use iroh::endpoint::RecvStream;
use templar_manifest::Hash;
use tokio::time::timeout;

use crate::book::{Book, Source};
use crate::clock::{Asked, Clock, Skew};
use crate::config::Limits;
use crate::peer::{PeerAddr, PeerAddrError};
use crate::reach::{self, Reach, Relays};
use crate::serve::code;
use crate::wire::{
    Ask, MAX_REPLY, MAX_REQUEST, Refusal, Reply, Request, SYNC_ALPN, WireError, decode, read_body, read_len, write,
};
use crate::{BindError, NetConfig};

/// What a peer answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// How long the answer took once there was a connection.
    pub took: Duration,
    /// Its clock against ours, if both have one.
    pub skew: Option<Skew>,
    /// How many other peers it has met, as far as it says so.
    pub peers: usize,
}

/// Why a peer gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Its address is of no use.
    #[error(transparent)]
    Addr(#[from] PeerAddrError),
    /// It cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It takes part in another run.
    #[error("it takes part in another run, {run}")]
    OtherRun {
        /// The run.
        run: Hash,
    },
    /// It cannot answer now.
    #[error("it is too busy to answer")]
    Busy,
    /// It answers something else.
    #[error("it does not speak this protocol: {0}")]
    Protocol(String),
}

/// See the module.
#[derive(Debug)]
pub struct Prober {
    endpoint: Endpoint,
    reach: Reach,
    run: Hash,
    clock: Option<Clock>,
    limits: Limits,
}

impl Prober {
    /// An endpoint at `config.bind` with the key of `config`, which should be a new one.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(config: NetConfig, run: Hash) -> Result<Self, BindError> {
        let endpoint = reach::bind(&config, &run, reach::Publish::Nothing).await?;
        let NetConfig { reach, clock, limits, .. } = config;
        Ok(Self { endpoint, reach, run, clock, limits })
    }

    /// Where an endpoint that is bound like this one is reached, as far as it can tell itself.
    pub fn addr(&self) -> PeerAddr {
        reach::listening_at(&self.endpoint, &self.reach.advertise)
    }

    /// Whether a relay takes this endpoint in within `patience`; none if no relay is configured.
    pub async fn relayed(&self, patience: Duration) -> Option<bool> {
        match self.reach.relays {
            Relays::None => None,
            _ => Some(timeout(patience, self.endpoint.online()).await.is_ok()),
        }
    }

    /// Asks a peer.
    ///
    /// # Errors
    /// [`ProbeError`] says how far it came.
    pub async fn ask(&self, peer: &PeerAddr) -> Result<Probe, ProbeError> {
        let peer = peer.clone().checked()?;
        let own_id = *self.endpoint.id().as_bytes();
        let book = Book::new(own_id, 1).reaching(self.reach.relays.urls(), self.reach.relays == Relays::N0);
        let id = peer.id;
        book.learn(peer, Source::Configured);
        let addr = book.dial(&id).map_err(ProbeError::Unreachable)?;
        let connecting = timeout(self.limits.connect_timeout, self.endpoint.connect(addr, SYNC_ALPN)).await;
        let connection = match connecting {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(ProbeError::Unreachable(error.to_string())),
            Err(_) => return Err(ProbeError::Unreachable("no answer".to_owned())),
        };
        let exchange = async {
            let lost = |error: iroh::endpoint::ConnectionError| WireError::Lost(error.to_string());
            let (mut send, mut recv) = connection.open_bi().await.map_err(lost)?;
            let asked = Asked::now(self.clock);
            write(&mut send, &Request { run: self.run, ask: Ask::Hello }, MAX_REQUEST).await?;
            first_answer(&mut recv, &asked).await
        };
        let answer = timeout(self.limits.stall_timeout, exchange).await;
        connection.close(code::DONE, b"done");
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(WireError::Lost(reason))) if reason.contains("too many connections") => Err(ProbeError::Busy),
            Ok(Err(error)) => Err(ProbeError::Protocol(error.to_string())),
            Err(_) => Err(ProbeError::Protocol("it took a connection and says nothing".to_owned())),
        }
    }

    /// Ends the endpoint.
    pub async fn close(self) {
        // Peers that are gone cannot confirm anything.
        timeout(Duration::from_secs(1), self.endpoint.close()).await.ok();
    }
}

async fn first_answer(recv: &mut RecvStream, asked: &Asked) -> Result<Result<Probe, ProbeError>, WireError> {
    let len = read_len(recv, MAX_REPLY).await?;
    let body = read_body(recv, len).await?;
    Ok(match decode(&body)? {
        Reply::Hello { unix_ms, peers } => {
            Ok(Probe { took: asked.took(), skew: asked.answered(unix_ms), peers: peers.len() })
        }
        Reply::Refused(Refusal::WrongRun { run }) => Err(ProbeError::OtherRun { run }),
        Reply::Refused(Refusal::Busy) => Err(ProbeError::Busy),
        Reply::Entry { .. } | Reply::CaughtUp => {
            Err(ProbeError::Protocol("it does not begin with a greeting".to_owned()))
        }
    })
}
