//! Attention of new tokens over the kept keys and values of their texts.
//!
//! A context is one chain over the tokens before it, ascending, so it may rest between the beginning that a text has in
//! common with others and its own tokens. The rows of all texts with the same beginning look at it in one product.

use std::ops::Range;

use rayon::prelude::*;
use templar_numerics::{Kernels, Mat, MatMut, Op};

use super::cache::{Beginning, HeadCache};
use crate::layout::Layout;

/// Most tokens whose queries are scored together. Fewer cost more packing of keys; more see more of the scores behind
/// the diagonal, which are computed and not used.
const TOKENS: usize = 64;

/// The new tokens of a text whose contexts are computed, in one layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looking<'a> {
    /// Turned and scaled queries, `[tokens, query_width]`; one token or more.
    pub(super) queries: &'a [f32],
    /// The tokens before all of the text's own.
    pub(super) beginning: Option<&'a Beginning>,
    /// The layer's key and value heads of the text's own tokens, up to the last of the queries.
    pub(super) own: &'a [HeadCache],
    /// Own tokens before the first of the queries.
    pub(super) before: usize,
}

/// Neighbouring tokens of one text.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    text: usize,
    /// The tokens, counted over the queries of the text.
    tokens: Range<usize>,
}

/// What is computed together: tokens of texts that have the same beginning, or of one text.
type Block = Vec<Piece>;

/// Computes the contexts of all texts one after another, `[tokens, query_width]`. `first_head` is the first head of the
/// layer in a beginning.
pub(super) fn contexts(
    kernels: Kernels,
    layout: &Layout,
    first_head: usize,
    texts: &[Looking<'_>],
    contexts: &mut Vec<f32>,
) {
    let width = layout.heads / layout.kv_heads * layout.head_width;
    let query_width = layout.heads * layout.head_width;
    let starts: Vec<usize> = texts
        .iter()
        .scan(0, |next, text| Some(std::mem::replace(next, *next + text.queries.len() / query_width)))
        .collect();
    let blocks = blocks(texts, query_width);
    let found: Vec<Vec<f32>> = (0..blocks.len() * layout.kv_heads)
        .into_par_iter()
        .map_init(Vec::new, |scores, index| {
            let (block, head) = (&blocks[index / layout.kv_heads], index % layout.kv_heads);
            let beginning = texts[block[0].text].beginning;
            let shared = beginning.map_or((&[][..], &[][..]), |beginning| beginning.head(first_head + head));
            let (group, width) = (layout.heads / layout.kv_heads, layout.head_width);
            let common = shared.0.len() / width;
            HeadOfBlock { kernels, texts, block, head, group, width, shared, common }.context(query_width, scores)
        })
        .collect();
    contexts.resize(texts.iter().map(|text| text.queries.len()).sum(), 0.0);
    for (block, heads) in blocks.iter().zip(found.chunks_exact(layout.kv_heads)) {
        for (head, found) in heads.iter().enumerate() {
            let rows = block.iter().flat_map(|piece| piece.tokens.clone().map(|token| starts[piece.text] + token));
            for (row, found) in rows.zip(found.chunks_exact(width)) {
                contexts[row * query_width + head * width..][..width].copy_from_slice(found);
            }
        }
    }
}

/// Divides the tokens of all texts into blocks.
fn blocks(texts: &[Looking<'_>], query_width: usize) -> Vec<Block> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let is_alike = |group: &&mut Vec<usize>| match (texts[group[0]].beginning, text.beginning) {
            (Some(one), Some(other)) => one.is(other),
            _ => false,
        };
        match groups.iter_mut().find(is_alike) {
            Some(group) => group.push(number),
            None => groups.push(vec![number]),
        }
    }
    let mut blocks = Vec::new();
    for group in groups {
        let (mut block, mut room) = (Vec::new(), TOKENS);
        for text in group {
            let (mut from, all) = (0, texts[text].queries.len() / query_width);
            while from < all {
                let to = all.min(from + room);
                block.push(Piece { text, tokens: from..to });
                room -= to - from;
                from = to;
                if room == 0 {
                    blocks.push(std::mem::take(&mut block));
                    room = TOKENS;
                }
            }
        }
        if !block.is_empty() {
            blocks.push(block);
        }
    }
    blocks
}

/// A block and one key and value head, with the query heads that share it. Rows are the block's tokens with these heads
/// one after another.
struct HeadOfBlock<'a> {
    kernels: Kernels,
    texts: &'a [Looking<'a>],
    block: &'a [Piece],
    /// The head, counted over the layer's.
    head: usize,
    /// Query heads that share it.
    group: usize,
    width: usize,
    /// Keys and values that all rows see, `[common, width]` each.
    shared: (&'a [f32], &'a [f32]),
    common: usize,
}

impl HeadOfBlock<'_> {
    /// The context, `[rows, width]`.
    fn context(&self, query_width: usize, scores: &mut Vec<f32>) -> Vec<f32> {
        let queries = self.queries(query_width);
        let stride = self.common + self.block.iter().map(|piece| self.own(piece)).max().unwrap_or(0);
        scores.resize(queries.len() / self.width * stride, 0.0);
        self.probabilities(&queries, scores, stride);
        self.weighted(scores, stride)
    }

    /// The queries of all rows, `[rows, width]`.
    fn queries(&self, query_width: usize) -> Vec<f32> {
        let columns = self.head * self.group * self.width..(self.head + 1) * self.group * self.width;
        let mut queries = Vec::with_capacity(TOKENS * columns.len());
        for Piece { text, tokens } in self.block {
            let of_text = &self.texts[*text].queries[tokens.start * query_width..tokens.end * query_width];
            of_text.chunks_exact(query_width).for_each(|row| queries.extend_from_slice(&row[columns.clone()]));
        }
        queries
    }

    /// How many of its text's own tokens the last token of a piece sees.
    fn own(&self, piece: &Piece) -> usize {
        self.texts[piece.text].before + piece.tokens.end
    }

    /// Each piece with its rows.
    fn pieces(&self) -> impl Iterator<Item = (&Piece, Range<usize>)> {
        self.block.iter().scan(0, |next, piece| {
            let first = std::mem::replace(next, *next + piece.tokens.len() * self.group);
            Some((piece, first..*next))
        })
    }

    /// The probabilities of the tokens that each row sees, rows `stride` apart: first what all see, then their texts'
    /// own, with zeros up to the last that the piece sees.
    fn probabilities(&self, queries: &[f32], scores: &mut [f32], stride: usize) {
        let (width, common) = (self.width, self.common);
        if common > 0 {
            let rows = queries.len() / width;
            let (queries, keys) = (Mat::new(queries, rows, width), Mat::new(self.shared.0, common, width));
            let scores = MatMut::strided(scores, rows, common, stride);
            self.kernels.gemm_serial(queries, Op::N, keys, Op::T, scores, false);
        }
        for (piece, rows) in self.pieces() {
            let (own, first) = (self.own(piece), self.own(piece) - piece.tokens.len());
            let queries = Mat::new(&queries[rows.start * width..rows.end * width], rows.len(), width);
            let keys = Mat::new(&self.texts[piece.text].own[self.head].keys[..own * width], own, width);
            let of_own = MatMut::strided(&mut scores[rows.start * stride + common..], rows.len(), own, stride);
            self.kernels.gemm_serial(queries, Op::N, keys, Op::T, of_own, false);
            for (number, row) in rows.enumerate() {
                let seen = common + first + number / self.group + 1;
                let (seen, unseen) = scores[row * stride..][..common + own].split_at_mut(seen);
                self.kernels.softmax(seen);
                unseen.fill(0.0);
            }
        }
    }

    /// The values by their probabilities.
    fn weighted(&self, probabilities: &[f32], stride: usize) -> Vec<f32> {
        let (width, common) = (self.width, self.common);
        let rows = probabilities.len() / stride;
        let mut context = vec![0.0; rows * width];
        if common > 0 {
            let of_shared = Mat::strided(probabilities, rows, common, stride);
            let (values, out) = (Mat::new(self.shared.1, common, width), MatMut::new(&mut context, rows, width));
            self.kernels.gemm_serial(of_shared, Op::N, values, Op::N, out, false);
        }
        for (piece, rows) in self.pieces() {
            let own = self.own(piece);
            let of_own = Mat::strided(&probabilities[rows.start * stride + common..], rows.len(), own, stride);
            let values = Mat::new(&self.texts[piece.text].own[self.head].values[..own * width], own, width);
            let out = MatMut::new(&mut context[rows.start * width..rows.end * width], rows.len(), width);
            // The chains go on from what the beginning gave.
            self.kernels.gemm_serial(of_own, Op::N, values, Op::N, out, common > 0);
        }
        context
    }
}
