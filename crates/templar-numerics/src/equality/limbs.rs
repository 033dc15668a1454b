//! Products and attention of `i8x2/1` against its twin: on every unit of the machine, in pools of one, two and three
//! threads, on numbers of every size.

use proptest::prelude::*;

use super::products::{Case, FORMS};
use super::{Generator, on_every_unit, same};
use crate::attention::AttentionShape;
use crate::i8x2::{self, twin};
use crate::matrix::Op;
use crate::{Kernels, Mat};

type Make = fn(&mut Generator, usize) -> Vec<f32>;

/// Wild numbers, but all in range: zeros of both signs, subnormals, and huge and tiny ones.
fn in_range(generator: &mut Generator, len: usize) -> Vec<f32> {
    generator.wild(len).into_iter().map(|x| if x.abs() > 1e17 { x * 1e-14 } else { x }).collect()
}

/// Integers of one size at the bounds of a limb, so that sums are as large as they can be.
fn extreme(generator: &mut Generator, len: usize) -> Vec<f32> {
    let largest = [32_639.0, -32_639.0, 32_384.0, -32_384.0, 32_512.0, 128.0, -128.0, 127.0];
    (0..len).map(|_| largest[(generator.bits() % 8) as usize]).collect()
}

fn check(case: Case, make: Make) {
    let Case { ops, accumulate, .. } = case;
    let numbers = case.numbers(make);
    let expected = numbers.after(|a, b, c| twin::gemm(a, ops.0, b, ops.1, c, accumulate));
    on_every_unit(|unit| {
        let kernels = Kernels::best().i8x2_with(unit).unwrap();
        let c = numbers.after(|a, b, c| kernels.gemm(a, ops.0, b, ops.1, c, accumulate));
        same(&c, &expected, &format!("{case:?} on {unit}"));
    });
}

#[test]
fn every_form_of_every_edge_equals_the_twin() {
    let shapes = [
        (1, 1, 0),
        (5, 7, 0),
        (0, 3, 4),
        (3, 0, 4),
        (1, 1, 1),
        (6, 16, 1),
        (6, 32, 4),
        (7, 33, 3),
        (12, 64, 127),
        (11, 31, 128),
        (13, 35, 129),
        (5, 9, 515),
        (1, 100, 40),
        (100, 1, 140),
    ];
    let kinds: [Make; 4] = [Generator::ordinary, in_range, Generator::wild, extreme];
    for (shape, make) in shapes.into_iter().flat_map(|shape| kinds.map(|make| (shape, make))) {
        for (index, ops) in FORMS.into_iter().enumerate() {
            for accumulate in [false, true] {
                check(Case { shape, ops, accumulate, padding: if accumulate { index } else { 0 } }, make);
            }
        }
    }
}

/// More rows, columns and k than are packed at once, and products that several threads share.
#[test]
fn parts_of_rows_columns_and_k_equal_the_twin() {
    for ops in FORMS {
        check(Case { shape: (250, 20, 600), ops, accumulate: true, padding: 0 }, Generator::ordinary);
        check(Case { shape: (9, 1100, 130), ops, accumulate: false, padding: 1 }, in_range);
        check(Case { shape: (250, 140, 130), ops, accumulate: true, padding: 2 }, extreme);
        check(Case { shape: (5, 2100, 30), ops, accumulate: false, padding: 0 }, in_range);
    }
    check(Case { shape: (3, 4, 20_003), ops: (Op::N, Op::T), accumulate: false, padding: 0 }, Generator::ordinary);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_equals_the_twin(
        shape in (0usize..50, 0usize..70, 0usize..300),
        form in 0usize..4,
        accumulate: bool,
        padding in 0usize..9,
        wild: bool,
    ) {
        check(Case { shape, ops: FORMS[form], accumulate, padding }, if wild { Generator::wild } else { in_range });
    }
}

/// Heads narrower and wider than a block, over a part of a block of rows, whole ones, and one and a part.
#[test]
fn attention_and_its_gradients_equal_the_twins() {
    let mut numbers = Generator::new(12);
    for (sequences, length, heads, kv_heads, width) in
        [(1, 1, 1, 1, 2), (2, 7, 4, 2, 6), (1, 128, 2, 1, 4), (1, 131, 2, 2, 10), (1, 9, 2, 1, 130)]
    {
        let shape = AttentionShape { length, heads, kv_heads, width };
        let (floats, queries) = (sequences * shape.sequence_floats(), sequences * heads * length * width);
        let kinds: [Make; 3] = [Generator::ordinary, in_range, Generator::wild];
        for make in kinds {
            let (qkv, dcontext) = (make(&mut numbers, floats), make(&mut numbers, queries));
            let (mut context, mut dqkv) = (vec![0.0; queries], vec![9.0; floats]);
            twin::attention(shape, &qkv, &mut context);
            twin::attention_backward(shape, &qkv, &dcontext, &mut dqkv);
            on_every_unit(|unit| {
                let (kernels, what) = (Kernels::best().i8x2_with(unit).unwrap(), format!("{shape:?} on {unit}"));
                let (mut fast_context, mut fast_dqkv) = (vec![9.0; queries], vec![9.0; floats]);
                kernels.attention(shape, &qkv, &mut fast_context);
                kernels.attention_backward(shape, &qkv, &dcontext, &mut fast_dqkv);
                same(&fast_context, &context, &what);
                same(&fast_dqkv, &dqkv, &what);
            });
        }
    }
}

/// What stands behind a row cannot be seen in it, whatever it is: a text has the same likelihood with padding.
#[test]
fn no_later_token_changes_a_row_of_attention() {
    let mut numbers = Generator::new(14);
    let shape = |length| AttentionShape { length, heads: 1, kv_heads: 1, width: 6 };
    let (short, long) = (shape(100), shape(150));
    let parts: Vec<Vec<f32>> = (0..3).map(|_| numbers.ordinary(600)).collect();
    let tails = [vec![1e4; 300], vec![0.0; 300], vec![f32::INFINITY; 300], numbers.wild(300)];
    let mut alone = vec![0.0; 600];
    let kernels = Kernels::best().i8x2();
    kernels.attention(short, &parts.concat(), &mut alone);
    for tail in tails {
        let longer: Vec<f32> = parts.iter().flat_map(|part| part.iter().chain(&tail)).copied().collect();
        let mut context = vec![0.0; 900];
        kernels.attention(long, &longer, &mut context);
        same(&context[..600], &alone, "the first rows");
    }
}

/// A row and a column alone give the bits that they give in the whole, which sharing work among nodes needs.
#[test]
fn an_element_does_not_depend_on_other_rows_and_columns() {
    let case = Case { shape: (9, 20, 300), ops: (Op::N, Op::T), accumulate: false, padding: 0 };
    let numbers = case.numbers(in_range);
    let kernels = Kernels::best().i8x2();
    let whole = numbers.after(|a, b, c| kernels.gemm(a, Op::N, b, Op::T, c, false));
    numbers.after(|a, b, _| {
        for (i, j) in [(0, 0), (8, 19), (3, 7)] {
            let row = |from: &Mat, i: usize| from.data[i * from.stride..][..300].to_vec();
            let (row, column, mut out) = (row(&a, i), row(&b, j), [9.0]);
            let (row, column) = (Mat::new(&row, 1, 300), Mat::new(&column, 1, 300));
            kernels.gemm(row, Op::N, column, Op::T, crate::MatMut::new(&mut out, 1, 1), false);
            same(&out, &whole[i * 20 + j..][..1], "an element alone");
        }
    });
}

#[test]
fn a_number_out_of_range_makes_nan_and_is_named() {
    let mut a = vec![1.0; 3 * 200];
    (a[300], a[301]) = (f32::MAX, f32::NAN);
    let found = i8x2::check_factor(Mat::new(&a, 3, 200), Op::N).unwrap_err();
    assert_eq!(found.to_string(), "element 100 of row 1 is 3.4028235e38; i8x2/1 multiplies numbers below 2^60");
    let found = i8x2::check_factor(Mat::new(&a, 3, 200), Op::T).unwrap_err();
    assert_eq!((found.row, found.k), (100, 1));
    assert_eq!(i8x2::check_factor(Mat::new(&a[..300], 3, 100), Op::N), Ok(()));
    on_every_unit(|unit| {
        let mut c = [0.0; 6];
        let b = Mat::new(&a[..400], 2, 200);
        let kernels = Kernels::best().i8x2_with(unit).unwrap();
        kernels.gemm(Mat::new(&a, 3, 200), Op::N, b, Op::T, crate::MatMut::new(&mut c, 3, 2), false);
        assert_eq!(c.map(f32::is_nan), [false, true, true, true, false, true], "{c:?} on {unit}");
    });
}

#[test]
fn a_unit_that_the_machine_lacks_is_refused() {
    use crate::i8x2::{Unit, UnsupportedUnit};
    let foreign = if cfg!(target_arch = "aarch64") { Unit::Avx2 } else { Unit::Neon };
    assert_eq!(Kernels::best().i8x2_with(foreign), Err(UnsupportedUnit(foreign)));
    assert_eq!(Kernels::best().unit(), None);
    assert_eq!(Kernels::best().i8x2_with(Unit::Scalar).map(Kernels::unit), Ok(Some(Unit::Scalar)));
}
