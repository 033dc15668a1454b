//! `templar device bench`: the speed of devices, beside that of the CPU.

mod measure;

use std::sync::Arc;

use serde_json::{Value, json};
use templar_device::{Admitted, Cpu, Device, DeviceChoice, admit, list};
use templar_model::sizes;

use super::words::built_without;
use crate::compute::options;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{Printer, table};
use measure::{Speed, Work, measure};

/// Time devices: products of matrices and training steps, each beside the CPU
///
/// Every device is tested before, unless it has passed in this version of its driver. All rows are measured in one run,
/// and each figure is the best of several. The results are the same bits on every device; only the times differ.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// The device, as `templar device list` names it [default: all]
    device: Option<DeviceChoice>,
    /// The size of the model: a name that `run new --size` takes
    #[arg(long, default_value = "small")]
    size: String,
    /// The number of tokens in the vocabulary
    #[arg(long, value_name = "TOKENS", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    vocabulary: u32,
    /// The number of sequences in a step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    sequences: u32,
    /// The number of steps; the best counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
}

pub(crate) fn run(invocation: &Invocation, args: &BenchArgs) -> CommandResult {
    let spec = sizes::preset(&args.size, args.vocabulary)
        .ok_or_else(|| CommandError::says(Code::Usage, format_args!("there is no size {:?}", args.size)))?;
    let work = Work { spec, sequences: args.sequences, steps: args.steps };
    let printer = invocation.printer;
    let cpu: Arc<dyn Device> = Arc::new(Cpu::default());
    let mut rows = vec![
        ["DEVICE", "ARITHMETIC", "PRODUCTS", "TOKENS/S", "OF THE CPU", "HASHES", "HOST"].map(str::to_owned).to_vec(),
    ];
    let base = measured(&printer, &cpu, &work)?;
    rows.push(row(&cpu.name(), "hardware", &base, &base));
    let mut values = vec![value("cpu", "hardware", &base)];
    let choices: Vec<DeviceChoice> = match args.device {
        Some(DeviceChoice::Cpu) => Vec::new(),
        None | Some(DeviceChoice::Auto) => list()?.iter().map(|report| report.choice).collect(),
        Some(choice) => vec![choice],
    };
    for choice in choices {
        let Admitted { device, report, path, .. } = admit(choice, &options(invocation))?;
        let speed = measured(&printer, &device, &work)?;
        rows.push(row(&report.title(), &path.to_string(), &speed, &base));
        values.push(value(&choice.to_string(), &path.to_string(), &speed));
    }
    printer.data(&json!({"size": args.size, "sequences": args.sequences, "devices": values}), table(&rows));
    if let Some(text) = built_without() {
        printer.talk(text);
    }
    Ok(Code::Ok)
}

fn measured(printer: &Printer, device: &Arc<dyn Device>, work: &Work) -> Result<Speed, CommandError> {
    printer.talk(format_args!("measuring {}", device.name()));
    measure(device, work).map_err(|error| CommandError::new(Code::Failed, error))
}

fn row(name: &str, arithmetic: &str, speed: &Speed, cpu: &Speed) -> Vec<String> {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    vec![
        name.to_owned(),
        arithmetic.to_owned(),
        format!("{:.1} GFLOP/s", speed.flops / 1e9),
        format!("{:.0}", speed.tokens_per_second),
        format!("{:.2}", speed.tokens_per_second / cpu.tokens_per_second),
        percent(speed.hash_share),
        speed.host_share.map_or_else(|| "-".to_owned(), percent),
    ]
}

fn value(name: &str, arithmetic: &str, speed: &Speed) -> Value {
    json!({
        "name": name, "arithmetic": arithmetic, "flops": speed.flops, "tokens_per_second": speed.tokens_per_second,
        "hash_share": speed.hash_share, "host_share": speed.host_share,
    })
}
