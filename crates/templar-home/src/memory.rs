//! The memory of a home about a run, which lasts where its journal has lost its end.
//!
//! The file `memory.json` lies beside the journal and is written after it. It names the last record that this home
//! knows to be final, so that an audit of a shorter journal does not pass, and the last statement that this home has
//! signed. If the journal lacks that statement, the home has forgotten some of its own words, and it stays
//! [silent](Silence) until the windows are over in which others may hold them.
//!
//! It also says whether the home's key was heard elsewhere: see [`Memory::hear`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use templar_data::words;
use templar_manifest::{Hash, Payload, PublicKey, RecordId, RunId, Signed, WindowHeader, WindowIndex};
use templar_protocol::{Entry, Node, Verified};

use crate::error::HomeError;
use crate::files::{Privacy, read_small, write_whole};

/// The last closed window that a home knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The window.
    pub window: WindowIndex,
    /// Its record.
    pub record: RecordId,
}

impl Head {
    /// The last window that `node` has closed.
    pub fn of(node: &Node) -> Option<Self> {
        node.closed().last().map(|closed| Self { window: closed.window.header.window, record: closed.record })
    }

    /// Why `node`, which was folded from a journal, does not lead to this window and record; `None` if it does.
    pub fn problem(&self, node: &Node) -> Option<String> {
        let (window, known) = (self.window, self.record.short());
        match node.closed_window(window) {
            // The node began from a state that is certified, and does not remember what led to it.
            None if window < node.remembers_from() => None,
            Some(closed) if closed.record == self.record => None,
            Some(closed) => {
                let found = closed.record.short();
                Some(format!("window {window} has the record {found}, this home knows it with the record {known}"))
            }
            None => Some(format!("the journal ends before window {window}, which this home knows with record {known}")),
        }
    }
}

/// A statement that was signed with a home's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The window of the statement.
    pub window: WindowIndex,
    /// Its kind, such as `vote`.
    pub kind: String,
    /// The id of the entry.
    pub entry: Hash,
}

impl Statement {
    /// The statement of an entry, if `key` made it. Evidence is made by its finder, not by the one it accuses.
    pub fn of(entry: &Verified, key: &PublicKey) -> Option<Self> {
        let is_own = entry.signer() == *key && !matches!(entry.entry(), Entry::Evidence(_));
        is_own.then(|| Self { window: entry.window(), kind: entry.name().to_owned(), entry: entry.id() })
    }

    /// The statement about `run` in an entry that `key` has signed. Whether the rules take the entry does not matter:
    /// the signature alone shows that the key has made it.
    ///
    /// A hash-chain value has no signature, so it gives none. Neither does evidence: it is about the past, and a node
    /// that still speaks is heard by its own entries.
    pub fn signed_by(key: &PublicKey, run: &RunId, entry: &Entry) -> Option<Self> {
        match entry {
            Entry::Envelope(envelope) if envelope.signer == *key => {
                let verified = Verified::open(entry.clone()).ok()?;
                if verified.run() == *run { Self::of(&verified, key) } else { None }
            }
            Entry::Record(record) if record.header.signer == *key => {
                // A stranger may have put another body behind the header.
                let header: Signed<WindowHeader> = record.header.open().ok()?;
                let WindowHeader { run: named, window, .. } = *header.payload();
                let kind = WindowHeader::KIND.name().to_owned();
                (named == *run).then(|| Self { window, kind, entry: entry.id() })
            }
            Entry::Envelope(_) | Entry::Record(_) | Entry::Reveal(_) | Entry::Evidence(_) => None,
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of window {} (entry {})", self.kind, self.window, self.entry.short())
    }
}

/// Why a home takes statements with its key that it did not sign for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adoption {
    /// The home is new, and its key is not.
    New,
    /// A person said that no other node uses the key.
    Reclaimed,
}

/// The memory of a home about one run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The last closed window.
    pub head: Option<Head>,
    /// The last statement that this home has signed.
    pub signed: Option<Statement>,
    /// In windows up to this one, the key may have signed what this home does not know.
    pub forgotten_through: Option<WindowIndex>,
    /// This home signs nothing in windows up to this one.
    pub silent_through: Option<WindowIndex>,
    /// A statement with this home's key that this home did not sign. While it is here, the home signs nothing.
    pub elsewhere: Option<Statement>,
    /// Statements that this home did not sign are its own from an earlier life, until a peer has given all that it
    /// has. The home signs nothing meanwhile.
    pub adopts: Option<Adoption>,
    /// A record for which somebody vouched who gave this home a ticket.
    pub vouched: Option<RecordId>,
}

/// The reason why a home signs nothing now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// Another node uses the key, or this home is a copy from an earlier time.
    #[error("this home's key is in use elsewhere: it has signed {0}, and not in this home")]
    Elsewhere(Statement),
    /// The home has lost entries that its key has signed in windows up to this one.
    #[error("this home may have lost entries that its key has signed; it signs nothing before window {}", .0.next())]
    Forgot(WindowIndex),
    /// The home learns from its peers what its key has signed before.
    #[error("this home first learns from a peer what its key has signed before")]
    Listening,
}

/// The meaning of a statement with this home's key that the home did not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The home takes it for its own, from an earlier life.
    Adopted,
    /// Another node uses the key.
    Elsewhere,
}

impl Memory {
    /// The file: its first line is the memory as JSON, its second the hash of the first.
    fn path(dir: &Path) -> PathBuf {
        dir.join("memory.json")
    }

    /// Reads the memory about the run whose journal is in `dir`. A home that has none remembers nothing.
    ///
    /// # Errors
    /// The file cannot be read, or its bytes are not those that were written.
    pub fn read(dir: &Path) -> Result<Self, HomeError> {
        let path = Self::path(dir);
        let text = match read_small(&path) {
            Ok(text) => text,
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            // Bytes that are no text.
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(error),
        };
        let mut lines = text.lines();
        let memory = lines.next().unwrap_or_default();
        if lines.next().and_then(|line| line.parse().ok()) != Some(Hash::of(memory.as_bytes())) {
            return Err(HomeError::Damaged { path });
        }
        serde_json::from_str(memory).map_err(|error| HomeError::Parse { path, reason: words::json(&error) })
    }

    /// Writes the memory, durably.
    ///
    /// # Errors
    /// The file cannot be written. The memory on the disk is then as it was before.
    pub fn write(&self, dir: &Path) -> Result<(), HomeError> {
        let memory = serde_json::to_string(self).unwrap_or_default();
        let text = format!("{memory}\n{}\n", Hash::of(memory.as_bytes()));
        write_whole(&Self::path(dir), text.as_bytes(), Privacy::Everybody)
    }

    /// Notes that the giver of a ticket vouches for this record. An audit of the run asks for it.
    ///
    /// # Errors
    /// The memory cannot be read or written.
    pub fn vouch(dir: &Path, record: RecordId) -> Result<(), HomeError> {
        let memory = Self::read(dir)?;
        Self { vouched: Some(record), ..memory }.write(dir)
    }

    /// Compares the memory with a journal that was just opened: `head` is its last closed window, `has` says whether
    /// an entry is in it, and `last` is the last statement of this home's key in it. The remembered statement may be of
    /// another key, if a person has put another key into the home. It is lost only if the journal lacks it.
    pub fn compare(&mut self, head: Option<Head>, has: impl Fn(&Hash) -> bool, last: Option<Statement>) {
        if let Some(signed) = &self.signed
            && !has(&signed.entry)
        {
            self.forget_through(signed.window);
        } else if last.is_some() {
            // The process was killed between the journal and this file, or an older program had no such file.
            self.signed = last;
        }
        if head.map(|head| head.window) > self.head.map(|head| head.window) {
            self.head = head;
        }
    }

    /// Notes that the key may have signed something in windows up to this one that the home does not know. It signs
    /// nothing there.
    pub fn forget_through(&mut self, window: WindowIndex) {
        self.forgotten_through = self.forgotten_through.max(Some(window));
        self.silent_through = self.silent_through.max(Some(window));
    }

    /// Whether this home may sign something in `window`.
    ///
    /// # Errors
    /// The reason why it may not.
    pub fn may_sign(&self, window: WindowIndex) -> Result<(), Silence> {
        if let Some(statement) = &self.elsewhere {
            return Err(Silence::Elsewhere(statement.clone()));
        }
        if self.adopts.is_some() {
            return Err(Silence::Listening);
        }
        match self.silent_through {
            Some(through) if window <= through => Err(Silence::Forgot(through)),
            _ => Ok(()),
        }
    }

    /// Whether this home may sign the entry `id` in `window`. It may always repeat its last statement, which
    /// contradicts nothing.
    ///
    /// # Errors
    /// The reason why it may not.
    pub fn may_sign_entry(&self, window: WindowIndex, id: &Hash) -> Result<(), Silence> {
        match self.may_sign(window) {
            Err(Silence::Forgot(_)) if self.signed.as_ref().is_some_and(|signed| signed.entry == *id) => Ok(()),
            answer => answer,
        }
    }

    /// Takes a statement with this home's key that is not in its journal, and whose signature was checked.
    ///
    /// A home that has not signed anything yet and hears such a statement was made anew for a key that was used
    /// before: it adopts the statement, and stays silent until it has heard the rest. It also adopts what belongs to
    /// windows that it knows to have forgotten. Any other statement means that two nodes have the key. Two statements
    /// where one is allowed are evidence that costs the key's unvested pay and its slot, so this home must not say
    /// anything more.
    pub fn hear(&mut self, statement: Statement) -> Heard {
        if self.signed.is_none() && self.forgotten_through.is_none() {
            self.adopts = Some(Adoption::New);
        }
        if self.adopts.is_some() {
            self.forget_through(statement.window);
        }
        if Some(statement.window) <= self.forgotten_through {
            return Heard::Adopted;
        }
        self.elsewhere.get_or_insert(statement);
        Heard::Elsewhere
    }

    /// Notes that a peer has given all its entries while `open` is the open window. From now on, this home adopts
    /// nothing of later windows. A new home is silent for one more window and listens: if its key is heard there,
    /// another node uses it, and this home has not contradicted that node.
    pub fn caught_up(&mut self, open: WindowIndex) {
        let Some(adoption) = self.adopts.take() else { return };
        self.forget_through(open);
        self.silent_through = match adoption {
            Adoption::New => Some(open.next()),
            Adoption::Reclaimed => None,
        };
    }

    /// Lets this home sign again, on the word of the person who made sure that no other node uses the key. With
    /// `has_peers`, it first hears from one of them what the key has signed.
    pub fn reclaim(&mut self, open: WindowIndex, has_peers: bool) {
        self.elsewhere = None;
        self.adopts = Some(Adoption::Reclaimed);
        if !has_peers {
            self.caught_up(open);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn statement(window: u64) -> Statement {
        Statement {
            window: WindowIndex(window),
            kind: "vote".to_owned(),
            entry: Hash::of(format!("vote {window}").as_bytes()),
        }
    }

    fn head(window: u64) -> Option<Head> {
        Some(Head { window: WindowIndex(window), record: Hash::of(b"record").into() })
    }

    #[test]
    fn what_was_written_comes_back_and_every_damaged_bit_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Memory::read(dir.path()).unwrap(), Memory::default());
        let memory = Memory { head: head(3), signed: Some(statement(4)), ..Memory::default() };
        memory.write(dir.path()).unwrap();
        assert_eq!(Memory::read(dir.path()).unwrap(), memory);
        let path = Memory::path(dir.path());
        let whole = std::fs::read(&path).unwrap();
        // The last byte ends the last line, and nothing depends on it.
        for bit in 0..(whole.len() - 1) * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            let read = Memory::read(dir.path());
            // A hash may be written with capitals.
            assert!(read.is_err() || read.as_ref().unwrap() == &memory, "{bit}: {read:?}");
        }
        for length in 0..whole.len() - 2 {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Memory::read(dir.path()).is_err(), "{length}");
        }
    }

    #[test]
    fn a_journal_that_lost_its_end_makes_the_home_silent() {
        let own = BTreeSet::from([statement(3).entry, statement(4).entry]);
        let mut memory = Memory { head: head(3), signed: Some(statement(4)), ..Memory::default() };
        memory.compare(head(3), |id| own.contains(id), Some(statement(4)));
        assert_eq!(memory.may_sign(WindowIndex(4)), Ok(()));
        memory.compare(head(2), |id| *id == statement(3).entry, Some(statement(3)));
        assert_eq!(memory.may_sign(WindowIndex(4)), Err(Silence::Forgot(WindowIndex(4))));
        assert_eq!(memory.may_sign(WindowIndex(5)), Ok(()));
        assert_eq!((memory.head, &memory.signed), (head(3), &Some(statement(4))), "it forgets neither");
        let sign = |statement: Statement| memory.may_sign_entry(statement.window, &statement.entry);
        assert_eq!(sign(statement(4)), Ok(()), "the same statement again");
        let other = Statement { entry: Hash::of(b"another vote"), ..statement(4) };
        assert_eq!(sign(other), Err(Silence::Forgot(WindowIndex(4))));
        // A home of an older program, and one that was killed before it wrote this file.
        let mut old = Memory { signed: Some(statement(3)), ..Memory::default() };
        old.compare(head(3), |id| own.contains(id), Some(statement(4)));
        assert_eq!((old.head, old.signed.clone()), (head(3), Some(statement(4))));
        assert_eq!(old.may_sign(WindowIndex(4)), Ok(()));
    }

    #[test]
    fn a_key_that_is_heard_elsewhere_signs_nothing_more() {
        let mut memory = Memory { signed: Some(statement(4)), ..Memory::default() };
        assert_eq!(memory.hear(statement(5)), Heard::Elsewhere);
        assert_eq!(memory.hear(statement(6)), Heard::Elsewhere);
        for window in [0, 5, 100] {
            assert_eq!(memory.may_sign(WindowIndex(window)), Err(Silence::Elsewhere(statement(5))));
        }
        memory.caught_up(WindowIndex(7));
        assert!(memory.may_sign(WindowIndex(100)).is_err(), "only a person can say that the other one is stopped");
        memory.reclaim(WindowIndex(7), true);
        assert_eq!(memory.may_sign(WindowIndex(100)), Err(Silence::Listening));
        assert_eq!(memory.hear(statement(9)), Heard::Adopted);
        memory.caught_up(WindowIndex(11));
        assert_eq!(memory.may_sign(WindowIndex(11)), Ok(()), "a run with one validator would stand still");
        assert_eq!(memory.hear(statement(11)), Heard::Adopted, "another peer knows more of its earlier life");
        assert_eq!(memory.hear(statement(12)), Heard::Elsewhere);
        memory.reclaim(WindowIndex(12), false);
        assert_eq!(memory.may_sign(WindowIndex(12)), Ok(()), "nobody can know more");
    }

    #[test]
    fn a_new_home_for_an_old_key_learns_first_what_it_has_said() {
        let mut memory = Memory::default();
        assert_eq!(memory.may_sign(WindowIndex(0)), Ok(()));
        for window in 0..3 {
            assert_eq!(memory.hear(statement(window)), Heard::Adopted);
            assert_eq!(memory.may_sign(WindowIndex(window + 1)), Err(Silence::Listening));
        }
        memory.caught_up(WindowIndex(3));
        assert_eq!(memory.may_sign(WindowIndex(4)), Err(Silence::Forgot(WindowIndex(4))));
        assert_eq!(memory.may_sign(WindowIndex(5)), Ok(()));
        // The other node is still there: this one has not contradicted it.
        assert_eq!(memory.hear(statement(4)), Heard::Elsewhere);
        assert!(memory.may_sign(WindowIndex(5)).is_err());
    }
}
