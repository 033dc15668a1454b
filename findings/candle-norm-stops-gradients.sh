#!/usr/bin/env bash
# candle's own LayerNorm and RmsNorm layers stop gradients without an error.
#
# Expected: a layer of candle-nn can be trained through, or backward() fails.
# Observed: LayerNorm::forward, RmsNorm::forward and ops::softmax_last_dim run fused kernels that record no backward pass. The
#   gradients of everything before them, and of the norm's own weights, are absent. backward() and the optimiser return Ok, the loss
#   falls because the last layer still learns, and the layers before never move. LayerNorm without a bias, RmsNorm::forward_diff
#   and ops::softmax are differentiable.
# Matters:  fine-tuning or training a model built from these layers trains its last layer alone. After the first step, check that
#   every variable has a gradient.
# Seen:     2026-11-30, Rust 1.95 on x86-64 Linux (Linear, the layer, Linear; 20 steps of SGD):
#   candle-nn 0.11.1
#   no layer             first layer: gradient, moved | loss fell
#   softmax              first layer: gradient, moved | loss fell
#   softmax_last_dim     first layer: none, still     | loss fell
#   RmsNorm forward_diff first layer: gradient, moved | loss fell
#   RmsNorm forward      first layer: none, still     | loss fell
#   LayerNorm, no bias   first layer: gradient, moved | loss fell
#   LayerNorm            first layer: none, still     | loss fell
# Needs:    cargo; compiles about 160 crates, three minutes on one core.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
cat > "$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
candle-core = { version = "=0.11.1", default-features = false }
candle-nn = { version = "=0.11.1", default-features = false }

[profile.dev]
debug = false
TOML
cat > "$dir/src/main.rs" <<'RUST'
use candle_core::{DType, Device, Module, Result, Tensor, D};
use candle_nn::{layer_norm, layer_norm_no_bias, linear, ops, rms_norm, Optimizer, VarBuilder, VarMap, SGD};

/// Trains Linear, `layer`, Linear for 20 steps. Whether the first Linear had a gradient, moved, and the loss fell.
fn train(layer: impl Fn(&VarBuilder, &Tensor) -> Result<Tensor>) -> Result<[bool; 3]> {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let first = linear(4, 4, builder.pp("first"))?;
    let last = linear(4, 1, builder.pp("last"))?;
    let input = Tensor::new(&[[1f32, -2.0, 3.0, 0.5], [0.1, 0.7, -1.0, 2.0]], &Device::Cpu)?;
    let target = Tensor::new(&[[1f32], [-1.0]], &Device::Cpu)?;
    let loss = || layer(&builder, &first.forward(&input)?).and_then(|x| last.forward(&x)?.sub(&target)?.sqr()?.mean_all());
    // The layer's own variables exist from here on.
    let before = loss()?;
    let has_gradient = before.backward()?.get(first.weight()).is_some();
    let weights = first.weight().to_vec2::<f32>()?;
    let mut optimizer = SGD::new(variables.all_vars(), 0.01)?;
    for _ in 0..20 {
        optimizer.backward_step(&loss()?)?;
    }
    let has_moved = first.weight().to_vec2::<f32>()? != weights;
    Ok([has_gradient, has_moved, loss()?.to_scalar::<f32>()? < before.to_scalar::<f32>()?])
}

fn main() -> Result<()> {
    println!("candle-nn 0.11.1");
    let mut as_recorded = true;
    let mut row = |name: &str, expected: bool, found: Result<[bool; 3]>| -> Result<()> {
        let [has_gradient, has_moved, has_fallen] = found?;
        let gradient = if has_gradient { "gradient" } else { "none" };
        let weights = if has_moved { "moved" } else { "still" };
        let state = format!("{gradient}, {weights}");
        println!("{name:20} first layer: {state:15} | loss {}", if has_fallen { "fell" } else { "did not fall" });
        as_recorded &= has_gradient == expected && has_moved == expected && has_fallen;
        Ok(())
    };
    row("no layer", true, train(|_, x| Ok(x.clone())))?;
    row("softmax", true, train(|_, x| ops::softmax(x, D::Minus1)))?;
    row("softmax_last_dim", false, train(|_, x| ops::softmax_last_dim(x)))?;
    row("RmsNorm forward_diff", true, train(|b, x| rms_norm(4, 1e-5, b.pp("norm"))?.forward_diff(x)))?;
    row("RmsNorm forward", false, train(|b, x| rms_norm(4, 1e-5, b.pp("norm"))?.forward(x)))?;
    row("LayerNorm, no bias", true, train(|b, x| layer_norm_no_bias(4, 1e-5, b.pp("norm"))?.forward(x)))?;
    row("LayerNorm", false, train(|b, x| layer_norm(4, 1e-5, b.pp("norm"))?.forward(x)))?;
    if !as_recorded {
        eprintln!("changed: which layers pass gradients on");
        std::process::exit(1);
    }
    Ok(())
}
RUST
cargo run --quiet --manifest-path "$dir/Cargo.toml" --target-dir "${CARGO_TARGET_DIR:-$dir/target}"
