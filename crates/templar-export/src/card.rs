//! The model card: `README.md` in a folder, with the facts that anybody can check.
//!
//! Everything in it comes from the run's own manifests and records. Texts that somebody chose (a name, a source) cannot
//! become markup.

use std::fmt::Write as _;

/// The facts of a card.
#[derive(Debug, Clone)]
pub struct Card<'a> {
    /// The name of the run.
    pub run_name: &'a str,
    /// The id of the run.
    pub run: String,
    /// The id of the checkpoint.
    pub checkpoint: String,
    /// The number of windows behind the checkpoint.
    pub windows: u64,
    /// Elements of all tensors.
    pub parameters: usize,
    /// The number of tokens that the model reads at most.
    pub positions: u32,
    /// The type of the weights in this folder.
    pub weights: &'a str,
    /// Whether the weights are the checkpoint's to the bit.
    pub is_exact: bool,
    /// The name of the dataset.
    pub dataset_name: &'a str,
    /// The id of the dataset.
    pub dataset: String,
    /// Where the text comes from.
    pub source: &'a str,
    /// Tokens to train on.
    pub training_tokens: u64,
    /// The licence of the text, an SPDX expression.
    pub licence: &'a str,
    /// Where the run's first weights come from.
    pub start: &'a str,
    /// The held-out loss after each window up to this checkpoint, in nats a token.
    pub losses: Vec<(u64, f64)>,
    /// The signed evaluations of this checkpoint.
    pub evaluations: Vec<CardEvaluation>,
}

/// A signed evaluation on a card.
#[derive(Debug, Clone)]
pub struct CardEvaluation {
    /// The name of the benchmark, or `text`.
    pub task: String,
    /// Examples before each question.
    pub shots: u32,
    /// Questions that were asked, or tokens of a text.
    pub questions: u64,
    /// The result in words, such as `acc 0.2632`.
    pub result: String,
    /// The id of the document.
    pub document: String,
    /// The keys that vouch for it.
    pub signers: Vec<String>,
}

/// The greatest number of rows in the table of losses.
const MAX_ROWS: usize = 40;

impl Card<'_> {
    /// The text of the card.
    pub fn text(&self) -> String {
        let mut text = self.front();
        let name = plain(self.run_name);
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "\n# {name}\n\n\
             A Llama-style language model of {} parameters, trained by a templar run: many participants send small updates, \
             and every step can be computed again by anybody.\n\n\
             | | |\n|---|---|\n\
             | run | `{}` |\n| checkpoint | `{}` |\n| windows trained | {} |\n| context | {} tokens |\n\
             | weights in this folder | {}{} |\n| first weights | {} |\n\
             | dataset | {} (`{}`), {} training tokens |\n| source of the text | {} |\n| licence of the text | {} |\n",
            self.parameters,
            self.run,
            self.checkpoint,
            self.windows,
            self.positions,
            self.weights,
            if self.is_exact { ", to the bit" } else { ", rounded" },
            self.start,
            plain(self.dataset_name),
            self.dataset,
            self.training_tokens,
            stated(self.source),
            plain(self.licence),
        );
        text.push_str(&self.losses_table());
        text.push_str(&self.evaluations_table());
        text.push_str(&self.verification());
        text
    }

    /// The lines that Hugging Face reads.
    fn front(&self) -> String {
        let licence = licence_lines(self.licence);
        format!(
            "---\n{licence}library_name: transformers\npipeline_tag: text-generation\ntags:\n- templar\n\
             templar:\n  run: \"{}\"\n  checkpoint: \"{}\"\n---\n",
            self.run, self.checkpoint
        )
    }

    /// The loss curve. Of many windows it shows some, evenly, and always the first and the last.
    fn losses_table(&self) -> String {
        let Some(last) = self.losses.len().checked_sub(1) else { return String::new() };
        let mut text = "\n## Loss on held-out text\n\n| window | nats a token |\n|---|---|\n".to_owned();
        let rows = last.min(MAX_ROWS - 1);
        for row in 0..=rows {
            let (window, loss) = self.losses[(row * last).checked_div(rows).unwrap_or(0)];
            let _ = writeln!(text, "| {window} | {loss:.4} |");
        }
        text
    }

    /// The results that somebody has signed.
    fn evaluations_table(&self) -> String {
        if self.evaluations.is_empty() {
            return String::new();
        }
        let mut text = "\n## Evaluation\n\n| task | examples | questions | result | document | signed by |\n\
                        |---|---|---|---|---|---|\n"
            .to_owned();
        for CardEvaluation { task, shots, questions, result, document, signers } in &self.evaluations {
            let signers = signers.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "| {} | {shots} | {questions} | {result} | `{document}` | {signers} |", plain(task));
        }
        text.push_str(
            "\nPrompts and scores are those of lm-evaluation-harness. Whoever has the document and the files computes a \
             result again, to the last bit: `templar eval check evaluation-DOCUMENT.cbor --model FOLDER --file FILE`.\n",
        );
        if !self.is_exact {
            text.push_str("The weights in f32 were measured, not the rounded ones of this folder.\n");
        }
        text
    }

    fn verification(&self) -> String {
        let mut text = format!(
            "\n## Check it\n\nIn a home that has the run (`templar fetch TICKET`), this compares the folder with the \
             checkpoints that the run's records name:\n\n```sh\ntemplar verify FOLDER --run {}\n```\n\n\
             `templar audit --offline` computes the records themselves again.\n",
            self.run
        );
        if !self.is_exact {
            text.push_str("The weights here are rounded, so the command compares them with the rounded checkpoint.\n");
        }
        text
    }
}

/// The lines in which Hugging Face reads a licence, an SPDX expression.
pub(crate) fn licence_lines(licence: &str) -> String {
    let known = licence.to_lowercase();
    if KNOWN_LICENCES.contains(&known.as_str()) {
        format!("license: {known}\n")
    } else {
        format!("license: other\nlicense_name: {}\n", quoted(licence))
    }
}

/// Licences that Hugging Face knows by their identifiers.
const KNOWN_LICENCES: [&str; 16] = [
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "odc-by",
    "unlicense",
    "gpl-3.0",
    "isc",
    "zlib",
];

/// A text as [`plain`] has it, or the words that there is none.
pub(crate) fn stated(text: &str) -> String {
    if text.is_empty() { "not stated".to_owned() } else { plain(text) }
}

/// A text in one line, without a character that Markdown or HTML reads.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            character if character.is_control() => plain.push(' '),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '&' => plain.push_str("&amp;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '#' | '\\' | '!' => plain.extend(['\\', character]),
            character => plain.push(character),
        }
    }
    plain
}

/// A text of YAML in quotes. JSON's texts are texts of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(losses: Vec<(u64, f64)>) -> Card<'static> {
        Card {
            run_name: "a run | of\n<mine>",
            run: "01".into(),
            checkpoint: "02".into(),
            windows: 3,
            parameters: 5,
            positions: 64,
            weights: "f32",
            is_exact: true,
            dataset_name: "shakespeare",
            dataset: "03".into(),
            source: "[a](javascript:b)",
            training_tokens: 7,
            licence: "CC-BY-2.5",
            start: "drawn from a seed",
            losses,
            evaluations: Vec::new(),
        }
    }

    #[test]
    fn a_card_has_the_facts_and_no_markup_of_others() {
        let text = card(vec![(0, 7.5), (1, 6.25)]).text();
        assert!(text.starts_with("---\nlicense: cc-by-2.5\nlibrary_name: transformers\n"), "{text}");
        for line in
            ["# a run \\| of &lt;mine&gt;", "| run | `01` |", "| 1 | 6.2500 |", "templar verify FOLDER --run 01"]
        {
            assert!(text.contains(line), "no {line:?} in {text}");
        }
        assert!(text.contains("\\[a\\](javascript:b)") && !text.contains("rounded"));
        assert!(Card { source: "", ..card(Vec::new()) }.text().contains("| source of the text | not stated |"));
        let other = Card { licence: "LicenseRef-a \"b\"", is_exact: false, ..card(Vec::new()) }.text();
        assert!(other.contains("license: other\nlicense_name: \"LicenseRef-a \\\"b\\\"\"\n"), "{other}");
        assert!(other.contains("rounded") && !other.contains("held-out"));
    }

    #[test]
    fn a_card_shows_who_vouches_for_a_result() {
        assert!(!card(Vec::new()).text().contains("Evaluation"));
        let evaluation = CardEvaluation {
            task: "arc_easy".into(),
            shots: 0,
            questions: 570,
            result: "acc 0.2702, acc_norm 0.2333".into(),
            document: "0d".into(),
            signers: vec!["0e".into(), "0f".into()],
        };
        let text = Card { evaluations: vec![evaluation], ..card(Vec::new()) }.text();
        let row = "| arc\\_easy | 0 | 570 | acc 0.2702, acc_norm 0.2333 | `0d` | `0e`, `0f` |";
        assert!(text.contains(row) && !text.contains("not the rounded"), "{text}");
    }

    #[test]
    fn a_long_curve_keeps_its_ends() {
        let rows = |count: u64| {
            let text = card((0..count).map(|window| (window, 1.0)).collect()).text();
            let rows =
                text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" | 1.0000 |")?.parse().ok());
            rows.collect::<Vec<u64>>()
        };
        assert_eq!(rows(1), [0]);
        assert_eq!(rows(40), (0..40).collect::<Vec<_>>());
        let many = rows(1000);
        assert_eq!((many.len(), many[0], many[39]), (40, 0, 999));
        assert!(many.is_sorted());
    }
}
