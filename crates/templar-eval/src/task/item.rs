//! A question with its answers.

/// One question of a benchmark, or one example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The subject, where the task has subjects. Examples are of the same one.
    pub subject: Option<String>,
    /// The texts.
    pub form: Form,
    /// The right answer, counted from 0.
    pub gold: usize,
}

/// The texts of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// One beginning and several endings.
    Endings {
        /// The text before the answer.
        beginning: String,
        /// The answers, without the blank before them.
        endings: Vec<String>,
    },
    /// Several beginnings and one ending.
    Beginnings {
        /// The text up to the answer, and with it.
        beginnings: Vec<String>,
        /// The text after the answer, without the blank before it.
        ending: String,
    },
    /// A passage and its last word.
    LastWord {
        /// The text before the word, without the blank before it.
        beginning: String,
        /// The word.
        word: String,
    },
}

/// A continuation whose likelihood is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The text before it.
    pub context: String,
    /// The text that is scored.
    pub continuation: String,
}

impl Item {
    /// The number of possible answers.
    pub fn answers(&self) -> usize {
        match &self.form {
            Form::Endings { endings, .. } => endings.len(),
            Form::Beginnings { beginnings, .. } => beginnings.len(),
            Form::LastWord { .. } => 1,
        }
    }

    /// The continuations that are scored, one for each answer. `before` is what stands before the question: a
    /// description and examples.
    pub fn asks(&self, before: &str) -> Vec<Ask> {
        let ask = |beginning: &str, ending: &str| Ask {
            context: format!("{before}{beginning}"),
            continuation: format!(" {ending}"),
        };
        match &self.form {
            Form::Endings { beginning, endings } => endings.iter().map(|ending| ask(beginning, ending)).collect(),
            Form::Beginnings { beginnings, ending } => {
                beginnings.iter().map(|beginning| ask(beginning, ending)).collect()
            }
            Form::LastWord { beginning, word } => vec![ask(beginning, word)],
        }
    }

    /// The item as an example for other questions, with the right answer and the gap after it.
    pub fn example(&self) -> String {
        match &self.form {
            Form::Endings { beginning, endings } => format!("{beginning} {}\n\n", endings[self.gold]),
            // An answer without text takes its gaps along.
            Form::Beginnings { beginnings, ending } if ending.is_empty() => beginnings[self.gold].clone(),
            Form::Beginnings { beginnings, ending } => format!("{} {ending}\n\n", beginnings[self.gold]),
            // The word has a blank of its own, and another one is put before it.
            Form::LastWord { beginning, word } => format!("{beginning}  {word}\n\n"),
        }
    }

    /// The lengths by which the sums of the answers are divided in the second score: characters of each answer.
    pub fn characters(&self) -> Vec<usize> {
        match &self.form {
            Form::Endings { endings, .. } => endings.iter().map(|ending| ending.chars().count()).collect(),
            Form::Beginnings { beginnings, .. } => beginnings.iter().map(|text| text.chars().count()).collect(),
            Form::LastWord { word, .. } => vec![word.chars().count()],
        }
    }
}
