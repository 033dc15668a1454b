//! The benchmarks by name, and what is fixed about each.

use std::fmt;
use std::str::FromStr;

/// A benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Science questions of a school, the harder part: three to five answers.
    ArcChallenge,
    /// Science questions of a school, the easier part.
    ArcEasy,
    /// The end of a described activity, out of four.
    HellaSwag,
    /// The last word of a passage.
    Lambada,
    /// Questions of 57 subjects, each with four answers.
    Mmlu,
    /// Elementary science: four answers.
    OpenBookQa,
    /// How a physical goal is reached: two answers.
    Piqa,
    /// Science questions with a supporting text: four answers.
    SciQ,
    /// Which of two things a sentence means.
    WinoGrande,
}

/// How the examples of a question are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The first ones of the question's subject.
    First,
    /// Python's `random.Random(1234).sample`, one generator for the whole task.
    Random,
    /// As `Random`, with one more example than is wanted: the question itself is taken out of them, and the first ones
    /// are used.
    RandomAndOneMore,
}

/// No benchmark has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no task is called {name:?}; there are {}", Task::ALL.map(Task::name).join(", "))]
pub struct UnknownTask {
    /// The name that was given.
    pub name: String,
}

impl Task {
    /// All benchmarks, by name.
    pub const ALL: [Self; 9] = [
        Self::ArcChallenge,
        Self::ArcEasy,
        Self::HellaSwag,
        Self::Lambada,
        Self::Mmlu,
        Self::OpenBookQa,
        Self::Piqa,
        Self::SciQ,
        Self::WinoGrande,
    ];

    /// The name that lm-evaluation-harness gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ArcChallenge => "arc_challenge",
            Self::ArcEasy => "arc_easy",
            Self::HellaSwag => "hellaswag",
            Self::Lambada => "lambada_openai",
            Self::Mmlu => "mmlu",
            Self::OpenBookQa => "openbookqa",
            Self::Piqa => "piqa",
            Self::SciQ => "sciq",
            Self::WinoGrande => "winogrande",
        }
    }

    /// The definition of prompts and scores that this program follows: another definition gets another name.
    pub const fn template(self) -> &'static str {
        match self {
            Self::Mmlu => "lm-eval 0.4.13 version 2",
            _ => "lm-eval 0.4.13 version 1.0",
        }
    }

    /// How examples are chosen.
    pub const fn choice(self) -> Choice {
        match self {
            Self::Mmlu => Choice::First,
            // Their definition names no test split, and no split for examples either: the two count as equal.
            Self::HellaSwag | Self::Piqa | Self::WinoGrande => Choice::RandomAndOneMore,
            _ => Choice::Random,
        }
    }

    /// Whether the task has a second score, in which a sum is divided by the number of characters of its answer.
    pub const fn has_normalised_score(self) -> bool {
        !matches!(self, Self::Mmlu | Self::WinoGrande | Self::Lambada)
    }

    /// Whether a question has one answer, which the model must find as its likeliest text.
    pub const fn is_last_word(self) -> bool {
        matches!(self, Self::Lambada)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Task {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, UnknownTask> {
        let short = |task: &Self| *task == Self::Lambada && name == "lambada";
        let found = Self::ALL.into_iter().find(|task| task.name() == name || short(task));
        found.ok_or_else(|| UnknownTask { name: name.to_owned() })
    }
}
