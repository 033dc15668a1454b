//! Homes that have lost the end of a journal, and copies of homes: none of them contradicts what its key has signed.

use std::fs;
use std::path::PathBuf;

use templar_home::Home;
use templar_home::journal::Journal;
use templar_home::memory::{Memory, Silence};
use templar_home::mend::{RunFault, check};
use templar_home::replica::{Replica, SubmitError};
use templar_manifest::WindowIndex;
use templar_node::executor::StartingState;
use templar_protocol::{Entry, Output};

use super::alone::Alone;
use super::key;

/// The directory of the run.
fn dir(alone: &Alone) -> PathBuf {
    alone.home.run_dir(&alone.context.run)
}

/// The replica of another home with the same key and, with `journal`, with a copy of the run's files.
fn copy(alone: &Alone, with_files: bool) -> (tempfile::TempDir, Replica) {
    let root = tempfile::tempdir().unwrap();
    let home = Home::init(&root.path().join("home"), &key("validator-1")).unwrap();
    let to = home.run_dir(&alone.context.run);
    fs::create_dir_all(&to).unwrap();
    if with_files {
        for entry in fs::read_dir(dir(alone)).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    let replica = Replica::open(&home, alone.context.clone(), key("validator-1")).unwrap();
    (root, replica)
}

/// The entries of a journal from one number on.
fn entries_after(alone: &Alone, count: usize) -> Vec<Vec<u8>> {
    Journal::read(&dir(alone)).unwrap().split_off(count)
}

/// Whether the replica refuses to sign, also when it is asked for it. It may repeat its last statement.
fn is_silent(replica: &mut Replica) -> Option<Silence> {
    let silence = replica.may_sign().err()?;
    let sign = replica.node().todo().into_iter().find_map(|output| match output {
        Output::Sign(document) => Some(document),
        _ => None,
    });
    let last = replica.memory().signed.clone();
    if let Some(document) = sign {
        let before = replica.entries();
        match replica.sign(document) {
            Err(SubmitError::Silent(found)) => assert_eq!((found, replica.entries()), (silence.clone(), before)),
            Err(error) => panic!("{error}"),
            Ok(_) => assert_eq!(replica.memory().signed, last),
        }
    }
    Some(silence)
}

#[test]
fn a_copy_of_a_home_falls_silent_when_it_hears_the_other_one() {
    let mut alone = Alone::new();
    alone.window(StartingState::Recorded, |_, _| {});
    let (_root, mut second) = copy(&alone, true);
    let known = second.entries();
    assert_eq!(is_silent(&mut second), None, "the same words");
    // What it has itself is no news, however often a peer sends it.
    entries_after(&alone, 0).iter().for_each(|entry| drop(second.take(entry).unwrap()));
    assert_eq!(is_silent(&mut second), None);

    alone.window(StartingState::Recorded, |_, _| {});
    let news = entries_after(&alone, known);
    second.take(&news[0]).unwrap();
    let Some(Silence::Elsewhere(statement)) = is_silent(&mut second) else { panic!("it may sign") };
    assert_eq!((statement.window, statement.kind.as_str()), (WindowIndex(1), "contribution"));
    // A later entry that it cannot judge yet would do as well, and so would one of a window that is closed.
    let (_root, mut early) = copy(&alone, false);
    news.iter().rev().for_each(|entry| drop(early.take(entry).unwrap()));
    assert!(is_silent(&mut early).is_some());
    // It follows the run and stays silent, also after a restart.
    news.iter().for_each(|entry| drop(second.take(entry).unwrap()));
    second.caught_up().unwrap();
    assert_eq!(second.node().state().window(), WindowIndex(2));
    assert!(matches!(is_silent(&mut second), Some(Silence::Elsewhere(_))));
    second.reclaim(true).unwrap();
    assert_eq!(is_silent(&mut second), Some(Silence::Listening));
    second.caught_up().unwrap();
    assert_eq!(is_silent(&mut second), None);
}

/// What a replica that has followed the first window says when it then hears only this entry.
fn after(entry: &[u8], (_root, mut replica): (tempfile::TempDir, Replica)) -> Option<(u64, String)> {
    drop(replica.take(entry).unwrap());
    match is_silent(&mut replica) {
        Some(Silence::Elsewhere(statement)) => Some((statement.window.0, statement.kind)),
        silence => panic!("{silence:?}"),
    }
}

/// A record shows it too, before what it follows from, and with a body that is not its own.
#[test]
fn a_copy_of_a_home_hears_the_other_one_in_a_proposed_record() {
    let mut alone = Alone::new();
    alone.window(StartingState::Recorded, |_, _| {});
    let copies = [copy(&alone, true), copy(&alone, true)];
    let known = copies[0].1.entries();
    alone.window(StartingState::Recorded, |_, _| {});
    let record = entries_after(&alone, known).iter().find_map(|bytes| match Entry::decode(bytes).unwrap() {
        Entry::Record(record) => Some(record),
        _ => None,
    });
    let record = record.expect("a record closes the window");
    let mut hidden = record.clone();
    hidden.body.push(0);
    for (copy, record) in copies.into_iter().zip([record, hidden]) {
        assert_eq!(after(&Entry::Record(record).encode(), copy), Some((1, "window".to_owned())));
    }
}

#[test]
fn a_new_home_for_an_old_key_learns_before_it_speaks() {
    let mut alone = Alone::new();
    alone.window(StartingState::Recorded, |_, _| {});
    let (_root, mut second) = copy(&alone, false);
    assert_eq!(is_silent(&mut second), None, "a new key has nothing to learn");
    entries_after(&alone, 0).iter().for_each(|entry| drop(second.take(entry).unwrap()));
    assert_eq!(is_silent(&mut second), Some(Silence::Listening));
    second.caught_up().unwrap();
    assert_eq!(is_silent(&mut second), Some(Silence::Forgot(WindowIndex(2))));
    // The other one still speaks.
    let known = entries_after(&alone, 0).len();
    alone.window(StartingState::Recorded, |_, _| {});
    alone.window(StartingState::Recorded, |_, _| {});
    entries_after(&alone, known).iter().for_each(|entry| drop(second.take(entry).unwrap()));
    let Some(Silence::Elsewhere(statement)) = is_silent(&mut second) else { panic!("it may sign") };
    assert_eq!(statement.window, WindowIndex(2));
}

fn faults(alone: &Alone, repair: bool) -> Vec<RunFault> {
    check(&alone.home, &*alone.shelf, alone.context.run, false, repair).unwrap()
}

fn reopened(alone: &Alone) -> Replica {
    Replica::open(&alone.home, alone.context.clone(), key("validator-1")).unwrap()
}

/// Whatever is cut off or changed in a journal, a repair ends in one that can be opened, and the validator says nothing
/// in a window in which others may hold its words.
#[test]
fn a_repaired_journal_never_lets_a_validator_contradict_itself() {
    let mut alone = Alone::new();
    for _ in 0..2 {
        alone.window(StartingState::Recorded, |_, _| {});
    }
    assert_eq!(faults(&alone, false), []);
    let (path, memory) = (dir(&alone).join("journal"), dir(&alone).join("memory.json"));
    let (whole, remembered) = (fs::read(&path).unwrap(), fs::read(&memory).unwrap());
    let count = entries_after(&alone, 0).len();
    for damaged in [whole.len() - 1, whole.len() * 3 / 4, whole.len() / 2, 100] {
        for forgetful in [false, true] {
            let mut bytes = whole.clone();
            bytes[damaged] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            if forgetful {
                fs::remove_file(&memory).unwrap()
            } else {
                fs::write(&memory, &remembered).unwrap()
            }
            let what = format!("byte {damaged}, without memory: {forgetful}");
            let found = faults(&alone, false);
            assert_eq!((found[0].file, &found[0].repaired), ("journal", &None), "{what}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "{what}: a check changes nothing");
            assert!(faults(&alone, true)[0].repaired.is_some(), "{what}");
            assert!(faults(&alone, false).iter().all(|fault| fault.problem.contains("ends before window")), "{what}");

            let mut replica = reopened(&alone);
            assert!(replica.entries() < count, "{what}");
            // All its words were about windows 0 and 1.
            let open = replica.node().state().window();
            assert!(is_silent(&mut replica).is_some() || open > WindowIndex(1), "{what}");
            // A peer sends the lost entries again, and none of them is news from another node.
            let sent = {
                let kept = dir(&alone).join("sent");
                fs::create_dir_all(&kept).unwrap();
                kept
            };
            fs::write(sent.join("journal"), &whole).unwrap();
            Journal::read(&sent).unwrap().iter().for_each(|entry| drop(replica.take(entry).unwrap()));
            assert_eq!(replica.node().state().window(), WindowIndex(2), "{what}");
            assert!(!matches!(is_silent(&mut replica), Some(Silence::Elsewhere(_))), "{what}");
            drop(replica);
            assert_eq!(faults(&alone, false), [], "{what}");
        }
    }
}

#[test]
fn a_torn_end_is_cut_off_and_nothing_is_forgotten() {
    let mut alone = Alone::new();
    alone.window(StartingState::Recorded, |_, _| {});
    let (path, memory) = (dir(&alone).join("journal"), dir(&alone).join("memory.json"));
    let (whole, remembered) = (fs::read(&path).unwrap(), fs::read(&memory).unwrap());
    // A crash while an entry was written: nobody has heard of it.
    fs::write(&path, [&whole[..], b"r123456"].concat()).unwrap();
    assert!(faults(&alone, false)[0].problem.contains("the last 7 bytes"));
    assert!(faults(&alone, true)[0].repaired.is_some());
    let mut replica = reopened(&alone);
    assert_eq!((is_silent(&mut replica), replica.notes()), (None, &[][..]));
    drop(replica);
    assert_eq!((faults(&alone, false), fs::read(&path).unwrap()), (vec![], whole.clone()));
    // The end of a journal that was whole: the home remembers what it has signed there.
    fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    assert!(faults(&alone, true)[0].repaired.is_some());
    assert_eq!(is_silent(&mut reopened(&alone)), Some(Silence::Forgot(WindowIndex(0))));
    // The disk has lost the last sector. The node cannot tell this from a crash: it starts, says that an entry was cut
    // off, and does not sign in the window in which others may hold it.
    fs::write(&path, &whole).unwrap();
    fs::write(&memory, &remembered).unwrap();
    assert_eq!(is_silent(&mut reopened(&alone)), None);
    let last = entries_after(&alone, 0).pop().unwrap().len() + 46;
    let lost = (whole.len() - last).max((whole.len() - 1) / 512 * 512);
    fs::write(&path, [&whole[..lost], &vec![0u8; whole.len() - lost]].concat()).unwrap();
    let mut replica = reopened(&alone);
    assert_eq!(replica.notes().len(), 1, "{:?}", replica.notes());
    assert_eq!(is_silent(&mut replica), Some(Silence::Forgot(WindowIndex(0))));
    drop(replica);
    // A damaged memory is made again, and the home is careful.
    fs::write(&path, &whole).unwrap();
    let text = fs::read_to_string(&memory).unwrap();
    fs::write(&memory, text.replacen("window", "Window", 1)).unwrap();
    assert!(Replica::open(&alone.home, alone.context.clone(), key("validator-1")).is_err());
    assert_eq!(faults(&alone, true).iter().map(|fault| fault.file).collect::<Vec<_>>(), ["memory.json"]);
    assert_eq!(is_silent(&mut reopened(&alone)), Some(Silence::Forgot(WindowIndex(1))));
    assert_eq!(Memory::read(&dir(&alone)).unwrap().head.unwrap().window, WindowIndex(0));
}
