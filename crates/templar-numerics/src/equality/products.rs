//! Matrix products against the triple loop.

use proptest::prelude::*;

use super::{Generator, everywhere, same};
use crate::gemm::gemm_with;
use crate::matrix::{Mat, MatMut, Op};
use crate::twin;

/// One product: its shape, its forms, and what is added to `cols` to make each row stride.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) shape: (usize, usize, usize),
    pub(super) ops: (Op, Op),
    pub(super) accumulate: bool,
    pub(super) padding: usize,
}

/// The stored operands of a [`Case`].
pub(super) struct Numbers {
    case: Case,
    a: Vec<f32>,
    b: Vec<f32>,
    /// C before the product, with what lies between its rows.
    before: Vec<f32>,
}

impl Case {
    pub(super) fn numbers(self, make: fn(&mut Generator, usize) -> Vec<f32>) -> Numbers {
        let (m, n, k) = self.shape;
        let mut numbers = Generator::new((m * 1_000_003 + n * 1009 + k) as u64);
        let mut made = |(rows, cols): (usize, usize)| make(&mut numbers, rows * (cols + self.padding));
        let [a, b, before] = [stored(self.ops.0, m, k), stored(self.ops.1, k, n), (m, n)].map(&mut made);
        Numbers { case: self, a, b, before }
    }
}

impl Numbers {
    /// C with what lies between its rows, after `product` of A, B and C.
    pub(super) fn after(&self, product: impl FnOnce(Mat, Mat, MatMut)) -> Vec<f32> {
        let Case { shape: (m, n, k), ops, padding, .. } = self.case;
        let ((a_rows, a_cols), (b_rows, b_cols)) = (stored(ops.0, m, k), stored(ops.1, k, n));
        let a = Mat::strided(&self.a, a_rows, a_cols, a_cols + padding);
        let b = Mat::strided(&self.b, b_rows, b_cols, b_cols + padding);
        let mut c = self.before.clone();
        product(a, b, MatMut::strided(&mut c, m, n, n + padding));
        c
    }
}

/// Rows and columns of an operand as it is stored.
fn stored(op: Op, rows: usize, cols: usize) -> (usize, usize) {
    if op == Op::N { (rows, cols) } else { (cols, rows) }
}

fn check(case: Case, make: fn(&mut Generator, usize) -> Vec<f32>) {
    let Case { ops, accumulate, .. } = case;
    let numbers = case.numbers(make);
    let expected = numbers.after(|a, b, c| twin::gemm(a, ops.0, b, ops.1, c, accumulate));
    everywhere(|isa| {
        let threads = rayon::current_num_threads();
        let c = numbers.after(|a, b, c| gemm_with(isa, threads, a, ops.0, b, ops.1, c, accumulate));
        // The elements between the rows are compared too: a product must not touch them.
        same(&c, &expected, &format!("{case:?} on {isa}, {threads} threads"));
    });
}

pub(super) const FORMS: [(Op, Op); 4] = [(Op::N, Op::N), (Op::N, Op::T), (Op::T, Op::N), (Op::T, Op::T)];

#[test]
fn every_form_of_every_edge_equals_the_twin() {
    let shapes = [
        (1, 1, 0),
        (5, 7, 0),
        (0, 3, 4),
        (3, 0, 4),
        (1, 1, 1),
        (12, 32, 1),
        (13, 33, 3),
        (24, 64, 16),
        (11, 31, 17),
        (6, 16, 513),
        (1, 100, 40),
        (100, 1, 40),
        (130, 70, 130),
    ];
    for shape in shapes {
        for ops in FORMS {
            for accumulate in [false, true] {
                for padding in [0, 5] {
                    check(Case { shape, ops, accumulate, padding }, Generator::ordinary);
                }
            }
        }
    }
}

#[test]
fn blocks_of_rows_columns_and_k_equal_the_twin() {
    for ops in FORMS {
        check(Case { shape: (250, 20, 400), ops, accumulate: true, padding: 0 }, Generator::ordinary);
        check(Case { shape: (9, 1100, 390), ops, accumulate: false, padding: 1 }, Generator::ordinary);
        check(Case { shape: (250, 140, 520), ops, accumulate: true, padding: 2 }, Generator::ordinary);
        check(Case { shape: (5, 2100, 30), ops, accumulate: false, padding: 0 }, Generator::ordinary);
    }
    let long = Case { shape: (3, 4, 100_003), ops: (Op::N, Op::T), accumulate: false, padding: 0 };
    check(long, Generator::ordinary);
}

#[test]
fn wild_numbers_make_the_same_infinities_subnormals_and_zeros() {
    for ops in FORMS {
        check(Case { shape: (40, 50, 70), ops, accumulate: true, padding: 0 }, Generator::wild);
        check(Case { shape: (130, 70, 130), ops, accumulate: false, padding: 3 }, Generator::wild);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_equals_the_twin(
        shape in (0usize..70, 0usize..70, 0usize..70),
        form in 0usize..4,
        accumulate: bool,
        padding in 0usize..9,
    ) {
        check(Case { shape, ops: FORMS[form], accumulate, padding }, Generator::wild);
    }
}

#[test]
#[should_panic(expected = "a product of 2 x 3 and 4 x 2 does not make 2 x 2")]
fn shapes_that_do_not_agree_are_refused() {
    let (a, b, mut c) = ([0.0; 6], [0.0; 8], [0.0; 4]);
    crate::Kernels::best().gemm(Mat::new(&a, 2, 3), Op::N, Mat::new(&b, 4, 2), Op::N, MatMut::new(&mut c, 2, 2), false);
}

#[test]
#[should_panic(expected = "a 3 x 2 matrix with stride 4 in 9 elements")]
fn a_view_beyond_its_slice_is_refused() {
    let _ = Mat::strided(&[0.0; 9], 3, 2, 4);
}
