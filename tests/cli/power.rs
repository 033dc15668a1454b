//! The disk after a power cut, as far as a process can tell: the tests check the order in which data is forced
//! to disk.
//!
//! The system calls are watched with strace. If strace is missing or not permitted, the test reports that it
//! was skipped.

use std::collections::BTreeMap;
use std::process::Command;

use super::home::{Home, hash};

/// A system call that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Write(String),
    Sync(String),
}

/// The path in `fsync(12<store/blobs.db>…`.
fn path(call: &str) -> Option<&str> {
    call.split_once('<')?.1.split_once('>').map(|(path, _)| path)
}

/// Runs the program under strace and returns its calls in the order in which they ended.
fn watch(home: &Home, arguments: &[&str]) -> Option<Vec<Call>> {
    let trace = home.path().with_file_name("trace");
    let program = home.command(arguments);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "0", "-e", "trace=fsync,fdatasync,write,pwrite64", "-o"]).arg(&trace);
    strace.arg(program.get_program()).args(program.get_args());
    let ended = strace.output().ok()?;
    if !ended.status.success() {
        eprintln!("skipped: strace cannot watch here: {}", String::from_utf8_lossy(&ended.stderr));
        return None;
    }
    let mut under_way: BTreeMap<&str, String> = BTreeMap::new();
    let text = std::fs::read_to_string(&trace).unwrap();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((process, call)) = line.split_once(char::is_whitespace) else { continue };
        let call = call.trim_start();
        if call.contains("<unfinished") {
            under_way.insert(process, call.to_owned());
            continue;
        }
        let resumed = call.starts_with("<...").then(|| under_way.remove(process)).flatten();
        let begun = resumed.as_deref().unwrap_or(call);
        let Some(file) = path(begun).filter(|_| !call.contains("= -1")) else { continue };
        let file = file.to_owned();
        calls.push(if begun.contains("sync(") { Call::Sync(file) } else { Call::Write(file) });
    }
    Some(calls)
}

/// The place of the last such call before `end`.
fn last(calls: &[Call], end: usize, wanted: impl Fn(&Call) -> bool) -> Option<usize> {
    calls[..end].iter().rposition(wanted)
}

#[test]
fn what_a_contribution_names_is_on_the_disk_before_it_is_signed() {
    let home = Home::with_run("power", &[]);
    let Some(calls) = watch(&home, &["train", "--window", "0"]) else { return };
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let run = hash(&home.ok(["run", "show"]), "run");
    let journal = at(&format!("runs/{run}/journal"));
    // From here on the contribution is in the journal. No peer hears of it earlier.
    let signed = calls.iter().position(|call| *call == Call::Write(journal.clone())).unwrap();
    assert!(calls[signed..].contains(&Call::Sync(journal)), "{calls:?}");

    let again = home.ok(["train", "--window", "0"]);
    let state = home.ok(["show", &hash(&again, "state_out")]);
    let mut files = 0;
    for tensor in state["contents"]["tensors"].as_array().unwrap() {
        let file = at(&format!("store/data/{}.data", hash(tensor, "blob")));
        if std::path::Path::new(&file).exists() {
            files += 1;
            let synced = last(&calls, signed, |call| *call == Call::Sync(file.clone())).expect("the file is synced");
            let named = last(&calls, signed, |call| *call == Call::Sync(at("store/data"))).expect("so is its folder");
            assert!(synced < named, "data first, then the folder that names it");
        }
    }
    assert!(files > 0, "no tensor has a file of its own");
    let written = last(&calls, signed, |call| *call == Call::Write(at("store/blobs.db"))).unwrap();
    let synced = last(&calls, signed, |call| *call == Call::Sync(at("store/blobs.db"))).unwrap();
    assert!(written < synced, "what the database was told before is on the disk as well");
}

#[test]
fn a_home_has_a_run_only_when_everything_is_on_the_disk_that_it_starts_from() {
    let home = Home::new("power");
    home.ok(["dataset", "import", "--bundled"]);
    let arguments = ["run", "new", "test", "--dataset", "shakespeare", "--size", "tiny"];
    let Some(calls) = watch(&home, &arguments) else { return };
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let shown = home.ok(["run", "show"]);
    let run_dir = at(&format!("runs/{}", hash(&shown, "run")));
    // `start.json` is renamed into its folder, which is then synced.
    let there = calls.iter().position(|call| *call == Call::Sync(run_dir.clone())).unwrap();
    let first = home.ok(["show", &hash(&shown, "checkpoint")]);
    for tensor in first["contents"]["tensors"].as_array().unwrap() {
        let file = at(&format!("store/data/{}.data", hash(tensor, "blob")));
        if std::path::Path::new(&file).exists() {
            assert!(calls[..there].contains(&Call::Sync(file)), "a tensor of the first checkpoint is not synced");
        }
    }
    for folder in [at("store/data"), at("runs")] {
        assert!(calls[..there].contains(&Call::Sync(folder.clone())), "{folder} is not synced");
    }
}
