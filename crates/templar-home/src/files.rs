//! Small files of a home: read with a bound on their length, and written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::HomeError;

/// Attaches a path to an error of the file system.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> HomeError + '_ {
    |source| HomeError::Io { path: path.to_owned(), source }
}

/// The permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// The owner alone may read it (mode 0600).
    Owner,
    /// Everybody who may read the directory may read it (mode 0644).
    Everybody,
}

/// Writes a file whole or not at all, and durably: it is written beside its place, synced and renamed, and then the
/// directory is synced.
pub fn write_whole(path: &Path, bytes: &[u8], privacy: Privacy) -> Result<(), HomeError> {
    write_with(path, privacy, |file| file.write_all(bytes))
}

/// The same as [`write_whole`], with a function that writes the content.
pub fn write_with(
    path: &Path,
    privacy: Privacy,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), HomeError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir).map_err(at(path))?;
    write(&mut file).map_err(at(path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = if privacy == Privacy::Owner { 0o600 } else { 0o644 };
        file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(at(path))?;
    }
    let _ = privacy;
    file.as_file().sync_all().map_err(at(path))?;
    file.persist(path).map_err(|error| at(path)(error.error))?;
    sync_dir(dir)
}

/// Makes the names in a directory durable. A new file may vanish in a power cut before this returns.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), HomeError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

/// Reads a text file, but no more than 1 MiB of it.
pub fn read_small(path: &Path) -> Result<String, HomeError> {
    use std::io::Read as _;
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(1 << 20).read_to_string(&mut text)).map_err(at(path))?;
    Ok(text)
}
