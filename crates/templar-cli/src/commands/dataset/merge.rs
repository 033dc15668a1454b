//! `templar dataset merge`: the parts of an import into one dataset.

use std::path::PathBuf;

use templar_data::{ReadOptions, merge};
use templar_home::unfinished::Unfinished;

use super::import::{finish, imported, watched};
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{count, shown};

/// Join the parts of an import to the dataset that one machine would have made
///
/// `templar dataset import --part I/N` makes the parts, on any machine. Prints the hash of the dataset.
#[derive(Debug, clap::Args)]
pub(crate) struct MergeArgs {
    /// The part files, or folders of them
    #[arg(required = true)]
    path: Vec<PathBuf>,
}

pub(crate) fn run(invocation: &Invocation, args: &MergeArgs) -> CommandResult {
    let access = invocation.write()?;
    let paths = parts(&args.path)?;
    invocation.printer.talk(format!("joins {}", count(paths.len() as u64, "part")));
    let mut sink = Unfinished::begin(&access);
    let merged = watched(invocation.printer, 0, |progress| merge(&paths, progress, &mut sink))?;
    let id = finish(sink, &merged)?;
    imported(invocation, id, &merged, &[], &ReadOptions::default());
    Ok(Code::Ok)
}

/// The files that are named, and those of the folders that end in `.part`, by name.
fn parts(named: &[PathBuf]) -> Result<Vec<PathBuf>, CommandError> {
    let mut paths = Vec::new();
    for path in named {
        if !path.is_dir() {
            paths.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        let found = entries.into_iter().map(|entry| entry.path());
        let mut found: Vec<_> = found.filter(|path| path.extension().is_some_and(|ending| ending == "part")).collect();
        if found.is_empty() {
            let error = CommandError::says(Code::NotFound, format_args!("folder {} holds no part", shown(path)));
            return Err(error.hint("the name of a part ends in .part"));
        }
        found.sort();
        paths.append(&mut found);
    }
    Ok(paths)
}
