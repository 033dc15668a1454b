//! Text that a peer may have had a hand in: the reason with which it closed a connection, and what libraries say about
//! its bytes.
//!
//! Invariant: such text is escaped and cut when it is taken, so nothing that prints it later, to a terminal, a log or
//! JSON, can be made to move a cursor, to hide a word or to fill a screen.

use std::fmt::{self, Display, Write};
use std::ops::Deref;

/// The greatest number of characters that are kept.
const MAX_CHARS: usize = 200;

/// Text from outside, escaped and cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignText(String);

impl ForeignText {
    /// Takes what `text` displays. Control characters, line breaks, and marks that hide or turn around other characters
    /// are escaped. At most 200 characters are kept, and three dots stand for the rest.
    pub fn of(text: impl Display) -> Self {
        let mut kept = Cut { text: String::new(), chars: 0 };
        // The only error is that of `Cut`, which says that the text is too long.
        if write!(kept, "{text}").is_err() {
            kept.text.push_str("...");
        }
        Self(kept.text)
    }
}

impl Deref for ForeignText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Display for ForeignText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text with everything escaped that could move a cursor, or hide or turn around other characters.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut safe, c));
    safe
}

fn push(text: &mut String, c: char) {
    if deceives(c) { text.extend(c.escape_default()) } else { text.push(c) }
}

/// Whether a terminal or a reader could be deceived by the character.
fn deceives(c: char) -> bool {
    let hides = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    c.is_control() || hides
}

/// Keeps the first characters that are written to it, and then fails.
struct Cut {
    text: String,
    chars: usize,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.chars == MAX_CHARS {
                return Err(fmt::Error);
            }
            self.chars += 1;
            push(&mut self.text, c);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_escaped_and_what_is_long_is_cut() {
        let painted = ForeignText::of("\u{1b}[2J\u{1b}]0;owned\u{7}fine\r\n\u{202e}txt\u{200b}");
        assert_eq!(&*painted, r"\u{1b}[2J\u{1b}]0;owned\u{7}fine\r\n\u{202e}txt\u{200b}");
        assert_eq!(ForeignText::of(&painted), painted, "taken twice, it stays as it is");
        assert_eq!(&*ForeignText::of("größer: ½ \\"), "größer: ½ \\");
        assert_eq!(ForeignText::of("ä".repeat(200)).chars().count(), 200);
        let long = ForeignText::of("\n".repeat(1 << 20));
        assert_eq!(*long, format!("{}...", r"\n".repeat(200)));
    }
}
