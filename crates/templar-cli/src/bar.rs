//! The progress of a transfer, on stderr: a bar on a terminal, and elsewhere a line every few seconds.
//!
//! With `--quiet` and `--json` nothing is shown.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use templar_node::tally::{VisitProgress, VisitTally};
use tokio::task::JoinHandle;

use crate::printer::{Printer, bytes};

/// The columns of a bar, without its brackets.
pub(crate) const COLUMNS: usize = 20;

/// The time between two looks at the transfer when a bar is drawn.
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// The time between two lines when stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress of a transfer until it is dropped.
pub(crate) struct Bar {
    task: Option<JoinHandle<()>>,
    bar: ProgressBar,
}

impl Bar {
    /// Shows the transfer that `tally` counts.
    pub(crate) fn of(tally: Arc<VisitTally>, printer: Printer, runtime: &tokio::runtime::Runtime) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let draws = terminal && printer.talks();
        let target = if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1), target).with_style(style(COLUMNS));
        let drawn = bar.clone();
        let task = printer.talks().then(|| {
            runtime.spawn(async move {
                let mut said = VisitProgress::default();
                loop {
                    tokio::time::sleep(if terminal { REDRAW_EVERY } else { LINE_EVERY }).await;
                    let progress = tally.progress();
                    if progress == said {
                        continue;
                    }
                    said = progress;
                    if terminal {
                        let (length, position) = extent(&progress);
                        drawn.set_length(length);
                        drawn.set_position(position);
                        drawn.set_message(line(&progress));
                    } else {
                        printer.talk(line(&progress));
                    }
                }
            })
        });
        Self { task, bar }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// How every bar of the program looks: so many columns in brackets, and beside them a message that is cut at the end of
/// the line.
pub(crate) fn style(columns: usize) -> ProgressStyle {
    let style = ProgressStyle::with_template(&format!("[{{bar:{columns}}}] {{wide_msg}}"));
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("##.")
}

/// The length and the position of the bar, in bytes of the blobs themselves. More bytes may be here than were wanted.
fn extent(progress: &VisitProgress) -> (u64, u64) {
    (progress.wanted_bytes.max(progress.here_bytes).max(1), progress.here_bytes)
}

/// The figures beside the bar. The bytes that came over the network are given too: a network link carries those.
fn line(progress: &VisitProgress) -> String {
    let VisitProgress { entries, wanted_bytes, here_bytes, received_bytes, windows_behind, windows_followed } =
        *progress;
    let mut text = format!("{} of {}, {} received", bytes(here_bytes), bytes(wanted_bytes), bytes(received_bytes));
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
        let progress = VisitProgress {
            entries: 1240,
            wanted_bytes: 4 << 20,
            here_bytes: 1 << 20,
            received_bytes: 1_200_000,
            windows_behind: 200,
            windows_followed: 37,
        };
        let expected = "1.0 MiB of 4.0 MiB, 1.1 MiB received, 1240 entries, window 37 of 200";
        assert_eq!(line(&progress), expected);
        assert_eq!(line(&VisitProgress::default()), "0 B of 0 B, 0 B received");
    }

    #[test]
    fn the_bar_is_as_full_as_the_blobs_that_are_here() {
        let fraction = |here_bytes, wanted_bytes| {
            let (length, position) = extent(&VisitProgress { here_bytes, wanted_bytes, ..VisitProgress::default() });
            position as f64 / length as f64
        };
        assert_eq!([fraction(0, 0), fraction(1 << 20, 4 << 20), fraction(u64::MAX, 5)], [0.0, 0.25, 1.0]);
    }
}
