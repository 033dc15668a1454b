//! Data that devices keep between processes, as files of one directory: compiled programs, and proofs that were passed.
//!
//! The directory belongs to the user and not to a home: every home of a user finds the same devices. Nothing in it is
//! needed, so a file that cannot be read or written is passed over.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

use templar_device::DeviceCache;

use crate::files::{Privacy, write_whole};

/// The largest file that is read. Compiled programs have some megabytes.
const LARGEST: u64 = 64 << 20;

/// A directory of entries, each in a file of its own name.
#[derive(Debug, Clone)]
pub struct DeviceFiles {
    directory: PathBuf,
}

impl DeviceFiles {
    /// The entries in `directory`, which is made when the first of them is kept.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The file of an entry. Names are of digits, letters and dots, so none leads out of the directory.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') && !name.starts_with('.');
        (is_plain && !name.is_empty()).then(|| self.directory.join(name))
    }
}

impl DeviceCache for DeviceFiles {
    fn load(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(name)?).ok()?.take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= LARGEST).then_some(bytes)
    }

    fn store(&self, name: &str, bytes: &[u8]) {
        let Some(path) = self.path(name) else { return };
        if bytes.len() as u64 <= LARGEST && fs::create_dir_all(&self.directory).is_ok() {
            // Without a cache the next process compiles and tests again; that is all.
            let _ = write_whole(&path, bytes, Privacy::Owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_files_and_a_directory_that_cannot_be_written_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let files = DeviceFiles::new(dir.path().join("cache").join("devices"));
        assert_eq!(files.load("a.program"), None);
        files.store("a.program", b"binary");
        files.store("a.program", b"another");
        assert_eq!(files.load("a.program").as_deref(), Some(&b"another"[..]));
        fs::write(dir.path().join("file"), b"").unwrap();
        let nowhere = DeviceFiles::new(dir.path().join("file").join("devices"));
        nowhere.store("a.program", b"binary");
        assert_eq!(nowhere.load("a.program"), None);
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let files = DeviceFiles::new(PathBuf::from("directory"));
        for name in ["", ".", "..", "../secret", "/etc/passwd", "a/b", ".hidden", "a\\b"] {
            assert_eq!(files.path(name), None, "{name}");
        }
        assert!(files.path("0f.program").is_some());
    }
}
