//! A folder of tables, with the list that describes them.

use std::path::Path;

use serde::Serialize;

use super::error::TablesError;
use super::{Table, TableFile, TableFormat};
use crate::new_folder::NewFolder;

/// File name of the list of tables.
const LIST: &str = "tables.json";

/// A folder of tables while it is written. Dropped before [`TablesFolder::publish`], it takes its files away.
#[derive(Debug)]
pub struct TablesFolder {
    folder: NewFolder,
    format: TableFormat,
}

impl TablesFolder {
    /// Begins a folder that is to be at `place`, where nothing or an empty folder is now.
    ///
    /// # Errors
    /// [`TablesError::Folder`]
    pub fn create(place: &Path, format: TableFormat) -> Result<Self, TablesError> {
        Ok(Self { folder: NewFolder::create(place)?, format })
    }

    /// Begins the file of a table.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn table<R>(&self, table: Table<R>) -> Result<TableFile<R>, TablesError> {
        TableFile::create(self.folder.path(), table, self.format)
    }

    /// Writes the list of tables, `tables.json`, and gives the folder its name.
    ///
    /// # Errors
    /// [`TablesError::Folder`]
    pub fn publish(self, list: &impl Serialize) -> Result<(), TablesError> {
        let mut text = serde_json::to_vec_pretty(list).expect("encoding into memory cannot fail");
        text.push(b'\n');
        self.folder.write(LIST, &text)?;
        Ok(self.folder.publish()?)
    }
}
