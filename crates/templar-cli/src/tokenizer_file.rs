//! Reads the file of a tokenizer, of bounded length.

use std::path::Path;

use crate::error::{Code, CommandError};

/// The bytes of a `tokenizer.json`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let said = |error: std::io::Error| {
        let code = CommandError::from(error);
        let text = format!("the tokenizer {} cannot be read: {}", path.display(), code.lines().join(": "));
        CommandError::says(code.code(), text)
    };
    let found = std::fs::metadata(path).map_err(said)?;
    if found.is_dir() {
        let text = format!("the tokenizer {} is a folder", path.display());
        return Err(CommandError::says(Code::Usage, text).hint("name the file tokenizer.json in it"));
    }
    let bytes = found.len();
    if bytes > templar_data::MAX_TOKENIZER_BYTES as u64 {
        let text = format!("the tokenizer {} is too large: {bytes} bytes", path.display());
        return Err(CommandError::says(Code::Failed, text));
    }
    std::fs::read(path).map_err(said)
}
