//! Bounded cache of derived values, shared by the nodes of one process that are at the same state.
//!
//! A result follows from its key and from the value in which the cache lives, for example a `RunState`. The
//! cache is no part of that value: a clone begins with an empty one, and any two caches are equal. So it
//! changes how long something takes, and never the result.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

/// The most results that are kept. When there would be more, all are dropped. Honest nodes ask for a handful.
const LIMIT: usize = 64;

/// The results of one function by their keys.
#[derive(Debug)]
pub(crate) struct Cache<K, V>(Mutex<BTreeMap<K, Arc<V>>>);

impl<K: Ord, V> Cache<K, V> {
    /// The result for this key. It is computed where it is not known.
    pub(crate) fn get_or(&self, key: K, work_out: impl FnOnce() -> V) -> Arc<V> {
        match self.try_get_or(key, || Ok::<V, Infallible>(work_out())) {
            Ok(found) => found,
            Err(never) => match never {},
        }
    }

    /// The result for this key of a computation that may fail. Failures are not kept.
    pub(crate) fn try_get_or<E>(&self, key: K, work_out: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        if let Some(known) = self.known().get(&key) {
            return Ok(known.clone());
        }
        // The lock is not held here, since the computation may ask other caches.
        let made = Arc::new(work_out()?);
        let mut known = self.known();
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(key, made.clone());
        Ok(made)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<K, Arc<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<K, V> PartialEq for Cache<K, V> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_worked_out_once_and_a_clone_begins_empty() {
        let cache = Cache::<u32, u32>::default();
        let mut worked = 0;
        for _ in 0..3 {
            let found = cache.get_or(7, || {
                worked += 1;
                49
            });
            assert_eq!(*found, 49);
        }
        assert_eq!(worked, 1);
        assert_eq!(*cache.clone().get_or(7, || 50), 50);
        assert_eq!(cache.try_get_or(8, || Err("no")), Err("no"));
        assert_eq!(cache.try_get_or(8, || Ok::<_, &str>(64)).as_deref(), Ok(&64));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let cache = Cache::<usize, usize>::default();
        (0..10 * LIMIT).for_each(|key| assert_eq!(*cache.get_or(key, || key), key));
        assert!(cache.known().len() <= LIMIT);
    }
}
