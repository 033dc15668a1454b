//! The listing: the files that an import takes, and those that it leaves out with the reason, before it reads any text.
//!
//! A file that is named is taken. A folder stands for the files below it that hold data, in the order of the bytes of
//! their names. A file that a person would not train on is left out by rule ([`Reason`]), and is taken where it is
//! named itself. Links are followed. Every file is read once: a second way to it is left out, so links that lead in
//! circles end.
//!
//! Invariant: the choice depends on the names and the links alone, never on the order in which a file system gives
//! its entries. Nothing but regular files is opened, so no pipe makes an import wait.

mod error;
mod file;
mod names;
mod reason;
mod splits;
mod walk;

use std::path::PathBuf;

pub use error::ListingError;
pub use file::{LeftOut, TakenFile};
pub use reason::Reason;

use walk::Walk;

/// The files that an import takes, and those that it leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files to read, in order.
    pub taken: Vec<TakenFile>,
    /// The files that are left out, in the order in which they were found.
    pub left_out: Vec<LeftOut>,
}

impl Listing {
    /// Lists what an import of `sources` takes. It reads names, and of each file no more than its first bytes.
    ///
    /// # Errors
    /// See [`ListingError`].
    pub fn of(sources: &[PathBuf]) -> Result<Self, ListingError> {
        let mut walk = Walk::default();
        for source in sources {
            walk.source(source)?;
        }
        if walk.taken.is_empty() {
            return Err(ListingError::NoSources);
        }
        Ok(Self { taken: walk.taken, left_out: walk.left_out })
    }

    /// The bytes of all files that are taken, as they are stored.
    pub fn bytes(&self) -> u64 {
        self.taken.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }
}
