//! Everything outside matrix products against its twin. Lengths are chosen on both sides of the lanes, the
//! vectors and the sizes from which several threads work.

use super::{Generator, everywhere, same};
use crate::{AdamW, AttentionShape, HeadLayout, Isa, Kernels, RotaryScaling, RotaryTables};
use crate::{adamw, cross_entropy, elementwise, norm, reduce, rotary, softmax, swiglu, twin};

const LENGTHS: [usize; 10] = [0, 1, 31, 32, 33, 64, 100, 256, 2047, 70_001];

#[test]
fn sums_equal_the_twins() {
    let mut numbers = Generator::new(1);
    for n in LENGTHS {
        let (x, y) = (numbers.wild(n), numbers.ordinary(n));
        everywhere(|isa| {
            let what = format!("{n} on {isa}");
            same(&[reduce::sum_row(isa, &x)], &[twin::sum(&x)], &what);
            same(&[reduce::dot_row(isa, &x, &y)], &[twin::dot(&x, &y)], &what);
        });
    }
}

/// Lengths on both sides of a block's end, and one from which on threads share the blocks.
#[test]
fn squared_norms_equal_the_twin() {
    let mut numbers = Generator::new(12);
    let block = reduce::NORM_BLOCK;
    for n in LENGTHS.into_iter().chain([block - 1, block, block + 1, 2 * block, 5 * block + 77, 200_003]) {
        let x = numbers.wild(n);
        let slow = twin::squared_norm_f64(&x).to_bits();
        everywhere(|isa| {
            let fast = reduce::squared_norm_with(isa, &x).to_bits();
            assert_eq!(fast, slow, "{n} on {isa}");
        });
    }
}

/// Blocks change the order of the additions, so they can be seen.
#[test]
fn the_blocks_of_a_squared_norm_are_part_of_the_arithmetic() {
    let x = Generator::new(13).ordinary(2 * reduce::NORM_BLOCK);
    let one_row = reduce::squared_norm_block(Isa::Soft, &x);
    assert_ne!(one_row.to_bits(), twin::squared_norm_f64(&x).to_bits());
}

#[test]
fn softmax_and_its_gradient_equal_the_twins() {
    let mut numbers = Generator::new(2);
    for n in LENGTHS {
        for x in [numbers.ordinary(n), numbers.wild(n)] {
            let dp = numbers.ordinary(n);
            let mut p = x.clone();
            twin::softmax(&mut p);
            let mut ds = vec![0.0; n];
            twin::softmax_backward(&p, &dp, &mut ds);
            everywhere(|isa| {
                let mut fast = x.clone();
                softmax::softmax_row(isa, &mut fast);
                same(&fast, &p, &format!("softmax of {n} on {isa}"));
                let mut fast = vec![1.0; n];
                softmax::softmax_backward_row(isa, &p, &dp, &mut fast);
                same(&fast, &ds, &format!("softmax backward of {n} on {isa}"));
            });
        }
    }
}

#[test]
fn rms_norm_and_its_gradients_equal_the_twins() {
    let mut numbers = Generator::new(3);
    for (rows, width) in [(0, 8), (1, 1), (3, 33), (7, 128), (1100, 130), (2, 0)] {
        let (x, dy, w) = (numbers.ordinary(rows * width), numbers.ordinary(rows * width), numbers.ordinary(width));
        let (dx, dw) = (numbers.ordinary(rows * width), numbers.ordinary(width));
        let (mut out, mut inv) = (vec![0.0; rows * width], vec![0.0; rows]);
        twin::rms_norm(&x, &w, 1e-5, &mut out, &mut inv);
        let (mut twin_dx, mut twin_dw) = (dx.clone(), dw.clone());
        twin::rms_norm_backward(&x, &w, &inv, &dy, &mut twin_dx, &mut twin_dw);
        everywhere(|isa| {
            let what = format!("{rows} x {width} on {isa}");
            let (mut fast, mut fast_inv) = (vec![9.0; rows * width], vec![9.0; rows]);
            norm::rms_norm_with(isa, &x, &w, 1e-5, &mut fast, &mut fast_inv);
            same(&fast, &out, &what);
            same(&fast_inv, &inv, &what);
            let (mut fast_dx, mut fast_dw) = (dx.clone(), dw.clone());
            norm::rms_norm_backward_with(isa, &x, &w, &inv, &dy, &mut fast_dx, &mut fast_dw);
            same(&fast_dx, &twin_dx, &what);
            same(&fast_dw, &twin_dw, &what);
        });
    }
}

#[test]
fn swiglu_and_its_gradients_equal_the_twins() {
    let mut numbers = Generator::new(4);
    for n in LENGTHS {
        let (gate, up, dout) = (numbers.wild(n), numbers.ordinary(n), numbers.ordinary(n));
        let [mut out, mut dgate, mut dup] = [0; 3].map(|_| vec![0.0; n]);
        twin::swiglu(&gate, &up, &mut out);
        twin::swiglu_backward(&gate, &up, &dout, &mut dgate, &mut dup);
        everywhere(|isa| {
            let what = format!("{n} on {isa}");
            let [mut a, mut b, mut c] = [0; 3].map(|_| vec![9.0; n]);
            swiglu::swiglu_with(isa, &gate, &up, &mut a);
            swiglu::swiglu_backward_with(isa, &gate, &up, &dout, &mut b, &mut c);
            same(&a, &out, &what);
            same(&b, &dgate, &what);
            same(&c, &dup, &what);
        });
    }
}

#[test]
fn rotary_equals_the_twin_and_its_backward_undoes_the_angle() {
    let mut numbers = Generator::new(5);
    let tables = RotaryTables::new(70, 32, 10_000.0, RotaryScaling::None);
    for (rows, heads, first, sequence) in [(0, 2, 0, 1), (6, 3, 4, 3), (700, 7, 6, 64)] {
        let x = numbers.ordinary(rows * heads * 32);
        let (mut there, mut back) = (x.clone(), x.clone());
        twin::rotary(&mut there, heads, 32, tables.angles(), first, sequence);
        twin::rotary_backward(&mut back, heads, 32, tables.angles(), first, sequence);
        everywhere(|isa| {
            let what = format!("{rows} rows of {heads} heads on {isa}");
            for (direction, expected) in [(1.0, &there), (-1.0, &back)] {
                let mut fast = x.clone();
                rotary::rotary_with(isa, &mut fast, heads, 32, tables.angles(), first, sequence, direction);
                same(&fast, expected, &what);
            }
        });
        twin::rotary_backward(&mut there, heads, 32, tables.angles(), first, sequence);
        assert!(there.iter().zip(&x).all(|(a, b)| (a - b).abs() < 2e-6), "turned there and back");
    }
    let mut first = numbers.ordinary(32);
    let before = first.clone();
    twin::rotary(&mut first, 1, 32, tables.angles(), 0, 1);
    same(&first, &before, "position 0 stands still");
}

/// Llama 3.1's own numbers, and some at which every band has a few pairs.
const LLAMA3: RotaryScaling =
    RotaryScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_positions: 8192 };

#[test]
fn rotary_tables_hold_the_twins_entries() {
    let short =
        RotaryScaling::Llama3 { factor: 3.7, low_freq_factor: 1.5, high_freq_factor: 9.0, original_positions: 100 };
    let scalings = [RotaryScaling::None, RotaryScaling::Linear { factor: 4.0 }, LLAMA3, short];
    for (scaling, theta) in scalings.into_iter().zip([10_000.0, 10_000.0, 500_000.0, 700.5]) {
        let tables = RotaryTables::new(300, 128, theta, scaling);
        for position in 0..300 {
            let (cos, sin) = tables.angles().at(position);
            let entries: Vec<(f32, f32)> =
                (0..64).map(|i| twin::rotary_entry(position, i, 128, theta, scaling)).collect();
            same(cos, &entries.iter().map(|e| e.0).collect::<Vec<_>>(), "cosines");
            same(sin, &entries.iter().map(|e| e.1).collect::<Vec<_>>(), "sines");
        }
    }
}

#[test]
#[should_panic(expected = "rotary scaling out of range")]
fn a_scaling_without_a_middle_is_refused() {
    let scaling =
        RotaryScaling::Llama3 { factor: 8.0, low_freq_factor: 4.0, high_freq_factor: 4.0, original_positions: 8192 };
    RotaryTables::new(3, 4, 1e4, scaling);
}

#[test]
fn cross_entropy_equals_the_twin() {
    let mut numbers = Generator::new(6);
    for (rows, vocab) in [(0, 5), (1, 1), (3, 33), (17, 100), (40, 2048)] {
        for logits in [numbers.ordinary(rows * vocab), numbers.wild(rows * vocab)] {
            let targets: Vec<u32> = (0..rows).map(|_| (numbers.bits() % vocab as u64) as u32).collect();
            let (mut gradient, mut losses) = (logits.clone(), vec![0.0; rows]);
            twin::cross_entropy(&mut gradient, &targets, 0.125, &mut losses);
            everywhere(|isa| {
                let what = format!("{rows} x {vocab} on {isa}");
                let (mut fast, mut fast_losses) = (logits.clone(), vec![9.0; rows]);
                cross_entropy::cross_entropy_loss_with(isa, &fast, &targets, &mut fast_losses);
                same(&fast_losses, &losses, &what);
                cross_entropy::cross_entropy_with(isa, &mut fast, &targets, 0.125, &mut fast_losses);
                same(&fast_losses, &losses, &what);
                same(&fast, &gradient, &what);
            });
        }
    }
}

#[test]
fn adamw_equals_the_twin() {
    let mut numbers = Generator::new(7);
    let settings =
        AdamW { lr: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.271, bias2: 0.142_625 };
    for n in LENGTHS {
        let (p, g, m) = (numbers.ordinary(n), numbers.wild(n), numbers.ordinary(n));
        let v: Vec<f32> = numbers.ordinary(n).iter().map(|x| x * x).collect();
        let mut expected = (p.clone(), m.clone(), v.clone());
        twin::adamw(&settings, &mut expected.0, &g, &mut expected.1, &mut expected.2);
        everywhere(|isa| {
            let what = format!("{n} on {isa}");
            let mut fast = (p.clone(), m.clone(), v.clone());
            adamw::adamw_with(isa, &settings, &mut fast.0, &g, &mut fast.1, &mut fast.2);
            same(&fast.0, &expected.0, &what);
            same(&fast.1, &expected.1, &what);
            same(&fast.2, &expected.2, &what);
        });
    }
}

/// Norm, clipping and the numbers of a step, put together from the fast kernels as the optimiser does it.
#[test]
fn a_clipped_step_equals_the_twin() {
    let mut numbers = Generator::new(11);
    for limit in [0.0, 0.75, 1.0e9] {
        let tensors = [numbers.ordinary(70_001), numbers.wild(33), numbers.ordinary(0), numbers.ordinary(100)];
        let mut expected = tensors.clone();
        let norm = twin::clip(&mut expected.each_mut().map(Vec::as_mut_slice), limit);
        everywhere(|isa| {
            let mut fast = tensors.clone();
            let squares = fast.iter().fold(0.0, |sum, tensor| sum + reduce::squared_norm_with(isa, tensor));
            assert_eq!(squares.sqrt().to_bits(), norm.to_bits(), "{isa}");
            if limit > 0.0 && norm > limit {
                fast.iter_mut().for_each(|tensor| elementwise::scale_with(isa, tensor, (limit / norm) as f32));
            }
            for (fast, expected) in fast.iter().zip(&expected) {
                same(fast, expected, &format!("clipped at {limit} on {isa}"));
            }
        });
    }
}

#[test]
fn elementwise_kernels_equal_the_twins() {
    let mut numbers = Generator::new(8);
    for n in LENGTHS.into_iter().chain([200_003]) {
        let (x, y) = (numbers.wild(n), numbers.ordinary(n));
        everywhere(|isa| {
            type Pair = (fn(Isa, &mut [f32], &[f32]), fn(&mut [f32], &[f32]));
            let pairs: [Pair; 4] = [
                (|isa, x, _| elementwise::exp_with(isa, x), |x, _| twin::exp_in_place(x)),
                (|isa, x, _| elementwise::scale_with(isa, x, 0.3), |x, _| twin::scale_in_place(x, 0.3)),
                (elementwise::add_with, twin::add_in_place),
                (elementwise::subtract_with, twin::subtract_in_place),
            ];
            for (i, (fast, slow)) in pairs.into_iter().enumerate() {
                let (mut a, mut b) = (x.clone(), x.clone());
                fast(isa, &mut a, &y);
                slow(&mut b, &y);
                same(&a, &b, &format!("elementwise kernel {i}, {n} on {isa}"));
            }
        });
    }
}

#[test]
fn the_first_element_that_is_not_finite_is_found_wherever_it_is() {
    let clean = Generator::new(9).wild(200_003);
    everywhere(|isa| {
        assert_eq!(elementwise::first_non_finite_with(isa, &clean), None, "{isa}");
        assert_eq!(elementwise::first_non_finite_with(isa, &[]), None, "{isa}");
        for at in [0, 31, 4095, 4096, 100_000, 200_002] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = clean.clone();
                x[at] = bad;
                x[200_002] = bad;
                assert_eq!(elementwise::first_non_finite_with(isa, &x), Some(at), "{isa}");
                assert_eq!(twin::first_non_finite(&x), Some(at), "{isa}");
            }
        }
    });
}

#[test]
#[should_panic(expected = "target 4 outside a vocabulary of 4")]
fn a_target_outside_the_vocabulary_is_refused() {
    Kernels::best().cross_entropy_loss(&[0.0; 8], &[3, 4], &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "positions beyond the tables")]
fn a_position_without_a_table_is_refused() {
    let tables = RotaryTables::new(3, 4, 1e4, RotaryScaling::None);
    Kernels::best().rotary(&mut [0.0; 8], 1, 4, tables.angles(), 2, 2);
}

/// Attention of one and of several query heads a key head, over a part of a block, whole blocks, and a block
/// and a part.
#[test]
fn attention_and_its_gradients_equal_the_twins() {
    let mut numbers = Generator::new(12);
    for (sequences, length, heads, kv_heads, width) in
        [(1, 1, 1, 1, 2), (2, 7, 4, 2, 6), (1, 64, 2, 1, 4), (2, 70, 3, 3, 10)]
    {
        let shape = AttentionShape { length, heads, kv_heads, width };
        let tables = RotaryTables::new(length, width, 100.0, RotaryScaling::None);
        let (floats, queries) = (sequences * shape.sequence_floats(), sequences * heads * length * width);
        for qkv in [numbers.ordinary(floats), numbers.wild(floats)] {
            let dcontext = numbers.ordinary(queries);
            let (mut there, mut back) = (qkv.clone(), qkv.clone());
            twin::rotate_heads(shape, &mut there, tables.angles());
            twin::rotate_heads_backward(shape, &mut back, tables.angles());
            let (mut context, mut dqkv) = (vec![0.0; queries], vec![9.0; floats]);
            twin::attention(shape, &there, &mut context);
            twin::attention_backward(shape, &there, &dcontext, &mut dqkv);
            everywhere(|isa| {
                let (kernels, what) = (Kernels::with_isa(isa).unwrap(), format!("{shape:?} on {isa}"));
                let (mut fast, mut fast_back) = (qkv.clone(), qkv.clone());
                kernels.rotate_heads(shape, &mut fast, tables.angles());
                kernels.rotate_heads_backward(shape, &mut fast_back, tables.angles());
                same(&fast, &there, &what);
                same(&fast_back, &back, &what);
                let (mut fast_context, mut fast_dqkv) = (vec![9.0; queries], vec![9.0; floats]);
                kernels.attention(shape, &there, &mut fast_context);
                kernels.attention_backward(shape, &there, &dcontext, &mut fast_dqkv);
                same(&fast_context, &context, &what);
                same(&fast_dqkv, &dqkv, &what);
            });
        }
    }
}

#[test]
fn layouts_and_embeddings_equal_the_twins() {
    let mut numbers = Generator::new(13);
    for (sequences, length, count, width) in [(0, 3, 2, 4), (1, 1, 1, 1), (3, 5, 3, 4), (2, 200, 7, 2)] {
        let layout = HeadLayout { length, count, width };
        let x = numbers.wild(sequences * length * count * width);
        let (mut split, mut merged) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        twin::split_heads(layout, &x, &mut split);
        twin::merge_heads(layout, &x, &mut merged);
        let ids: Vec<u32> = (0..sequences * length).map(|_| (numbers.bits() % 11) as u32).collect();
        let (table, dout) = (numbers.wild(11 * width), numbers.wild(ids.len() * width));
        let (mut out, mut dtable) = (vec![0.0; ids.len() * width], table.clone());
        twin::embedding(&table, width, &ids, &mut out);
        twin::embedding_backward(&dout, width, &ids, &mut dtable);
        everywhere(|isa| {
            let (kernels, what) = (Kernels::with_isa(isa).unwrap(), format!("{layout:?} on {isa}"));
            let mut fast = vec![9.0; x.len()];
            kernels.split_heads(layout, &x, &mut fast);
            same(&fast, &split, &what);
            kernels.merge_heads(layout, &x, &mut fast);
            same(&fast, &merged, &what);
            let (mut fast, mut fast_table) = (vec![9.0; out.len()], table.clone());
            kernels.embedding(&table, &ids, &mut fast);
            kernels.embedding_backward(&dout, &ids, &mut fast_table);
            same(&fast, &out, &what);
            same(&fast_table, &dtable, &what);
        });
    }
}
