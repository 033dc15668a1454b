//! Why tables are not written.

use std::io;
use std::path::Path;

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

use crate::new_folder::NewFolderError;

/// Tables cannot be written. No folder is left where one was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// A file or the folder cannot be written.
    #[error(transparent)]
    Folder(#[from] NewFolderError),
    /// The Arrow library refuses the rows of a table.
    #[error("the table {table} cannot be written")]
    Arrow {
        /// The table.
        table: &'static str,
        /// Its error.
        source: ArrowError,
    },
    /// The parquet library refuses the rows of a table.
    #[error("the table {table} cannot be written")]
    Parquet {
        /// The table.
        table: &'static str,
        /// Its error.
        source: ParquetError,
    },
}

impl TablesError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        NewFolderError::Io { path: path.to_owned(), source }.into()
    }

    /// The error of the system behind this one, if there is one.
    pub fn system(&self) -> Option<&io::Error> {
        match self {
            Self::Folder(NewFolderError::Io { source, .. }) => Some(source),
            Self::Arrow { source: ArrowError::IoError(_, source), .. } => Some(source),
            Self::Parquet { source: ParquetError::External(source), .. } => source.downcast_ref(),
            Self::Folder(_) | Self::Arrow { .. } | Self::Parquet { .. } => None,
        }
    }
}
