//! How far an import has come, for whoever watches it, and whether it is to end early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts of an import that is under way. One thread imports, and others may look.
#[derive(Debug, Default)]
pub struct Progress {
    stop: Arc<AtomicBool>,
    bytes: AtomicU64,
    rows: AtomicU64,
    tokens: AtomicU64,
}

/// A look at a [`Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgressNow {
    /// The bytes that were read of the files, as they are stored.
    pub bytes: u64,
    /// The rows that were read.
    pub rows: u64,
    /// The tokens that were made. They follow the rows at a short distance.
    pub tokens: u64,
}

impl Progress {
    /// The counts of an import that ends with [`ImportError::Stopped`](crate::ImportError::Stopped) once `stop` is
    /// true.
    pub fn until(stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..Self::default() }
    }

    /// The counts at this moment.
    pub fn now(&self) -> ProgressNow {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ProgressNow { bytes: of(&self.bytes), rows: of(&self.rows), tokens: of(&self.tokens) }
    }

    pub(crate) fn read(&self, bytes: u64, rows: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.rows.store(rows, Ordering::Relaxed);
    }

    /// Whether the import is to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn made(&self, tokens: u64) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }
}
