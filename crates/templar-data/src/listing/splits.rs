//! Which names are those of a test or validation split.
//!
//! The rule is that of Hugging Face `datasets`: a name is a split's where one of its words is a keyword, and words end
//! at `-`, `.`, `_`, blanks and digits. `=` is added for folders such as `split=test`. A name that also has the word
//! `train` is not left out.

/// The keywords of `datasets`, and two more.
const KEYWORDS: [&str; 10] =
    ["dev", "eval", "evaluation", "heldout", "holdout", "test", "testing", "val", "valid", "validation"];

/// Whether a file or folder of this name is set aside for measurements.
pub(super) fn is_set_aside(name: &str) -> bool {
    let name = name.to_lowercase();
    let words = || name.split(|c: char| matches!(c, '-' | '.' | '_' | ' ' | '=') || c.is_ascii_digit());
    words().any(|word| KEYWORDS.contains(&word)) && !words().any(|word| matches!(word, "train" | "training"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_known_by_their_words() {
        let aside = [
            "test-00000-of-00001.parquet",
            "c4-validation.00000-of-00008.json.gz",
            "wiki_test.jsonl",
            "Test",
            "dev.txt",
            "split=test",
            "valid",
            "val2017.jsonl",
            "mmlu_dev_5shot.jsonl",
            "holdout.csv",
            "my eval.txt",
        ];
        for name in aside {
            assert!(is_set_aside(name), "{name}");
        }
        let taken = [
            "train-00000-of-00001.parquet",
            "testament.txt",
            "contest.jsonl",
            "latest",
            "value.txt",
            "devices.csv",
            "train_and_test.jsonl",
            "data",
            "evaluations-of-wine.txt",
            "0",
        ];
        for name in taken {
            assert!(!is_set_aside(name), "{name}");
        }
    }
}
