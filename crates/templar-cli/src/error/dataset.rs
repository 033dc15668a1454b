//! The exit codes and hints for errors of an import.

use templar_data::{FileFault, Format, ImportError, LicenceError, ListingError, PartError, RowFault, SinkError};

use super::meaning::{Code, Meaning, hint, io, plain, put};
use super::models::{chat_template, tokenizer};

pub(super) fn import(error: &ImportError) -> Meaning {
    match error {
        ImportError::Options(_) => plain(Code::Usage),
        ImportError::List(error) => listing(error),
        ImportError::Tokenizer(error) => tokenizer(error),
        ImportError::ChatTemplate(error) => chat_template(error),
        ImportError::Licence(error) => licence(error),
        ImportError::Part(error) => part(error),
        ImportError::TooShort { fits: Some(rule), .. } => hint(
            Code::Failed,
            format!("`--held-out-every {} --held-out-tokens {}` would do for this text", rule.every, rule.block_tokens),
        ),
        ImportError::TooShort { fits: None, .. } => hint(Code::Failed, "import more text"),
        ImportError::TooManyShards { shard_tokens } => hint(
            Code::Failed,
            format!("import again with larger shards, such as `--shard-tokens {}`", shard_tokens.saturating_mul(8)),
        ),
        ImportError::Stopped => hint(Code::Interrupted, "run the same command again; it begins anew"),
        ImportError::Empty => hint(
            Code::Failed,
            "rows without text, and rows that an option leaves out, give no documents; `--dry-run` shows those that do",
        ),
        ImportError::Missing { .. } => plain(Code::NotFound),
        ImportError::Sink(SinkError(source)) => source.downcast_ref().map_or(plain(Code::Failed), put),
        ImportError::Io { source, .. } => (Code::Failed, io(source).1),
        ImportError::Row { row: 1, fault: RowFault::BadJson(_), .. } => hint(
            Code::Failed,
            "JSON is read as one object on each line, or as one array of objects: `jq -c . OLD > NEW` writes lines",
        ),
        ImportError::Row { fault: RowFault::NotUtf8, .. } => hint(
            Code::Failed,
            "where the file has another encoding, recode it (`iconv -f ISO-8859-1 -t UTF-8 OLD > NEW`); `--on-bad-row skip` \
             leaves such rows out",
        ),
        ImportError::Row { .. } => {
            hint(Code::Failed, "`--on-bad-row skip` leaves such rows out, counts them, and shows the first three")
        }
        ImportError::File { fault, .. } => (Code::Failed, import_file(fault)),
        _ => plain(Code::Failed),
    }
}

/// The advice about a file that cannot be imported.
fn import_file(fault: &FileFault) -> Option<String> {
    Some(match fault {
        FileFault::NoText { hint, .. } | FileFault::OtherForm { hint, .. } => (*hint).to_owned(),
        FileFault::UnknownKind => {
            let names = Format::NAMES.map(|(name, _)| name).join(", ");
            format!("say what it is with `--format`, one of {names}")
        }
        FileFault::NoColumn { columns, .. } => match columns.iter().find_map(|column| column_of_text(column)) {
            Some(name) => format!("name one of its columns with `--column`, such as `--column {name}`"),
            None => "none of these columns holds text; `--column` names another".to_owned(),
        },
        FileFault::SeveralColumns { .. } => "give one of them another name, and write the file again".to_owned(),
        FileFault::Damaged { .. } => "get the file again, or write it anew; nothing was imported".to_owned(),
        FileFault::Expands { .. } => {
            "where this is right, decompress it first, and import what comes out of it".to_owned()
        }
        FileFault::Changed => "import it when nobody writes to it any more; nothing was imported".to_owned(),
        FileFault::Io(_) => return None,
    })
}

/// The name in the description of a column, such as `content (text)`, if the column can be imported.
fn column_of_text(column: &str) -> Option<&str> {
    let (name, kind) = column.strip_suffix(')')?.rsplit_once(" (")?;
    let holds_text = kind == "text" || kind.starts_with("list");
    (holds_text && !name.is_empty() && !name.contains(char::is_whitespace)).then_some(name)
}

pub(super) fn listing(error: &ListingError) -> Meaning {
    match error {
        ListingError::NoSources => plain(Code::Usage),
        ListingError::Missing(_) => plain(Code::NotFound),
        ListingError::DeadLink { .. } => hint(Code::NotFound, "fetch the file that the link names, or remove the link"),
        ListingError::Unreadable { .. } => {
            hint(Code::Failed, "ask for the right to read it, or name the other files on the command line")
        }
        ListingError::Special(_) => hint(Code::Failed, "write what comes out of it to a file, and import the file"),
        ListingError::EmptyFolder { .. } => hint(Code::Failed, "name a file on the command line to take it"),
        ListingError::TooDeep { .. } => hint(Code::Failed, "name the folders further below on the command line"),
    }
}

fn licence(error: &LicenceError) -> Meaning {
    let own = "for a licence without an SPDX identifier, give it a name of your own: LicenseRef-NAME";
    match error.meant.as_slice() {
        [] => hint(Code::Usage, format!("{own}; https://spdx.org/licenses lists the identifiers")),
        meant => hint(Code::Usage, format!("perhaps {}; {own}", meant.join(" or "))),
    }
}

fn part(error: &PartError) -> Meaning {
    match error {
        PartError::Write(source) => (Code::Failed, io(source).1),
        PartError::Io { source, .. } => io(source),
        PartError::NotAPart { .. } => hint(
            Code::Failed,
            "`templar dataset import --part I/N` makes parts; join them with the same version of templar",
        ),
        PartError::Damaged { .. } => hint(Code::Verification, "remove the file, and make this part again"),
        PartError::Twice { .. } => hint(Code::Usage, "name each part once"),
        PartError::Missing { missing, count } => hint(
            Code::Partial,
            format!("`templar dataset import --part {}/{count}` makes one of them", missing.first().unwrap_or(&1)),
        ),
        PartError::Differ { .. } => {
            hint(Code::Usage, "make all parts of the same files with the same options, and join only these")
        }
    }
}
