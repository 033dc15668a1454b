//! A templar home: the directory in which one participant keeps its key, its blobs and its runs.
//!
//! * [`Home`]: the directory itself; [`files`]: how its small files are written.
//! * [`journal`]: the entries that a node accepted, durable before anybody hears of them; [`entry_log`]: the
//!   same in memory; [`memory`]: facts that must outlive the end of a journal; [`mend`]: its repair.
//! * [`context`], [`configure`]: a run's genesis, from one dial, or from a Hugging Face [`folder`].
//! * [`replica`]: the protocol's node on top of its journal; [`registration`]: how a home comes by a slot.
//! * [`access`]: a home as a command uses it, also beside a running node ([`socket`], [`now`]).
//! * [`device_cache`]: data that devices keep between processes, outside of homes.
//! * [`retention`]: the rule on which blobs of a run must stay; [`inventory`]: the blobs of a home, and those
//!   that may go; [`unfinished`]: the blobs of an import that is under way.
//! * [`evaluations`]: what was measured of a run's models, and who vouches for it.
//! * [`shell`]: paths in the commands that people are told to run.
//!
//! Nothing here connects to a peer, and nothing here is a rule of the protocol.
//!
//! ```
//! use templar_home::Home;
//! use templar_manifest::SecretKey;
//!
//! let dir = tempfile::tempdir()?;
//! let key = SecretKey::from_bytes(&[7; 32]);
//! let home = Home::init(&dir.path().join("home"), &key)?;
//! assert_eq!(home.key()?.public(), key.public());
//! assert!(home.runs()?.is_empty());
//!
//! // One process at a time may write.
//! let lock = home.lock()?;
//! assert!(home.lock().is_err());
//! drop(lock);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod access;
pub mod configure;
pub mod context;
pub mod device_cache;
pub mod entry_log;
mod error;
pub mod evaluations;
pub mod files;
pub mod folder;
mod home;
pub mod inventory;
pub mod journal;
pub mod load;
pub mod memory;
pub mod mend;
pub mod now;
pub mod past;
pub mod registration;
pub mod replica;
pub mod retention;
pub mod shell;
pub mod socket;
pub mod unfinished;

pub use error::HomeError;
pub use home::{Home, HomeLock, is_open_to_others, read_key, write_key};
