//! Data that a home has lost says nothing about others: the verdict is `unavailable: damaged here` with exit code 5,
//! and nothing is signed, whatever is damaged and however.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use templar_home::memory::Memory;
use templar_manifest::Hash;

use super::home::{Home, Said, hash};
use super::store::damage;

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    Flipped,
    CutShort,
    Deleted,
}

const HARMS: [Harm; 3] = [Harm::Flipped, Harm::CutShort, Harm::Deleted];

impl Harm {
    fn befalls(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Flipped => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
                fs::write(path, bytes).unwrap();
            }
            Self::CutShort => fs::write(path, &bytes[..bytes.len() / 3]).unwrap(),
            Self::Deleted => fs::remove_file(path).unwrap(),
        }
    }
}

/// A home with two closed windows, which is copied for each harm.
struct Sound {
    home: Home,
    run: String,
}

impl Sound {
    fn new() -> Self {
        let home = Home::with_run("damage", &[]);
        home.window("0");
        home.window("1");
        let run = hash(&home.ok(["run", "show"]), "run");
        Self { home, run }
    }

    fn copy(&self) -> Home {
        let copy = Home::absent();
        copy_dir(&self.home.path(), &copy.path());
        copy
    }

    /// The blobs on the way of an audit of window 1, each with the name of its kind.
    fn blobs(&self) -> Vec<(&'static str, String)> {
        let home = &self.home;
        let contents = |id: &str| home.ok(["show", id])["contents"].clone();
        let body = home.body("w1");
        let contribution = contents(&hash(&body["outcomes"][0], "contribution"));
        let (state, checkpoint) = (hash(&contribution, "state_in"), hash(&contents("w0"), "checkpoint"));
        let tensor = |of: &str| hash(&home.ok(["show", of])["contents"]["tensors"][0], "blob");
        let dataset = home.ok(["dataset", "show", "shakespeare"]);
        let shard = |part: &str| hash(&dataset["manifest"][part][0], "blob");
        vec![
            ("training shard", shard("training")),
            ("held-out shard", shard("validation")),
            ("delta", hash(&contribution, "delta")),
            ("trace", hash(&contribution, "trace")),
            ("state tensor", tensor(&state)),
            ("state manifest", state),
            ("checkpoint tensor", tensor(&checkpoint)),
            ("checkpoint manifest", checkpoint),
            ("dataset manifest", hash(&dataset, "dataset")),
            ("genesis", self.run.clone()),
            ("aggregate", hash(&body, "aggregate")),
        ]
    }
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to)
        } else {
            drop(fs::copy(entry.path(), to))
        }
    }
}

/// Audits a damaged home in both ways. Nobody may be accused, and nothing signed. Gives the end of each audit.
fn audited(home: &Home, what: &str) -> Vec<Said> {
    let ways: [&[&str]; 2] = [&["audit", "--window", "1", "--offline", "--sign"], &["audit", "--all", "--sign"]];
    let audit = |arguments: &&[&str]| {
        let said = home.fails(5, arguments.iter());
        assert!(!said.out.contains("mismatch"), "{what}: {said:?}");
        let end = said.last();
        assert_eq!((&end["type"], &end["verdict"]), (&Value::from("result"), &Value::from("unavailable")), "{what}");
        let why = end["what"].as_str().unwrap();
        assert!(why.contains("damaged here"), "{what}: {why}");
        assert!(end["hint"].as_str().unwrap().contains("`templar store scrub`"), "{what}: {end}");
        said
    };
    ways.iter().map(audit).collect()
}

/// Looks at a damaged home in the two ways in which a home is looked at without an audit. They say the same.
fn checked(home: &Home, what: &str) {
    for command in [&["verify"][..], &["store", "scrub", "--offline"]] {
        let said = home.fails(5, command);
        let end = said.last();
        assert_eq!(end["verdict"], "unavailable", "{what}, {command:?}: {end}");
        assert!(end["hint"].as_str().unwrap().contains("`templar store scrub` repairs"), "{what}, {command:?}: {end}");
        let text = home.say(command).out;
        assert!(
            text.contains("unavailable: damaged here: ") && !text.contains("mismatch"),
            "{what}, {command:?}: {text}"
        );
    }
}

fn signed(said: &Said) -> usize {
    said.lines().iter().filter(|line| line["type"] == "window" && !line["signed"].is_null()).count()
}

#[test]
fn a_damaged_blob_accuses_nobody_and_is_never_signed_about() {
    let sound = Sound::new();
    assert_eq!(signed(&sound.copy().fails(0, ["audit", "--all", "--sign"])), 2, "a sound home signs");
    let (mut files, mut rows) = (0, 0);
    for (kind, id) in sound.blobs() {
        let at = |home: &Home| home.path().join("store/data").join(format!("{id}.data"));
        if !at(&sound.home).exists() {
            let home = sound.copy();
            damage(&home, &id);
            if kind.starts_with("dataset") {
                // It may be the one that is asked for.
                let said = home.fails(4, ["dataset", "show", "shakespeare"]);
                assert!(said.err.contains(&id), "{said:?}");
            }
            audited(&home, kind).iter().for_each(|said| assert_eq!(signed(said), 0, "{kind}: {said:?}"));
            checked(&home, kind);
            rows += 1;
            continue;
        }
        for harm in HARMS {
            let (home, what) = (sound.copy(), format!("{kind} {harm:?}"));
            harm.befalls(&at(&home));
            audited(&home, &what).iter().for_each(|said| assert_eq!(signed(said), 0, "{what}: {said:?}"));
            checked(&home, &what);
            if kind.ends_with("shard") {
                let said = home.fails(5, ["dataset", "verify", "shakespeare"]).last();
                let fault = said["faults"][0].as_str().unwrap();
                assert!(fault.starts_with("damaged here: ") && fault.contains(&id), "{what}: {said}");
            }
        }
        files += 1;
    }
    assert!(files >= 2 && rows >= 4, "{files} kinds lie in files, {rows} in the database");
}

#[test]
fn a_damaged_database_accuses_nobody() {
    let sound = Sound::new();
    for harm in HARMS {
        let home = sound.copy();
        let path = home.path().join("store/blobs.db");
        match harm {
            // The first page, without which nothing can be found.
            Harm::Flipped => {
                let mut bytes = fs::read(&path).unwrap();
                bytes[..4096].iter_mut().for_each(|byte| *byte ^= 0x10);
                fs::write(&path, bytes).unwrap();
            }
            harm => harm.befalls(&path),
        }
        let said = home.fails(5, ["audit", "--all", "--sign"]);
        assert!(!said.out.contains("mismatch"), "{harm:?}: {said:?}");
        let checks = [&["verify"][..], &["store", "scrub", "--offline"]].map(|check| home.fails(5, check));
        assert!(checks.iter().all(|said| !said.out.contains("mismatch")), "{harm:?}: {checks:?}");
        // A database that does not open is an error; without one, genesis is missing, and the result says so.
        assert!(said.err.contains("\"hint\":\"") || said.out.contains("\"hint\":\""), "{harm:?}: {said:?}");
    }
}

/// The file of a run in a home.
fn of_run(home: &Home, run: &str, name: &str) -> PathBuf {
    home.path().join("runs").join(run).join(name)
}

#[test]
fn a_damaged_journal_accuses_nobody_and_is_repaired_by_a_scrub() {
    let sound = Sound::new();
    for harm in HARMS {
        let (home, what) = (sound.copy(), format!("journal {harm:?}"));
        harm.befalls(&of_run(&home, &sound.run, "journal"));
        let said = audited(&home, &what);
        assert!(said.iter().all(|said| signed(said) == 0), "{said:?}");
        if harm == Harm::Flipped {
            // Every command gives the same advice.
            for command in [&["status"][..], &["log"], &["train", "--window", "2"], &["share"], &["store", "gc"]] {
                let said = home.fails(4, command);
                assert!(said.err.contains("`templar store scrub` keeps"), "{command:?}: {said:?}");
            }
        }
        checked(&home, &what);
        let found = home.fails(5, ["store", "scrub", "--offline"]).last();
        assert!(found["files"][0]["file"] == "journal" && found["files_left"].as_u64() > Some(0), "{what}: {found}");
    }
}

#[test]
fn a_journal_whose_entries_stand_twice_is_damage() {
    let sound = Sound::new();
    let home = sound.copy();
    let path = of_run(&home, &sound.run, "journal");
    let once = fs::read(&path).unwrap();
    // Its first 16 bytes say what it is.
    fs::write(&path, [&once[..], &once[16..]].concat()).unwrap();
    let said = audited(&home, "a journal twice");
    assert!(said.iter().all(|said| signed(said) == 0), "{said:?}");
    assert!(said[0].last()["what"].as_str().unwrap().contains("record 0 is there twice"), "{said:?}");
    checked(&home, "a journal twice");
    home.say(["store", "scrub"]);
    assert_eq!(fs::read(&path).unwrap(), once, "nothing but the copies is gone");
    assert_eq!(home.ok(["audit"])["verdict"], "match");
}

#[test]
fn a_journal_that_is_cut_short_is_no_match_of_fewer_windows() {
    let sound = Sound::new();
    let home = sound.copy();
    let path = of_run(&home, &sound.run, "journal");
    let whole = fs::read(&path).unwrap();
    let last = hash(&home.ok(["audit"])["record"], "record");
    fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    let torn = home.fails(5, ["audit"]).last();
    assert!(torn["what"].as_str().unwrap().contains("no whole entry"), "{torn}");
    // No command takes the rest of the journal for the whole: the newest model would be an older one.
    let out = home.path().join("exported");
    let export = ["export", "@", "--hf", out.to_str().unwrap()];
    for command in [&["status"][..], &["log"], &["show", "@"], &["generate", "--prompt", "a"], &export] {
        let said = home.fails(5, command);
        assert!(said.err.contains("has lost its end") && said.err.contains("`templar store scrub`"), "{said:?}");
    }
    assert!(!out.exists());
    // What opens the journal to write cuts the rest of the last entry off. The home still knows what it has closed.
    assert_eq!(home.ok(["key", "reclaim"])["asks_peers"], false);
    assert!(fs::metadata(&path).unwrap().len() < whole.len() as u64 - 10);
    let short = home.fails(5, ["audit"]).last();
    assert!(short["what"].as_str().unwrap().contains("the journal ends before window 1"), "{short}");
    assert_eq!((&short["windows"], &short["last_window"]), (&Value::from(1), &Value::from(0)));
    // A home without that memory is told by the one who asks.
    fs::remove_file(of_run(&home, &sound.run, "memory.json")).unwrap();
    assert_eq!(home.ok(["audit"])["windows"], 1);
    let expected = home.fails(5, ["audit", "--expect", &last]).last();
    assert!(expected["what"].as_str().unwrap().contains(&last), "{expected}");
    assert_eq!(sound.home.ok(["audit", "--expect", &last])["verdict"], "match");
    assert_eq!(sound.home.ok(["audit", "--window", "0", "--expect", &last[..8]])["verdict"], "match");
    // The giver of a ticket vouches for a record, and an audit asks for it.
    let dir = of_run(&sound.home, &sound.run, "");
    Memory::vouch(&dir, last.parse::<Hash>().unwrap().into()).unwrap();
    assert_eq!(sound.home.ok(["audit"])["verdict"], "match");
    Memory::vouch(&dir, Hash::of(b"a record of another run").into()).unwrap();
    let vouched = sound.home.fails(5, ["audit"]).last();
    assert!(vouched["what"].as_str().unwrap().contains("vouches for record"), "{vouched}");
}

#[test]
fn an_audit_says_what_it_has_audited_and_nothing_is_no_match() {
    let sound = Sound::new();
    let end = sound.home.ok(["audit"]);
    assert_eq!((&end["run"], &end["name"]), (&Value::from(sound.run.clone()), &Value::from("test")));
    assert_eq!((&end["first_window"], &end["last_window"]), (&Value::from(0), &Value::from(1)));
    assert_eq!((&end["contributions"], &end["replayed"]), (&Value::from(2), &Value::from(2)));
    let record = &end["record"];
    assert_eq!((&record["validators"], &record["stake"]), (&Value::from(1), &record["total_stake"]));
    assert_eq!(record["signers"][0], sound.home.ok(["key", "show"])["key"]);
    assert_eq!(record["record"], sound.home.ok(["show", "w1"])["id"]);
    let text = sound.home.say(["audit"]).out;
    let lines: Vec<&str> = text.lines().rev().take(2).collect();
    assert_eq!(lines[0], "match: 2 windows, 2 of 2 contributions replayed");
    assert!(lines[1].contains("(test), windows 0 to 1; record ") && lines[1].contains("100 % of the stake"), "{text}");

    let home = Home::with_run("nothing", &[]);
    for arguments in [&["audit"][..], &["audit", "--all", "--sign"]] {
        let end = home.fails(5, arguments).last();
        assert_eq!((&end["verdict"], &end["windows"]), (&Value::from("unavailable"), &Value::from(0)), "{end}");
        assert!(end["what"].as_str().unwrap().starts_with("nothing was audited"), "{end}");
        assert!(end["hint"].as_str().unwrap().starts_with("`templar status`"), "nothing is damaged: {end}");
    }
    home.fails(3, ["audit", "--window", "0"]);
}

#[test]
fn a_start_file_that_is_damaged_or_changed_is_told_apart() {
    let sound = Sound::new();
    let start = |home: &Home| of_run(home, &sound.run, "start.json");
    for harm in [Harm::CutShort, Harm::Deleted] {
        let (home, what) = (sound.copy(), format!("start.json {harm:?}"));
        harm.befalls(&start(&home));
        audited(&home, &what).iter().for_each(|said| assert_eq!(signed(said), 0, "{said:?}"));
        assert!(home.fails(4, ["status"]).err.contains("`templar store scrub`"));
        checked(&home, &what);
        assert_eq!(home.fails(5, ["store", "scrub", "--offline"]).last()["files"][0]["file"], "start.json");
        let mended = home.ok(["store", "scrub"]);
        assert_eq!((&mended["files_left"], &mended["verdict"]), (&Value::from(0), &Value::from("match")), "{what}");
        assert_eq!(home.ok(["audit"])["verdict"], "match", "{what}");
    }
    // Another checkpoint than genesis gives, in a file that parses: somebody has changed it.
    let home = sound.copy();
    let text = fs::read_to_string(start(&home)).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["checkpoint"] = Value::String("0".repeat(64));
    fs::write(start(&home), value.to_string()).unwrap();
    for arguments in [&["audit", "--window", "0", "--sign"][..], &["audit", "--all", "--sign"]] {
        let said = home.fails(4, arguments);
        assert!(said.last()["what"].as_str().unwrap().contains("start.json"), "{said:?}");
        let verdicts = said.lines().into_iter().filter(|line| line["type"] == "contribution");
        assert!(
            verdicts.clone().count() > 0 && verdicts.into_iter().all(|line| line["verdict"] == "match"),
            "{said:?}"
        );
        assert_eq!(signed(&said), 0, "{said:?}");
    }
    home.fails(4, ["verify"]);
    assert_eq!(home.fails(4, ["store", "scrub", "--offline"]).last()["verdict"], "mismatch");
    home.ok(["store", "scrub"]);
    assert_eq!(home.ok(["audit"])["verdict"], "match");
}

/// A validator whose own disk is damaged says nothing about a miner, also when it does not wait.
#[test]
fn a_validator_with_a_damaged_disk_scores_nobody() {
    let home = Home::with_run("judge", &[]);
    home.window("0");
    let trained = home.ok(["train", "--window", "1"]);
    home.ok(["close", "--commits", "--window", "1"]);
    let dataset = home.ok(["dataset", "show", "shakespeare"]);
    let before = home.ok(["show", &hash(&home.ok(["show", "w0"])["contents"], "checkpoint")]);
    let blobs = [
        ("training shard", hash(&dataset["manifest"]["training"][0], "blob")),
        ("delta", hash(&trained, "delta")),
        ("trace", hash(&trained, "trace")),
        ("checkpoint tensor", hash(&before["contents"]["tensors"][0], "blob")),
    ];
    for (kind, id) in blobs {
        let copy = Home::absent();
        copy_dir(&home.path(), &copy.path());
        damage(&copy, &id);
        for arguments in [&["score", "--window", "1"][..], &["score", "--window", "1", "--late"]] {
            let said = copy.fails(5, arguments);
            assert!(said.err.contains("damaged here") && said.err.contains(&id), "{kind}: {said:?}");
            assert!(said.err.contains(&format!("`templar fetch {id}` repairs it")), "{kind}: {said:?}");
        }
        assert_eq!(copy.ok(["status"])["awaited"][0]["what"], "score", "{kind}: nothing was signed");
    }
    assert_eq!(home.ok(["score", "--window", "1"])["entries"][0]["replay"], "match");
}
