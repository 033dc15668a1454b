//! `templar device list`: the devices, and what each reports about itself.

use serde_json::json;
use templar_device::{Cpu, Device as _, DeviceReport, list};

use super::words::{built_without, value};
use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{bytes, table};

/// List the devices of this machine with what they report about themselves
///
/// Nothing is compiled or tested. The first column has the names that `--device` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

pub(crate) fn run(invocation: &Invocation, _args: &ListArgs) -> CommandResult {
    let reports = list()?;
    let cpu = Cpu::default();
    let mut rows = vec![["NAME", "KIND", "MEMORY", "ARITHMETIC", "DEVICE"].map(str::to_owned).to_vec()];
    rows.push(["cpu", "CPU", "-", "hardware", &cpu.name()].map(str::to_owned).to_vec());
    rows.extend(reports.iter().map(row));
    let devices: Vec<_> = reports.iter().map(value).collect();
    let value = json!({
        "cpu": {"name": "cpu", "isa": cpu.isa().to_string()}, "devices": devices,
        "built_with": templar_device::built_with(),
    });
    invocation.printer.data(&value, table(&rows));
    if let Some(text) = built_without() {
        invocation.printer.talk(text);
    }
    Ok(Code::Ok)
}

fn row(report: &DeviceReport) -> Vec<String> {
    let arithmetic = match report.path() {
        Ok(path) => path.to_string(),
        Err(reason) => format!("none: {reason}"),
    };
    vec![
        report.choice.to_string(),
        report.kind.to_string(),
        bytes(report.memory_bytes),
        arithmetic,
        format!("{}, {}", report.name, report.platform),
    ]
}
