//! A model as other programs take it: a GGUF file, and the card that tells people what it is.
//!
//! Hugging Face folders are written by [`templar_model::hf`]. What cannot be written so that the other program computes
//! and tokenises the same is refused.

pub mod card;
pub mod gguf;
