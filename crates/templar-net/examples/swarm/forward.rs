//! A forwarder of datagrams that delays them and drops some. Each of its sockets, called a front, stands for
//! one node.
//!
//! Datagrams that the kernel delivers together (segmentation offload) are sent on together, so that two cores
//! can carry the traffic of nine nodes. Each datagram is dropped or passed by itself. A fixed pseudo-random
//! sequence decides, in the order in which datagrams arrive.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use noq_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

/// The longest batch of datagrams, in bytes.
const LONGEST: usize = 1 << 16;

/// The largest number of waiting batches. Datagrams beyond it are dropped.
const MOST_WAITING: usize = 100_000;

/// The size of the kernel's socket buffers, in bytes. They hold datagrams while this process is busy.
const SOCKET_BUFFER: usize = 4 << 20;

/// A socket that receives and sends batches of datagrams.
struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let io = UdpSocket::bind(addr).await?;
        let state = UdpSocketState::new((&io).into())?;
        // The system may allow less than this.
        state.set_recv_buffer_size((&io).into(), SOCKET_BUFFER).ok();
        state.set_send_buffer_size((&io).into(), SOCKET_BUFFER).ok();
        Ok(Self { io, state })
    }

    /// Receives datagrams of one sender. All but the last have the length `stride` of the result.
    async fn recv(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        let mut meta = [RecvMeta::default()];
        self.io
            .async_io(Interest::READABLE, || {
                self.state.recv((&self.io).into(), &mut [IoSliceMut::new(buffer)], &mut meta)
            })
            .await?;
        Ok(meta[0])
    }

    /// Sends datagrams of `stride` bytes each, of which the last may be shorter.
    async fn send(&self, bytes: &[u8], stride: usize, to: SocketAddr) -> io::Result<()> {
        let (destination, segment_size) = (to, Some(stride).filter(|stride| *stride < bytes.len()));
        let transmit = Transmit { destination, ecn: None, contents: bytes, segment_size, src_ip: None };
        self.io.async_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit)).await
    }
}

/// A batch that waits for the end of its delay.
struct Waiting {
    due: Instant,
    bytes: Vec<u8>,
    stride: usize,
    from: Arc<Socket>,
    to: SocketAddr,
}

/// The waiting batches, and the counts of datagrams.
#[derive(Default)]
struct Queue {
    /// The state of the pseudo-random sequence.
    draw: u64,
    passed: u64,
    lost: u64,
    waiting: VecDeque<Waiting>,
}

impl Queue {
    /// Draws whether the next datagram is dropped, and counts it.
    fn is_lost(&mut self, per_thousand: u64) -> bool {
        self.draw = self.draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lost = (self.draw >> 33) % 1000 < per_thousand || self.waiting.len() >= MOST_WAITING;
        *(if lost { &mut self.lost } else { &mut self.passed }) += 1;
        lost
    }
}

/// A line with a delay and a loss. All datagrams pass through one queue, in the order of their arrival.
pub(crate) struct Line {
    delay: Duration,
    loss_per_thousand: u64,
    queue: Mutex<Queue>,
    news: Notify,
}

impl Line {
    /// A line with this delay in each direction. `seed` starts the sequence that decides about losses.
    pub(crate) fn new(delay: Duration, loss_per_thousand: u64, seed: u64) -> Arc<Self> {
        let queue = Mutex::new(Queue { draw: seed, ..Queue::default() });
        Arc::new(Self { delay, loss_per_thousand, queue, news: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers of datagrams passed and dropped.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let queue = self.lock();
        (queue.passed, queue.lost)
    }

    /// Queues a received batch, without the datagrams that are dropped.
    fn push(&self, bytes: &[u8], stride: usize, from: &Arc<Socket>, to: SocketAddr) {
        let due = Instant::now() + self.delay;
        let mut queue = self.lock();
        // The datagrams between two dropped ones stay together as one batch.
        let mut run: Vec<u8> = Vec::new();
        let wait = |queue: &mut Queue, bytes: Vec<u8>| {
            if !bytes.is_empty() {
                queue.waiting.push_back(Waiting { due, bytes, stride, from: from.clone(), to });
            }
        };
        for datagram in bytes.chunks(stride.max(1)) {
            if queue.is_lost(self.loss_per_thousand) {
                wait(&mut queue, std::mem::take(&mut run));
            } else {
                run.extend_from_slice(datagram);
            }
        }
        wait(&mut queue, run);
        drop(queue);
        self.news.notify_one();
    }

    /// Sends each batch when it is due, for ever.
    pub(crate) async fn deliver(&self) {
        loop {
            let next = self.lock().waiting.pop_front();
            let Some(Waiting { due, bytes, stride, from, to }) = next else {
                self.news.notified().await;
                continue;
            };
            if due > Instant::now() {
                sleep_until(due).await;
            }
            from.send(&bytes, stride, to).await.ok();
        }
    }

    /// Binds a socket at `front` that stands for the node at `target`.
    ///
    /// Each client's datagrams are sent on from a socket of their own at `back`, so that answers find their
    /// way. Returns the front's address, and a future that carries the traffic and ends only with an error.
    pub(crate) async fn stand_for(
        self: &Arc<Self>,
        front: SocketAddr,
        back: IpAddr,
        target: SocketAddr,
    ) -> io::Result<(SocketAddr, impl Future<Output = io::Result<()>> + use<>)> {
        let front = Arc::new(Socket::bind(front).await?);
        let addr = front.io.local_addr()?;
        let line = self.clone();
        Ok((addr, async move {
            let mut clients: BTreeMap<SocketAddr, Arc<Socket>> = BTreeMap::new();
            let mut buffer = vec![0; LONGEST];
            let (ended, mut ends) = mpsc::channel::<io::Error>(1);
            loop {
                let meta = tokio::select! {
                    received = front.recv(&mut buffer) => received?,
                    Some(error) = ends.recv() => return Err(error),
                };
                let back = match clients.get(&meta.addr) {
                    Some(back) => back.clone(),
                    None => {
                        let back = Arc::new(Socket::bind((back, 0).into()).await?);
                        clients.insert(meta.addr, back.clone());
                        let answering = line.clone().answer(back.clone(), front.clone(), meta.addr);
                        let ended = ended.clone();
                        tokio::spawn(async move {
                            if let Err(error) = answering.await {
                                ended.send(error).await.ok();
                            }
                        });
                        back
                    }
                };
                line.push(&buffer[..meta.len], meta.stride, &back, target);
            }
        }))
    }

    /// Carries the answers to one client, until an error.
    async fn answer(self: Arc<Self>, back: Arc<Socket>, front: Arc<Socket>, client: SocketAddr) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let meta = back.recv(&mut buffer).await?;
            self.push(&buffer[..meta.len], meta.stride, &front, client);
        }
    }
}
