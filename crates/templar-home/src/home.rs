//! A templar home: the directory that holds one node's key, blobs and runs.
//!
//! ```text
//! format            "templar-home 0"
//! key               the secret key, 64 hexadecimal digits, readable by its owner only
//! chains/<anchor>   the secret of a validator's hash chain for one run, likewise
//! insecure          there only if keys and chains follow from a seed that anybody may know
//! lock              held by the one process that writes here
//! run               the run that commands mean when they name none
//! peers.json        where other nodes were last reached
//! store/            blobs (templar-store)
//! runs/<run>/       one journal per run, the memory beside it, ids that follow from its genesis, and `evaluations/`
//! work/             snapshots of a window under way, and the names of blobs of an import that has not ended
//! node.sock         where a running node answers reading commands
//! ```
//!
//! [`Home::init`] never overwrites anything. Files are written beside their place and renamed into it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use templar_manifest::chain::Chain;
use templar_manifest::{Hash, RunId, SecretKey};

use crate::error::{FORMAT, HomeError};
use crate::files::{Privacy, at, folder_of, read_small, sync_dir, write_new, write_whole};

/// The right of one process to write in a home. The lock ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

/// An existing home. Reading needs no lock; a process that writes holds a [`HomeLock`].
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Makes a home with this key in `root`, which must be absent or empty. Only the user of this process may enter it.
    ///
    /// # Errors
    /// The directory holds files already, or cannot be written.
    pub fn init(root: &Path, key: &SecretKey) -> Result<Self, HomeError> {
        if root.join("format").exists() {
            return Err(HomeError::Exists(root.to_owned()));
        }
        match fs::read_dir(root) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(HomeError::NotEmpty(root.to_owned()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(root).map_err(at(root))?,
            Err(error) => return Err(at(root)(error)),
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // Deltas lie here before the cut, when nobody else may see them.
            fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(at(root))?;
        }
        let home = Self { root: root.to_owned() };
        // Makes the name of a new home itself durable.
        sync_dir(folder_of(root))?;
        for dir in ["store", "runs", "work"] {
            let path = root.join(dir);
            fs::create_dir(&path).map_err(at(&path))?;
        }
        write_whole(&root.join("key"), hex_line(&key.to_bytes()).as_bytes(), Privacy::Owner)?;
        // Written last, so that a home that was begun and not finished does not count as one.
        write_whole(&root.join("format"), format!("{FORMAT}\n").as_bytes(), Privacy::Everybody)?;
        Ok(home)
    }

    /// Opens the home in `root`.
    ///
    /// # Errors
    /// The directory is no home, or a newer program wrote it.
    pub fn open(root: &Path) -> Result<Self, HomeError> {
        let path = root.join("format");
        let text = match read_small(&path) {
            Ok(text) => text,
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(HomeError::Missing(root.to_owned()));
            }
            Err(error) => return Err(error),
        };
        if text.trim_end() != FORMAT {
            return Err(HomeError::Format { path: root.to_owned(), found: text.trim_end().to_owned() });
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The directory of the home.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes this the one process that writes here, until the lock is dropped.
    ///
    /// # Errors
    /// Another process holds the lock, this process may not write here, or the file system has no locks.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.root.join("lock");
        let opened = File::options().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|source| self.unwritable(at(&path)(source)))?;
        self.taken(file.try_lock())?;
        Ok(HomeLock { _file: file })
    }

    /// Keeps writers out until the guard is dropped, as far as that works without the right to write: a home that
    /// nobody has written yet has no file to lock.
    ///
    /// # Errors
    /// Another process writes here.
    pub(crate) fn lock_shared(&self) -> Result<Option<HomeLock>, HomeError> {
        let Ok(file) = File::open(self.root.join("lock")) else { return Ok(None) };
        match self.taken(file.try_lock_shared()) {
            Ok(()) => Ok(Some(HomeLock { _file: file })),
            // Without locks there is no writer either, since every writer takes the lock.
            Err(HomeError::NoLocks { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Converts the result of locking the home.
    fn taken(&self, locked: Result<(), TryLockError>) -> Result<(), HomeError> {
        match locked {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(HomeError::Locked(self.root.clone())),
            Err(TryLockError::Error(source)) if has_no_locks(&source) => {
                Err(HomeError::NoLocks { path: self.root.clone(), source })
            }
            Err(TryLockError::Error(source)) => Err(at(&self.root.join("lock"))(source)),
        }
    }

    /// Reads the secret key of the home's node (its hotkey).
    pub fn key(&self) -> Result<SecretKey, HomeError> {
        read_key(&self.root.join("key"))
    }

    /// Marks the home as one for demonstrations and tests: its key follows from a seed, and so do its chains.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn mark_insecure(&self) -> Result<(), HomeError> {
        write_whole(&self.root.join("insecure"), b"the key of this home follows from a seed\n", Privacy::Everybody)
    }

    /// Whether the home is one for demonstrations and tests.
    pub fn is_insecure(&self) -> bool {
        self.root.join("insecure").exists()
    }

    /// Keeps a hash chain and returns its anchor, by which genesis names it. The secret is in this home alone, so a
    /// copy of the home must have it too.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_chain(&self, chain: &Chain) -> Result<Hash, HomeError> {
        let (anchor, dir) = (chain.anchor(), self.root.join("chains"));
        fs::create_dir_all(&dir).map_err(|source| self.unwritable(at(&dir)(source)))?;
        sync_dir(&self.root)?;
        write_whole(&dir.join(anchor.to_string()), hex_line(chain.secret()).as_bytes(), Privacy::Owner)?;
        Ok(anchor)
    }

    /// The hash chain with this anchor, if this home keeps it.
    ///
    /// # Errors
    /// The file is damaged, or others may read it.
    pub fn chain(&self, anchor: &Hash) -> Result<Option<Chain>, HomeError> {
        let path = self.root.join("chains").join(anchor.to_string());
        match read_secret(&path) {
            Ok(secret) => Ok(Some(Chain::new(secret))),
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The directory of the blob store.
    pub fn store_dir(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The directory of a run's journal.
    pub fn run_dir(&self, run: &RunId) -> PathBuf {
        self.root.join("runs").join(run.to_string())
    }

    /// The file in which the training of a window is saved while it is under way.
    pub fn snapshot_path(&self, run: &RunId, window: u64) -> PathBuf {
        self.root.join("work").join(format!("{}-{window}.snapshot", run.short()))
    }

    /// The socket at which a running node answers commands.
    pub fn socket_path(&self) -> PathBuf {
        self.root.join("node.sock")
    }

    /// The runs of this home, sorted.
    pub fn runs(&self) -> Result<Vec<RunId>, HomeError> {
        let path = self.root.join("runs");
        let mut runs = Vec::new();
        for entry in fs::read_dir(&path).map_err(at(&path))? {
            let name = entry.map_err(at(&path))?.file_name();
            runs.extend(name.to_str().and_then(|name| name.parse::<RunId>().ok()));
        }
        runs.sort();
        Ok(runs)
    }

    /// The run that commands mean when they name none.
    pub fn current_run(&self) -> Result<Option<RunId>, HomeError> {
        let path = self.root.join("run");
        match read_small(&path) {
            Ok(text) => {
                text.trim_end().parse().map(Some).map_err(|error| HomeError::Parse { path, reason: format!("{error}") })
            }
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes `run` the one that commands mean.
    pub fn set_current_run(&self, run: &RunId) -> Result<(), HomeError> {
        let written = write_whole(&self.root.join("run"), format!("{run}\n").as_bytes(), Privacy::Everybody);
        written.map_err(|error| self.unwritable(error))
    }

    /// Says of an error of writing that the home is read-only, if that is its reason.
    fn unwritable(&self, error: HomeError) -> HomeError {
        match error {
            HomeError::Io { source, .. } if is_read_only(&source) => {
                HomeError::ReadOnly { path: self.root.clone(), source }
            }
            error => error,
        }
    }
}

/// Whether writing failed because the disk or its permissions allow only reading.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Whether the error says that a file system has no locks, as a network file system without its lock service does.
fn has_no_locks(error: &io::Error) -> bool {
    let number = Errno::from_io_error(error);
    number.is_some_and(|number| [Errno::NOLCK, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP].contains(&number))
}

fn hex_line(secret: &[u8; 32]) -> String {
    format!("{}\n", data_encoding::HEXLOWER.encode(secret))
}

/// Reads a secret key from a file that its owner alone may read.
///
/// # Errors
/// The file is not there or holds no key, or others may read it.
pub fn read_key(path: &Path) -> Result<SecretKey, HomeError> {
    match read_secret(path) {
        Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(HomeError::Key { path: path.to_owned(), reason: "it is not there".to_owned() })
        }
        read => read.map(|bytes| SecretKey::from_bytes(&bytes)),
    }
}

/// Reads 32 secret bytes from a file that its owner alone may read.
fn read_secret(path: &Path) -> Result<[u8; 32], HomeError> {
    let text = read_small(path)?;
    let bad = |reason: &str| HomeError::Key { path: path.to_owned(), reason: reason.to_owned() };
    let bytes = data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.trim_end().as_bytes())
        .map_err(|_| bad("expected 64 hexadecimal digits"))?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| bad("expected 64 hexadecimal digits"))?;
    if is_open_to_others(path).map_err(at(path))? {
        return Err(bad("it can be read by others; run `chmod 600` on it"));
    }
    Ok(bytes)
}

/// Whether other users of this machine have any right to a file or directory. Where the system knows no such rights,
/// nobody has.
///
/// # Errors
/// It is not there, or this process may not look at it.
pub fn is_open_to_others(path: &Path) -> io::Result<bool> {
    let found = fs::metadata(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        Ok(found.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = found;
        Ok(false)
    }
}

/// Writes a secret key into a new file.
///
/// # Errors
/// The file exists already, or cannot be written.
pub fn write_key(path: &Path, key: &SecretKey) -> Result<(), HomeError> {
    write_new(path, hex_line(&key.to_bytes()).as_bytes(), Privacy::Owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_bytes(&[5; 32])
    }

    #[test]
    fn init_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("home");
        let home = Home::init(&root, &key()).unwrap();
        assert_eq!(home.key().unwrap().public(), key().public());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(matches!(Home::init(&root, &SecretKey::from_bytes(&[6; 32])), Err(HomeError::Exists(_))));
        assert_eq!(Home::open(&root).unwrap().key().unwrap().public(), key().public());
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(matches!(Home::init(dir.path(), &key()), Err(HomeError::NotEmpty(_))));
    }

    #[test]
    fn a_chain_is_kept_by_its_anchor_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(&dir.path().join("home"), &key()).unwrap();
        let chain = Chain::new([7; 32]);
        assert!(home.chain(&chain.anchor()).unwrap().is_none());
        let anchor = home.keep_chain(&chain).unwrap();
        assert_eq!(anchor, chain.anchor());
        assert_eq!(home.chain(&anchor).unwrap().unwrap().secret(), chain.secret());
        assert!(home.chain(&Hash::default()).unwrap().is_none());
        let path = home.root().join("chains").join(anchor.to_string());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(home.chain(&anchor), Err(HomeError::Key { .. })));
    }

    #[test]
    fn homes_that_cannot_be_used_say_why() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Home::open(dir.path()), Err(HomeError::Missing(_))));
        let root = dir.path().join("home");
        let home = Home::init(&root, &key()).unwrap();
        let lock = home.lock().unwrap();
        assert!(matches!(home.lock(), Err(HomeError::Locked(_))));
        drop(lock);
        assert!(home.lock().is_ok());
        fs::write(root.join("key"), "nonsense").unwrap();
        assert!(matches!(home.key(), Err(HomeError::Key { .. })));
        fs::remove_file(root.join("key")).unwrap();
        assert!(matches!(home.key(), Err(HomeError::Key { .. })));
        fs::write(root.join("format"), "templar-home 7\n").unwrap();
        assert!(matches!(Home::open(&root), Err(HomeError::Format { .. })));
    }

    #[test]
    fn a_home_that_may_not_be_written_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(&dir.path().join("home"), &key()).unwrap();
        let unwritable = |kind: io::ErrorKind| home.unwritable(at(&home.root().join("lock"))(kind.into()));
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            assert!(matches!(unwritable(kind), HomeError::ReadOnly { path, .. } if path == home.root()));
        }
        assert!(matches!(unwritable(io::ErrorKind::StorageFull), HomeError::Io { .. }));
    }

    #[test]
    fn a_file_system_without_locks_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(&dir.path().join("home"), &key()).unwrap();
        let taken = |number: Errno| home.taken(Err(TryLockError::Error(number.into())));
        for number in [Errno::NOLCK, Errno::NOTSUP, Errno::NOSYS] {
            assert!(matches!(taken(number), Err(HomeError::NoLocks { .. })), "{number}");
        }
        assert!(matches!(taken(Errno::IO), Err(HomeError::Io { .. })));
    }

    #[test]
    fn a_reader_keeps_writers_out_and_waits_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(&dir.path().join("home"), &key()).unwrap();
        assert!(home.lock_shared().unwrap().is_none(), "nobody has written here");
        drop(home.lock().unwrap());
        let (reader, other) = (home.lock_shared().unwrap(), home.lock_shared().unwrap());
        assert!(reader.is_some() && other.is_some());
        assert!(matches!(home.lock(), Err(HomeError::Locked(_))));
        drop((reader, other));
        let _writer = home.lock().unwrap();
        assert!(matches!(home.lock_shared(), Err(HomeError::Locked(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(&dir.path().join("home"), &key()).unwrap();
        let path = home.root().join("key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(home.key(), Err(HomeError::Key { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn what_others_may_enter_is_told() {
        use std::fs::{Permissions, set_permissions};
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        for (mode, open) in [(0o700, false), (0o750, true), (0o701, true), (0o755, true)] {
            set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open_to_others(dir.path()).unwrap(), open, "{mode:o}");
        }
    }
}
