//! Collections: several blobs under file names, in the format of iroh-blobs, which programs such as sendme
//! understand.
//!
//! A collection is a list of hashes whose first blob holds the names of the others. Invariant: a name from a
//! peer becomes a path only through [`file_path`], and such a path never leads out of its folder.

use std::path::PathBuf;

use iroh_blobs::format::collection::{Collection, CollectionMeta};
use templar_manifest::Hash;
use templar_store::{PutError, Store, to_iroh};

/// The largest number of parts in a file's path.
const MAX_DEPTH: usize = 16;

/// The longest part of a name between two slashes, in bytes. Most file systems refuse longer ones.
const MAX_PART: usize = 255;

/// Puts a collection of blobs, each under a file name, into the store. Returns the hash of the collection's
/// list.
///
/// # Errors
/// Those of [`Store::put`].
pub async fn collect(store: &Store, files: &[(String, Hash)]) -> Result<Hash, PutError> {
    let collection: Collection = files.iter().map(|(name, id)| (name.clone(), to_iroh(id))).collect();
    let mut root = Hash::default();
    // The last blob is the list, and its hash names the collection.
    for blob in collection.to_blobs() {
        root = store.put(blob).await?;
    }
    Ok(root)
}

/// The blobs of a list with the names that the list's first blob gives them.
///
/// `None` if the first blob does not hold exactly one name for each of the `others`.
pub(crate) fn names(first: &[u8], others: &[Hash]) -> Option<Vec<(String, Hash)>> {
    let meta: CollectionMeta = postcard::from_bytes(first).ok()?;
    let fits = meta.check_header() && meta.names().len() == others.len();
    fits.then(|| meta.names().iter().cloned().zip(others.iter().copied()).collect())
}

/// Turns a file name of a collection into a path below the folder that the collection is written to.
///
/// Returns `None` for a name that is empty, absolute or too long, or that would lead out of the folder.
///
/// ```
/// use templar_net::file_path;
///
/// assert!(file_path("papers/one.pdf").is_some());
/// assert!(file_path("../secrets").is_none());
/// ```
pub fn file_path(name: &str) -> Option<PathBuf> {
    let parts: Vec<&str> = name.split('/').collect();
    let is_plain =
        |part: &&str| !matches!(*part, "" | "." | "..") && part.len() <= MAX_PART && !part.contains(['\\', ':', '\0']);
    (parts.len() <= MAX_DEPTH && parts.iter().all(is_plain)).then(|| parts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leads_out_of_its_folder() {
        for name in ["a", "a b", "folder/file.txt", ".hidden", "a..b", "..."] {
            assert_eq!(file_path(name), Some(PathBuf::from(name)), "{name}");
        }
        let deep = ["a"; MAX_DEPTH + 1].join("/");
        let long = "a".repeat(MAX_PART + 1);
        for name in
            ["", "/", "/etc/passwd", "..", "../a", "a/../b", "a//b", "a/", "./a", "a\\b", "c:a", "a\0b", &deep, &long]
        {
            assert_eq!(file_path(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_fit_or_there_are_none() {
        let (ids, mut meta) = ([Hash::of(b"1"), Hash::of(b"2")], CollectionMeta::default());
        meta.names_mut().extend(["one".to_owned(), "two".to_owned()]);
        let bytes = postcard::to_allocvec(&meta).unwrap();
        assert_eq!(names(&bytes, &ids), Some(vec![("one".to_owned(), ids[0]), ("two".to_owned(), ids[1])]));
        assert_eq!(names(&bytes, &ids[..1]), None);
        assert_eq!(names(&[&b"x"[..], &bytes[1..]].concat(), &ids), None);
        assert_eq!(names(&bytes[..bytes.len() - 1], &ids), None);
        assert_eq!(names(&[], &ids), None);
    }
}
