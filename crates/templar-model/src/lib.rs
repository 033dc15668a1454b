//! The transformer that a run trains: a Llama-style decoder with its forward and backward pass written out.
//!
//! A training step: the gradient of one micro-batch, then AdamW.
//!
//! ```
//! use std::sync::Arc;
//!
//! use templar_device::{Cpu, Device};
//! use templar_manifest::ModelSpec;
//! use templar_model::{AdamWSettings, Model, Moments, OptimizerStep, step};
//!
//! let spec = ModelSpec {
//!     vocab_size: 16,
//!     hidden_size: 8,
//!     layers: 1,
//!     heads: 2,
//!     head_size: None,
//!     kv_heads: 1,
//!     ffn_size: 16,
//!     rope_theta: 10_000,
//!     rope_scaling: None,
//!     norm_eps_bits: 1e-5f32.to_bits(),
//!     tied_embeddings: true,
//!     sequence_length: 4,
//!     position_limit: None,
//! };
//! let device = Arc::new(Cpu::best());
//! let mut model = Model::new(&spec, device.clone())?;
//! let mut params = device.upload(model.init(&[1; 32]).into())?;
//! let mut grad = device.zeros(params.len())?;
//! let mut moments = Moments::zero(&*device, model.parameter_count())?;
//!
//! // One sequence: tokens 1 to 4 are the inputs, tokens 2 to 5 the targets.
//! let tokens = [1, 2, 3, 4, 5];
//! let before = model.forward_backward(&params, &tokens, 1.0 / 4.0, &mut grad)?;
//! let at = OptimizerStep { settings: &AdamWSettings::reference(), learning_rate: 0.01, number: 1 };
//! step(&model, at, &mut params, &mut grad, &mut moments)?;
//! assert!(model.loss(&params, &tokens)? < before);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The model
//!
//! A token's row of the embedding is the start of its residual stream, a vector of `hidden_size` numbers. Each
//! layer adds two vectors to it: the output of attention over the tokens before it, and the output of a gated
//! feed-forward. Both read the stream through an RMSNorm. After the last layer one more norm and the output
//! head give a score per token of the vocabulary, and the loss is the cross-entropy of the next token, in nats.
//!
//! # One flat vector
//!
//! Parameters, gradients and the optimizer's two moments are flat vectors of f32, each one buffer of a device
//! (`templar-device`), in the order in which a Hugging Face model lists its tensors ([`Model::tensors`]), so
//! they hash, compress and save tensor by tensor, and the body of a `model.safetensors` file is the parameter
//! vector itself.
//!
//! # The forward pass
//!
//! Every operation below is one of `templar-numerics`' and has its order there: `x Wᵀ` is a product whose
//! elements are each one chain of fused multiply-adds over the inputs ascending; `norm` is RMSNorm with
//! `norm_eps_bits`. Rows are the tokens of all sequences of a micro-batch, in order. With w the width of
//! a head, `head_size` or `hidden_size / heads`:
//!
//! 1. `x` is the tokens' rows of `model.embed_tokens`.
//! 2. In each layer, ascending:
//!    1. `n = norm(x)` by `input_layernorm`; queries, keys and values are `n Wqᵀ`, `n Wkᵀ`, `n Wvᵀ`.
//!    2. Queries and keys are turned by the rotary tables, head by head, positions from 0 in each sequence; then each
//!       element of the queries is multiplied by `1/√w`, an f32.
//!    3. Attention: query head h reads key and value head `h / (heads / kv_heads)`. Row r is
//!       `p = softmax(q_r · k_c for c = 0..=r)`, and its context the sum of `p_c v_c`, one chain over c
//!       ascending. (A row's chain goes on with terms `0 · v_c` up to the end of its block of 64 rows, which
//!       can change the sign of a zero.)
//!    4. `x' = context Woᵀ + x`: the product first, then one addition.
//!    5. `n = norm(x')` by `post_attention_layernorm`; `g = n Wgateᵀ`, `u = n Wupᵀ`; `x = (silu(g) · u) Wdownᵀ + x'`.
//! 3. `n = norm(x)` by `model.norm`; logits `n Wheadᵀ`, and a row's loss is the cross-entropy of the next
//!    token. Losses are added in f64 in token order.
//!
//! # The backward pass
//!
//! From `s`, the factor on the summed loss (a run's is 1 over the tokens of a step), in this order.
//! `dW = dyᵀ x` is a product over the rows of the micro-batch ascending; `dx = dy W`. All chains begin at +0.
//!
//! 1. The output head: `dlogits` from the cross-entropy with scale s, `dn = dlogits Whead`,
//!    `dWhead = dlogitsᵀ n`; then the final norm's gradients, onto a residual gradient `r` of zeros.
//! 2. In each layer, descending:
//!    1. With `a = silu(g) · u`: `da = r Wdown`, `dWdown = rᵀ a`; `dg`, `du` from the gate; `dWgate = dgᵀ n`,
//!       `dWup = duᵀ n`; `dn = dg Wgate`, then going on in the same chains `dn += du Wup`; the norm adds its input's
//!       gradient to r, and its weight's is a sum over the rows from +0.
//!    2. `dc = r Wo`, `dWo = rᵀ c`. Per sequence and key head, over its query heads ascending and their blocks
//!       of 64 rows ascending: `dp = dc vᵀ`, `ds` from the softmax, `dv += pᵀ dc`, `dq = ds k`, `dk += dsᵀ q`.
//!       Then `dq` times `1/√w`, and `dq` and `dk` turned back.
//!    3. `d(Wq, Wk, Wv) = d(q, k, v)ᵀ n`, and `dn = dq Wq`, on to `dk Wk`, on to `dv Wv` in one chain; the
//!       norm as above.
//! 3. Row by row in token order, `r` is added to the embedding's gradient. With tied embeddings that is also
//!    the head's, so it holds the head's first and then the tokens'.
//!
//! # Steps
//!
//! Micro-batches are taken in the order of their pages. The gradient of each is computed by itself. The gradient
//! of the step is the first one's, to which the others' are added in their order, one addition an element. So
//! the cut into micro-batches is a part of a run's definition, and several devices can compute micro-batches of
//! one step at the same time. [`step`] then checks the gradient: an element that is not finite makes the step
//! invalid, and the error names it. It clips the gradient by its norm and applies AdamW. Weight decay applies to
//! matrices, not to norms. The caller gives the learning rate of each step.
//!
//! # The same bits everywhere
//!
//! There is no automatic differentiation. The backward pass is written out because it *is* the specification:
//! the order of every accumulation can be read from it, and no upgrade of a library changes it. Threads only
//! choose which outputs are computed together. Two more choices have no influence on a result: the number of
//! rows of logits that are held at a time, and whether activations are kept or, with [`Model::recompute`],
//! computed a second time from each layer's input. Every device gives the same bits, too.
//!
//! # Memory
//!
//! The caller holds parameters, gradient and two moments once each: 16 bytes a parameter. With several
//! micro-batches a step the model holds room for two more tensors: the embedding, and the largest one of a layer.
//! A model's own buffers hold, for each token of a micro-batch and each layer, `2 d + 2 ffn_size + 2 w (heads +
//! kv_heads)` numbers of 4 bytes, with d = `hidden_size`; with recomputation only d. In addition there are one
//! layer's workspace and 16 MiB of logits. On a
//! CPU no buffer is quadratic in the sequence's length. Evaluation keeps no
//! activations of earlier layers. `BENCH.md` has measurements beside PyTorch and candle.
//!
//! # The edge
//!
//! [`decoder`] computes the same bits as the forward pass for many texts at once, which may begin alike and go on token by
//! token: an evaluation and a server read texts through it.
//!
//! [`hf`] reads and writes Hugging Face folders, and [`generate`] lets candle-transformers continue a prompt. Both deal
//! in tokens and not in text. Nothing that leaves through that edge comes back into training.

mod activations;
mod backward;
pub mod decoder;
mod forward;
pub mod generate;
mod gradient;
pub mod hf;
mod init;
mod layout;
mod likelihood;
mod linear;
mod lm_head;
mod model;
mod optimizer;
mod pass;
pub mod sizes;

pub use layout::{ConfigError, tensors};
pub use likelihood::{Asked, Likelihood};
pub use model::{Model, StepError, recompute_by_default};
pub use optimizer::{AdamWSettings, Moments, OptimizerStep, step};
