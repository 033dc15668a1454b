//! A forwarder of datagrams: each port stands for one node; what passes is delayed, and a few datagrams are dropped.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::Outcome;

/// The longest datagram.
const LONGEST: usize = 2048;

/// What waits for its time.
type Waiting = (Instant, Vec<u8>, Arc<UdpSocket>, SocketAddr);

/// Delays and drops; everything goes through one queue, in the order in which it came.
struct Line {
    delay: Duration,
    loss_per_thousand: u64,
    queue: Mutex<(u64, VecDeque<Waiting>)>,
    news: Notify,
}

impl Line {
    fn push(&self, bytes: Vec<u8>, from: &Arc<UdpSocket>, to: SocketAddr) {
        let Ok(mut queue) = self.queue.lock() else { return };
        // A fixed sequence decides what is lost.
        queue.0 = queue.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (queue.0 >> 33) % 1000 >= self.loss_per_thousand && queue.1.len() < 100_000 {
            queue.1.push_back((Instant::now() + self.delay, bytes, from.clone(), to));
            self.news.notify_one();
        }
    }

    async fn deliver(&self) {
        loop {
            let next = self.queue.lock().ok().and_then(|mut queue| queue.1.pop_front());
            let Some((due, bytes, from, to)) = next else {
                self.news.notified().await;
                continue;
            };
            if due > Instant::now() {
                sleep_until(due).await;
            }
            from.send_to(&bytes, to).await.ok();
        }
    }
}

/// Stands for the node at `target` on this port: one more socket for each client, so that answers find their way.
async fn stand_for(line: Arc<Line>, port: u16, target: SocketAddr) -> std::io::Result<()> {
    let front = Arc::new(UdpSocket::bind(("0.0.0.0", port)).await?);
    let mut clients: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut buffer = vec![0; LONGEST];
    let (ended, mut ends) = mpsc::channel::<std::io::Error>(1);
    loop {
        let (len, client) = tokio::select! {
            received = front.recv_from(&mut buffer) => received?,
            Some(error) = ends.recv() => return Err(error),
        };
        let back = match clients.get(&client) {
            Some(back) => back.clone(),
            None => {
                let back = Arc::new(UdpSocket::bind("0.0.0.0:0").await?);
                clients.insert(client, back.clone());
                let (front, line, answers, ended) = (front.clone(), line.clone(), back.clone(), ended.clone());
                tokio::spawn(async move {
                    let mut buffer = vec![0; LONGEST];
                    loop {
                        match answers.recv_from(&mut buffer).await {
                            Ok((len, _)) => line.push(buffer[..len].to_vec(), &front, client),
                            Err(error) => return drop(ended.send(error).await),
                        }
                    }
                });
                back
            }
        };
        line.push(buffer[..len].to_vec(), &back, target);
    }
}

/// Forwards until standard input ends. A route is `PORT=ADDR:PORT`; the delay is that of one direction.
pub(crate) async fn run(delay_ms: u64, loss_per_thousand: u64, routes: &[&str]) -> Outcome {
    let line = Arc::new(Line {
        delay: Duration::from_millis(delay_ms),
        loss_per_thousand,
        queue: Mutex::default(),
        news: Notify::new(),
    });
    for route in routes {
        let (port, target) = route.split_once('=').ok_or("a route is PORT=ADDR:PORT")?;
        tokio::spawn(stand_for(line.clone(), port.parse()?, target.parse()?));
    }
    let delivering = line.clone();
    tokio::spawn(async move { delivering.deliver().await });
    println!("forwarding");
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut tokio::io::stdin(), &mut rest).await?;
    Ok(())
}
