//! The typed read model of a run.
//!
//! A home holds journals and blobs; people want answers. Each module here answers one question with a value
//! that serialises to JSON. The command line prints these values, and a server can serve them. Nothing here
//! prints, decides or writes.
//!
//! | question | module |
//! |---|---|
//! | What does this name stand for: a hash, a prefix, `@`, `w3`? | [`reference`](mod@reference), [`find`] |
//! | Which objects does the home know, and how are they linked? | [`index`], [`manifest_view`] |
//! | What is in this object, and what came of it? | [`object`] |
//! | Where does the run stand, and who is awaited? | [`status`], [`participation`] |
//! | Which windows are closed? | [`log`] |
//! | Which runs are there, and how are they configured? | [`runs`] |
//! | Who contradicted itself, and what was slashed? | [`evidence`] |
//! | Is everything in the home what it claims to be? | [`verify`], [`refold`] |
//! | Does everything that the records claim come out again? | [`audit`] |
//! | What does the store hold, and what of it may go? | [`stock`] |
//!
//! # Example
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
mod error;
pub mod evidence;
pub mod find;
pub mod index;
pub mod log;
pub mod manifest_view;
pub mod object;
pub mod participation;
pub mod reference;
pub mod refold;
pub mod runs;
pub mod status;
pub mod stock;
pub mod verify;

pub use error::{QueryError, error_line};
