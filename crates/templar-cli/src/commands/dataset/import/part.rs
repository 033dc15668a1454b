//! `templar dataset import --part I/N`: one share of an import, for a cluster.
//!
//! No home is needed. The part file appears under its name only when it is whole, so a job that is killed leaves
//! nothing that looks like a part. A part that is there already is kept, so a job array can be started again as it is.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::json;
use templar_data::{Import, ImportedPart, Listing, Part};

use super::bar::watched;
use crate::commands::dataset::reading;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::shown;

#[derive(Debug, clap::Args)]
pub(super) struct PartArgs {
    /// Import the I-th of N parts only, into a file. Another machine may import the others; `templar dataset merge`
    /// joins them to the same dataset as one machine gives
    #[arg(long, value_name = "I/N")]
    part: Option<Part>,
    /// The file of the part, or the folder for it [default: NAME-I-of-N.part here]
    #[arg(long, value_name = "PATH", requires = "part")]
    out: Option<PathBuf>,
}

impl PartArgs {
    pub(super) fn is_some(&self) -> bool {
        self.part.is_some()
    }

    /// The file of the part of a dataset of this name.
    fn path(&self, part: Part, name: &str) -> PathBuf {
        let file = format!("{name}-{}-of-{}.part", part.number(), part.count());
        match &self.out {
            Some(path) if path.is_dir() => path.join(file),
            Some(path) => path.clone(),
            None => file.into(),
        }
    }
}

/// Makes a part.
pub(super) fn run(
    invocation: &Invocation,
    args: &PartArgs,
    name: &str,
    import: &Import<'_>,
    listing: &Listing,
) -> CommandResult {
    let part = args.part.unwrap_or(Part::WHOLE);
    let path = args.path(part, name);
    let is_here = path.exists();
    if is_here && !import.is_part(listing, part, &path).unwrap_or(false) {
        let error = CommandError::says(Code::Failed, format_args!("{} exists, and is not this part", shown(&path)));
        return Err(error.hint("nothing was overwritten; choose another file with --out"));
    }
    let done = if is_here { None } else { Some(write(invocation, part, &path, import, listing)?) };
    let value = json!({
        "part": part.to_string(), "path": path.to_string_lossy(), "was_here": is_here,
        "documents": done.as_ref().map(|done| done.documents), "tokens": done.as_ref().map(|done| done.tokens),
        "read": done.as_ref().map(|done| reading::to_json(&done.report)),
    });
    invocation.printer.data(&value, shown(&path));
    match done {
        Some(done) => {
            let (read, template) = (import.read_options(), import.chat_template());
            invocation.printer.talk(reading::describe(done.documents, &done.report, read, template));
        }
        None => invocation.printer.talk("the part was made before, and is kept"),
    }
    Ok(Code::Ok)
}

fn write(
    invocation: &Invocation,
    part: Part,
    path: &Path,
    import: &Import<'_>,
    listing: &Listing,
) -> Result<ImportedPart, CommandError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = unfinished(folder)?;
    let done = watched(invocation.printer, listing.bytes(), |progress| {
        import.run_part(listing, part, progress, file.as_file())
    });
    let (written, part) = done?;
    written.sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    // The name of the file is on the disk when the folder is.
    File::open(folder)?.sync_all()?;
    Ok(part)
}

/// A file in the folder that goes away unless it is persisted. Others may read it then, as the umask says.
fn unfinished(folder: &Path) -> Result<tempfile::NamedTempFile, CommandError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".part-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    Ok(builder.tempfile_in(folder)?)
}
