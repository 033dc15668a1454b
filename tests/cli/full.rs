//! A full disk: work stops with a message and nothing is lost. After space is freed, it ends in the same hash.
//!
//! The disk is a tmpfs in a user namespace that the test makes. If the system forbids that, the test reports
//! that it was skipped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::home::{Home, Said, hash, program};
use super::network::running::Running;

/// A shell in its own namespace, in which a small disk is mounted.
struct SmallDisk {
    dir: tempfile::TempDir,
    shell: Child,
    stdin: ChildStdin,
    out: BufReader<ChildStdout>,
}

impl SmallDisk {
    /// Starts the shell, or returns `None` if the system has no unprivileged namespaces.
    fn new(kib: u32) -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "bash", "--noprofile", "--norc"]);
        for name in ["TEMPLAR_HOME", "TEMPLAR_ISA", "TEMPLAR_RECOMPUTE", "NO_COLOR"] {
            command.env_remove(name);
        }
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut shell = spawned.ok()?;
        let (stdin, out) = (shell.stdin.take()?, BufReader::new(shell.stdout.take()?));
        let mut disk = Self { dir: tempfile::tempdir().unwrap(), shell, stdin, out };
        std::fs::create_dir(disk.dir.path().join("disk")).unwrap();
        let mount = format!("mount -t tmpfs -o size={kib}k none {}", disk.path());
        if disk.run(&mount) == Some(0) {
            return Some(disk);
        }
        eprintln!("skipped: this system lets nobody mount a tmpfs in a user namespace");
        None
    }

    fn path(&self) -> String {
        self.dir.path().join("disk").to_str().unwrap().to_owned()
    }

    /// Runs one line of shell and returns its exit code, or `None` if the shell has ended.
    fn run(&mut self, line: &str) -> Option<i32> {
        writeln!(self.stdin, "{line}; echo ended $?").ok()?;
        let mut said = String::new();
        while self.out.read_line(&mut said).ok()? > 0 {
            if let Some(code) = said.trim_end().strip_prefix("ended ") {
                return code.parse().ok();
            }
            said.clear();
        }
        None
    }

    /// Runs the program in a home on the small disk.
    fn templar(&mut self, arguments: &str) -> Said {
        let at = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let (out, err) = (at("out"), at("err"));
        let program = program().get_program().to_str().unwrap().to_owned();
        let line = format!("{program} --home {}/here {arguments} --json >{out} 2>{err} </dev/null", self.path());
        let code = self.run(&line).expect("the shell runs");
        let read = |path| std::fs::read_to_string(path).unwrap();
        Said { code, out: read(out), err: read(err) }
    }

    fn ok(&mut self, arguments: &str) -> Value {
        let said = self.templar(arguments);
        assert_eq!(said.code, 0, "{arguments}: {said:?}");
        said.last()
    }

    /// Runs a command that must stop because the disk is full, with a message that says so.
    fn stops(&mut self, arguments: &str) {
        let said = self.templar(arguments);
        assert_eq!(said.code, 1, "{arguments}: {said:?}");
        assert!(said.err.to_lowercase().contains("no space left on"), "{said:?}");
        assert!(said.err.contains("free some space"), "{said:?}");
    }

    /// Fills the disk until only this many KiB are free.
    fn fill(&mut self, free_kib: u32) {
        let path = self.path();
        let line = format!(
            "free=$(df --output=avail -k {path} | tail -n 1); head -c $((free - {free_kib}))K /dev/zero >{path}/filler"
        );
        self.run(&line);
    }

    fn empty(&mut self) {
        let path = self.path();
        assert_eq!(self.run(&format!("rm {path}/filler")), Some(0));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn training_and_closing_go_on_after_the_disk_was_full() {
    let Some(mut disk) = SmallDisk::new(64 << 10) else { return };
    let twin = Home::with_run("full", &[]);
    disk.ok("init --key-from-seed full");
    disk.fill(64);
    disk.stops("dataset import --bundled");
    disk.empty();
    disk.ok("dataset import --bundled");
    let run = disk.ok(&format!("run new test --dataset shakespeare --size tiny{}", settings()));
    assert_eq!(hash(&run, "run"), hash(&twin.ok(["run", "show"]), "run"));

    // There is no space for a snapshot or for the trained state.
    disk.fill(300);
    disk.stops("train --window 0");
    disk.empty();
    let trained = disk.ok("train --window 0");
    assert_eq!(hash(&trained, "contribution"), hash(&twin.ok(["train", "--window", "0"]), "contribution"));

    disk.ok("close --commits --window 0");
    disk.ok("score --window 0");
    disk.fill(100);
    disk.stops("close --window 0");
    disk.empty();
    let closed = disk.ok("close --window 0");
    ["close --commits", "score", "close"].iter().for_each(|step| drop(by_hand(&twin, step, 0)));
    assert_eq!(hash(&closed, "checkpoint"), hash(&twin.ok(["show", "w0"])["contents"], "checkpoint"));
    assert_eq!(disk.ok("store scrub --offline")["verdict"], "match");
}

/// One step of a window.
fn by_hand(home: &Home, step: &str, window: u64) -> Value {
    let window = window.to_string();
    home.ok(step.split(' ').chain(["--window", &window]))
}

#[test]
fn a_record_for_which_there_is_no_room_is_not_half_said() {
    let Some(mut disk) = SmallDisk::new(64 << 10) else { return };
    let twin = Home::with_run("record", &[]);
    disk.ok("init --key-from-seed record");
    disk.ok("dataset import --bundled");
    let run = hash(&disk.ok(&format!("run new test --dataset shakespeare --size tiny{}", settings())), "run");
    // The run's files get their own disk, with a page of 4 KiB each for start.json, the journal, the memory and its
    // next version. A page of the journal is more than one window needs and less than two.
    let dir = format!("{}/here/runs/{run}", disk.path());
    let mount =
        format!("cp -a {dir} {0}/run && mount -t tmpfs -o size=16k none {dir} && cp -a {0}/run/. {dir}", disk.path());
    assert_eq!(disk.run(&mount), Some(0));
    let (mut stopped, mut last) = (0, Value::Null);
    for window in 0..2 {
        for step in ["train", "close --commits", "score", "close"] {
            let line = format!("{step} --window {window}");
            let before = disk.ok("status");
            let said = disk.templar(&line);
            if said.code != 0 {
                stopped += 1;
                assert!(said.code == 1 && said.err.contains("No space left on"), "{said:?}");
                assert!(said.err.contains("free some space"), "{said:?}");
                // The journal had no room, or it had and the memory beside it had none. Either nothing was said, or
                // all.
                let (window, was) = (disk.ok("status")["window"].as_u64(), before["window"].as_u64());
                assert!(window == was || (step == "close" && window == was.map(|was| was + 1)), "{window:?}");
                assert_eq!(disk.run(&format!("mount -o remount,size=64k {dir}")), Some(0));
                disk.ok(&line);
            }
            last = by_hand(&twin, step, window);
        }
    }
    assert_eq!(stopped, 1, "the disk was full once");
    assert_eq!(disk.ok("show w1")["id"], last["record"]);
    assert_eq!(disk.ok("audit")["verdict"], "match");
}

/// The settings of the tiny runs of these tests.
fn settings() -> String {
    let settings = [
        "inner.steps=4",
        "inner.batch_sequences=2",
        "inner.micro_batch_sequences=1",
        "model.sequence_length=32",
        "gauntlet.held_out_pages=2",
    ];
    settings.map(|setting| format!(" --set {setting}")).concat()
}

#[test]
fn a_download_goes_on_after_the_disk_was_full() {
    let Some(mut disk) = SmallDisk::new(64 << 10) else { return };
    let origin = Home::with_run("origin", &[]);
    origin.window("0");
    let sharer = Running::start(&origin, ["share"]);
    disk.ok("init --key-from-seed follower");
    // This is less space than the shards need.
    disk.fill(1200);
    disk.stops(&format!("run join {}", sharer.ticket()));
    disk.empty();
    disk.ok(&format!("run join {}", sharer.ticket()));
    assert_eq!(disk.ok("fetch w0")["complete"], true);
    assert_eq!(disk.ok("audit")["verdict"], "match");
    assert_eq!(disk.ok("store scrub --offline")["verdict"], "match");
    sharer.stop();
}
