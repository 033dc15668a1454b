//! Runs miners side by side, each on its own thread.
//!
//! The library divides the work of one miner among threads. With several miners in one process it is faster to
//! give each its own thread. Each result is put in its miner's place, so no result depends on which thread was
//! faster.

use std::sync::{Mutex, PoisonError};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// As many threads as the machine runs at once. Each has a pool of one thread for the library.
pub(crate) struct Workers {
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// One pool for each thread that the machine runs at once.
    pub(crate) fn new() -> Result<Self, ThreadPoolBuildError> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let pools = (0..threads).map(|_| ThreadPoolBuilder::new().num_threads(1).build()).collect::<Result<_, _>>()?;
        Ok(Self { pools })
    }

    /// Applies `work` to every item. The results are in the order of the items.
    pub(crate) fn map<T: Send, U: Send>(&self, items: Vec<T>, work: impl Fn(T) -> U + Sync) -> Vec<U> {
        let mut results: Vec<Option<U>> = items.iter().map(|_| None).collect();
        let queue = Mutex::new(items.into_iter().zip(&mut results));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        thread::scope(|scope| {
            for pool in &self.pools {
                scope.spawn(|| {
                    while let Some((item, result)) = next() {
                        *result = Some(pool.install(|| work(item)));
                    }
                });
            }
        });
        results.into_iter().map(|result| result.expect("the queue was emptied")).collect()
    }
}
