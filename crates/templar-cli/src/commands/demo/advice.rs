//! The commands that the demo ends with. They work as they are printed, with all options of the demo.

use std::ffi::OsStr;
use std::path::Path;

use templar_home::shell::word;
use templar_testkit::demo::DemoResult;

/// A command to try next, and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advice {
    /// The sentence that says what the command shows.
    pub(super) what: &'static str,
    /// The command, to be pasted into a shell.
    pub(super) command: String,
}

/// Three commands for the homes that the demo leaves behind; `program` is how this program was called.
pub(super) fn for_homes(result: &DemoResult, program: &OsStr) -> [Advice; 3] {
    let last = result.windows.saturating_sub(1);
    let line =
        |what, home: &str, command: &str| Advice { what, command: at(program, &result.home.join(home), command) };
    [
        line("what miner-1 has earned, and where the run stands:", "miner-1", "status"),
        line("check the last window yourself:", "audit", &format!("audit --window {last}")),
        line("let the model write:", "audit", "generate --prompt \"ROMEO. \""),
    ]
}

/// Three commands that need no homes, for a demo that has removed its own.
pub(super) fn without_homes(program: &OsStr) -> [Advice; 3] {
    let line = |what, command| Advice { what, command: format!("{} {command}", word(program)) };
    [
        line("the same run, and keep its homes to look around in:", "demo"),
        line("twelve miners and seven validators in a simulation:", "sim"),
        line("everything else:", "help"),
    ]
}

/// A command for a home.
pub(super) fn at(program: &OsStr, home: &Path, command: &str) -> String {
    format!("{} --home {} {command}", word(program), word(home))
}
