//! The closed windows of a run in a home: which of them a replica remembers, and the copies of certified states on the
//! disk from which it begins.
//!
//! A copy ([`CertifiedState`]) is written every [`COPY_EVERY`] windows, as `states/WINDOW.state` beside the journal.
//! The home keeps those that a replica may begin from. A copy proves itself, so one that is damaged, or of another run,
//! is ignored, and the replica begins from an earlier one or from genesis.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use templar_manifest::{Genesis, WindowIndex};
use templar_protocol::{CertifiedState, MAX_STATE_BYTES, Node, RunState};

use crate::error::HomeError;
use crate::files::{Privacy, at, write_whole};
use crate::journal::{JournalMark, WindowRow, WindowRows};

/// The windows between two copies of the state.
pub const COPY_EVERY: u64 = 16;

/// The least number of closed windows that a replica remembers.
const LEAST_REMEMBERED: u64 = 32;

/// The number of closed windows that a replica of this run remembers at least: those on which verdicts still count,
/// those for which evidence still costs somebody pay, and those whose states are kept.
pub fn remembered_windows(genesis: &Genesis) -> u64 {
    let kept = genesis.state_retention_windows.max(genesis.replay.open_windows());
    LEAST_REMEMBERED.max(kept.max(genesis.emission.vesting_windows).saturating_add(1))
}

/// The place from which a replica begins.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// The copy of the state.
    pub(crate) copy: CertifiedState,
    /// The windows that are closed in it.
    pub(crate) rows: Vec<WindowRow>,
}

impl Beginning {
    /// The place in the journal behind the last entry that led to the state.
    pub(crate) fn mark(&self) -> JournalMark {
        self.rows.last().map_or(JournalMark::START, |row| row.end)
    }
}

/// The closed windows of a run while a replica follows it.
#[derive(Debug)]
pub(crate) struct Past {
    dir: PathBuf,
    remembered: u64,
    /// Whether the replica forgets what is older.
    forgets: bool,
    /// Copies from which a replica may begin later, oldest first, and whether each is on the disk.
    copies: VecDeque<(CertifiedState, bool)>,
    /// What was ignored, as sentences.
    pub(crate) notes: Vec<String>,
}

fn path_of(dir: &Path, window: WindowIndex) -> PathBuf {
    dir.join("states").join(format!("{:08}.state", window.0))
}

/// The windows of the copies in a run's directory, oldest first.
fn windows_on_disk(dir: &Path) -> Result<Vec<WindowIndex>, HomeError> {
    let dir = dir.join("states");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(&dir)(error)),
    };
    let mut windows = Vec::new();
    for entry in entries {
        let name = entry.map_err(at(&dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".state")).and_then(|name| name.parse().ok());
        windows.extend(number.map(WindowIndex));
    }
    windows.sort_unstable();
    Ok(windows)
}

/// Reads a copy. The error is a sentence.
fn read(path: &Path, genesis: &Arc<Genesis>) -> Result<CertifiedState, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_STATE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    CertifiedState::decode(genesis, &bytes).map_err(|error| error.to_string())
}

impl Past {
    /// The past of the run whose journal is in `dir`. With `forgets`, a replica keeps only the newest closed windows.
    pub(crate) fn new(dir: &Path, genesis: &Genesis, forgets: bool) -> Self {
        let remembered = remembered_windows(genesis);
        Self { dir: dir.to_owned(), remembered, forgets, copies: VecDeque::new(), notes: Vec::new() }
    }

    /// The newest place from which a replica can begin and still get all windows that it should remember. `None` if
    /// that is genesis.
    ///
    /// # Errors
    /// The directory cannot be read. A copy that is of no use is noted.
    pub(crate) fn begin(&mut self, genesis: &Arc<Genesis>) -> Result<Option<Beginning>, HomeError> {
        let mut rows = WindowRows::read(&self.dir)?;
        let closed = rows.len() as u64;
        let mut windows = windows_on_disk(&self.dir)?;
        windows.retain(|window| window.0 > 0 && window.0 <= closed);
        let later = windows.partition_point(|window| window.0.saturating_add(self.remembered) <= closed);
        let later = windows.split_off(later);
        windows.reverse();
        if closed > self.remembered + COPY_EVERY {
            // A window fewer is remembered, and nothing is lost by it.
            windows.extend(later);
        }
        for window in windows {
            let path = path_of(&self.dir, window);
            let found = read(&path, genesis).and_then(|copy| {
                let row = rows.get(window.0 as usize - 1).map(|row| row.record);
                let fits = copy.state().window() == window && copy.state().record().map(|record| record.hash()) == row;
                if fits { Ok(copy) } else { Err("it is of another window than the journal".to_owned()) }
            });
            match found {
                Ok(copy) => {
                    rows.truncate(window.0 as usize);
                    self.copies.push_back((copy.clone(), true));
                    return Ok(Some(Beginning { copy, rows }));
                }
                Err(why) => self.notes.push(format!("the copy of the state {} is ignored: {why}", path.display())),
            }
        }
        Ok(None)
    }

    /// Forgets the place at which [`Past::begin`] wanted to begin.
    pub(crate) fn begin_from_genesis(&mut self, why: &str) {
        self.copies.clear();
        self.notes.push(format!("everything is folded from genesis: {why}"));
    }

    /// Notes that `node` has closed a window. Makes it forget what nobody needs.
    pub(crate) fn closed(&mut self, node: &mut Node) {
        let window = node.state().window();
        if !window.0.is_multiple_of(COPY_EVERY) {
            return;
        }
        // A copy of the state shares no results with it, so states that are past are dropped.
        let state = Arc::new(RunState::clone(node.state()));
        self.copies.extend(
            node.closed().last().and_then(|closed| CertifiedState::new(closed, state)).map(|copy| (copy, false)),
        );
        let is_old = |copy: &CertifiedState| copy.state().window().0.saturating_add(self.remembered) <= window.0;
        while self.copies.get(1).is_some_and(|(next, _)| is_old(next)) {
            self.copies.pop_front();
        }
        if let Some((oldest, _)) = self.copies.front().filter(|(oldest, _)| self.forgets && is_old(oldest)) {
            node.forget_before(oldest.state().clone());
        }
    }

    /// Writes the copies that are not on the disk, and removes those from which no replica will begin.
    ///
    /// # Errors
    /// The disk takes nothing more.
    pub(crate) fn write(&mut self) -> Result<(), HomeError> {
        if self.copies.iter().all(|(_, written)| *written) {
            return Ok(());
        }
        let states = self.dir.join("states");
        std::fs::create_dir_all(&states).map_err(at(&states))?;
        for (copy, written) in self.copies.iter_mut().filter(|(_, written)| !written) {
            write_whole(&path_of(&self.dir, copy.state().window()), &copy.encode(), Privacy::Everybody)?;
            *written = true;
        }
        let oldest = self.copies.front().map(|(copy, _)| copy.state().window());
        for window in windows_on_disk(&self.dir)?.into_iter().filter(|window| Some(*window) < oldest) {
            let path = path_of(&self.dir, window);
            std::fs::remove_file(&path).map_err(at(&path))?;
        }
        Ok(())
    }
}
