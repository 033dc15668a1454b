//! Paths as words of a shell command, for the commands that people are told to run.

use std::ffi::OsStr;

/// A path or an argument as one word of a command that can be pasted into a shell. It is quoted only where it must be.
pub fn word(text: impl AsRef<OsStr>) -> String {
    let text = text.as_ref();
    // A path holds no zero byte, which is all that cannot be quoted.
    match text.to_str().map(shlex::try_quote) {
        Some(Ok(quoted)) => quoted.into_owned(),
        Some(Err(_)) | None => bytes(text.as_encoded_bytes()),
    }
}

/// Bytes that are no text, in the notation of bash, ksh and zsh.
fn bytes(bytes: &[u8]) -> String {
    let inner: String = bytes
        .iter()
        .map(|&byte| match byte {
            b'\'' | b'\\' => format!("\\{}", char::from(byte)),
            b' '..=b'~' => char::from(byte).to_string(),
            byte => format!("\\x{byte:02x}"),
        })
        .collect();
    format!("$'{inner}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_from_the_shell_as_they_were() {
        assert_eq!(word("/tmp/demo-1"), "/tmp/demo-1");
        for text in ["/tmp/my demo", "it's", "a$b", "", "~", "*", "ü b", "a\nb", "--home", "a\\b", "!x"] {
            let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", word(text))]).output();
            assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), text, "{}", word(text));
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_can_be_pasted_too() {
        use std::os::unix::ffi::OsStrExt as _;
        assert_eq!(word(OsStr::from_bytes(b"caf\xe9 'x'")), r"$'caf\xe9 \'x\''");
    }
}
