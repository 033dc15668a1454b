//! RMSNorm and its gradients.

/// Checks that all are `[rows, width]` with one `inv_rms` a row.
pub(crate) fn check(x: usize, width: usize, out: usize, rows: usize) {
    assert!(
        x == out && Some(x) == rows.checked_mul(width),
        "RMSNorm of {x} elements into {out}, as {rows} rows of {width}"
    );
}
