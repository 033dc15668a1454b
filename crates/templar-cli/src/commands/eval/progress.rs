//! Scores batch by batch, shows how far it is, and keeps what is done in a file.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};
use templar_eval::{Scorer, Scoring};
use templar_home::files::{Privacy, write_whole};

use crate::bar::{COLUMNS, style};
use crate::error::{Code, CommandError};
use crate::printer::{Printer, amount, span};

/// The time between two states that are saved, and between two lines where stderr is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// The largest saved state that is read, in bytes.
const MAX_STATE_BYTES: u64 = 1 << 30;

/// The error about a place of results that cannot be written.
pub(super) fn unwritable(path: &Path, error: std::io::Error) -> CommandError {
    let what = format!("{} cannot be written", path.display());
    CommandError::new(Code::Failed, anyhow::Error::new(error).context(what))
}

/// The file of a saved state, if there is one.
pub(super) struct Saved(Option<PathBuf>);

impl Saved {
    /// Removes the file, after its work is done.
    pub(super) fn remove(self) {
        // A file that stays is passed over by other work, and overwritten by the same.
        self.0.into_iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// Scores everything that is left. With a folder, which is made, a state in it is resumed, and saved every few seconds.
pub(super) fn run(
    printer: Printer,
    folder: Option<&Path>,
    scoring: &mut Scoring,
    scorer: &mut Scorer,
) -> Result<Saved, CommandError> {
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
    }
    let path = folder.map(|folder| folder.join(format!("evaluation-{}.state", scoring.id().short())));
    if let Some(path) = &path
        && std::fs::metadata(path).is_ok_and(|file| file.len() <= MAX_STATE_BYTES)
        && scoring.resume(&std::fs::read(path)?)
    {
        printer.talk(format_args!("goes on from {}", path.display()));
    }
    let shown = Shown::new(printer, scoring.progress());
    let mut last = now();
    while !scoring.is_done() {
        scoring.step(scorer)?;
        let is_time = last.elapsed() >= EVERY;
        shown.update(scoring.progress().1, is_time);
        if is_time {
            last = now();
            if let Some(path) = &path {
                write_whole(path, &scoring.save(), Privacy::Everybody)?;
            }
        }
    }
    Ok(Saved(path))
}

/// A bar on a terminal, and lines elsewhere.
struct Shown {
    printer: Printer,
    bar: Option<ProgressBar>,
    total: u64,
    /// Tokens that were done before.
    before: u64,
    started: Instant,
}

impl Shown {
    fn new(printer: Printer, (total, before): (u64, u64)) -> Self {
        let bar = (printer.talks() && std::io::stderr().is_terminal()).then(|| {
            ProgressBar::with_draw_target(Some(total.max(1)), ProgressDrawTarget::stderr()).with_style(style(COLUMNS))
        });
        Self { printer, bar, total, before, started: now() }
    }

    fn update(&self, done: u64, is_time: bool) {
        let line = || line(self.total, self.before, done, self.started.elapsed());
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(line());
            }
            None if is_time => self.printer.talk(line()),
            None => {}
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How far it is. The time left is that of the tokens that are left, at the speed so far.
fn line(total: u64, before: u64, done: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = done.saturating_sub(before) as f64 / seconds.max(1e-3);
    let left = Duration::try_from_secs_f64(total.saturating_sub(done) as f64 / rate.max(1e-9)).unwrap_or(Duration::MAX);
    let (done, total) = (amount(done as f64), amount(total as f64));
    format!("{done} of {total} tokens, {} tokens/s, about {} left", amount(rate), span(left))
}

#[allow(clippy::disallowed_methods, reason = "the time between two saved states decides nothing")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_only_what_was_done_now() {
        let said = line(10_000, 4_000, 6_000, Duration::from_secs(20));
        assert_eq!(said, "6.0k of 10.0k tokens, 100 tokens/s, about 40 s left");
    }
}
