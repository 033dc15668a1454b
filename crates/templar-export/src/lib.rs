//! What leaves a run for other programs: a model as a GGUF file, the card that tells people what it is, a patch from one
//! checkpoint to another, tables of what
//! happened, and tokenised text.
//!
//! Hugging Face folders are written by [`templar_model::hf`]. What cannot be written so that the other program computes
//! and tokenises the same is refused.

pub mod card;
pub mod gguf;
pub mod new_folder;
pub mod patch;
pub mod tables;
pub mod tokens;
