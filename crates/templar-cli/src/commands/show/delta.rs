//! The lines that `templar show` prints about a delta.

use templar_query::object::delta::{DeltaTensor, DeltaView};

use crate::printer::bytes;

pub(super) fn lines(delta: &DeltaView) -> Vec<String> {
    let mut lines = vec![
        format!("run = {}", delta.run.short()),
        format!("window = {}", delta.window),
        format!("miner = {}", delta.miner.short()),
        format!(
            "quantiser = {}, {} of a block of {} x {}",
            delta.quantiser, delta.top_k, delta.block_side, delta.block_side
        ),
        format!("tensors = {}", delta.tensors),
        format!("header and directory = {}", bytes(delta.header_bytes + delta.directory_bytes)),
        format!("fronts = {}", bytes(delta.bytes.front_bytes)),
        format!("positions = {}", bytes(delta.bytes.index_bytes)),
        format!("scales = {}", bytes(delta.bytes.scale_bytes)),
        format!("codes = {}", bytes(delta.bytes.code_bytes)),
    ];
    match &delta.decoded {
        None => lines.push("values = unknown: the genesis of its run is not here".to_owned()),
        Some(found) => {
            lines.push(format!("values = {} of {} parameters", found.values, found.parameters));
            lines.push(format!(
                "bits a parameter = {:.4}, {:.1} x smaller than fp32, {:.1} x than bf16",
                found.bits_per_parameter, found.ratio_fp32, found.ratio_bf16
            ));
            lines.extend(found.by_tensor.iter().map(tensor));
        }
    }
    lines
}

fn tensor(tensor: &DeltaTensor) -> String {
    let DeltaTensor { name, shape, values, norm, bytes: spent } = tensor;
    let shape: Vec<String> = shape.iter().map(u64::to_string).collect();
    let each = |bytes: u64| bytes as f64 * 8.0 / *values as f64;
    format!(
        "{name} ({}) = {values} values, norm {norm:.3e}, {}: {:.2} bits a position, {:.2} a code",
        shape.join(" x "),
        bytes(spent.total()),
        each(spent.index_bytes),
        each(spent.code_bytes + spent.scale_bytes),
    )
}
