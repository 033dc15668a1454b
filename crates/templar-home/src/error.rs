//! Errors of a home's directory and files.

use std::io;
use std::path::PathBuf;

/// The line in a home's `format` file. A later, incompatible layout changes the number.
pub(crate) const FORMAT: &str = "templar-home 0";

/// A home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The directory is no home.
    #[error("there is no templar home in {0}")]
    Missing(PathBuf),
    /// The directory is a home already.
    #[error("{0} is already a templar home")]
    Exists(PathBuf),
    /// A file that is to be made exists already.
    #[error("{0} exists already")]
    FileExists(PathBuf),
    /// The directory holds other files.
    #[error("{0} is not empty and not a templar home")]
    NotEmpty(PathBuf),
    /// Another version of the program wrote the home.
    #[error("the home in {path} has the format {found:?}, this program reads {FORMAT:?}")]
    Format {
        /// The directory of the home.
        path: PathBuf,
        /// The content of its `format` file.
        found: String,
    },
    /// Another process holds the home's lock.
    #[error("the home in {0} is in use by another templar process")]
    Locked(PathBuf),
    /// The key file is not there or holds no key, or others may read it.
    #[error("the key file {path} cannot be used: {reason}")]
    Key {
        /// The path of the key file.
        path: PathBuf,
        /// The reason, for people.
        reason: String,
    },
    /// A text file of the home does not parse.
    #[error("{path} does not parse: {reason}")]
    Parse {
        /// The path of the text file.
        path: PathBuf,
        /// The reason, for people.
        reason: String,
    },
    /// A text file of the home does not have the bytes that were written.
    #[error("{path} is damaged")]
    Damaged {
        /// The path of the text file.
        path: PathBuf,
    },
    /// This process may not write in the home.
    #[error("the home in {path} is read-only for this user")]
    ReadOnly {
        /// The directory of the home.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The file system of the home has no locks, so nothing keeps two processes from writing at once.
    #[error("the file system of the home in {path} has no file locks")]
    NoLocks {
        /// The directory of the home.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The file system gives an error.
    #[error("cannot use {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}
