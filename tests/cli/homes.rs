//! Homes in unusual places: read-only, with names that are not UTF-8, with keys in bare names; and output that nobody
//! takes.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::home::{Home, Said, hash, program, timeless};

/// Runs the program in a home that a mount in a namespace of its own makes read-only. `None` if the system lets nobody
/// mount there.
fn read_only(home: &Home, arguments: &[&str]) -> Option<Said> {
    let mount =
        "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro,nosuid,nodev \"$1\" || exit 99; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "bash", "-c", mount, "bash"]).arg(home.path());
    command.arg(program().get_program()).arg("--home").arg(home.path()).args(arguments).arg("--json");
    command.env_remove("TEMPLAR_HOME").stdin(Stdio::null());
    let said = Said::of(command.output().ok()?);
    (said.code != 99 && !said.err.starts_with("unshare")).then_some(said)
}

#[test]
fn a_home_that_may_not_be_written_is_read_and_said_to_be_one() {
    let home = Home::with_run("read-only", &[]);
    home.window("0");
    let export = home.path().with_file_name("exported");
    let readers: [&[&str]; 14] = [
        &["status"],
        &["log"],
        &["show", "@"],
        &["run", "show"],
        &["run", "list"],
        &["verify"],
        &["audit"],
        &["generate", "--greedy", "--prompt", "To be", "--tokens", "3"],
        &["export", "@", "--hf", export.to_str().unwrap()],
        &["dataset", "show", "shakespeare"],
        &["dataset", "sample", "shakespeare", "--page", "1"],
        &["dataset", "verify", "shakespeare"],
        &["store", "scrub", "--offline"],
        &["store", "stats"],
    ];
    for reader in readers {
        let Some(said) = read_only(&home, reader) else {
            eprintln!("skipped: this system lets nobody mount in a user namespace");
            return;
        };
        assert_eq!(said.code, 0, "{reader:?}: {said:?}");
        if reader[0] != "export" {
            assert_eq!(timeless(&said), timeless(&home.fails(0, reader)), "{reader:?}");
        }
    }
    let shard = hash(&home.ok(["dataset", "show", "shakespeare"])["manifest"]["training"][0], "blob");
    let out = home.path().with_file_name("shard");
    let said = read_only(&home, &["fetch", &shard, "--out", out.to_str().unwrap()]).unwrap();
    assert_eq!((said.code, out.exists()), (0, true), "{said:?}");
    for writer in [&["train", "--window", "1"][..], &["share"], &["run", "use", "test"], &["audit", "--sign"]] {
        let said = read_only(&home, writer).unwrap();
        assert_eq!(said.code, 1, "{writer:?}: {said:?}");
        assert!(said.err.contains("read-only") && said.err.contains("only read work"), "{said:?}");
    }
    home.window("1");
}

#[test]
fn a_home_without_its_key_has_a_status() {
    let home = Home::with_run("keyless", &[]);
    home.window("0");
    let with_key = home.ok(["status"]);
    std::fs::remove_file(home.path().join("key")).unwrap();
    let without = home.ok(["status"]);
    assert_eq!(without["window"], 1, "{without}");
    assert_eq!(without["balances"], with_key["balances"]);
    let said = Said::of(home.command(["status"]).output().unwrap());
    assert!(said.code == 0 && said.out.contains("no key here"), "{said:?}");
    let signing = home.fails(12, ["audit", "--sign"]);
    assert!(signing.err.contains("\"hint\""), "{signing:?}");
}

#[test]
fn a_key_in_a_bare_name_is_a_key() {
    let home = Home::new("bare");
    let dir = tempfile::tempdir().unwrap();
    let new =
        || Said::of(home.command(["key", "new", "owner.key", "--json"]).current_dir(dir.path()).output().unwrap());
    let said = new();
    assert_eq!((said.code, said.last()["file"].as_str()), (0, Some("owner.key")), "{said:?}");
    assert!(dir.path().join("owner.key").is_file());
    let again = new();
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("exists already") && again.err.contains("choose another file"), "{again:?}");
    // Other files that commands write have bare names, too.
    home.ok(["dataset", "import", "--bundled"]);
    let shard = hash(&home.ok(["dataset", "show", "shakespeare"])["manifest"]["training"][0], "blob");
    let command = home.command(["fetch", &shard, "--out", "shard"]).current_dir(dir.path()).output();
    assert_eq!(Said::of(command.unwrap()).code, 0);
    assert!(dir.path().join("shard").is_file());
}

#[test]
fn a_home_in_a_bare_name_is_a_home() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = program();
        command.args(["--json", "--home", "h"]).args(arguments).current_dir(dir.path());
        let said = Said::of(command.output().unwrap());
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
    };
    run(&["init"]);
    run(&["dataset", "import", "--bundled"]);
    run(&["run", "new", "bare", "--dataset", "shakespeare", "--size", "tiny"]);
    run(&["status"]);
}

/// Runs the program in a home, or with a file, whose name is not UTF-8.
fn not_utf8(dir: &Path, arguments: &[&str]) -> Said {
    let name = OsString::from_vec(b"caf\xe9".to_vec());
    let mut command = program();
    command.arg("--home").arg(dir.join(&name)).args(arguments).arg(dir.join(&name).join("file"));
    let output = command.output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn names_that_are_not_utf8_work_or_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let home = OsString::from_vec(b"caf\xe9".to_vec());
    let say = |arguments: &[&str]| {
        let mut command = program();
        command.arg("--home").arg(dir.path().join(&home)).args(arguments).current_dir(dir.path());
        Said::of(command.output().unwrap())
    };
    let tiny = ["run", "new", "r", "--dataset", "shakespeare", "--size", "tiny", "--json"];
    let commands: [&[&str]; 9] = [
        &["init", "--json"],
        &["key", "show"],
        &["dataset", "import", "--bundled", "--json"],
        &tiny,
        &["status", "--json"],
        &["verify", "--json"],
        &["store", "stats", "--json"],
        &["store", "gc", "--dry-run", "--json"],
        &["show", "@"],
    ];
    for arguments in commands {
        let said = say(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
    }
    assert_eq!(say(&["init", "--json"]).code, 1);
    // The names of files that commands write and read.
    assert_eq!(not_utf8(dir.path(), &["key", "new", "--json"]).code, 0);
    assert_eq!(not_utf8(dir.path(), &["export", "@", "--json", "--hf"]).code, 1, "there is a file of that name");
    for (code, arguments) in [
        (2, &["dataset", "import", "--tokenizer"][..]),
        (1, &["evidence", "submit"]),
        (1, &["run", "new", "q", "--dataset", "shakespeare", "--json", "--from"]),
        (3, &["generate", "--prompt", "x", "--from"]),
        (1, &["key", "rotate", "--owner"]),
        (2, &["status"]),
        (2, &["fetch"]),
    ] {
        let said = not_utf8(dir.path(), arguments);
        assert!(said.code != 255 && said.code != 101 && said.code != 0, "{arguments:?} {code}: {said:?}");
    }
}

/// Runs the program with an output that takes nothing.
fn to_full(home: &Home, arguments: &[&str]) -> Said {
    let mut command = home.command(arguments);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    Said::of(command.output().unwrap())
}

#[test]
fn output_that_is_not_written_is_an_error() {
    let home = Home::with_run("full output", &[]);
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: this system has no /dev/full");
        return;
    }
    let commands: [&[&str]; 12] = [
        &["run", "show"],
        &["run", "show", "--json"],
        &["share"],
        &["status"],
        &["log", "--json"],
        &["key", "show"],
        &["store", "stats"],
        &["verify", "--json"],
        &["doctor", "--json"],
        &["generate", "--tokens", "2"],
        &["--help"],
        &["--version"],
    ];
    for arguments in commands {
        let said = to_full(&home, arguments);
        assert_eq!(said.code, 1, "{arguments:?}: {said:?}");
        assert!(said.err.contains("cannot write: No space left on device"), "{arguments:?}: {said:?}");
    }
    // A command that fails keeps its own code. Only a closed pipe is quiet.
    assert_eq!(to_full(&home, &["show", "ffffff"]).code, 3);
    let mut command = home.command(["run", "show"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let said = Said::of(command.stdout(writer).output().unwrap());
    assert_eq!((said.code, said.err.contains("cannot write")), (0, false), "{said:?}");
}

#[test]
fn two_runs_of_one_name_are_refused() {
    let home = Home::with_run("names", &[]);
    let other = Home::new("somebody else");
    let key = hash(&other.ok(["key", "show"]), "key");
    let anchor = hash(&other.ok(["key", "show", "--anchor", "test"]), "anchor");
    let validator = format!("{key}:1:{anchor}");
    for more in [&["--seed", "2"][..], &["--seed", "2", "--validator", &validator]] {
        let arguments = [&["run", "new", "test", "--dataset", "shakespeare", "--size", "tiny"], more].concat();
        let said = home.fails(1, arguments);
        assert!(said.err.contains("already called") && said.err.contains("choose another name"), "{said:?}");
    }
    assert_eq!(home.ok(["run", "list"])["runs"].as_array().unwrap().len(), 1);
}
