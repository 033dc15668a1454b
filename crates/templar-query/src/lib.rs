//! The typed read model of a run.
//!
//! A home holds journals and blobs; people want answers. Each module here answers one question with a value
//! that serialises to JSON. The command line prints these values, and a server can serve them. Nothing here
//! prints, decides, or writes into a home; [`tables`] makes a new folder.
//!
//! | question | module |
//! |---|---|
//! | What does this name stand for: a hash, a prefix, `@`, `w3`? | [`reference`](mod@reference), [`find`] |
//! | Which objects does the home know, and how are they linked? | [`index`], [`manifest_view`] |
//! | What is in this object, and what came of it? | [`object`] |
//! | Where does the run stand, and who is awaited? | [`status`], [`participation`] |
//! | Which windows are closed? | [`log`] |
//! | What was measured of the models, and who vouches for it? | [`measured`] |
//! | Which runs are there, and how are they configured? | [`runs`] |
//! | Which datasets are there, and how much of each? | [`datasets`] |
//! | How did a validator measure the contributions? | [`score`] |
//! | Why was a miner paid what it was paid? | [`explain`] |
//! | Who contradicted itself, and what was slashed? | [`evidence`] |
//! | Is everything in the home what it claims to be? | [`verify`], [`refold`] |
//! | Does everything that the records claim come out again? | [`audit`] |
//! | What does the store hold, and what of it may go? | [`stock`] |
//! | What are all the windows together, as files for other programs? | [`tables`] |
//!
//! # Examples
//!
//! The open window of a run, read from its journal:
//!
//! ```
//! use std::sync::Arc;
//!
//! use serde_json::json;
//! use templar_manifest::chain::Chain;
//! use templar_manifest::testing::GenesisBuilder;
//! use templar_manifest::{CheckpointId, SecretKey, StateId, ValidatorSpec};
//! use templar_protocol::{Node, RunState};
//! use templar_query::participation::{Participation, WindowStage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (validator, miner) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
//! let name = "an example run";
//! let chain_anchor = Chain::insecure(&validator, name).anchor();
//! let genesis = GenesisBuilder::tiny(name)
//!     .validators([ValidatorSpec { key: validator.public(), stake: 1, chain_anchor }])
//!     .members_and_cheap_slots(vec![miner.public()])
//!     .build();
//! let dataset_tokens = 1_601; // 100 pages of 16 tokens
//! let state = RunState::new(Arc::new(genesis), CheckpointId::default(), StateId::default(), dataset_tokens)?;
//!
//! // A new run has an empty journal, so its first window waits for the miner.
//! let journal: &[Vec<u8>] = &[];
//! let node = Node::new(state, None);
//! let participation = Participation::of(&node, journal);
//! assert_eq!(participation.stage(), WindowStage::Commit);
//! let awaited = participation.awaited(node.state());
//! assert_eq!(serde_json::to_value(&awaited)?, json!([{"key": miner.public(), "what": "contribution"}]));
//! # Ok(())
//! # }
//! ```
//!
//! The runs of a home, and a check of everything in it:
//!
//! ```
//! use templar_home::access::Access;
//! use templar_home::Home;
//! use templar_manifest::SecretKey;
//! use templar_query::runs::RunList;
//! use templar_query::verify::HomeCheck;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = std::env::temp_dir().join(format!("templar-query-{}", std::process::id()));
//! Home::init(&dir, &SecretKey::from_bytes(&[7; 32]))?;
//! let access = Access::read(&dir)?;
//!
//! // A new home has no runs, and everything in it is sound.
//! let runs = RunList::read(&access)?;
//! assert_eq!(serde_json::to_string(&runs)?, r#"{"runs":[]}"#);
//! assert!(HomeCheck::run(&access)?.is_sound());
//! # drop(access);
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```

pub mod audit;
pub mod datasets;
mod error;
pub mod evidence;
pub mod explain;
pub mod find;
pub mod folder_check;
pub mod index;
pub mod log;
pub mod manifest_view;
pub mod measured;
pub mod object;
mod own;
pub mod participation;
pub mod reference;
pub mod refold;
pub mod runs;
pub mod score;
pub mod status;
pub mod stock;
pub mod tables;
pub mod verify;
pub mod words;

pub use error::{QueryError, error_line};
