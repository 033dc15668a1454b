//! Lines of bounded length.

use std::io::{self, BufRead, Read};

/// The result of [`Lines::next`].
pub(super) enum LineRead {
    /// The end of the file.
    End,
    /// A line, its end included.
    Read,
    /// A line that is longer than allowed. It was passed over.
    TooLong {
        /// The limit, in bytes.
        max_bytes: usize,
    },
}

/// The lines of a reader. Memory holds one line, and never more than the limit.
pub(super) struct Lines<R> {
    reader: R,
    max_bytes: usize,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R, max_bytes: usize) -> Self {
        Self { reader, max_bytes, buffer: Vec::new(), number: 0 }
    }

    /// The number of the last line, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The last line with its end.
    pub(super) fn line(&self) -> &[u8] {
        &self.buffer
    }

    pub(super) fn next(&mut self) -> io::Result<LineRead> {
        self.number += 1;
        self.buffer.clear();
        if read_part(&mut self.reader, &mut self.buffer, self.max_bytes)? == 0 {
            return Ok(LineRead::End);
        }
        if self.buffer.len() < self.max_bytes || self.buffer.ends_with(b"\n") {
            return Ok(LineRead::Read);
        }
        // The rest of the line goes by in pieces, and the memory of the long one is given back.
        self.buffer = Vec::new();
        while !self.buffer.ends_with(b"\n") {
            self.buffer.clear();
            if read_part(&mut self.reader, &mut self.buffer, PASSED_BYTES)? == 0 {
                break;
            }
        }
        Ok(LineRead::TooLong { max_bytes: self.max_bytes })
    }
}

/// Bytes of a line that is passed over, at a time.
const PASSED_BYTES: usize = 1 << 16;

/// Appends the bytes up to the next line end, that end included, but at most `max_bytes`. Returns how many.
pub(super) fn read_part(reader: &mut impl BufRead, into: &mut Vec<u8>, max_bytes: usize) -> io::Result<usize> {
    reader.by_ref().take(max_bytes as u64).read_until(b'\n', into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_passed_over() {
        let long = "x".repeat(200_000);
        let input = format!("one\n\n{long}\ntwo\n{long}");
        let mut lines = Lines::new(input.as_bytes(), 100);
        let mut found = Vec::new();
        loop {
            match lines.next().unwrap() {
                LineRead::End => break,
                LineRead::Read => found.push((lines.number(), lines.line().to_vec())),
                LineRead::TooLong { max_bytes } => found.push((lines.number(), max_bytes.to_string().into_bytes())),
            }
        }
        let expected = [(1, "one\n"), (2, "\n"), (3, "100"), (4, "two\n"), (5, "100")];
        assert_eq!(found, expected.map(|(number, line)| (number, line.as_bytes().to_vec())));
    }
}
