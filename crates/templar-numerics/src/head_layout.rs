//! The two layouts of queries, keys and values, and embeddings: copies and gathers, with no arithmetic but the sum of
//! embedding gradients.
//!
//! A projection writes its heads token by token, `[sequences, length, count, width]`. Attention reads them head
//! by head, `[sequences, count, length, width]`.

use rayon::prelude::*;

use crate::elementwise;
use crate::isa::Isa;

/// Rows that one task copies at least.
const ROWS_PER_TASK: usize = 128;

/// The sizes of a tensor of heads, in either layout. The number of sequences follows from a buffer's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// Positions of a sequence.
    pub length: usize,
    /// Heads of a token.
    pub count: usize,
    /// Elements of a head.
    pub width: usize,
}

impl HeadLayout {
    pub(crate) fn check(&self, from: usize, to: usize) {
        let sequence = self.length.checked_mul(self.count).and_then(|heads| heads.checked_mul(self.width));
        let whole = sequence.is_some_and(|sequence| sequence > 0 && from.is_multiple_of(sequence));
        assert!(from == to && whole, "a layout of {self:?} from {from} into {to} elements");
    }
}

pub(crate) fn split_heads(layout: HeadLayout, by_token: &[f32], by_head: &mut [f32]) {
    layout.check(by_token.len(), by_head.len());
    let HeadLayout { length, count, width } = layout;
    by_head.par_chunks_mut(length * width).enumerate().with_min_len(ROWS_PER_TASK.div_ceil(length)).for_each(
        |(index, head_rows)| {
            let (sequence, head) = (index / count, index % count);
            for (position, row) in head_rows.chunks_exact_mut(width).enumerate() {
                let start = ((sequence * length + position) * count + head) * width;
                row.copy_from_slice(&by_token[start..start + width]);
            }
        },
    );
}

pub(crate) fn merge_heads(layout: HeadLayout, by_head: &[f32], by_token: &mut [f32]) {
    layout.check(by_head.len(), by_token.len());
    let HeadLayout { length, count, width } = layout;
    by_token.par_chunks_mut(count * width).enumerate().with_min_len(ROWS_PER_TASK).for_each(|(token, token_row)| {
        let (sequence, position) = (token / length, token % length);
        for (head, row) in token_row.chunks_exact_mut(width).enumerate() {
            let start = ((sequence * count + head) * length + position) * width;
            row.copy_from_slice(&by_head[start..start + width]);
        }
    });
}

pub(crate) fn embedding(table: &[f32], ids: &[u32], out: &mut [f32]) {
    let Some(width) = embedding_width(ids, out.len()) else { return };
    for (row, id) in out.chunks_exact_mut(width).zip(ids) {
        row.copy_from_slice(&table[*id as usize * width..][..width]);
    }
}

pub(crate) fn embedding_backward(isa: Isa, dout: &[f32], ids: &[u32], dtable: &mut [f32]) {
    let Some(width) = embedding_width(ids, dout.len()) else { return };
    for (row, id) in dout.chunks_exact(width).zip(ids) {
        elementwise::add_with(isa, &mut dtable[*id as usize * width..][..width], row);
    }
}

/// The width of a row, or nothing where there is no element.
fn embedding_width(ids: &[u32], elements: usize) -> Option<usize> {
    let width = elements.checked_div(ids.len()).unwrap_or(0);
    assert_eq!(width * ids.len(), elements, "embeddings of {} ids in {elements} elements", ids.len());
    (width > 0).then_some(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_undoes_split() {
        let layout = HeadLayout { length: 5, count: 3, width: 4 };
        let by_token: Vec<f32> = (0..2 * 5 * 3 * 4).map(|i| i as f32).collect();
        let mut by_head = vec![0.0; by_token.len()];
        split_heads(layout, &by_token, &mut by_head);
        // Sequence 1, head 2, position 3 is token 8's third group.
        let head_row = ((3 + 2) * 5 + 3) * 4;
        assert_eq!(by_head[head_row], by_token[(8 * 3 + 2) * 4]);
        let mut back = vec![0.0; by_token.len()];
        merge_heads(layout, &by_head, &mut back);
        assert_eq!(back, by_token);
    }
}
