//! What a long history costs: the start of a replica, its memory, and what it copies.
//!
//! ```sh
//! history make FOLDER WINDOWS MINERS   # the home of a run that nobody trained
//! history open FOLDER                  # folds the whole journal, as audits and single commands do
//! history resume FOLDER                # begins with the newest certified copy of the state, as a node does
//! history copies FOLDER                # what a task took of the node, before and now
//! ```

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use templar_home::Home;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_home::replica::Replica;
use templar_testkit::long_run::LongRun;

/// How often a copy is timed.
const COPIES: u32 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["make", folder, windows, miners] => {
            let mut run = LongRun::begin(Path::new(folder), windows.parse()?, miners.parse()?)?;
            let records = run.write(Path::new(folder))?;
            let bytes: usize = records.iter().map(Vec::len).sum();
            println!("{} windows, {} entries, {bytes} bytes", run.state().window(), records.len());
        }
        ["open", folder] => told(&home(folder)?, Replica::open)?,
        ["resume", folder] => told(&home(folder)?, Replica::resume)?,
        ["copies", folder] => copies(&home(folder)?)?,
        _ => return Err("expected make FOLDER WINDOWS MINERS, or open, resume or copies and FOLDER".into()),
    }
    Ok(())
}

/// A home and its run.
fn home(folder: &str) -> Result<(Home, RunContext), Box<dyn Error>> {
    let access = Access::read(Path::new(folder))?;
    Ok((access.home.clone(), access.run(None)?))
}

type Open<E> = fn(&Home, RunContext, templar_manifest::SecretKey) -> Result<Replica, E>;

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn told<E: Error + 'static>((home, context): &(Home, RunContext), open: Open<E>) -> Result<(), Box<dyn Error>> {
    let key = home.key()?;
    let before = memory_kib();
    let start = Instant::now();
    let replica = open(home, context.clone(), key)?;
    let seconds = start.elapsed().as_secs_f64();
    replica.notes().iter().for_each(|note| println!("{note}"));
    println!(
        "window {}, {} entries, {} windows in memory: {seconds:.2} s, {} MiB more, {} MiB at most",
        replica.node().state().window(),
        replica.entries(),
        replica.node().closed().len(),
        memory_kib()[0].saturating_sub(before[0]) / 1024,
        memory_kib()[1] / 1024,
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn copies((home, context): &(Home, RunContext)) -> Result<(), Box<dyn Error>> {
    let replica = Replica::open(home, context.clone(), home.key()?)?;
    let node = replica.node();
    let timed = |copy: &dyn Fn()| {
        let start = Instant::now();
        (0..COPIES).for_each(|_| copy());
        start.elapsed().as_secs_f64() * 1e3 / f64::from(COPIES)
    };
    let whole = timed(&|| drop((node.closed().to_vec(), node.state().clone())));
    let shared = timed(&|| drop(node.clone()));
    println!(
        "{} closed windows: a copy of everything {whole:.2} ms, a node that shares {shared:.4} ms",
        node.closed().len()
    );
    Ok(())
}

/// The memory of this process now and at most, in KiB; zeros where the system does not say.
fn memory_kib() -> [u64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    })
}
