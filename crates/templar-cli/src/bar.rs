//! The bar of a visit to the network: bytes and windows, on one line of a terminal that is written anew, and elsewhere a
//! line every few seconds. It is talk, so a program that reads JSON is spared it, and so is who asked for quiet.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use templar_node::tally::{Progress, Tally};
use tokio::task::JoinHandle;

use crate::printer::{Printer, bytes};

/// Between two lines of a terminal, and between two lines elsewhere.
const EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Letters of the bar.
const WIDTH: u64 = 20;

/// Shows how far a visit is, until it is dropped.
pub(crate) struct Bar {
    task: Option<JoinHandle<()>>,
    terminal: bool,
}

impl Bar {
    /// On stderr, while somebody reads it.
    pub(crate) fn of(tally: Arc<Tally>, printer: Printer, runtime: &tokio::runtime::Runtime) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let task = printer.talks().then(|| {
            runtime.spawn(async move {
                let mut said = Progress::default();
                loop {
                    tokio::time::sleep(if terminal { EVERY.0 } else { EVERY.1 }).await;
                    let progress = tally.progress();
                    if progress == said {
                        continue;
                    }
                    said = progress;
                    if terminal {
                        // Who closed stderr has seen enough.
                        let _ = write!(std::io::stderr(), "\r\u{1b}[2K{}", line(&progress));
                    } else {
                        printer.talk(line(&progress));
                    }
                }
            })
        });
        Self { task, terminal }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        task.abort();
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\u{1b}[2K");
        }
    }
}

/// One line. The blobs' own bytes fill the bar; what came over the network stands beside it, since it is what a link carries.
fn line(progress: &Progress) -> String {
    let Progress { entries, wanted_bytes, here_bytes, received_bytes, windows_behind, windows_followed } = *progress;
    let all = u128::from(wanted_bytes.max(here_bytes).max(1));
    let filled = u128::from(here_bytes) * u128::from(WIDTH) / all;
    let bar: String = (0..WIDTH).map(|place| if u128::from(place) < filled { '#' } else { '.' }).collect();
    let mut text =
        format!("[{bar}] {} of {}, {} received", bytes(here_bytes), bytes(wanted_bytes), bytes(received_bytes));
    if entries > 0 {
        text.push_str(&format!(", {entries} entries"));
    }
    if windows_behind > 0 {
        text.push_str(&format!(", window {windows_followed} of {windows_behind}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_bytes_and_windows() {
        let progress = Progress {
            entries: 1240,
            wanted_bytes: 4 << 20,
            here_bytes: 1 << 20,
            received_bytes: 1_200_000,
            windows_behind: 200,
            windows_followed: 37,
        };
        let expected = "[#####...............] 1.0 MiB of 4.0 MiB, 1.1 MiB received, 1240 entries, window 37 of 200";
        assert_eq!(line(&progress), expected);
        assert_eq!(line(&Progress::default()), "[....................] 0 B of 0 B, 0 B received");
        let more = Progress { here_bytes: u64::MAX, wanted_bytes: 5, ..Progress::default() };
        assert!(line(&more).starts_with("[####################]"), "nothing overflows");
    }
}
