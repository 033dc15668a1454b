//! Nodes in network namespaces, joined by links like those of homes: a slow uplink, a faster downlink, and a
//! delay.
//!
//! Node i has the address 10.77.i.2 and reaches only the hub at 10.77.i.1, which routes nothing by itself. Port
//! 7000 + j of the hub stands for node j. `tc` shapes the traffic from each node and to it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use crate::Outcome;
use crate::node::cpu_seconds;

type Any<T> = Result<T, Box<dyn std::error::Error>>;

/// A number that the environment may set.
#[allow(clippy::disallowed_methods, reason = "an experiment's switch")]
fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn ip(line: &str) -> Any<()> {
    run("ip", line)
}

fn run(program: &str, line: &str) -> Any<()> {
    let done = Command::new(program).args(line.split_whitespace()).status()?;
    if done.success() { Ok(()) } else { Err(format!("`{program} {line}` failed").into()) }
}

/// The machine's processor time in seconds: the time spent on anything, and the time stolen by its host.
fn machine_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> =
        stat.lines().next().unwrap_or_default().split_whitespace().filter_map(|n| n.parse().ok()).collect();
    match ticks[..] {
        [user, nice, system, _idle, _waiting, hard, soft, stolen, ..] => {
            ((user + nice + system + hard + soft) / 100.0, stolen / 100.0)
        }
        _ => (0.0, 0.0),
    }
}

/// The network namespaces, which are deleted when this is dropped.
struct Links {
    names: Vec<String>,
}

impl Drop for Links {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&format!("netns del {name}")).ok();
        }
    }
}

impl Links {
    /// Makes namespaces for the hub and the nodes 1 to `nodes`, with rates in Mbit/s.
    fn new(nodes: usize, up: u32, down: u32) -> Any<Self> {
        let mut links = Self { names: Vec::new() };
        links.add("tb-hub")?;
        for node in 1..=nodes {
            let name = format!("tb-{node}");
            links.add(&name)?;
            ip(&format!("link add v{node} netns {name} type veth peer name h{node} netns tb-hub"))?;
            ip(&format!("-n {name} addr add 10.77.{node}.2/24 dev v{node}"))?;
            ip(&format!("-n tb-hub addr add 10.77.{node}.1/24 dev h{node}"))?;
            ip(&format!("-n {name} link set v{node} up"))?;
            ip(&format!("-n tb-hub link set h{node} up"))?;
            let bucket = |rate: u32| format!("root tbf rate {rate}mbit burst 64kb latency 50ms");
            run("tc", &format!("-n {name} qdisc add dev v{node} {}", bucket(up)))?;
            run("tc", &format!("-n tb-hub qdisc add dev h{node} {}", bucket(down)))?;
        }
        Ok(links)
    }

    /// The packets that the shaped queues dropped: on the way from the nodes, and on the way to them.
    fn dropped(&self) -> Any<(u64, u64)> {
        let (mut up, mut down) = (0, 0);
        for name in &self.names {
            let shown = Command::new("tc").args(["-s", "-n", name, "qdisc", "show"]).output()?;
            let text = String::from_utf8_lossy(&shown.stdout);
            let counts = text.split("(dropped ").skip(1).filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok());
            *(if name == "tb-hub" { &mut down } else { &mut up }) += counts.sum::<u64>();
        }
        Ok((up, down))
    }

    fn add(&mut self, name: &str) -> Any<()> {
        ip(&format!("netns add {name}"))?;
        self.names.push(name.to_owned());
        ip(&format!("-n {name} link set lo up"))
    }
}

/// A process of this program in a namespace, with the lines that it prints.
struct Actor {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Actor {
    fn new(namespace: &str, args: &[String]) -> Any<Self> {
        let program = std::env::current_exe()?;
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Self { child, lines })
    }

    fn cpu(&self) -> f64 {
        cpu_seconds(&self.child.id().to_string())
    }

    fn line(&mut self) -> Any<String> {
        Ok(self.lines.next().ok_or("a process ended early")??)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // The process ends when its standard input ends.
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

/// Counts processor time during a measurement.
struct Meter {
    start: Instant,
    machine: (f64, f64),
    forwarder: f64,
    seeders: f64,
}

impl Meter {
    fn start(stage: &Stage) -> Self {
        #[allow(clippy::disallowed_methods, reason = "a measurement")]
        let start = Instant::now();
        Self { start, machine: machine_seconds(), forwarder: stage.forwarder.cpu(), seeders: cpu(&stage.actors) }
    }

    fn report(&self, stage: &Stage, receivers: &[Actor]) -> Any<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (all, (busy, stolen)) = (self.start.elapsed().as_secs_f64() * cores as f64, machine_seconds());
        println!(
            "processor seconds: {:.1} of {all:.1} and {:.1} stolen; seeders {:.1}, receivers {:.1}, forwarder {:.1}",
            busy - self.machine.0,
            stolen - self.machine.1,
            cpu(&stage.actors) - self.seeders,
            cpu(receivers),
            stage.forwarder.cpu() - self.forwarder,
        );
        let (up, down) = stage.links.dropped()?;
        println!("queues: {up} packets dropped on the way up, {down} on the way down");
        Ok(())
    }
}

fn cpu(actors: &[Actor]) -> f64 {
    actors.iter().map(Actor::cpu).sum()
}

/// The text of a field of a flat JSON object.
fn field<'a>(line: &'a str, name: &str) -> Any<&'a str> {
    let start = line.find(&format!("\"{name}\":")).ok_or("no such field")? + name.len() + 3;
    let rest = line[start..].trim_start_matches('"');
    Ok(&rest[..rest.find(['"', ',', '}']).unwrap_or(rest.len())])
}

/// The links, the seeders and the forwarder of one measurement.
struct Stage {
    // Fields are dropped in this order: the processes before their namespaces.
    actors: Vec<Actor>,
    forwarder: Actor,
    dir: tempfile::TempDir,
    ids: Vec<String>,
    bytes: u64,
    links: Links,
}

impl Stage {
    /// Starts the seeders, which are the nodes 1 to `seeders` of `nodes`. Rates are in Mbit/s.
    fn new(nodes: usize, seeders: usize, bytes: u64, up: u32, down: u32) -> Any<Self> {
        let links = Links::new(nodes, up, down)?;
        // The delay of one direction in milliseconds, and the loss in thousandths.
        let mut routes = vec!["forward".to_owned(), setting("DELAY", "20"), setting("LOSS", "1")];
        routes.extend((1..=nodes).map(|node| format!("{}=10.77.{node}.2:4433", 7000 + node)));
        let mut forwarder = Actor::new("tb-hub", &routes)?;
        forwarder.line()?;
        let dir = tempfile::tempdir()?;
        let mut stage = Self { actors: Vec::new(), forwarder, dir, ids: Vec::new(), bytes, links };
        for node in 1..=seeders {
            let args = ["seed", &stage.store(node), &bind(node), &node.to_string(), &bytes.to_string()];
            let mut seeder = Actor::new(&format!("tb-{node}"), &args.map(str::to_owned))?;
            stage.ids.push(seeder.line()?);
            stage.actors.push(seeder);
        }
        Ok(stage)
    }

    fn store(&self, node: usize) -> String {
        self.dir.path().join(node.to_string()).display().to_string()
    }

    /// Starts a node that fetches from the nodes `from`.
    fn fetcher(&self, node: usize, from: &[usize]) -> Any<Actor> {
        let id = field(self.ids.first().ok_or("nobody seeds")?, "id")?;
        let mut args = ["fetch", &self.store(node), &bind(node), &node.to_string(), id, &self.bytes.to_string()]
            .map(str::to_owned)
            .to_vec();
        args.extend(from.iter().map(|other| format!("{}@10.77.{node}.1:{}", key_of(*other), 7000 + other)));
        Actor::new(&format!("tb-{node}"), &args)
    }
}

fn bind(node: usize) -> String {
    format!("10.77.{node}.2:4433")
}

/// The public key of the node whose secret key is its number, 32 times.
fn key_of(node: usize) -> String {
    let key = templar_manifest::SecretKey::from_bytes(&[u8::try_from(node).unwrap_or(0); 32]);
    key.public().to_string()
}

/// Measures table 2 of `BENCH.md`: one receiver and several providers. Rates are in Mbit/s.
pub(crate) fn one_receiver(providers: usize, bytes: u64, up: u32, down: u32) -> Outcome {
    let stage = Stage::new(providers + 1, providers, bytes, up, down)?;
    let from: Vec<usize> = (1..=providers).collect();
    let meter = Meter::start(&stage);
    let mut fetcher = stage.fetcher(providers + 1, &from)?;
    let line = fetcher.line()?;
    meter.report(&stage, &[fetcher])?;
    let seconds: f64 = field(&line, "seconds")?.parse()?;
    let rate = bytes as f64 * 8e-6 / seconds;
    let most = f64::from((up * providers as u32).min(down));
    println!("{providers} providers: {seconds:.2} s, {rate:.1} Mbit/s, {:.2} of {most} Mbit/s", rate / most);
    Ok(())
}

/// Measures table 3 of `BENCH.md`: one seeder and several receivers, which know each other if `together`.
pub(crate) fn all_receivers(receivers: usize, bytes: u64, up: u32, down: u32, together: bool) -> Outcome {
    let stage = Stage::new(receivers + 1, 1, bytes, up, down)?;
    let nodes: Vec<usize> = (2..=receivers + 1).collect();
    let meter = Meter::start(&stage);
    let mut fetchers = Vec::new();
    for node in &nodes {
        let others = nodes.iter().copied().filter(|other| together && other != node);
        fetchers.push(stage.fetcher(*node, &std::iter::once(1).chain(others).collect::<Vec<_>>())?);
    }
    let mut last = 0.0_f64;
    for fetcher in &mut fetchers {
        let line = fetcher.line()?;
        last = last.max(field(&line, "seconds")?.parse()?);
        println!("{line}");
    }
    meter.report(&stage, &fetchers)?;
    let single = bytes as f64 * 8e-6 / f64::from(up.min(down));
    println!("{receivers} receivers: all after {last:.2} s; one copy at the uplink's rate takes {single:.2} s");
    Ok(())
}
