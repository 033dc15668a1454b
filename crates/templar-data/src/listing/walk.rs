//! The walk over the named files and folders.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::error::ListingError;
use super::file::{LeftOut, TakenFile};
use super::reason::Reason;
use super::{names, splits};
use crate::source::{Format, STANDARD_INPUT};

/// The number of levels that a folder may nest.
const MAX_DEPTH: usize = 64;

/// A listing that grows.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) taken: Vec<TakenFile>,
    pub(super) left_out: Vec<LeftOut>,
    /// The files that are taken and the folders that were entered, by the paths to which all links lead.
    seen: BTreeSet<PathBuf>,
    /// The folders that are being walked, from the one that was named to the innermost.
    open: Vec<PathBuf>,
    /// Whether the folder that was named has the name of a split, so that splits are what was asked for.
    takes_splits: bool,
}

/// A file or folder on the way of the walk.
struct FolderEntry {
    /// The path by which it was reached.
    path: PathBuf,
    /// The path to which all links on the way lead.
    real: PathBuf,
    /// The path below the folder that was named.
    name: String,
}

impl Walk {
    /// Adds a file or folder that was named.
    pub(super) fn source(&mut self, path: &Path) -> Result<(), ListingError> {
        if is_stream(path) {
            let name = path.to_string_lossy().into_owned();
            self.taken.push(TakenFile { path: path.to_owned(), name, bytes: 0, link: None });
            return Ok(());
        }
        let metadata = fs::metadata(path).map_err(|error| unreachable(path, error))?;
        let real = fs::canonicalize(path).map_err(|error| unreachable(path, error))?;
        // For `.` and the like, the real path has the name.
        let name = path.file_name().or(real.file_name()).unwrap_or_default().to_string_lossy().into_owned();
        let entry = |name| FolderEntry { path: path.to_owned(), real, name };
        if metadata.is_dir() {
            self.takes_splits = splits::is_set_aside(&name);
            self.named_folder(entry(String::new()))
        } else if metadata.is_file() {
            self.take(entry(name), &metadata)
        } else {
            Err(ListingError::Special(path.to_owned()))
        }
    }

    fn named_folder(&mut self, entry: FolderEntry) -> Result<(), ListingError> {
        let path = entry.path.clone();
        let (taken, left_out) = (self.taken.len(), self.left_out.len());
        self.folder(entry)?;
        self.leave_text_beside_tables(taken);
        self.leave_tokens_beside_text(taken);
        self.forget_indices(taken, left_out);
        self.left_out[left_out..].sort_by(|a, b| a.path.cmp(&b.path));
        let found = &self.left_out[left_out..];
        if self.taken.len() > taken || found.iter().any(|left_out| left_out.reason == Reason::Repeated) {
            return Ok(());
        }
        Err(ListingError::EmptyFolder { path, left_out: found.to_vec() })
    }

    /// A folder of tables is a published dataset, and the plain text in it is about the dataset.
    fn leave_text_beside_tables(&mut self, from: usize) {
        let format = |file: &TakenFile| Format::of_name(&file.path);
        if self.taken[from..].iter().any(|file| format(file).is_some_and(Format::is_table)) {
            let text = self.taken.extract_if(from.., |file| format(file) == Some(Format::Text));
            self.left_out.extend(text.map(|file| LeftOut { path: file.path, reason: Reason::BesideTables }));
        }
    }

    /// Nothing tells raw tokens from other numbers, such as weights. In a folder with texts they are rarely tokens.
    fn leave_tokens_beside_text(&mut self, from: usize) {
        let is_tokens = |file: &TakenFile| Format::of_name(&file.path) == Some(Format::Tokens);
        if !self.taken[from..].iter().all(is_tokens) {
            let tokens = self.taken.extract_if(from.., |file| is_tokens(file));
            self.left_out.extend(tokens.map(|file| LeftOut { path: file.path, reason: Reason::TokensBesideText }));
        }
    }

    /// The index of Megatron is read with the tokens beside it, so it is not left out.
    fn forget_indices(&mut self, taken: usize, left_out: usize) {
        let tokens: BTreeSet<&Path> = self.taken[taken..].iter().map(|file| file.path.as_path()).collect();
        let is_index = |path: &Path| {
            path.extension().is_some_and(|ending| ending == "idx")
                && tokens.contains(path.with_extension("bin").as_path())
        };
        self.left_out.extract_if(left_out.., |one| is_index(&one.path)).for_each(drop);
    }

    fn folder(&mut self, entry: FolderEntry) -> Result<(), ListingError> {
        if self.open.contains(&entry.real) {
            return self.leave(entry, Reason::Circle);
        }
        if !self.seen.insert(entry.real.clone()) {
            return self.leave(entry, Reason::Repeated);
        }
        if self.open.len() == MAX_DEPTH {
            return Err(ListingError::TooDeep { path: entry.path, max_depth: MAX_DEPTH });
        }
        let unreadable = |source| ListingError::Unreadable { path: entry.path.clone(), source };
        let entries: io::Result<Vec<_>> = fs::read_dir(&entry.path).and_then(Iterator::collect);
        let mut names: Vec<_> = entries.map_err(unreadable)?.into_iter().map(|entry| entry.file_name()).collect();
        names.sort_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
        self.open.push(entry.real.clone());
        for file_name in names {
            let shown = file_name.to_string_lossy();
            let name = if entry.name.is_empty() { shown.into_owned() } else { format!("{}/{shown}", entry.name) };
            self.entry(FolderEntry { path: entry.path.join(&file_name), real: entry.real.join(&file_name), name })?;
        }
        self.open.pop();
        Ok(())
    }

    fn entry(&mut self, mut entry: FolderEntry) -> Result<(), ListingError> {
        let unreadable = |path: &Path, source| ListingError::Unreadable { path: path.to_owned(), source };
        let is_link = fs::symlink_metadata(&entry.path).map_err(|error| unreadable(&entry.path, error))?.is_symlink();
        let metadata = fs::metadata(&entry.path);
        let is_folder = metadata.as_ref().is_ok_and(Metadata::is_dir);
        let format = Format::of_name(&entry.path);
        let file_name = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The rules come first, since a file that they leave out may be unreadable, or a link that leads nowhere.
        let is_prose = format.is_none_or(|format| format == Format::Text);
        if let Some(reason) = names::reason(&file_name, is_folder, is_prose) {
            return self.leave(entry, reason);
        }
        if !self.takes_splits && (is_folder || format.is_some()) && splits::is_set_aside(&file_name) {
            return self.leave(entry, Reason::Split);
        }
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(_) if is_link && format.is_none() => return self.leave(entry, Reason::DeadLink),
            Err(error) => return Err(unreachable(&entry.path, error)),
        };
        if is_link {
            entry.real = fs::canonicalize(&entry.path).map_err(|error| unreadable(&entry.path, error))?;
        }
        if metadata.is_dir() {
            self.folder(entry)
        } else if !metadata.is_file() {
            self.leave(entry, Reason::Special)
        } else if format.is_none() {
            self.leave(entry, Reason::UnknownKind)
        } else {
            self.take(entry, &metadata)
        }
    }

    fn take(&mut self, entry: FolderEntry, metadata: &Metadata) -> Result<(), ListingError> {
        if !self.seen.insert(entry.real.clone()) {
            return self.leave(entry, Reason::Repeated);
        }
        // A file that may not be read is found now, and not after hours of work on the files before it.
        File::open(&entry.path).map_err(|source| ListingError::Unreadable { path: entry.path.clone(), source })?;
        let link = fs::read_link(&entry.path).ok();
        self.taken.push(TakenFile { path: entry.path, name: entry.name, bytes: metadata.len(), link });
        Ok(())
    }

    fn leave(&mut self, entry: FolderEntry, reason: Reason) -> Result<(), ListingError> {
        self.left_out.push(LeftOut { path: entry.path, reason });
        Ok(())
    }
}

/// Whether a path that was named is a stream that somebody has opened for this program: standard input, or the pipe of
/// `<(command)` in a shell. Such a pipe has a writer, so that reading it comes to an end.
fn is_stream(path: &Path) -> bool {
    path == Path::new(STANDARD_INPUT) || path == Path::new("/dev/stdin") || path.starts_with("/dev/fd")
}

/// The error of a path behind which the system finds nothing.
fn unreachable(path: &Path, error: io::Error) -> ListingError {
    let path = path.to_owned();
    match fs::read_link(&path) {
        Ok(target) if error.kind() != io::ErrorKind::PermissionDenied => ListingError::DeadLink { path, target },
        _ if error.kind() == io::ErrorKind::NotFound => ListingError::Missing(path),
        _ => ListingError::Unreadable { path, source: error },
    }
}
