//! A bar for long work on a terminal, as one line of text.

use templar_net::Progress;

use crate::printer::{bytes, count};

/// How many characters the bar itself has.
const WIDTH: u64 = 24;

/// How far a fetch is, in bytes and blobs. Lengths are known one after the other, so the whole may still grow.
pub(crate) fn fetching(progress: &Progress) -> String {
    let Progress { blobs, blobs_here, bytes: all, bytes_here, .. } = *progress;
    let filled = (bytes_here.saturating_mul(WIDTH)).checked_div(all).unwrap_or(0).min(WIDTH);
    let bar: String = (0..WIDTH).map(|place| if place < filled { '=' } else { ' ' }).collect();
    format!("[{bar}] {} of {}, {blobs_here} of {}", bytes(bytes_here), bytes(all), count(blobs, "blob"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_with_the_bytes() {
        let half = Progress { blobs: 3, blobs_here: 1, bytes: 4096, bytes_here: 2048, received: 0 };
        assert_eq!(fetching(&half), "[============            ] 2.0 KiB of 4.0 KiB, 1 of 3 blobs");
        assert_eq!(fetching(&Progress::default()), "[                        ] 0 B of 0 B, 0 of 0 blobs");
    }
}
