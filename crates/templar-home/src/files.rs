//! Small files of a home: read with a bound on their length, and written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::HomeError;

/// Attaches a path to an error of the file system.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> HomeError + '_ {
    |source| HomeError::Io { path: path.to_owned(), source }
}

/// The directory in which a file lies. A bare name lies in the current directory.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
    let file = written_beside(path, privacy, write)?;
    file.persist(path).map_err(|error| at(path)(error.error))?;
    sync_dir(folder_of(path))
}

/// The same as [`write_whole`] for a file that must not exist yet.
///
/// # Errors
/// [`HomeError::FileExists`] if there is a file, and everything that prevents writing.
pub(crate) fn write_new(path: &Path, bytes: &[u8], privacy: Privacy) -> Result<(), HomeError> {
    if path.exists() {
        return Err(HomeError::FileExists(path.to_owned()));
    }
    let file = written_beside(path, privacy, |file| file.write_all(bytes))?;
    // Another process may have made the file in the meantime.
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => HomeError::FileExists(path.to_owned()),
        _ => at(path)(error.error),
    })?;
    sync_dir(folder_of(path))
}

/// A synced temporary file in the directory of `path`, with the content that `write` gives it.
fn written_beside(
    path: &Path,
    privacy: Privacy,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<tempfile::NamedTempFile, HomeError> {
    let made = tempfile::Builder::new().prefix(".new-").tempfile_in(folder_of(path));
    let mut file = made.map_err(|error| at(path)(without_other_path(error)))?;
    write(&mut file).map_err(at(path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = if privacy == Privacy::Owner { 0o600 } else { 0o644 };
        file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(at(path))?;
    }
    let _ = privacy;
    file.as_file().sync_all().map_err(at(path))?;
    Ok(file)
}

/// The same error without the path that a library has added, which is that of a temporary file.
fn without_other_path(error: io::Error) -> io::Error {
    let said = error.to_string();
    match said.rsplit_once(" at path ") {
        Some((said, _)) if error.get_ref().is_some() => io::Error::new(error.kind(), said.to_owned()),
        _ => error,
    }
}

/// Makes the names in a directory durable. A new file may vanish in a power cut before this returns.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), HomeError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

/// Reads a text file, but no more than 1 MiB of it.
///
/// # Errors
/// [`HomeError::Io`], also where the file is no text: then the kind is [`InvalidData`](io::ErrorKind::InvalidData).
pub fn read_small(path: &Path) -> Result<String, HomeError> {
    use std::io::Read as _;
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(1 << 20).read_to_string(&mut text)).map_err(|error| {
        at(path)(match error.kind() {
            io::ErrorKind::InvalidData => io::Error::new(error.kind(), "it is not text in UTF-8"),
            _ => error,
        })
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_lies_in_the_current_directory() {
        let folders =
            ["owner.key", "./owner.key", "keys/owner.key", "/owner.key"].map(|path| folder_of(Path::new(path)));
        assert_eq!(folders, [".", ".", "keys", "/"].map(Path::new));
    }

    #[test]
    fn a_file_that_cannot_be_made_or_read_is_told_without_the_words_of_libraries() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("missing").join("file");
        let HomeError::Io { path, source } = write_whole(&inside, b"text", Privacy::Owner).unwrap_err() else {
            panic!()
        };
        assert_eq!((path, source.kind()), (inside.clone(), io::ErrorKind::NotFound));
        assert_eq!(source.to_string(), io::Error::from_raw_os_error(2).to_string());
        let odd = dir.path().join("odd");
        fs::write(&odd, b"caf\xe9").unwrap();
        let HomeError::Io { source, .. } = read_small(&odd).unwrap_err() else { panic!() };
        assert_eq!(
            (source.kind(), source.to_string().as_str()),
            (io::ErrorKind::InvalidData, "it is not text in UTF-8")
        );
    }

    #[test]
    fn a_new_file_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_new(&path, b"first", Privacy::Owner).unwrap();
        assert!(matches!(write_new(&path, b"second", Privacy::Owner), Err(HomeError::FileExists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write_whole(&path, b"third", Privacy::Owner).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
