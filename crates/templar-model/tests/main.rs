//! What the model promises: the same bits everywhere, gradients and logits that independent implementations confirm,
//! and Hugging Face folders that come back bit for bit.

mod decoder;
mod errors;
mod frozen;
mod generation;
mod gradients;
mod hugging_face;
mod learning;
mod likelihoods;
mod logits;
mod reference;
mod same_bits;
mod shards;
mod support;
