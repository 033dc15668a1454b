//! A folder that is there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder cannot be written. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum NewFolderError {
    /// Something with this name is there, and it is no empty folder.
    #[error("{path} is already there", path = path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A file or folder cannot be written.
    #[error("{path} cannot be written", path = path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// A folder while it is written, under another name beside its place. Dropped before [`NewFolder::publish`], it takes
/// its files away.
#[derive(Debug)]
pub struct NewFolder {
    place: PathBuf,
    beside: TempDir,
}

impl NewFolder {
    /// Begins a folder that is to be at `place`, where nothing or an empty folder is now.
    ///
    /// # Errors
    /// [`NewFolderError::Exists`], or the folder around it cannot be written.
    pub fn create(place: &Path) -> Result<Self, NewFolderError> {
        let failed = |source| NewFolderError::Io { path: place.to_owned(), source };
        match fs::read_dir(place) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(NewFolderError::Exists { path: place.to_owned() });
                }
            }
            // A link that leads nowhere is something, too.
            Err(_) if place.symlink_metadata().is_ok() => {
                return Err(NewFolderError::Exists { path: place.to_owned() });
            }
            Err(_) => {}
        }
        let around = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(around).map_err(failed)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".new-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // As any new folder: the system takes away what the user's mask says.
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        Ok(Self { place: place.to_owned(), beside: builder.tempdir_in(around).map_err(failed)? })
    }

    /// The folder as it is now.
    pub fn path(&self) -> &Path {
        self.beside.path()
    }

    /// Writes a small file.
    ///
    /// # Errors
    /// The disk takes nothing more.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), NewFolderError> {
        let path = self.path().join(name);
        let written = || {
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        written().map_err(|source| NewFolderError::Io { path: path.clone(), source })
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// Something came to its place in the meantime.
    pub fn publish(self) -> Result<(), NewFolderError> {
        let renamed = File::open(self.path())
            .and_then(|folder| folder.sync_all())
            .and_then(|()| fs::rename(self.path(), &self.place));
        renamed.map_err(|source| NewFolderError::Io { path: self.place.clone(), source })?;
        // The folder has another name now, and there is nothing to take away under the old one.
        let _ = self.beside.keep();
        Ok(())
    }
}
