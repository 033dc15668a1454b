//! Keys and values of texts that have ended, for texts that begin in the same way.
//!
//! The turns of a conversation, and questions with the same examples before them, are read once. A kept row has the
//! bits of a computed one, so nobody can see in an answer whether it was kept.

use std::collections::VecDeque;
use std::sync::Arc;

use templar_model::decoder::TextCache;

use crate::served::Served;

/// The shortest beginning that is worth keeping.
const WORTH: usize = 16;

/// The texts that are kept, the latest last.
#[derive(Debug)]
pub(super) struct Prefixes {
    kept: VecDeque<Kept>,
    /// The largest number of tokens of all texts together.
    limit: usize,
}

#[derive(Debug)]
struct Kept {
    model: Arc<Served>,
    tokens: Vec<u32>,
    cache: TextCache,
}

impl Prefixes {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), limit }
    }

    /// Keeps the cache of a text. Texts of other models are forgotten, since their model is being replaced.
    pub(super) fn keep(&mut self, model: &Arc<Served>, mut tokens: Vec<u32>, mut cache: TextCache) {
        tokens.truncate(cache.len());
        self.kept.retain(|kept| Arc::ptr_eq(&kept.model, model) && !tokens.starts_with(&kept.tokens));
        let is_known = self.kept.iter().any(|kept| kept.tokens.starts_with(&tokens));
        if is_known || tokens.len() < WORTH || tokens.len() > self.limit {
            return;
        }
        // Texts that begin with it copy nothing.
        cache.share();
        self.kept.push_back(Kept { model: model.clone(), tokens, cache });
        while self.kept.iter().map(|kept| kept.tokens.len()).sum::<usize>() > self.limit {
            self.kept.pop_front();
        }
    }

    /// The cache of the longest kept beginning of `tokens`, or an empty one.
    pub(super) fn find(&self, model: &Arc<Served>, tokens: &[u32]) -> TextCache {
        let common = |kept: &Kept| kept.tokens.iter().zip(tokens).take_while(|(kept, token)| kept == token).count();
        let own = self.kept.iter().filter(|kept| Arc::ptr_eq(&kept.model, model));
        match own.map(|kept| (common(kept), kept)).max_by_key(|(common, _)| *common) {
            Some((common, kept)) if common >= WORTH => kept.cache.prefix(common),
            _ => TextCache::default(),
        }
    }
}
