//! Measures the cost of an idle neighbour: the memory and processor time of a node that has many of them.
//!
//! `cargo run --release -p templar -p templar-net --example idle_neighbours -- 200` starts a hub as a separate
//! process. It then makes 200 nodes in this process that read the hub's log, while the hub reads theirs, and
//! asks the hub for its use of memory and processor before and after.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use templar_manifest::Hash;
use templar_net::{EmptyLog, Net, NetConfig, NetLimits, PeerAddr, Pulled, ServeNone};
use templar_store::Store;

/// The time for which the idle hub is observed.
const IDLE: Duration = Duration::from_secs(20);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

async fn node(key: [u8; 32], many: usize) -> Outcome<Net> {
    let mut limits = NetLimits { max_peers: many + 8, ..NetLimits::default() };
    limits.connections.max_inbound = many + 8;
    limits.sync.neighbours = 1;
    limits.sync.followers = many;
    let config = NetConfig { limits, ..NetConfig::loopback(key) };
    let log = Arc::new(EmptyLog::new(Hash::of(b"idle neighbours")));
    Ok(Net::bind(config, Store::memory().await, log, Arc::new(ServeNone)).await?)
}

/// The resident memory in KiB and the processor time in seconds of this process.
fn usage() -> Outcome<(u64, f64)> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let memory = line.trim().trim_end_matches("kB").trim().parse()?;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, columns) = stat.rsplit_once(')').ok_or("no name")?;
    let ticks: u64 = columns.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    // Linux counts this time in hundredths of a second.
    Ok((memory, ticks as f64 / 100.0))
}

/// Runs the hub: prints its address, and its use of resources each time a line comes.
async fn hub(many: usize) -> Outcome<()> {
    let net = node([1; 32], many).await?;
    let mut entries = net.pull_entries();
    println!("{}", net.addr());
    let (sender, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    loop {
        tokio::select! {
            _ = entries.recv() => {}
            line = lines.recv() => {
                if line.is_none() {
                    net.shutdown().await;
                    return Ok(());
                }
                let (memory, seconds) = usage()?;
                println!("{memory} {seconds} {}", net.neighbours().len());
            }
        }
    }
}

struct Hub {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Hub {
    fn start(many: usize) -> Outcome<(Self, PeerAddr)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["hub", &many.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take().ok_or("no input")?, child.stdout.take().ok_or("no output")?);
        let mut hub = Self { child, input, output: BufReader::new(output) };
        let addr = hub.line()?.trim().parse()?;
        Ok((hub, addr))
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }

    /// The hub's memory in KiB, its processor seconds, and its number of neighbours.
    fn usage(&mut self) -> Outcome<(u64, f64, usize)> {
        writeln!(self.input)?;
        let line = self.line()?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [memory, seconds, neighbours] = words[..] else { return Err("the hub said something else".into()) };
        Ok((memory.parse()?, seconds.parse()?, neighbours.parse()?))
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let many: usize = args.last().map_or(Ok(200), |last| last.parse())?;
    if args.first().is_some_and(|first| first == "hub") {
        return hub(many).await;
    }
    let (mut hub, addr) = Hub::start(many)?;
    let (alone, _, _) = hub.usage()?;
    let mut nodes = Vec::new();
    for index in 0..many {
        let key = *Hash::of(&index.to_le_bytes()).as_bytes();
        let net = node(key, 8).await?;
        net.add_peer(addr.clone())?;
        let mut pulled = net.pull_entries();
        while !matches!(pulled.recv().await, Some(Pulled::CaughtUp { .. })) {}
        nodes.push((net, pulled));
    }
    while hub.usage()?.2 < many {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (memory, before, neighbours) = hub.usage()?;
    tokio::time::sleep(IDLE).await;
    let (_, after, _) = hub.usage()?;
    let cost = (after - before) / IDLE.as_secs_f64();
    println!("{neighbours} neighbours, a stream in either direction with each");
    println!("memory    {alone} KiB alone, {memory} KiB with them: {} KiB each", (memory - alone) / neighbours as u64);
    println!(
        "processor {:.2} % of a core while idle: {:.1} us a second each",
        cost * 1e2,
        cost * 1e6 / neighbours as f64
    );
    for (net, _) in &nodes {
        net.shutdown().await;
    }
    drop(hub.input);
    hub.child.wait()?;
    Ok(())
}
