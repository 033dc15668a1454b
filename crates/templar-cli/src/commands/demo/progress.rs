//! The bar of the demo, on stderr and on a terminal alone: windows, steps, and the time that is left.
//!
//! The bar counts seconds of the forecast. So it moves evenly, although a window has parts of very different length.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use templar_manifest::PublicKey;
use templar_node::event::NodeEvent;
use templar_testkit::demo::Forecast;

use crate::bar::style;
use crate::printer::{Printer, span};

/// The columns of the bar, which is shorter than others since its message is longer.
const COLUMNS: usize = 16;

/// The columns of the bar, of the brackets around it and of the blank behind it.
const BESIDE: usize = COLUMNS + 3;

/// The units of the bar in a second of the forecast.
const UNITS: f64 = 100.0;

/// How far the demo has come.
pub(super) struct Progress {
    bar: ProgressBar,
    /// The number of characters that fit beside the bar.
    room: usize,
    forecast: Option<Forecast>,
    steps: u32,
    /// Inner steps of honest miners that were taken in the open window, by miner.
    taken: BTreeMap<String, u32>,
    /// Contributions of the open window that validators have judged.
    judged: BTreeSet<(String, PublicKey)>,
    honest: usize,
    /// Judgements that a window needs.
    judgements: usize,
    window: u64,
    audited: u64,
}

impl Progress {
    pub(super) fn new(printer: Printer) -> Self {
        let draws = printer.talks() && std::io::stderr().is_terminal();
        let target = if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            bar: ProgressBar::with_draw_target(Some(1), target).with_style(style(COLUMNS)),
            room: printer.width().map_or(usize::MAX, |columns| columns.saturating_sub(BESIDE)),
            forecast: None,
            steps: 1,
            taken: BTreeMap::new(),
            judged: BTreeSet::new(),
            honest: 1,
            judgements: 1,
            window: 0,
            audited: 0,
        }
    }

    /// Whether a bar is drawn.
    pub(super) fn is_drawn(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Runs `print` while the bar is out of the way.
    pub(super) fn aside(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// The run begins: `honest` miners take `steps` in each window, and validators make `judgements` there.
    pub(super) fn begin(&mut self, forecast: Forecast, steps: u32, honest: usize, judgements: usize) {
        (self.steps, self.honest, self.judgements) = (steps.max(1), honest.max(1), judgements.max(1));
        self.bar.set_length(((forecast.total_s() * UNITS) as u64).max(1));
        self.forecast = Some(forecast);
        self.draw("starting the processes");
    }

    /// A node reports what it did.
    pub(super) fn node(&mut self, node: &str, event: &NodeEvent) {
        match event {
            NodeEvent::Step { window, step, steps, .. } if *window == self.window => {
                self.taken.insert(node.to_owned(), *step);
                let slowest = self.taken.values().min().copied().unwrap_or_default();
                self.draw(&format!("{}, step {slowest} of {steps}", self.open()));
            }
            NodeEvent::Judged { window, miner, .. } if *window == self.window => {
                self.judged.insert((node.to_owned(), *miner));
                self.draw(&format!("{}, checking the updates", self.open()));
            }
            NodeEvent::Signed { window, kind, .. } if *window == self.window && kind == "cut" => {
                self.draw(&format!("{}, checking the updates", self.open()));
            }
            NodeEvent::Closed { window, .. } if *window >= self.window => {
                self.window = window + 1;
                self.taken.clear();
                self.judged.clear();
                self.draw("closing a window");
            }
            _ => {}
        }
    }

    /// The audit has done so many windows.
    pub(super) fn audit(&mut self, windows: u64) {
        self.audited = windows;
        let of = self.forecast.map_or(0, |forecast| forecast.windows);
        self.draw(&format!("audit of window {}", windows.min(of.saturating_sub(1))));
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn open(&self) -> String {
        format!("window {}", self.window)
    }

    fn draw(&self, message: &str) {
        let Some(forecast) = &self.forecast else { return };
        let done_s = self.done_s(forecast);
        let left = left_s(forecast.total_s(), done_s, self.bar.elapsed().as_secs_f64());
        self.bar.set_position((done_s * UNITS) as u64);
        self.bar.set_message(beside(message, &span(Duration::from_secs_f64(left)), self.room));
    }

    /// The seconds of the forecast that are done.
    fn done_s(&self, forecast: &Forecast) -> f64 {
        let steps = f64::from(self.taken.values().sum::<u32>()) / (self.honest as f64 * f64::from(self.steps));
        let judged = self.judged.len() as f64 / self.judgements as f64;
        let open = forecast.training_s * steps.min(1.0) + forecast.judging_s * judged.min(1.0);
        self.window as f64 * forecast.window_s() + open + self.audited as f64 * forecast.audit_s
    }
}

/// The seconds that are left: those of the forecast, corrected by the speed so far once there is some.
fn left_s(total_s: f64, done_s: f64, elapsed_s: f64) -> f64 {
    let speed = if done_s * 8.0 > total_s { elapsed_s / done_s } else { 1.0 };
    ((total_s - done_s) * speed).max(0.0)
}

/// What stands beside the bar: all of it where it fits into `room` characters, and else the time that is left.
fn beside(message: &str, left: &str, room: usize) -> String {
    let left = format!("about {left} left");
    let all = format!("{message}, {left}");
    if all.chars().count() <= room { all } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::Mode;

    #[test]
    fn the_bar_takes_one_line_of_any_terminal() {
        let text = |columns: usize| beside("window 0, checking the updates", "65 s", columns - BESIDE);
        assert_eq!(text(80), "window 0, checking the updates, about 65 s left");
        assert_eq!(text(40), "about 65 s left");
    }

    #[test]
    fn the_bar_moves_with_steps_judgements_windows_and_the_audit() {
        let forecast = Forecast { training_s: 2.0, judging_s: 4.0, audit_s: 3.0, windows: 2 };
        let mut progress = Progress::new(Printer::new(Mode::Quiet, true, None));
        progress.begin(forecast, 10, 2, 4);
        let done = |progress: &Progress| (progress.done_s(&forecast) * 10.0).round() / 10.0;
        assert_eq!(done(&progress), 0.0);
        let step = |window, step| NodeEvent::Step {
            window,
            step,
            steps: 10,
            loss: 6.0,
            norm: 1.0,
            learning_rate: 1e-3,
            tokens_per_second: 1.0,
        };
        progress.node("miner-1", &step(0, 5));
        progress.node("miner-2", &step(0, 5));
        assert_eq!(done(&progress), 1.0, "half of the training");
        progress.node("miner-1", &step(1, 9));
        assert_eq!(done(&progress), 1.0, "a step of a window that is not open yet");
        for _ in 0..2 {
            progress.node(
                "validator-1",
                &NodeEvent::Judged {
                    window: 0,
                    validator: PublicKey::from_bytes([1; 32]),
                    miner: PublicKey::from_bytes([2; 32]),
                    replay: "match".to_owned(),
                    improvement: None,
                },
            );
        }
        assert_eq!(done(&progress), 2.0, "one of four judgements, told twice");
        progress.audit(2);
        assert_eq!(done(&progress), 8.0);
    }

    #[test]
    fn the_time_left_follows_the_forecast_and_then_the_speed_so_far() {
        assert_eq!(left_s(40.0, 0.0, 3.0), 40.0);
        assert_eq!(left_s(40.0, 10.0, 20.0), 60.0, "half as fast as forecast");
        assert_eq!(left_s(40.0, 41.0, 20.0), 0.0);
    }
}
