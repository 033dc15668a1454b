//! Prints all output: data on stdout, talk on stderr.
//!
//! With `--json`, stdout holds only JSON: one document, or for events one document a line with a field `type`. With
//! `--quiet`, only data and errors are printed. All output can be read without colour.
//! Prose is wrapped at words, on a terminal and where `COLUMNS` says how wide it is; commands and tables are not.
//!
//! Invariant: data that did not reach stdout is not passed over in silence. The first failure is kept for the end of
//! the program ([`unwritten`]). A closed pipe is no failure: its reader has read enough.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
pub(crate) use templar_query::words::{bytes, nats, span};
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Text for a person.
    Human,
    /// Text for a person, results and errors only.
    Quiet,
    /// JSON for a program.
    Json,
}

/// Prints the output of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    mode: Mode,
    colour: bool,
    columns: Option<usize>,
}

/// The colour of a word by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Green: the result is correct.
    Good,
    /// Red: the result is wrong.
    Bad,
    /// Yellow: the result is neither correct nor wrong.
    Unsure,
}

impl Printer {
    /// A printer that uses colour on terminals unless `no_color`. `columns` is the width of prose, where the user
    /// names one.
    pub(crate) fn new(mode: Mode, no_color: bool, columns: Option<usize>) -> Self {
        Self { mode, colour: !no_color && mode != Mode::Json, columns }
    }

    /// A printer that prints results and errors only.
    pub(crate) fn quiet(self) -> Self {
        Self { mode: Mode::Quiet, ..self }
    }

    /// The width of a line, in characters; `None` where it is not known.
    pub(crate) fn width(&self) -> Option<usize> {
        self.columns.or_else(terminal_columns)
    }

    /// Whether the output is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.mode == Mode::Json
    }

    /// Prints data: `value` for a program, `text` for a person.
    pub(crate) fn data(&self, value: &impl Serialize, text: impl Display) {
        if self.is_json() { self.json(value) } else { print_data(&text) }
    }

    /// Prints an answer of the read model: `value` with sorted keys for a program, `text` for a person.
    pub(crate) fn document(&self, value: &impl Serialize, text: impl Display) {
        if self.is_json() {
            self.json(&serde_json::to_value(value).unwrap_or_default());
        } else {
            print_data(&text);
        }
    }

    /// Prints data for a program only, when a person has seen it already.
    pub(crate) fn json(&self, value: &impl Serialize) {
        if self.is_json() {
            let text = serde_json::to_string(value)
                .unwrap_or_else(|error| format!("{{\"type\":\"error\",\"error\":{:?}}}", error.to_string()));
            print_data(&text);
        }
    }

    /// Prints an event: a line of JSON on stdout for a program, talk for a person.
    pub(crate) fn progress(&self, value: &impl Serialize, text: impl Display) {
        match self.mode {
            Mode::Json => self.json(value),
            Mode::Human => print(&mut io::stderr().lock(), &text),
            Mode::Quiet => {}
        }
    }

    /// Prints talk on stderr, for a person only.
    pub(crate) fn talk(&self, text: impl Display) {
        if self.mode == Mode::Human {
            print(&mut io::stderr().lock(), &text);
        }
    }

    /// Whether talk is printed.
    pub(crate) fn talks(&self) -> bool {
        self.mode == Mode::Human
    }

    /// Prints a warning; the command goes on.
    pub(crate) fn warn(&self, text: impl Display) {
        if self.is_json() {
            let value = serde_json::json!({"type": "warning", "message": text.to_string()});
            print(&mut io::stderr().lock(), &value);
            return;
        }
        print(
            &mut io::stderr().lock(),
            &format_args!("{}: {text}", self.tone_on(Tone::Unsure, "warning", io::stderr().is_terminal())),
        );
    }

    /// Prints an error on stderr: a line of JSON, or the text.
    pub(crate) fn error(&self, value: &impl Serialize, text: impl Display) {
        let mut stderr = io::stderr().lock();
        match serde_json::to_string(value) {
            Ok(json) if self.is_json() => print(&mut stderr, &json),
            _ => print(&mut stderr, &text),
        }
    }

    /// Prose for stdout, wrapped at words. Every line but the first begins with `indent`. A word that is longer than
    /// a line, such as a hash or a path, stays whole.
    pub(crate) fn prose(&self, text: &str, indent: &str) -> String {
        wrap(text, indent, self.width())
    }

    /// Facts for stdout, each with its name before it. A long fact goes on under its beginning.
    pub(crate) fn facts(&self, rows: &[(&str, String)]) -> String {
        let line = |(name, text): &(&str, String)| self.prose(&format!("{name:<11} {text}"), &" ".repeat(12)) + "\n";
        rows.iter().map(line).collect()
    }

    /// A word on stdout, coloured on a terminal.
    pub(crate) fn tone(&self, tone: Tone, word: &str) -> String {
        self.tone_on(tone, word, io::stdout().is_terminal())
    }

    /// A word on stderr, coloured on a terminal.
    pub(crate) fn error_tone(&self, tone: Tone, word: &str) -> String {
        self.tone_on(tone, word, io::stderr().is_terminal())
    }

    fn tone_on(&self, tone: Tone, word: &str, terminal: bool) -> String {
        if !(self.colour && terminal) {
            return word.to_owned();
        }
        let code = match tone {
            Tone::Good => 32,
            Tone::Bad => 31,
            Tone::Unsure => 33,
        };
        format!("\u{1b}[{code}m{word}\u{1b}[0m")
    }
}

/// The width of the terminal on stdout; `None` if it is no terminal, or one that does not know its width.
#[cfg(unix)]
fn terminal_columns() -> Option<usize> {
    let stdout = io::stdout();
    let size = if stdout.is_terminal() { rustix::termios::tcgetwinsize(&stdout).ok()? } else { return None };
    // Some terminals know their width and not their height.
    (size.ws_col > 0).then(|| size.ws_col.into())
}

#[cfg(not(unix))]
fn terminal_columns() -> Option<usize> {
    None
}

/// Wraps a text at blanks, so that no line is wider than `columns` where its words allow it.
fn wrap(text: &str, indent: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return text.to_owned() };
    let options = Options::new(columns)
        .subsequent_indent(indent)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::fill(text, options)
}

/// The first failure to write data on stdout.
static UNWRITTEN: Mutex<Option<io::Error>> = Mutex::new(None);

/// The first failure to write data on stdout since the last call, if there was one.
pub(crate) fn unwritten() -> Option<io::Error> {
    UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Whether data could not be written on stdout since the last call of [`unwritten`].
pub(crate) fn is_unwritten() -> bool {
    UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Keeps a failure to write data on stdout, unless the reader has closed the pipe.
pub(crate) fn note_unwritten(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Prints a line of data.
fn print_data(text: &dyn Display) {
    note_unwritten(write_line(&mut io::stdout().lock(), text));
}

/// Prints a line of talk. If nobody reads it, nothing is lost.
fn print(to: &mut impl Write, text: &dyn Display) {
    let _ = write_line(to, text);
}

/// Writes a line and flushes it.
fn write_line(to: &mut impl Write, text: &dyn Display) -> io::Result<()> {
    let text = text.to_string();
    to.write_all(text.trim_end_matches('\n').as_bytes())?;
    to.write_all(b"\n")?;
    to.flush()
}

/// A path as text for JSON. JSON is UTF-8, so other bytes of a path are replaced.
pub(crate) fn path_text(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// Rows in aligned columns with two spaces between them. The first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A path for people. The names of files come from strangers: characters that would move the cursor, or hide or turn
/// around others, are escaped.
pub(crate) fn shown(path: &Path) -> String {
    templar_net::escaped(&path.to_string_lossy())
}

/// A number with its noun: `1 window`, `3 windows`.
pub(crate) fn count(number: impl Into<u64>, thing: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// A large number, rounded: `1.4k`, `12.3M`.
pub(crate) fn amount(value: f64) -> String {
    match value {
        value if value < 1e3 => format!("{value:.0}"),
        value if value < 1e6 => format!("{:.1}k", value / 1e3),
        value if value < 1e9 => format!("{:.1}M", value / 1e6),
        value => format!("{:.1}G", value / 1e9),
    }
}

/// A price in micro-ALPHA as ALPHA, rounded to two decimals where that leaves something: `0.65`.
pub(crate) fn about_alpha(micros: u64) -> String {
    if micros < 10_000 { alpha(micros) } else { format!("{:.2}", micros as f64 / 1e6) }
}

/// An amount in micro-ALPHA as ALPHA, exact.
pub(crate) fn alpha(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn columns_align_and_lines_end_with_text() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = table(&[row(["a", "long heading", "c"]), row(["wide cell", "b", ""])]);
        assert_eq!(text, "a          long heading  c\nwide cell  b\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(3 << 30)], ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([count(1u32, "window"), count(0u32, "window")], ["1 window", "0 windows"]);
        assert_eq!([amount(12.0), amount(1400.0), amount(2_500_000.0)], ["12", "1.4k", "2.5M"]);
        assert_eq!([alpha(1), alpha(1_500_000)], ["0.000001", "1.500000"]);
        assert_eq!([about_alpha(1), about_alpha(648_418)], ["0.000001", "0.65"]);
        let spans = [0.2, 20.4, 119.0, 120.0, 7200.0, 180_000.0].map(|seconds| span(Duration::from_secs_f64(seconds)));
        assert_eq!(spans, ["less than 1 s", "20 s", "119 s", "2 min", "2 h", "2 days"]);
    }

    #[test]
    fn prose_is_wrapped_at_words_and_long_words_stay_whole() {
        let text = "a cheat is found: recomputing gives other hashes";
        assert_eq!(wrap(text, "  ", None), text);
        assert_eq!(wrap(text, "  ", Some(20)), "a cheat is found:\n  recomputing gives\n  other hashes");
        let path = "in /a/path/that/is/longer/than/the/line here";
        assert_eq!(wrap(path, "", Some(12)), "in\n/a/path/that/is/longer/than/the/line\nhere");
        let coloured = "\u{1b}[32mmatch\u{1b}[0m it is";
        assert_eq!(wrap(coloured, "", Some(11)), coloured, "a colour has no width");
    }

    #[test]
    fn names_of_files_cannot_write_on_the_terminal() {
        assert_eq!(shown(Path::new("data/größe 日本.txt")), "data/größe 日本.txt");
        assert_eq!(shown(Path::new("a\u{1b}[2J\n\u{202e}txt.b")), "a\\u{1b}[2J\\n\\u{202e}txt.b");
    }

    #[test]
    fn a_full_disk_is_a_failure_and_a_closed_pipe_is_none() {
        note_unwritten(Ok(()));
        note_unwritten(Err(ErrorKind::BrokenPipe.into()));
        assert!(!is_unwritten() && unwritten().is_none());
        note_unwritten(Err(ErrorKind::StorageFull.into()));
        note_unwritten(Err(ErrorKind::Other.into()));
        assert!(is_unwritten());
        assert_eq!(unwritten().map(|error| error.kind()), Some(ErrorKind::StorageFull), "the first one");
        assert!(unwritten().is_none());
    }

    #[test]
    fn without_a_terminal_there_is_no_colour() {
        assert_eq!(Printer::new(Mode::Human, true, None).tone(Tone::Bad, "error"), "error");
        assert_eq!(
            Printer::new(Mode::Human, false, None).tone_on(Tone::Good, "match", true),
            "\u{1b}[32mmatch\u{1b}[0m"
        );
        assert_eq!(Printer::new(Mode::Json, false, None).tone_on(Tone::Good, "match", true), "match");
    }
}
