//! Recomputes a window from blobs, for a validator before the window closes and for an auditor afterwards.
//!
//! Both call the same functions:
//!
//! - A validator judges the contributions of a cut ([`judge`]), takes the outer step ([`apply`]), and checks
//!   refusals and measurements of other validators ([`replay_contribution`], [`measure_contribution`]).
//! - An auditor does all of this again for a closed window ([`audit_window`]) and compares every number with
//!   the record.
//!
//! They read from [`AuditInputs`]: blobs by hash, each verified, wherever the bytes lie. Nothing that this
//! crate is built from runs tasks or opens sockets.
//!
//! A difference is a `mismatch`, which says where it is. A missing blob is `unavailable`, which says which blob it is.
//! Nothing counts as a match because it could not be checked.
//!
//! # Example
//!
//! The folder `manifests/` of the repository holds the first window of a tiny run with two miners. One of them trained;
//! the other sent a delta that it had not computed. A replay tells them apart, from bytes in memory alone.
//!
//! ```
//! use std::sync::Arc;
//!
//! use templar_audit::{AuditInputs, replay_contribution};
//! use templar_blob::MemoryBlobs;
//! use templar_manifest::{Contribution, Genesis, Replay, WindowIndex, payload};
//! use templar_protocol::RunState;
//! use templar_train::tensors::checkpoint_of;
//! use templar_train::{MinerState, Recipe};
//!
//! // The dataset travels inside the program. The other blobs are files.
//! let mut blobs = MemoryBlobs::new();
//! let dataset = templar_data::bundled::import_shakespeare(&mut blobs)?;
//! let (mut genesis, mut contributions) = (None, Vec::new());
//! for file in std::fs::read_dir("../../manifests")? {
//!     let path = file?.path();
//!     let bytes = std::fs::read(&path)?;
//!     let name = path.file_name().unwrap().to_string_lossy().into_owned();
//!     if name.ends_with(".cbor") && name.starts_with("genesis-") {
//!         genesis = Some(payload::decode::<Genesis>(&bytes)?);
//!     }
//!     if name.ends_with(".cbor") && name.starts_with("contribution-") {
//!         contributions.push(payload::decode::<Contribution>(&bytes)?);
//!     }
//!     blobs.insert(bytes);
//! }
//!
//! let recipe = Recipe::new(contributions[0].run, genesis.unwrap())?;
//! let inputs = AuditInputs::new(&recipe, &dataset, &blobs)?;
//! let parameters = inputs.initial_parameters()?;
//! let checkpoint = checkpoint_of(recipe.run, WindowIndex(0), &recipe.tensors, &parameters);
//! let state = RunState::new(
//!     Arc::new(recipe.genesis.clone()),
//!     payload::id_of(&checkpoint).into(),
//!     MinerState::zero_id(recipe.run, &recipe.tensors),
//!     dataset.training_tokens(),
//! )?;
//!
//! let mut matches = 0;
//! for contribution in &contributions {
//!     let task = state.unproven_task(contribution).expect("the miner has a slot");
//!     let replayed = replay_contribution(&inputs, &task, &parameters, |id| inputs.state(id))?;
//!     matches += usize::from(replayed.verdict == Replay::Match);
//! }
//! assert_eq!((contributions.len(), matches), (2, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod apply;
mod evaluator;
mod inputs;
mod judge;
mod window;

pub use apply::{Applied, apply, apply_aggregate, held_out_loss};
pub use inputs::{AuditInputs, InputError, States, chain};
pub use judge::{JudgeTask, judge, measure_contribution, replay_contribution, spot_check};
pub use window::{AuditTask, WindowAudit, audit_window};
