//! The progress of an import, on stderr: a bar on a terminal, and elsewhere a line every few seconds.

use std::io::IsTerminal as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};
use templar_data::{Progress, ProgressNow};

use crate::bar::{COLUMNS, style};
use crate::printer::{Printer, amount, bytes};
use crate::signals::stop_flag;

/// The time between two looks when a bar is drawn.
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// The time between two lines when stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Does `work`, and shows its progress through files of `total` bytes. With `--quiet` and `--json` nothing is shown.
/// The work ends early where this process is asked to stop.
pub(crate) fn watched<T>(printer: Printer, total: u64, work: impl FnOnce(&Progress) -> T) -> T {
    let progress = Progress::until(stop_flag());
    std::thread::scope(|scope| {
        // The watcher ends when the sender is dropped, even where the work panics.
        let (_sender, ended) = channel();
        if printer.talks() {
            scope.spawn(|| watch(printer, total, &progress, ended));
        }
        work(&progress)
    })
}

fn watch(printer: Printer, total: u64, progress: &Progress, ended: Receiver<()>) {
    let is_terminal = std::io::stderr().is_terminal();
    let bar = is_terminal.then(|| {
        ProgressBar::with_draw_target(Some(total.max(1)), ProgressDrawTarget::stderr()).with_style(style(COLUMNS))
    });
    let started = now();
    let pause = if is_terminal { REDRAW_EVERY } else { LINE_EVERY };
    while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let at = progress.now();
        let line = line(at, total, started.elapsed().as_secs_f64());
        match &bar {
            Some(bar) => {
                bar.set_position(at.bytes.min(total));
                bar.set_message(line);
            }
            None => printer.talk(line),
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// The figures beside the bar. The time left is that of the bytes that are still to be read, at the speed so far.
fn line(at: ProgressNow, total: u64, seconds: f64) -> String {
    let rate = at.tokens as f64 / seconds.max(1e-3);
    // A reader may read parts of a file twice.
    let read = if total > 0 { format!("{} of {}", bytes(at.bytes.min(total)), bytes(total)) } else { bytes(at.bytes) };
    let mut line = format!("{read}, {} rows, {} tokens/s", amount(at.rows as f64), amount(rate));
    if at.bytes > 0 && at.bytes < total {
        let left = (total - at.bytes) as f64 / at.bytes as f64 * seconds;
        line.push_str(&format!(", about {} left", duration(left)));
    }
    line
}

/// A time for people: `5 s`, `12 min`, `3.5 h`.
fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 90.0 * 60.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

#[allow(clippy::disallowed_methods, reason = "the speed in a line decides nothing")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_bytes_rows_speed_and_the_time_left() {
        let at = ProgressNow { bytes: 1 << 20, rows: 12_345, tokens: 300_000 };
        assert_eq!(line(at, 4 << 20, 10.0), "1.0 MiB of 4.0 MiB, 12.3k rows, 30.0k tokens/s, about 30 s left");
        assert_eq!(line(at, 1 << 20, 10.0), "1.0 MiB of 1.0 MiB, 12.3k rows, 30.0k tokens/s");
        assert_eq!(line(at, 1 << 19, 10.0), "512.0 KiB of 512.0 KiB, 12.3k rows, 30.0k tokens/s");
        assert_eq!(line(at, 0, 10.0), "1.0 MiB, 12.3k rows, 30.0k tokens/s");
        assert_eq!(line(ProgressNow::default(), 5, 0.0), "0 B of 5 B, 0 rows, 0 tokens/s");
        assert_eq!([duration(89.0), duration(600.0), duration(12_600.0)], ["89 s", "10 min", "3.5 h"]);
    }

    #[test]
    fn the_watcher_ends_with_the_work() {
        let printer = Printer::new(crate::printer::Mode::Human, true, None);
        assert_eq!(watched(printer, 1, |progress| progress.now().bytes), 0);
        assert_eq!(watched(Printer::new(crate::printer::Mode::Json, true, None), 1, |_| 7), 7);
    }
}
