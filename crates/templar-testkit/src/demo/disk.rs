//! The room that the homes of a demo take on the disk, and how to get it back.

use std::path::Path;

/// The bytes of all files in a directory. Files that vanish meanwhile, or cannot be read, count as empty.
pub(super) fn used(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => used(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |found| found.len()),
        _ => 0,
    };
    entries.flatten().map(size).sum()
}

/// Removes the homes that a demo made in `directory`, and the directory itself if nothing else is in it.
///
/// # Errors
/// A file cannot be removed.
pub fn remove(directory: &Path) -> std::io::Result<()> {
    let made = |name: &str| name == "audit" || name.starts_with("validator-") || name.starts_with("miner-");
    for entry in std::fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if entry.file_name().to_str().is_some_and(made) && path.join("format").is_file() {
            std::fs::remove_dir_all(path)?;
        }
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_homes_of_a_demo_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("demo");
        let file = |path: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "12345").unwrap();
        };
        for path in ["validator-1/format", "miner-12/format", "miner-12/store/x", "audit/format"] {
            file(path);
        }
        assert_eq!(used(&root), 20);
        file("miner-2/notes.txt");
        file("thesis.txt");
        remove(&root).unwrap();
        assert_eq!(used(&root), 10, "a directory that is no home, and a file of the user");
        std::fs::remove_dir_all(root.join("miner-2")).unwrap();
        std::fs::remove_file(root.join("thesis.txt")).unwrap();
        remove(&root).unwrap();
        assert!(!root.exists());
        assert!(remove(&root).is_err(), "there is nothing");
    }
}
