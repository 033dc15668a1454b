//! Lines of bounded length.

use std::io::{self, BufRead, Read};

/// The result of [`read_line`].
pub(super) enum LineRead {
    /// The end of the file.
    End,
    /// A line, its end included, is in the buffer.
    Read,
    /// The line is longer than allowed.
    TooLong,
}

/// Reads one line with its line end into `line` (emptied first), and never more than `max_bytes` of it.
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, max_bytes: usize) -> io::Result<LineRead> {
    line.clear();
    let read = reader.by_ref().take(max_bytes as u64 + 1).read_until(b'\n', line)?;
    Ok(match read {
        0 => LineRead::End,
        _ if line.len() > max_bytes => LineRead::TooLong,
        _ => LineRead::Read,
    })
}
