//! Stop sequences in a text that arrives in pieces.
//!
//! A part of the text is told only when no stop sequence can begin in it any more, so a reader never sees the beginning
//! of one.

/// Looks for stop sequences.
#[derive(Debug, Clone)]
pub(super) struct Stops {
    stops: Vec<String>,
    /// The end of the text that may be the beginning of a stop sequence.
    held: String,
}

impl Stops {
    /// Sequences that are not empty.
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes a further piece. Returns what can be told, and whether a stop sequence follows it. Of several the one that
    /// begins first counts.
    pub(super) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(place) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(place);
            return (std::mem::take(&mut self.held), true);
        }
        let held = self.stops.iter().map(|stop| self.begun(stop)).max().unwrap_or(0);
        let told = self.held.len() - held;
        let rest = self.held.split_off(told);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The rest of a text that goes on no further.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// How many of the last bytes are a beginning of `stop`.
    fn begun(&self, stop: &str) -> usize {
        let lengths = (1..stop.len()).filter(|&length| stop.is_char_boundary(length));
        lengths.filter(|&length| self.held.ends_with(&stop[..length])).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text before the first stop sequence, found in the whole text.
    fn cut<'a>(text: &'a str, stops: &[String]) -> (&'a str, bool) {
        match stops.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            Some(place) => (&text[..place], true),
            None => (text, false),
        }
    }

    proptest! {
        /// Character by character, the result is that of the whole text: the earliest sequence that is complete ends
        /// it, and nothing of a sequence is told before.
        #[test]
        fn pieces_are_as_the_whole(text in "[abä]{0,24}", stops in prop::collection::vec("[abä]{1,3}", 0..3)) {
            let mut looking = Stops::new(stops.clone());
            let (mut told, mut read, mut stopped) = (String::new(), String::new(), false);
            for character in text.chars() {
                read.push(character);
                let (more, stop) = looking.push(&character.to_string());
                told.push_str(&more);
                stopped = stop;
                prop_assert!(cut(&read, &stops).0.starts_with(&told));
                if stop {
                    break;
                }
            }
            if !stopped {
                told.push_str(&looking.finish());
            }
            prop_assert_eq!((told.as_str(), stopped), cut(&read, &stops));
            // It stopped as soon as it could.
            prop_assert!(stopped || read == text);
        }
    }
}
