//! The trained architecture for many texts at once, which keeps the keys and values of each text.
//!
//! The forward pass computes every row of its products by itself: an element is one chain over the inputs, whatever
//! other rows there are. So rows of different texts can share one product, and a row that was computed earlier need
//! not be computed again. [`Decoder::read`] takes the next tokens of some texts and computes these rows alone. Of the
//! last layer it computes no more than the keys and values of all rows, and the rows whose states are wanted.
//!
//! Texts that begin alike read their beginning once: [`TextCache::share`] and [`TextCache::prefix`] copy nothing.
//!
//! The result is that of [`Model::logits`](crate::Model::logits), bit for bit, for whatever division into calls, and
//! beside whatever other texts. One reservation: the whole pass goes on with terms `0 · v` up to the end of a block of
//! 64 rows. Such a term can change the sign of a zero, after an underflow, in one element of a context.
//!
//! It computes on the CPU, with the kernels of `templar-numerics`. Texts that are served and texts that are evaluated
//! both go through it.

mod attention;
mod cache;

use std::ops::Range;

use templar_device::Cpu;
use templar_manifest::{ModelSpec, TensorSpec};
use templar_numerics::{Kernels, Mat, MatMut, Op, RotaryTables};

use crate::generate::GenerateError;
use crate::layout::{LayerRanges, Layout, MAX_SEQUENCE};
use crate::likelihood::{Asked, Likelihood, by_rows};
use attention::Looking;
pub use cache::TextCache;

/// A model that continues texts. It does not change, so threads can share it.
pub struct Decoder {
    layout: Layout,
    params: Vec<f32>,
    tables: RotaryTables,
    kernels: Kernels,
}

/// Rooms for the rows of one call, which the layers use in turn: fresh memory for each product costs more than some
/// products.
#[derive(Default)]
struct Rooms {
    /// The residual stream, `[rows, hidden]`, and the same after attention.
    stream: Vec<f32>,
    middle: Vec<f32>,
    /// The output of a norm, `[rows, hidden]`, and the inverse root mean squares, `[rows]`.
    normed: Vec<f32>,
    inv_rms: Vec<f32>,
    /// Keys and values, `[rows, 2 kv_heads, width]`.
    kept: Vec<f32>,
    /// Queries and contexts, `[rows, query_width]`.
    queries: Vec<f32>,
    context: Vec<f32>,
    /// The gate, what it multiplies, and `silu(gate) · up`, `[rows, ffn]`.
    gate: Vec<f32>,
    up: Vec<f32>,
    gated: Vec<f32>,
}

/// Further tokens of a text.
#[derive(Debug)]
pub struct Reading<'a> {
    /// The cache of the text so far. One that is new belongs to an empty text.
    pub cache: &'a mut TextCache,
    /// The tokens that come next.
    pub tokens: &'a [u32],
    /// How many hidden states are wanted: those after so many tokens at the end.
    pub wanted: usize,
}

impl Reading<'_> {
    /// How many of its rows leave the last layer.
    fn wanted(&self) -> usize {
        self.wanted.min(self.tokens.len())
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
        // The instruction set that this process was told to use. All have the same bits.
        let kernels = Kernels::with_isa(Cpu::default().isa()).unwrap_or_default();
        Ok(Self { layout, params, tables, kernels })
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

    /// Reads further tokens of some texts. Returns the wanted hidden states, text by text, which [`Decoder::logits`]
    /// takes: `[wanted of all texts, hidden]`.
    ///
    /// # Errors
    /// A text that becomes too long, or a token outside the vocabulary. Then no cache has changed.
    pub fn read(&self, texts: &mut [Reading<'_>]) -> Result<Vec<f32>, GenerateError> {
        texts.iter().try_for_each(|text| self.check(text))?;
        let layout = &self.layout;
        let ids: Vec<u32> = texts.iter().flat_map(|text| text.tokens).copied().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        for text in texts.iter_mut().filter(|text| text.cache.own.is_empty()) {
            text.cache.own.resize_with(layout.layers.len() * layout.kv_heads, Default::default);
        }
        let mut rooms = Rooms { stream: vec![0.0; ids.len() * layout.hidden], ..Rooms::default() };
        self.kernels.embedding(self.weight(&layout.embedding), &ids, &mut rooms.stream);
        for (index, ranges) in layout.layers.iter().enumerate() {
            self.layer(index, ranges, texts, &mut rooms);
        }
        for text in texts {
            text.cache.own_tokens += text.tokens.len();
        }
        let Rooms { stream, mut normed, mut inv_rms, .. } = rooms;
        self.norm(&stream, &layout.final_norm, &mut normed, &mut inv_rms);
        Ok(normed)
    }

    /// The scores of the next token from hidden states `[rows, hidden]`: `[rows, vocab]`.
    pub fn logits(&self, states: &[f32]) -> Vec<f32> {
        let mut logits = Vec::new();
        self.product(states, &self.layout.output, self.layout.hidden, &mut logits);
        logits
    }

    /// The likelihoods of the tokens that are `asked` about, in their order. A row is one of the hidden states
    /// `[rows, hidden]`.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    ///
    /// # Panics
    /// A row is none of the states.
    pub fn likelihoods(&self, states: &[f32], asked: &[Asked]) -> Result<Vec<Likelihood>, GenerateError> {
        let (hidden, vocab_size) = (self.layout.hidden, self.layout.vocab);
        if let Some(asked) = asked.iter().find(|asked| asked.token as usize >= vocab_size) {
            return Err(GenerateError::Token { token: asked.token, vocab_size });
        }
        by_rows(asked, vocab_size, |rows| {
            let states: Vec<f32> =
                rows.iter().flat_map(|&row| &states[row as usize * hidden..][..hidden]).copied().collect();
            Ok(self.logits(&states))
        })
    }

    /// The width of a hidden state.
    pub fn hidden_size(&self) -> usize {
        self.layout.hidden
    }

    fn check(&self, text: &Reading<'_>) -> Result<(), GenerateError> {
        let (found, positions) = (text.cache.len() + text.tokens.len(), self.positions());
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

    /// `y = x Wᵀ` for `x [rows, inputs]`.
    fn product(&self, x: &[f32], weight: &Range<u64>, inputs: usize, y: &mut Vec<f32>) {
        let weight = self.weight(weight);
        let (rows, outputs) = (x.len() / inputs, weight.len() / inputs);
        y.resize(rows * outputs, 0.0);
        let (x, weight) = (Mat::new(x, rows, inputs), Mat::new(weight, outputs, inputs));
        self.kernels.gemm(x, Op::N, weight, Op::T, MatMut::new(y, rows, outputs), false);
    }

    fn norm(&self, x: &[f32], weight: &Range<u64>, normed: &mut Vec<f32>, inv_rms: &mut Vec<f32>) {
        normed.resize(x.len(), 0.0);
        inv_rms.resize(x.len() / self.layout.hidden, 0.0);
        self.kernels.rms_norm(x, self.weight(weight), self.layout.norm_eps, normed, inv_rms);
    }

    /// A layer, from stream to stream. The keys and values of all tokens join the caches; of the last layer the wanted
    /// rows alone come out.
    fn layer(&self, index: usize, ranges: &LayerRanges, texts: &mut [Reading<'_>], rooms: &mut Rooms) {
        let layout = &self.layout;
        let (hidden, query_width) = (layout.hidden, layout.query_width());
        let is_last = index + 1 == layout.layers.len();
        self.norm(&rooms.stream, &ranges.attention_norm, &mut rooms.normed, &mut rooms.inv_rms);
        let queries = ranges.qkv.start..ranges.qkv.start + (query_width * hidden) as u64;
        self.product(&rooms.normed, &(queries.end..ranges.qkv.end), hidden, &mut rooms.kept);
        self.keep(index, texts, &rooms.kept);
        let rows = |text: &Reading<'_>| if is_last { text.wanted() } else { text.tokens.len() };
        if is_last {
            retain_wanted(texts, hidden, &mut rooms.normed);
            retain_wanted(texts, hidden, &mut rooms.stream);
        }
        if rooms.stream.is_empty() {
            return;
        }
        self.product(&rooms.normed, &queries, hidden, &mut rooms.queries);
        self.turn(texts, rows, &mut rooms.queries);
        let first_head = index * layout.kv_heads;
        let mut rest = &rooms.queries[..];
        let looking = texts.iter().filter(|text| rows(text) > 0).map(|text| {
            let (own, others) = rest.split_at(rows(text) * query_width);
            rest = others;
            let before = text.cache.own_tokens + text.tokens.len() - rows(text);
            let heads = &text.cache.own[first_head..first_head + layout.kv_heads];
            Looking { queries: own, beginning: text.cache.beginning.as_ref(), own: heads, before }
        });
        let looking: Vec<Looking<'_>> = looking.collect();
        attention::contexts(self.kernels, layout, first_head, &looking, &mut rooms.context);
        self.product(&rooms.context, &ranges.attention_out, query_width, &mut rooms.middle);
        self.kernels.add_in_place(&mut rooms.middle, &rooms.stream);
        self.feed_forward(ranges, rooms);
    }

    /// Turns the keys of new tokens, and appends keys and values to the heads of the layer. `rows` is
    /// `[tokens of all texts, keys and then values]`.
    fn keep(&self, layer: usize, texts: &mut [Reading<'_>], rows: &[f32]) {
        let Layout { kv_heads, head_width: width, .. } = self.layout;
        let mut rest = rows;
        for text in texts.iter_mut().filter(|text| !text.tokens.is_empty()) {
            let (position, count) = (text.cache.len(), text.tokens.len());
            let (own, others) = rest.split_at(count * 2 * kv_heads * width);
            rest = others;
            for (index, head) in text.cache.own[layer * kv_heads..][..kv_heads].iter_mut().enumerate() {
                let first = head.keys.len();
                head.keys.reserve(count * width);
                head.values.reserve(count * width);
                for row in own.chunks_exact(2 * kv_heads * width) {
                    head.keys.extend_from_slice(&row[index * width..][..width]);
                    head.values.extend_from_slice(&row[(kv_heads + index) * width..][..width]);
                }
                self.kernels.rotary(&mut head.keys[first..], 1, width, self.tables.angles(), position, count);
            }
        }
    }

    /// Turns the queries of the last `rows` tokens of each text, and scales them.
    fn turn(&self, texts: &[Reading<'_>], rows: impl Fn(&Reading<'_>) -> usize, queries: &mut [f32]) {
        let Layout { heads, head_width: width, .. } = self.layout;
        let mut rest = &mut *queries;
        for text in texts.iter().filter(|text| rows(text) > 0) {
            let (own, others) = rest.split_at_mut(rows(text) * heads * width);
            rest = others;
            let position = text.cache.len() + text.tokens.len() - rows(text);
            self.kernels.rotary(own, heads, width, self.tables.angles(), position, rows(text));
        }
        self.kernels.scale_in_place(queries, 1.0 / (width as f32).sqrt());
    }

    /// `stream = down(silu(gate) · up) + middle`, of `norm(middle)`.
    fn feed_forward(&self, ranges: &LayerRanges, rooms: &mut Rooms) {
        let Rooms { stream, middle, normed, inv_rms, gate, up, gated, .. } = rooms;
        let hidden = self.layout.hidden;
        self.norm(middle, &ranges.ffn_norm, normed, inv_rms);
        self.product(normed, &ranges.gate, hidden, gate);
        self.product(normed, &ranges.up, hidden, up);
        gated.resize(gate.len(), 0.0);
        self.kernels.swiglu(gate, up, gated);
        self.product(gated, &ranges.down, self.layout.ffn, stream);
        self.kernels.add_in_place(stream, middle);
    }
}

/// Leaves the wanted rows of `x [tokens of all texts, hidden]`.
fn retain_wanted(texts: &[Reading<'_>], hidden: usize, x: &mut Vec<f32>) {
    let (mut end, mut kept) = (0, 0);
    for text in texts {
        end += text.tokens.len();
        let first = end - text.wanted();
        x.copy_within(first * hidden..end * hidden, kept * hidden);
        kept += text.wanted();
    }
    x.truncate(kept * hidden);
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("parameters", &self.params.len()).finish_non_exhaustive()
    }
}
