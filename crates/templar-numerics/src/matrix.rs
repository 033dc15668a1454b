//! Matrices as views: row-major `f32` with a row stride, and nothing that owns memory.
//!
//! A view is checked when it is made (the last element lies inside the slice), so kernels need not check again.

/// How an operand of a product is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// As it is used.
    N,
    /// Transposed: the stored matrix has the rows that the product sees as columns.
    T,
}

/// A matrix to read: row-major, element `(i, j)` at `i * stride + j`.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

/// A matrix to write: row-major, element `(i, j)` at `i * stride + j`. Elements between `cols` and `stride` are not
/// touched.
#[derive(Debug)]
pub struct MatMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl<'a> Mat<'a> {
    /// A contiguous matrix `[rows, cols]`.
    ///
    /// # Panics
    /// If `data` does not hold exactly `rows * cols` elements.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(cols), "a {rows} x {cols} matrix in {} elements", data.len());
        Mat { data, rows, cols, stride: cols }
    }

    /// A matrix whose rows are `stride` elements apart.
    ///
    /// # Panics
    /// If `stride < cols` or the last row ends beyond `data`.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        check_strided(data.len(), rows, cols, stride);
        Mat { data, rows, cols, stride }
    }

    /// Number of rows as stored.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns as stored.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Rows and columns as the product sees them.
    pub(crate) fn shape(&self, op: Op) -> (usize, usize) {
        match op {
            Op::N => (self.rows, self.cols),
            Op::T => (self.cols, self.rows),
        }
    }

    /// Element `(i, j)` as the product sees it.
    #[inline]
    pub(crate) fn at(&self, op: Op, i: usize, j: usize) -> f32 {
        match op {
            Op::N => self.data[i * self.stride + j],
            Op::T => self.data[j * self.stride + i],
        }
    }
}

impl<'a> MatMut<'a> {
    /// A contiguous matrix `[rows, cols]`.
    ///
    /// # Panics
    /// If `data` does not hold exactly `rows * cols` elements.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(cols), "a {rows} x {cols} matrix in {} elements", data.len());
        MatMut { data, rows, cols, stride: cols }
    }

    /// A matrix whose rows are `stride` elements apart.
    ///
    /// # Panics
    /// If `stride < cols` or the last row ends beyond `data`.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        check_strided(data.len(), rows, cols, stride);
        MatMut { data, rows, cols, stride }
    }

    /// Number of rows as stored.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns as stored.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

fn check_strided(len: usize, rows: usize, cols: usize, stride: usize) {
    assert!(stride >= cols, "rows of {cols} elements cannot be {stride} apart");
    let end = match rows {
        0 => Some(0),
        _ => (rows - 1).checked_mul(stride).and_then(|start| start.checked_add(cols)),
    };
    assert!(end.is_some_and(|end| end <= len), "a {rows} x {cols} matrix with stride {stride} in {len} elements");
}

/// The common shape `(m, n, k)` of a product.
///
/// # Panics
/// If the shapes do not agree.
pub(crate) fn product_shape(a: &Mat, op_a: Op, b: &Mat, op_b: Op, c: &MatMut) -> (usize, usize, usize) {
    let ((m, k), (k_b, n)) = (a.shape(op_a), b.shape(op_b));
    assert!(
        k == k_b && m == c.rows && n == c.cols,
        "a product of {m} x {k} and {k_b} x {n} does not make {} x {}",
        c.rows,
        c.cols
    );
    (m, n, k)
}
