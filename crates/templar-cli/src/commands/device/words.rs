//! Words that the commands about devices share.

use serde_json::{Value, json};
use templar_device::{DeviceReport, FloatReport};

/// A report for a program.
pub(super) fn value(report: &DeviceReport) -> Value {
    let FloatReport { has_fma, has_subnormals, has_division, has_f64 } = report.floats;
    json!({
        "name": report.choice.to_string(), "device": report.name, "platform": report.platform, "driver": report.driver,
        "kind": report.kind.to_string(), "compute_units": report.compute_units, "memory_bytes": report.memory_bytes,
        "buffer_bytes": report.buffer_bytes, "fused_multiply_add": has_fma, "subnormals": has_subnormals,
        "rounded_division": has_division, "binary64": has_f64,
    })
}

/// The advice where the program has no code for GPUs.
pub(super) fn built_without() -> Option<&'static str> {
    let no_gpus = "this program was built without code for GPUs: cargo build --release --features opencl";
    templar_device::built_with().is_empty().then_some(no_gpus)
}
