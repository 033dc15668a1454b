//! The program behind `BENCH.md`: it measures swarm downloads between processes, over loopback or over links
//! that it makes.
//!
//! Only `links` needs root. Each node then gets a network namespace, and its only way out is a small forwarder
//! that delays and drops datagrams. `tc`'s token bucket limits the rates. Everything is taken down at the end.

mod forward;
mod links;
mod node;
mod window;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use forward::Line;

const USAGE: &str = "\
usage: swarm seed DIR BIND KEY BYTES           serve a blob of made-up bytes until standard input ends
       swarm fetch DIR BIND KEY ID BYTES PEER… fetch it, print one line of JSON, serve until standard input ends
       swarm forward MS LOSS PORT=ADDR…        forward datagrams with a delay and a loss in thousandths
       swarm links one PROVIDERS BYTES UP DOWN one receiver, so many providers, rates in Mbit/s
       swarm links all RECEIVERS BYTES UP DOWN [apart]  one seeder, so many receivers that help each other, or not
       swarm window NODES BYTES                each node fetches every other's delta, on loopback

CONGESTION=cubic   use CUBIC instead of BBR for congestion control
LOSS=0 DELAY=20    the loss of the links in thousandths, and the delay of one direction in milliseconds";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match args[..] {
            ["seed", dir, bind, key, bytes] => node::seed(dir, bind, key.parse()?, bytes.parse()?).await,
            ["fetch", dir, bind, key, id, bytes, ref peers @ ..] => {
                node::fetch(dir, bind, key.parse()?, id, bytes.parse()?, peers).await
            }
            ["forward", delay, loss, ref routes @ ..] => forward(delay.parse()?, loss.parse()?, routes).await,
            ["links", "one", providers, bytes, up, down] => {
                links::one_receiver(providers.parse()?, bytes.parse()?, up.parse()?, down.parse()?)
            }
            ["links", "all", receivers, bytes, up, down, ref apart @ ..] => {
                links::all_receivers(receivers.parse()?, bytes.parse()?, up.parse()?, down.parse()?, apart.is_empty())
            }
            ["window", nodes, bytes] => window::run(nodes.parse()?, bytes.parse()?).await,
            _ => Err(USAGE.into()),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Forwards datagrams until standard input ends. A route is `PORT=ADDR:PORT`. The delay is that of one
/// direction.
async fn forward(delay_ms: u64, loss_per_thousand: u64, routes: &[&str]) -> Outcome {
    let line = Line::new(Duration::from_millis(delay_ms), loss_per_thousand, 0);
    for route in routes {
        let (port, target) = route.split_once('=').ok_or("a route is PORT=ADDR:PORT")?;
        let any = Ipv4Addr::UNSPECIFIED.into();
        let (_, standing) = line.stand_for((any, port.parse()?).into(), any, target.parse()?).await?;
        tokio::spawn(async move {
            if let Err(error) = standing.await {
                eprintln!("error: {error}");
            }
        });
    }
    let delivering = line.clone();
    tokio::spawn(async move { delivering.deliver().await });
    println!("forwarding");
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut tokio::io::stdin(), &mut rest).await?;
    let ((passed, lost), cpu) = (line.counts(), node::cpu_seconds("self"));
    eprintln!("forwarded {passed} datagrams, lost {lost}, cpu {cpu:.2} s");
    Ok(())
}

/// The result of each part of the program.
type Outcome = Result<(), Box<dyn std::error::Error>>;
