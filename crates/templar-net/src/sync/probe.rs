//! Asks peers for diagnosis: whether they can be reached, how their clocks differ, and whether a relay accepts
//! this node.
//!
//! A [`Prober`] has a key of its own, which is forgotten with it and takes part in nothing. So it may work
//! beside a running node, and no peer puts it into an address book. Invariant: the answers of peers are
//! bounded, and are only reported.

use std::time::Duration;

use bytes::Bytes;
use iroh::Endpoint;
use iroh::endpoint::{Connection, RecvStream};
use templar_manifest::Hash;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::config::{Clock, NetConfig, Timeouts};
use crate::endpoint;
use crate::endpoint::listening::Listening;
use crate::error::BindError;
use crate::foreign::ForeignText;
use crate::frame::{FrameError, decode, read_body, read_len, write};
use crate::peers::book::{AddrSource, Book};
use crate::peers::close_code;
use crate::peers::discovery::{Discovery, Relays};
use crate::peers::peer::{PeerAddr, PeerAddrError};
use crate::sync::clock::{ClockQuery, Skew};
use crate::sync::wire::{Ask, MAX_MILESTONES, MAX_REPLY, MAX_REQUEST, SYNC_ALPN, SyncRefusal, SyncReply, SyncRequest};
use crate::words;

/// The greatest number of bytes of entries that are read of one peer.
const MAX_ENTRIES_BYTES: usize = 64 << 20;

/// A peer's answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The time from the question to the answer, on an open connection.
    pub took: Duration,
    /// The difference between its clock and ours, if both sides have one.
    pub skew: Option<Skew>,
    /// The number of other peers that it says it has met.
    pub peers: usize,
}

/// The reason why a probe got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The peer's address cannot be used.
    #[error(transparent)]
    Addr(#[from] PeerAddrError),
    /// The peer cannot be reached, with the reason.
    #[error("{0}")]
    Unreachable(ForeignText),
    /// The peer takes part in another run.
    #[error("it takes part in another run, {run}")]
    OtherRun {
        /// The run that it takes part in.
        run: Hash,
    },
    /// The peer has too many connections to answer now.
    #[error("it is too busy to answer")]
    Busy,
    /// The peer's answer is not one of this protocol.
    #[error("it does not speak this protocol: {0}")]
    Protocol(String),
}

/// A temporary endpoint that asks peers for diagnosis.
///
/// It may work beside a running node, because its key takes part in nothing.
#[derive(Debug)]
pub struct Prober {
    endpoint: Endpoint,
    listening: Listening,
    discovery: Discovery,
    run: Hash,
    clock: Option<Clock>,
    timeouts: Timeouts,
}

impl Prober {
    /// Binds an endpoint at `config.bind` with the key of `config`, which should be freshly made.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(config: NetConfig, run: Hash) -> Result<Self, BindError> {
        let endpoint = endpoint::bind(&config, &run, endpoint::Publish::Nothing).await?;
        let NetConfig { discovery, clock, limits, .. } = config;
        let listening = Listening::of(&endpoint, &discovery.advertise).await;
        Ok(Self { endpoint, listening, discovery, run, clock, timeouts: limits.timeouts })
    }

    /// The addresses at which an endpoint that is bound like this one can be reached, as far as it knows.
    pub fn addr(&self) -> PeerAddr {
        self.listening.addr()
    }

    /// Returns whether a relay accepts this endpoint within `patience`, or `None` if no relay is configured.
    pub async fn relayed(&self, patience: Duration) -> Option<bool> {
        match self.discovery.relays {
            Relays::None => None,
            _ => Some(timeout(patience, self.endpoint.online()).await.is_ok()),
        }
    }

    /// Connects to a peer and asks for its greeting.
    ///
    /// # Errors
    /// [`ProbeError`] says at which step the exchange failed.
    pub async fn ask(&self, peer: &PeerAddr) -> Result<Probe, ProbeError> {
        let connection = self.connect(peer).await?;
        let asked = ClockQuery::now(self.clock);
        let exchange = async {
            let mut recv = request(&connection, self.run, Ask::Hello).await?;
            first_answer(&mut recv, &asked).await
        };
        answer(&connection, timeout(self.timeouts.stall, exchange).await)
    }

    /// Reads the entries of a peer's log that come after the newest of the milestones `reached` which the peer has
    /// reached too, up to `max_entries` of them and up to 64 MiB.
    ///
    /// # Errors
    /// [`ProbeError`] says at which step the exchange failed.
    pub async fn entries(
        &self,
        peer: &PeerAddr,
        reached: Vec<Hash>,
        max_entries: usize,
    ) -> Result<Vec<Bytes>, ProbeError> {
        let connection = self.connect(peer).await?;
        let reached = reached.into_iter().take(MAX_MILESTONES).collect();
        let asked = ClockQuery::now(self.clock);
        let exchange = async {
            // Without an address this prober stays out of the peer's book.
            let ask = Ask::Log { after: None, reached, addrs: Vec::new() };
            let mut recv = request(&connection, self.run, ask).await?;
            if let Err(error) = first_answer(&mut recv, &asked).await? {
                return Ok(Err(error));
            }
            let (mut entries, mut room) = (Vec::new(), MAX_ENTRIES_BYTES);
            while entries.len() < max_entries {
                let len = read_len(&mut recv, MAX_REPLY).await?;
                let Some(left) = room.checked_sub(len) else { break };
                room = left;
                let body = read_body(&mut recv, len).await?;
                match decode(&body)? {
                    SyncReply::Entry { bytes, .. } => entries.push(body.slice_ref(bytes)),
                    SyncReply::Refused(SyncRefusal::Busy) => return Ok(Err(ProbeError::Busy)),
                    SyncReply::Hello { .. } | SyncReply::Refused(_) | SyncReply::CaughtUp => break,
                }
            }
            Ok(Ok(entries))
        };
        answer(&connection, timeout(self.timeouts.stall, exchange).await)
    }

    async fn connect(&self, peer: &PeerAddr) -> Result<Connection, ProbeError> {
        let peer = peer.clone().checked()?;
        let own_id = *self.endpoint.id().as_bytes();
        let book = Book::new(own_id, 1)
            .reaching(self.discovery.relays.urls(), self.discovery.relays == Relays::N0)
            .sending_from(self.listening.sockets());
        let id = peer.id;
        book.learn(peer, AddrSource::Configured);
        let addr = book.dial(&id, false).map_err(|reason| ProbeError::Unreachable(ForeignText::of(reason)))?;
        match timeout(self.timeouts.connect, self.endpoint.connect(addr, SYNC_ALPN)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(ProbeError::Unreachable(words::unconnected(&error))),
            Err(_) => Err(ProbeError::Unreachable(ForeignText::of("no answer"))),
        }
    }

    /// Closes the endpoint, and waits at most one second for peers to confirm it.
    pub async fn close(self) {
        // Peers that are gone cannot confirm the close.
        timeout(Duration::from_secs(1), self.endpoint.close()).await.ok();
    }
}

/// Opens a stream, sends the request, and gives the side from which the answer comes.
async fn request(connection: &Connection, run: Hash, ask: Ask) -> Result<RecvStream, FrameError> {
    let lost = |error: iroh::endpoint::ConnectionError| FrameError::Lost(words::lost(&error));
    let (mut send, recv) = connection.open_bi().await.map_err(lost)?;
    write(&mut send, &SyncRequest { run, ask }, MAX_REQUEST).await?;
    Ok(recv)
}

/// Closes the connection, and gives the answer that came over it within the time.
fn answer<T>(
    connection: &Connection,
    exchanged: Result<Result<Result<T, ProbeError>, FrameError>, Elapsed>,
) -> Result<T, ProbeError> {
    connection.close(close_code::DONE, b"done");
    match exchanged {
        Ok(Ok(answer)) => answer,
        Ok(Err(FrameError::Lost(reason))) if reason.contains("too many connections") => Err(ProbeError::Busy),
        Ok(Err(error)) => Err(ProbeError::Protocol(error.to_string())),
        Err(_) => Err(ProbeError::Protocol("it took a connection and says nothing".to_owned())),
    }
}

/// Reads the first message of an answer.
async fn first_answer(recv: &mut RecvStream, asked: &ClockQuery) -> Result<Result<Probe, ProbeError>, FrameError> {
    let len = read_len(recv, MAX_REPLY).await?;
    let body = read_body(recv, len).await?;
    Ok(match decode(&body)? {
        SyncReply::Hello { unix_ms, peers } => {
            Ok(Probe { took: asked.took(), skew: asked.answered(unix_ms), peers: peers.len() })
        }
        SyncReply::Refused(SyncRefusal::WrongRun { run }) => Err(ProbeError::OtherRun { run }),
        SyncReply::Refused(SyncRefusal::Busy) => Err(ProbeError::Busy),
        SyncReply::Entry { .. } | SyncReply::CaughtUp => {
            Err(ProbeError::Protocol("it does not begin with a greeting".to_owned()))
        }
    })
}
