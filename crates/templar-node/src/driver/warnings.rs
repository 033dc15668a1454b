//! Says the same warning once, and then how often it has come since, ever more rarely.
//!
//! A failure in a node often comes again and again: in every retry, in every entry of a hostile peer. A log that
//! repeats each of them hides everything else, and fills the disk.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time after which a warning that came again is said again. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// The longest time between two lines of the same warning.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The time after which a warning that did not come again is new.
const FORGOTTEN: Duration = Duration::from_secs(1200);

/// The greatest number of different warnings that are remembered. Peers can cause warnings.
const MAX_KINDS: usize = 256;

/// The warnings of a node.
#[derive(Debug)]
pub(super) struct Warnings {
    began: Instant,
    repeats: Mutex<Repeats>,
}

impl Warnings {
    /// No warning yet.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), repeats: Mutex::default() }
    }

    /// The time since the node started.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether to say this warning now. Otherwise it is counted.
    pub(super) fn admits(&self, message: &str) -> bool {
        let now = self.now();
        self.repeats.lock().admits(message, now)
    }

    /// The warnings to say again, each with the number of times that it came since it was last said.
    pub(super) fn due(&self) -> Vec<(String, u64)> {
        let now = self.now();
        self.repeats.lock().due(now)
    }
}

/// The warnings that were said, and those that have come again since.
#[derive(Debug, Default)]
struct Repeats {
    said: BTreeMap<String, Said>,
}

/// A warning that was said.
#[derive(Debug)]
struct Said {
    /// When it was last said.
    last: Duration,
    pause: Duration,
    /// The number of times that it came since then.
    more: u64,
}

impl Repeats {
    fn admits(&mut self, message: &str, now: Duration) -> bool {
        if let Some(said) = self.said.get_mut(message) {
            said.more = said.more.saturating_add(1);
            return false;
        }
        if self.said.len() >= MAX_KINDS {
            let oldest = self.said.iter().min_by_key(|(_, said)| said.last).map(|(message, _)| message.clone());
            if let Some(oldest) = oldest {
                self.said.remove(&oldest);
            }
        }
        self.said.insert(message.to_owned(), Said { last: now, pause: FIRST_PAUSE, more: 0 });
        true
    }

    fn due(&mut self, now: Duration) -> Vec<(String, u64)> {
        let mut due = Vec::new();
        self.said.retain(|message, said| {
            let since = now.saturating_sub(said.last);
            if said.more > 0 && since >= said.pause {
                due.push((message.clone(), said.more));
                *said = Said { last: now, pause: (said.pause * 2).min(LONGEST_PAUSE), more: 0 };
            }
            said.more > 0 || now.saturating_sub(said.last) < FORGOTTEN
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a warning that comes every `every` seconds until `end`, with a look every two seconds: when, and
    /// how many times it stands for.
    fn lines(every: u64, end: u64) -> Vec<(u64, u64)> {
        let mut repeats = Repeats::default();
        let mut lines = Vec::new();
        for second in 0..end {
            let now = Duration::from_secs(second);
            if second % every == 0 && repeats.admits("trying again", now) {
                lines.push((second, 1));
            }
            if second % 2 == 0 {
                lines.extend(repeats.due(now).into_iter().map(|(_, times)| (second, times)));
            }
        }
        lines
    }

    #[test]
    fn a_warning_is_said_at_once_and_then_ever_more_rarely() {
        assert_eq!(lines(1, 80), [(0, 1), (10, 10), (30, 20), (70, 40)]);
        // A warning that comes rarely is not held back for long, and not said each time for ever.
        assert_eq!(lines(30, 400), [(0, 1), (30, 1), (60, 1), (100, 1), (180, 3), (340, 5)]);
    }

    #[test]
    fn nothing_is_lost_but_what_is_said_already() {
        let times: u64 = lines(3, 3601).iter().map(|(_, times)| times).sum();
        assert!((1000..=1200).contains(&times), "{times} of 1201");
        assert!(lines(3, 3601).len() < 15);
    }

    #[test]
    fn different_warnings_are_told_apart_and_bounded() {
        let mut repeats = Repeats::default();
        let now = Duration::from_secs(1);
        assert!(repeats.admits("one", now) && repeats.admits("two", now) && !repeats.admits("one", now));
        for index in 0..2 * MAX_KINDS {
            assert!(repeats.admits(&format!("warning {index}"), now + Duration::from_secs(index as u64)));
        }
        assert!(repeats.said.len() <= MAX_KINDS);
        assert!(repeats.due(now + FORGOTTEN * 4).is_empty() && repeats.said.is_empty());
        assert!(repeats.admits("one", now + FORGOTTEN * 4), "it is new again");
    }
}
