//! A dataset: tokenised, content-addressed shards.

use serde::{Deserialize, Serialize};

use super::rules::{ascii, positive};
use crate::id::{BlobId, RunId};
use crate::payload::{Kind, Payload};

/// Tokenised shards and their origin. A dataset belongs to no run, so that many runs may use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// A short name for people.
    pub name: String,
    /// SPDX expression of the licence of the text.
    pub licence: String,
    /// Where the text came from, for people.
    pub source: String,
    /// The `tokenizer.json` that made the tokens.
    pub tokenizer: BlobId,
    /// Tokens of the vocabulary; every token is below it.
    pub vocab_size: u32,
    /// The token that ends a document.
    pub end_token: u32,
    /// The token that stands before each document, if there is one.
    pub start_token: Option<u32>,
    /// The chat template that was found beside the tokenizer, a Jinja text. It joins the turns of a conversation.
    pub chat_template: Option<BlobId>,
    /// Bytes of one token in a shard, little-endian: 2 or 4.
    pub token_bytes: u32,
    /// How many documents were imported.
    pub documents: u64,
    /// Tokens of every shard but the last of its list.
    pub shard_tokens: u64,
    /// The rule that sets tokens aside for validation.
    pub held_out: HeldOut,
    /// The shards of the training tokens, in order.
    pub training: Vec<Shard>,
    /// The shards of the held-out tokens, in order.
    pub validation: Vec<Shard>,
}

/// The rule that holds tokens out: the stream of tokens is cut into blocks, and block `i` is held out when
/// `i % every == every - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// The length of a block in tokens.
    pub block_tokens: u64,
    /// One block in so many is held out.
    pub every: u64,
}

/// One shard: a blob of `tokens · token_bytes` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// The blob that holds the tokens, little-endian.
    pub blob: BlobId,
    /// How many tokens it holds.
    pub tokens: u64,
}

impl Dataset {
    /// How many tokens there are to train on.
    pub fn training_tokens(&self) -> u64 {
        self.training.iter().fold(0, |sum, shard| sum.saturating_add(shard.tokens))
    }

    /// How many tokens are held out.
    pub fn validation_tokens(&self) -> u64 {
        self.validation.iter().fold(0, |sum, shard| sum.saturating_add(shard.tokens))
    }

    /// Every blob that the dataset names: the tokenizer, the chat template if there is one, and the shards.
    pub fn blobs(&self) -> impl Iterator<Item = BlobId> {
        let shards = self.training.iter().chain(&self.validation).map(|shard| shard.blob);
        std::iter::once(self.tokenizer).chain(self.chat_template).chain(shards)
    }
}

/// The number of pages in a stream of `tokens` tokens. A page is a training sequence that predicts
/// `sequence_length` tokens and so reads one more; neighbours share that one. A `sequence_length` of 0 gives no
/// pages.
pub fn page_count(tokens: u64, sequence_length: u32) -> u64 {
    tokens.saturating_sub(1).checked_div(u64::from(sequence_length)).unwrap_or(0)
}

impl Payload for Dataset {
    const KIND: Kind = Kind::Dataset;

    fn run(&self) -> Option<RunId> {
        None
    }

    fn check(&self) -> Result<(), String> {
        ascii("name", &self.name, 64)?;
        ascii("licence", &self.licence, 128)?;
        ascii("source", &self.source, 512)?;
        positive("vocab_size", self.vocab_size.into())?;
        positive("shard_tokens", self.shard_tokens)?;
        positive("held_out.block_tokens", self.held_out.block_tokens)?;
        if self.end_token >= self.vocab_size {
            return Err(format!("end_token {} is outside the vocabulary of {}", self.end_token, self.vocab_size));
        }
        if let Some(start) = self.start_token.filter(|&start| start >= self.vocab_size) {
            return Err(format!("start_token {start} is outside the vocabulary of {}", self.vocab_size));
        }
        let token_bytes = if self.vocab_size <= 1 << 16 { 2 } else { 4 };
        if self.token_bytes != token_bytes {
            return Err(format!(
                "token_bytes is {}, a vocabulary of {} takes {token_bytes}",
                self.token_bytes, self.vocab_size
            ));
        }
        if self.held_out.every < 2 {
            return Err("held_out.every is below 2: nothing would be left to train on".to_owned());
        }
        for (name, shards) in [("training", &self.training), ("validation", &self.validation)] {
            for (index, shard) in shards.iter().enumerate() {
                let last = index + 1 == shards.len();
                if shard.tokens == 0 || shard.tokens > self.shard_tokens || (!last && shard.tokens != self.shard_tokens)
                {
                    return Err(format!("{name} shard {index} has {} tokens", shard.tokens));
                }
            }
        }
        Ok(())
    }
}
