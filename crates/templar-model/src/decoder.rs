//! The trained architecture for many texts at once, with a cache of keys and values for each text.
//!
//! The forward pass computes every row of its products by itself: an element is one chain over the inputs, whatever
//! other rows there are. So rows of different texts can share one product, and a row that was computed earlier need
//! not be computed again. [`Decoder::read`] takes the next tokens of some texts and computes these rows alone.
//!
//! The result is that of [`Model::logits`](crate::Model::logits), bit for bit, for whatever division into calls, and
//! beside whatever other texts. One reservation: the whole pass goes on with terms `0 · v` up to the end of a block of
//! 64 rows. Such a term can change the sign of a zero, after an underflow, in one element of a context.
//!
//! It computes on the CPU, with the kernels of `templar-numerics`.

use std::ops::Range;

use rayon::prelude::*;
use templar_manifest::{ModelSpec, TensorSpec};
use templar_numerics::{Kernels, Mat, MatMut, Op, RotaryTables};

use crate::generate::GenerateError;
use crate::layout::{LayerRanges, Layout, MAX_SEQUENCE};

/// Rows of queries that the whole pass scores together.
const ROW_BLOCK: usize = 64;

/// A model that continues texts. It does not change, so threads can share it.
pub struct Decoder {
    layout: Layout,
    params: Vec<f32>,
    tables: RotaryTables,
    kernels: Kernels,
}

/// The keys and values of the tokens of one text that a [`Decoder`] has read.
#[derive(Debug, Clone, Default)]
pub struct TextCache {
    tokens: usize,
    /// Layer by layer, and in each the key and value heads in order.
    heads: Vec<HeadCache>,
}

/// The keys and values of one head, `[tokens, width]` each.
#[derive(Debug, Clone, Default)]
struct HeadCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Further tokens of a text.
#[derive(Debug)]
pub struct Reading<'a> {
    /// The cache of the text so far. One that is new belongs to an empty text.
    pub cache: &'a mut TextCache,
    /// The tokens that come next.
    pub tokens: &'a [u32],
}

impl TextCache {
    /// The number of tokens that have been read.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether no token has been read.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// The cache of the first `tokens` tokens, for another text that begins with them.
    pub fn prefix(&self, tokens: usize) -> Self {
        let tokens = tokens.min(self.tokens);
        let part = |all: &[f32]| all[..all.len().checked_div(self.tokens).unwrap_or(0) * tokens].to_vec();
        let head = |head: &HeadCache| HeadCache { keys: part(&head.keys), values: part(&head.values) };
        Self { tokens, heads: self.heads.iter().map(head).collect() }
    }
}

impl Decoder {
    /// The model of a specification over its flat vector of parameters. It reads as many tokens as the
    /// specification's [`positions`](ModelSpec::positions) allow.
    ///
    /// # Errors
    /// A specification that is refused, or a vector of another length.
    pub fn new(spec: &ModelSpec, params: Vec<f32>) -> Result<Self, GenerateError> {
        let spec = ModelSpec { sequence_length: spec.positions().min(MAX_SEQUENCE), ..spec.clone() };
        let layout = Layout::new(&spec)?;
        if params.len() != layout.parameters {
            return Err(GenerateError::Length { expected: layout.parameters, found: params.len() });
        }
        let (positions, theta) = (layout.sequence_length, f64::from(spec.rope_theta));
        let tables = RotaryTables::new(positions, layout.head_width, theta, layout.rotary_scaling);
        Ok(Self { layout, params, tables, kernels: Kernels::best() })
    }

    /// Rows of the embedding.
    pub fn vocab_size(&self) -> usize {
        self.layout.vocab
    }

    /// The number of positions of the model.
    pub fn positions(&self) -> usize {
        self.layout.sequence_length
    }

    /// Names and shapes of the tensors, in the order of the parameters.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.layout.tensors
    }

    /// Reads further tokens of some texts. Returns the hidden states after each token, which [`Decoder::logits`]
    /// takes, `[tokens of all texts, hidden]`.
    ///
    /// # Errors
    /// A text that becomes too long, or a token outside the vocabulary. Then no cache has changed.
    pub fn read(&self, texts: &mut [Reading<'_>]) -> Result<Vec<f32>, GenerateError> {
        texts.iter().try_for_each(|text| self.check(text))?;
        let layout = &self.layout;
        let ids: Vec<u32> = texts.iter().flat_map(|text| text.tokens).copied().collect();
        let rows = ids.len();
        let mut stream = vec![0.0; rows * layout.hidden];
        if rows == 0 {
            return Ok(stream);
        }
        for text in texts.iter_mut().filter(|text| text.cache.is_empty()) {
            text.cache.heads = vec![HeadCache::default(); layout.layers.len() * layout.kv_heads];
        }
        self.kernels.embedding(self.weight(&layout.embedding), &ids, &mut stream);
        for (index, ranges) in layout.layers.iter().enumerate() {
            let middle = self.attend(index, ranges, texts, &stream, rows);
            stream = self.feed_forward(ranges, &middle, rows);
        }
        for text in texts {
            text.cache.tokens += text.tokens.len();
        }
        Ok(self.norm(&stream, &layout.final_norm, rows))
    }

    /// The scores of the next token from hidden states `[rows, hidden]`: `[rows, vocab]`.
    pub fn logits(&self, states: &[f32]) -> Vec<f32> {
        let rows = states.len() / self.layout.hidden;
        if rows == 0 { Vec::new() } else { self.project(states, &self.layout.output, rows) }
    }

    /// The width of a hidden state.
    pub fn hidden_size(&self) -> usize {
        self.layout.hidden
    }

    fn check(&self, text: &Reading<'_>) -> Result<(), GenerateError> {
        let (found, positions) = (text.cache.tokens + text.tokens.len(), self.positions());
        if found > positions {
            return Err(GenerateError::PromptTooLong { found, positions });
        }
        match text.tokens.iter().find(|&&token| token as usize >= self.layout.vocab) {
            Some(&token) => Err(GenerateError::Token { token, vocab_size: self.layout.vocab }),
            None => Ok(()),
        }
    }

    fn weight(&self, place: &Range<u64>) -> &[f32] {
        &self.params[place.start as usize..place.end as usize]
    }

    /// `x Wᵀ` for `x [rows, inputs]`.
    fn project(&self, x: &[f32], weight: &Range<u64>, rows: usize) -> Vec<f32> {
        let (weight, inputs) = (self.weight(weight), x.len() / rows);
        let outputs = weight.len() / inputs;
        let mut y = vec![0.0; rows * outputs];
        let (x, weight) = (Mat::new(x, rows, inputs), Mat::new(weight, outputs, inputs));
        self.kernels.gemm(x, Op::N, weight, Op::T, MatMut::new(&mut y, rows, outputs), false);
        y
    }

    fn norm(&self, x: &[f32], weight: &Range<u64>, rows: usize) -> Vec<f32> {
        let (mut normed, mut inv_rms) = (vec![0.0; x.len()], vec![0.0; rows]);
        self.kernels.rms_norm(x, self.weight(weight), self.layout.norm_eps, &mut normed, &mut inv_rms);
        normed
    }

    /// `attention(norm(stream)) + stream`; the keys and values of the new tokens join the caches.
    fn attend(
        &self,
        layer: usize,
        ranges: &LayerRanges,
        texts: &mut [Reading<'_>],
        stream: &[f32],
        rows: usize,
    ) -> Vec<f32> {
        let layout = &self.layout;
        let normed = self.norm(stream, &ranges.attention_norm, rows);
        let qkv = self.project(&normed, &ranges.qkv, rows);
        let first_head = layer * layout.kv_heads;
        let mut rest = &qkv[..];
        let mut turned = Vec::with_capacity(texts.len());
        for text in texts.iter_mut() {
            let (own, others) = rest.split_at(text.tokens.len() * layout.qkv_width());
            let heads = &mut text.cache.heads[first_head..first_head + layout.kv_heads];
            turned.push(self.turn(own, text.cache.tokens, text.tokens.len(), heads));
            rest = others;
        }
        let texts: Vec<(&[f32], &[HeadCache], usize)> = turned
            .iter()
            .zip(texts.iter())
            .map(|(queries, text)| {
                let heads = &text.cache.heads[first_head..first_head + layout.kv_heads];
                (&queries[..], heads, text.cache.tokens)
            })
            .collect();
        let context = self.contexts(&texts, rows);
        let mut middle = self.project(&context, &ranges.attention_out, rows);
        self.kernels.add_in_place(&mut middle, stream);
        middle
    }

    /// Turns the queries and keys of `rows` tokens from `position` on, and appends keys and values to the heads.
    /// Returns the queries, scaled, `[rows, query_width]`.
    fn turn(&self, qkv: &[f32], position: usize, rows: usize, heads: &mut [HeadCache]) -> Vec<f32> {
        let Layout { heads: count, kv_heads, head_width: width, .. } = self.layout;
        let (query_width, key_width) = (count * width, kv_heads * width);
        let columns = |range: Range<usize>| -> Vec<f32> {
            qkv.chunks_exact(self.layout.qkv_width()).flat_map(|row| &row[range.clone()]).copied().collect()
        };
        let mut queries = columns(0..query_width);
        let mut keys = columns(query_width..query_width + key_width);
        let values = columns(query_width + key_width..query_width + 2 * key_width);
        if rows > 0 {
            let angles = self.tables.angles();
            self.kernels.rotary(&mut queries, count, width, angles, position, rows);
            self.kernels.rotary(&mut keys, kv_heads, width, angles, position, rows);
            self.kernels.scale_in_place(&mut queries, 1.0 / (width as f32).sqrt());
        }
        for (keys, values) in keys.chunks_exact(key_width).zip(values.chunks_exact(key_width)) {
            for (head, (key, value)) in heads.iter_mut().zip(keys.chunks_exact(width).zip(values.chunks_exact(width))) {
                head.keys.extend_from_slice(key);
                head.values.extend_from_slice(value);
            }
        }
        queries
    }

    /// The contexts of all texts, `[rows, query_width]`. A text is its queries, its key and value heads, and the
    /// number of tokens before its queries.
    fn contexts(&self, texts: &[(&[f32], &[HeadCache], usize)], rows: usize) -> Vec<f32> {
        let Layout { heads, kv_heads, head_width: width, .. } = self.layout;
        let query_width = heads * width;
        let by_head: Vec<Vec<f32>> = (0..texts.len() * heads)
            .into_par_iter()
            .map(|index| {
                let ((queries, caches, position), head) = (texts[index / heads], index % heads);
                self.head_context(queries, head, &caches[head / (heads / kv_heads)], position)
            })
            .collect();
        let mut context = Vec::with_capacity(rows * query_width);
        for (queries, heads_of_text) in texts.iter().map(|text| text.0).zip(by_head.chunks_exact(heads)) {
            for row in 0..queries.len() / query_width {
                heads_of_text.iter().for_each(|head| context.extend_from_slice(&head[row * width..(row + 1) * width]));
            }
        }
        context
    }

    /// The context of one head, `[rows, width]`, block by block as the whole pass takes its rows.
    fn head_context(&self, queries: &[f32], head: usize, cache: &HeadCache, position: usize) -> Vec<f32> {
        let Layout { heads, head_width: width, .. } = self.layout;
        let stride = heads * width;
        let end = position + queries.len() / stride;
        let mut context = vec![0.0; (end - position) * width];
        let mut first = position;
        while first < end {
            let last = end.min((first / ROW_BLOCK + 1) * ROW_BLOCK);
            let rows = last - first;
            let own = Mat::strided(&queries[(first - position) * stride + head * width..], rows, width, stride);
            let keys = Mat::new(&cache.keys[..last * width], last, width);
            let values = Mat::new(&cache.values[..last * width], last, width);
            let mut probabilities = vec![0.0; rows * last];
            let scores = MatMut::new(&mut probabilities, rows, last);
            self.kernels.gemm_serial(own, Op::N, keys, Op::T, scores, false);
            for (row, scores) in probabilities.chunks_exact_mut(last).enumerate() {
                let (seen, unseen) = scores.split_at_mut(first + row + 1);
                self.kernels.softmax(seen);
                unseen.fill(0.0);
            }
            let probabilities = Mat::new(&probabilities, rows, last);
            let out = &mut context[(first - position) * width..(last - position) * width];
            self.kernels.gemm_serial(probabilities, Op::N, values, Op::N, MatMut::new(out, rows, width), false);
            first = last;
        }
        context
    }

    /// `down(silu(gate) · up) + middle`, of `norm(middle)`.
    fn feed_forward(&self, ranges: &LayerRanges, middle: &[f32], rows: usize) -> Vec<f32> {
        let normed = self.norm(middle, &ranges.ffn_norm, rows);
        let gate = self.project(&normed, &ranges.gate, rows);
        let up = self.project(&normed, &ranges.up, rows);
        let mut gated = vec![0.0; gate.len()];
        self.kernels.swiglu(&gate, &up, &mut gated);
        let mut output = self.project(&gated, &ranges.down, rows);
        self.kernels.add_in_place(&mut output, middle);
        output
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("parameters", &self.params.len()).finish_non_exhaustive()
    }
}
