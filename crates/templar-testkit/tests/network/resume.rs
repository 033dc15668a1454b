//! A replica of a long run that begins with a certified copy of the state: it is where one is that has folded
//! everything, it remembers little, and no file that is damaged or of another run leads it astray.

use std::fs;
use std::path::{Path, PathBuf};

use templar_home::Home;
use templar_home::journal::{Journal, WindowRows};
use templar_home::memory::Memory;
use templar_home::past::{COPY_EVERY, remembered_windows};
use templar_home::replica::{Replica, Taken};
use templar_manifest::WindowIndex;
use templar_testkit::long_run::LongRun;

/// A home whose journal has the first windows of a run, and the entries of all windows.
struct Long {
    _root: tempfile::TempDir,
    folder: PathBuf,
    run: LongRun,
    /// The entries of each window.
    windows: Vec<Vec<Vec<u8>>>,
}

impl Long {
    fn new(windows: u64, closed: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("home");
        let mut run = LongRun::begin(&folder, windows, 2).unwrap();
        let mut all = Vec::new();
        while let Some(entries) = run.play().unwrap() {
            all.push(entries);
        }
        let long = Self { _root: root, folder, run, windows: all };
        Journal::replace(&long.dir(), &long.windows[..closed].concat()).unwrap();
        long
    }

    fn home(&self) -> Home {
        Home::open(&self.folder).unwrap()
    }

    fn dir(&self) -> PathBuf {
        self.home().run_dir(&self.run.context.run)
    }

    fn open(&self) -> Replica {
        Replica::open(&self.home(), self.run.context.clone(), self.run.validator().clone()).unwrap()
    }

    fn resume(&self) -> Replica {
        Replica::resume(&self.home(), self.run.context.clone(), self.run.validator().clone()).unwrap()
    }

    /// The least and the greatest number of windows that a replica remembers.
    fn remembered(&self) -> (u64, u64) {
        let least = remembered_windows(&self.run.context.genesis);
        (least, least + COPY_EVERY)
    }
}

/// Both replicas are at the same place of the same run, and tell peers the same.
fn agree(resumed: &Replica, whole: &Replica) {
    let (node, other) = (resumed.node(), whole.node());
    assert_eq!((node.state().record(), node.state().root()), (other.state().record(), other.state().root()));
    assert_eq!((resumed.position())(), (whole.position())());
    let first = node.remembers_from();
    assert_eq!(node.closed(), &other.closed()[first.0 as usize..]);
    let last = WindowIndex(node.state().window().0 - 1);
    assert_eq!(node.state_at(last), other.state_at(last));
    assert_eq!(first.0.checked_sub(1).and_then(|before| node.closed_window(WindowIndex(before))), None);
    let (log, rest) = (resumed.log(), whole.log());
    assert_eq!(log.milestones(32), rest.milestones(32));
    for milestone in rest.milestones(32) {
        assert_eq!(log.reached(&milestone), rest.reached(&milestone));
    }
    let mut seq = 0;
    loop {
        let (batch, expected) = (log.after(seq, 50, 1 << 20), rest.after(seq, 50, 1 << 20));
        assert_eq!(batch, expected, "after {seq}");
        match batch.last() {
            Some((last, _)) => seq = *last,
            None => break,
        }
    }
    assert_eq!(seq, resumed.entries() as u64);
}

fn copies(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir.join("states")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_replica_that_resumes_is_where_one_is_that_has_folded_everything() {
    let long = Long::new(130, 100);
    let (least, most) = long.remembered();
    assert!(least + COPY_EVERY < 100);
    let first = long.resume();
    assert_eq!(first.notes(), [] as [String; 0]);
    assert!(first.node().closed().len() as u64 <= most, "it forgets while it folds");
    drop(first);
    // Now there are copies of the state, and the replica reads nothing of the journal before the one that it begins
    // with.
    let mut resumed = long.resume();
    let remembered = 100 - resumed.node().remembers_from().0;
    assert!((least..=most).contains(&remembered), "{remembered} windows");
    agree(&resumed, &long.open());
    // It goes on as another does that has folded everything.
    for window in &long.windows[100..] {
        for entry in window {
            assert!(matches!(resumed.take(entry).unwrap(), Taken::In(_)));
        }
        assert!((least..=most).contains(&(resumed.node().closed().len() as u64)));
    }
    let whole = Long::new(130, 130);
    agree(&resumed, &whole.open());
    assert!(copies(&long.dir()).len() as u64 <= most / COPY_EVERY + 1, "old copies are removed");
    drop(resumed);
    agree(&long.resume(), &whole.open());
}

#[test]
fn copies_that_are_damaged_or_foreign_are_ignored_with_a_line() {
    let long = Long::new(100, 100);
    drop(long.resume());
    let dir = long.dir();
    let all = copies(&dir);
    assert!(all.len() >= 3, "{all:?}");
    let whole: Vec<Vec<u8>> = all.iter().map(|path| fs::read(path).unwrap()).collect();
    // The one from which it would begin is damaged.
    let begun = long.resume().node().remembers_from();
    let place = all.iter().position(|path| path.ends_with(format!("{:08}.state", begun.0))).unwrap();
    let mut damaged = whole[place].clone();
    damaged[100] ^= 1;
    fs::write(&all[place], &damaged).unwrap();
    let replica = long.resume();
    assert_eq!(replica.notes().len(), 1, "{:?}", replica.notes());
    assert!(replica.notes()[0].contains("is ignored"));
    assert_ne!(replica.node().remembers_from(), begun);
    drop(replica);
    // All copies are of another run with the same windows.
    let other = Long::new(101, 100);
    drop(other.resume());
    for (path, foreign) in all.iter().zip(copies(&other.dir())) {
        fs::copy(foreign, path).unwrap();
    }
    let replica = long.resume();
    assert!(replica.notes().iter().all(|note| note.contains("it is the state of run")), "{:?}", replica.notes());
    assert!(!replica.notes().is_empty());
    drop(replica);
    // They were made again.
    let replica = long.resume();
    assert_eq!(replica.notes(), [] as [String; 0]);
    agree(&replica, &long.open());
}

#[test]
fn a_journal_without_its_index_or_with_another_is_folded_whole() {
    let long = Long::new(100, 100);
    drop(long.resume());
    let rows = WindowRows::read(&long.dir()).unwrap();
    assert_eq!(rows.len(), 100);
    // Records of other lengths lie before the place.
    let shorter: Vec<_> = rows
        .iter()
        .map(|row| {
            let mut row = *row;
            row.end.offset -= 7;
            row
        })
        .collect();
    for index in [vec![], rows[..40].to_vec(), rows[..90].to_vec(), shorter] {
        drop(WindowRows::open(&long.dir(), &index).unwrap());
        let replica = long.resume();
        assert_eq!(replica.entries(), long.windows.concat().len());
        agree(&replica, &long.open());
        assert_eq!(WindowRows::read(&long.dir()).unwrap(), rows, "it is made again");
    }
    // A journal that was mended has no index.
    Journal::replace(&long.dir(), &long.windows[..80].concat()).unwrap();
    assert_eq!(WindowRows::read(&long.dir()).unwrap(), []);
    let mut memory = Memory::read(&long.dir()).unwrap();
    memory.head = None;
    memory.write(&long.dir()).unwrap();
    assert_eq!(long.resume().node().state().window(), WindowIndex(80));
}

/// A peer may send entries of windows that the replica does not remember. Its own are no news from another node.
#[test]
fn own_words_of_forgotten_windows_are_no_news() {
    let long = Long::new(100, 100);
    drop(long.resume());
    let mut resumed = long.resume();
    let memory = resumed.memory().clone();
    for entry in long.windows.iter().flatten() {
        resumed.take(entry).unwrap();
    }
    assert_eq!(resumed.memory(), &memory);
    assert_eq!(resumed.may_sign(), Ok(()));
}
