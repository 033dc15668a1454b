//! Which share of a text a machine imports, where several machines divide the work.
//!
//! A text is read in batches, whose limits depend on the text alone. Of `n` parts, part `i` has every `n`-th file where
//! there are at least as many files as parts, so that a machine reads its own files only. Otherwise it has every `n`-th
//! batch: then every machine reads all files, which is quick, and tokenises a share of them, which is slow.

use std::num::NonZero;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The largest number of parts. To join parts, one file is opened for each.
pub const MAX_PARTS: u32 = 512;

/// One of several parts of an import, written as `2/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub struct Part {
    number: u32,
    count: NonZero<u32>,
}

/// A text names no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected I/N, a part from 1 to N of N parts, with N at most {MAX_PARTS}, such as 2/8")]
pub struct PartNameError;

impl Part {
    /// The only part of an import on one machine.
    pub const WHOLE: Self = Self { number: 1, count: NonZero::<u32>::MIN };

    /// The number of this part, from 1 to [`count`](Self::count).
    pub fn number(self) -> u32 {
        self.number
    }

    /// The number of parts.
    pub fn count(self) -> u32 {
        self.count.get()
    }

    /// Whether the part may hold something of file number `file`, from 0, of `files`.
    pub(crate) fn has_file(self, file: usize, files: usize) -> bool {
        !self.goes_by_files(files) || self.has(file as u64)
    }

    /// Whether the part holds batch number `batch`, from 0 and counted over all files, which lies in file `file`.
    pub(crate) fn has_batch(self, batch: u64, file: usize, files: usize) -> bool {
        if self.goes_by_files(files) { self.has(file as u64) } else { self.has(batch) }
    }

    fn goes_by_files(self, files: usize) -> bool {
        files as u64 >= u64::from(self.count.get())
    }

    fn has(self, number: u64) -> bool {
        number % u64::from(self.count.get()) == u64::from(self.number - 1)
    }
}

impl TryFrom<(u32, u32)> for Part {
    type Error = PartNameError;

    fn try_from((number, count): (u32, u32)) -> Result<Self, PartNameError> {
        if number == 0 || number > count || count > MAX_PARTS {
            return Err(PartNameError);
        }
        NonZero::new(count).map(|count| Self { number, count }).ok_or(PartNameError)
    }
}

impl From<Part> for (u32, u32) {
    fn from(part: Part) -> Self {
        (part.number(), part.count())
    }
}

impl FromStr for Part {
    type Err = PartNameError;

    fn from_str(text: &str) -> Result<Self, PartNameError> {
        let (number, count) = text.split_once('/').ok_or(PartNameError)?;
        let parsed = |digits: &str| digits.parse().map_err(|_| PartNameError);
        (parsed(number)?, parsed(count)?).try_into()
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_as_number_and_count() {
        let part: Part = "2/8".parse().unwrap();
        assert_eq!((part.number(), part.count(), part.to_string()), (2, 8, "2/8".to_owned()));
        assert_eq!("1/1".parse(), Ok(Part::WHOLE));
        for text in ["", "2", "0/8", "9/8", "1/0", "0/0", "1/513", "a/b", "1/2/3", "-1/2", "1/99999999999"] {
            assert_eq!(text.parse::<Part>(), Err(PartNameError), "{text}");
        }
    }

    #[test]
    fn every_batch_belongs_to_one_part() {
        for count in [1u32, 2, 3, 7] {
            let parts: Vec<Part> = (1..=count).map(|number| (number, count).try_into().unwrap()).collect();
            for files in [1, 3, 20] {
                for (batch, file) in (0..100u64).map(|batch| (batch, batch as usize * files / 100)) {
                    let owners = parts.iter().filter(|part| part.has_batch(batch, file, files));
                    let owners: Vec<_> = owners.collect();
                    assert_eq!(owners.len(), 1);
                    assert!(owners[0].has_file(file, files), "who has a batch reads the file");
                }
            }
        }
    }
}
