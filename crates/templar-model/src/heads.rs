//! Between the two layouts of queries, keys and values: token by token as projections write them, and head by head as
//! attention reads them.
//!
//! Only copies; no arithmetic.

use rayon::prelude::*;

/// Rows that one task copies at least.
const ROWS_PER_TASK: usize = 128;

/// `by_token [sequences, length, count, width]` to `by_head [sequences, count, length, width]`.
pub(crate) fn split(by_token: &[f32], by_head: &mut [f32], length: usize, count: usize, width: usize) {
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

/// `by_head [sequences, count, length, width]` to `by_token [sequences, length, count, width]`.
pub(crate) fn merge(by_head: &[f32], by_token: &mut [f32], length: usize, count: usize, width: usize) {
    by_token.par_chunks_mut(count * width).enumerate().with_min_len(ROWS_PER_TASK).for_each(|(token, token_row)| {
        let (sequence, position) = (token / length, token % length);
        for (head, row) in token_row.chunks_exact_mut(width).enumerate() {
            let start = ((sequence * count + head) * length + position) * width;
            row.copy_from_slice(&by_head[start..start + width]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_undoes_split() {
        let (sequences, length, count, width) = (2, 5, 3, 4);
        let by_token: Vec<f32> = (0..sequences * length * count * width).map(|i| i as f32).collect();
        let mut by_head = vec![0.0; by_token.len()];
        split(&by_token, &mut by_head, length, count, width);
        // Sequence 1, head 2, position 3 is token 8's third group.
        let head_row = ((count + 2) * length + 3) * width;
        assert_eq!(by_head[head_row], by_token[(8 * count + 2) * width]);
        let mut back = vec![0.0; by_token.len()];
        merge(&by_head, &mut back, length, count, width);
        assert_eq!(back, by_token);
    }
}
