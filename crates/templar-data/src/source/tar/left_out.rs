//! The texts of an archive that its reader leaves out, for the person who imports.

/// The longest part of a name that is shown, in characters.
const SHOWN_CHARS: usize = 100;

/// The texts that are left out, by reason.
#[derive(Default)]
pub(super) struct LeftOut {
    /// Their names have more dots than that of the member.
    pub(super) dotted: Texts,
    /// They are about the data.
    pub(super) about: Texts,
    /// An earlier text has the same name.
    pub(super) twice: Texts,
}

/// The number of texts, and the name of the first.
#[derive(Default)]
pub(super) struct Texts {
    number: u64,
    first: String,
}

impl Texts {
    /// Counts a text.
    pub(super) fn add(&mut self, path: &[u8]) {
        if self.number == 0 {
            self.first = String::from_utf8_lossy(path).chars().take(SHOWN_CHARS).collect();
        }
        self.number += 1;
    }

    /// A sentence about the archive; `None` if there are no such texts.
    fn note(&self, why: &str) -> Option<String> {
        let Self { number, first } = self;
        let are = if *number == 1 { "is" } else { "are" };
        (*number > 0)
            .then(|| format!("is not read whole: {number} of its texts {are} left out, {why}, such as {first:?}"))
    }
}

impl LeftOut {
    /// A sentence for each reason.
    pub(super) fn notes(&self) -> Vec<String> {
        let dotted = self.dotted.note("since the name has several dots and WebDataset takes what follows the first");
        let about = self.about.note("since the name says that it is about the data");
        let twice = self.twice.note("since an earlier one has the same name");
        [dotted, about, twice].into_iter().flatten().collect()
    }
}
