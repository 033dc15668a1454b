//! The result of an evaluation as a document that anybody can recompute: canonical bytes, named by their hash.
//!
//! The bytes are framed as manifests are (`manifests/README.md`): the DAG-CBOR map `{"body", "kind", "version"}` with
//! the kind `evaluation`, version 0, decoded strictly. A signature covers the same bytes as a manifest's that belongs
//! to no run. A document names no evaluator, so two machines that come to the same result write the same document; who
//! signs it vouches for having computed it.
//!
//! Invariant: a document is only made of the exact arithmetic ([`Scorer::is_exact`](crate::Scorer::is_exact)).

use serde::{Deserialize, Serialize};
use templar_manifest::{
    Arithmetic, BlobId, CheckpointId, Hash, KeyError, MAX_PAYLOAD_BYTES, PublicKey, SecretKey, Signature,
};

use crate::benchmark::Tally;
use crate::examples::SEED;
use crate::files::MAX_TEXT_BYTES;
use crate::scoring::{Score, hash_of_scores};
use crate::task::Task;

const KIND: &str = "evaluation";
const VERSION: u64 = 0;

/// Most files, special tokens or subjects that a document lists.
const MAX_ENTRIES: usize = 4096;
/// The longest text in a document, in bytes.
const MAX_TEXT: usize = 256;

/// A model measured on a benchmark or a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The arithmetic of the forward pass and of the likelihoods.
    pub arithmetic: Arithmetic,
    /// The root hash of the model ([`model_root`](crate::model_root)).
    pub model: Hash,
    /// The checkpoint that was evaluated, where the model came from a run.
    pub checkpoint: Option<CheckpointId>,
    /// The tokenizer.
    pub tokenizer: BlobId,
    /// The context of the model, in tokens.
    pub positions: u32,
    /// The tokens that stand before every text.
    pub before: Vec<u32>,
    /// The token that a text follows where nothing is before it.
    pub alone: u32,
    /// What was measured.
    pub measured: Measured,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Measured {
    /// A benchmark.
    Task(TaskResult),
    /// The loss on a text.
    Text(TextResult),
}

/// The result of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskResult {
    /// The name of the task.
    pub task: String,
    /// The definition of its prompts and scores.
    pub template: String,
    /// The files with the questions, in order.
    pub files: Vec<BlobId>,
    /// Only so many questions of each subject were asked, the first ones; all where this is null.
    pub limit: Option<u64>,
    /// Examples before each question.
    pub shots: u32,
    /// The files with the examples, in order.
    pub example_files: Vec<BlobId>,
    /// The seed by which examples are drawn.
    pub seed: u32,
    /// Questions.
    pub questions: u64,
    /// Questions that were answered correctly.
    pub correct: u64,
    /// The same by the score that is divided by characters, where the task has one.
    pub correct_normalised: Option<u64>,
    /// The same by subject, ascending by name, where the task has subjects.
    pub subjects: Vec<SubjectResult>,
    /// The negative log-likelihood of all right answers, in 1e-9 nats.
    pub loss_nanonats: u64,
    /// The hash of the scores of all answers.
    pub scores: Hash,
}

/// The result of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectResult {
    /// The name of the subject.
    pub subject: String,
    /// Its questions.
    pub questions: u64,
    /// Those that were answered correctly.
    pub correct: u64,
}

/// The loss on a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextResult {
    /// The file.
    pub file: BlobId,
    /// Its bytes.
    pub bytes: u64,
    /// Its tokens, each of which was scored once.
    pub tokens: u64,
    /// The negative log-likelihood of all tokens, in 1e-9 nats.
    pub loss_nanonats: u64,
    /// The hash of the scores of all windows.
    pub scores: Hash,
}

/// A signature beside a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// The key of the evaluator.
    pub signer: PublicKey,
    /// Its signature.
    pub signature: Signature,
}

/// Bytes are no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// They do not decode.
    #[error("not an evaluation: {0}")]
    Malformed(String),
    /// They decode, and are not the one spelling of their value.
    #[error("not an evaluation: the same value is spelled differently")]
    NotCanonical,
    /// They break a rule.
    #[error("the evaluation breaks a rule: {0}")]
    Rule(String),
    /// A signature does not verify.
    #[error("the signature under the evaluation does not verify")]
    Signature(#[from] KeyError),
}

#[derive(Serialize)]
struct FramedRef<'a> {
    body: &'a Evaluation,
    kind: &'a str,
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Framed {
    body: Evaluation,
    kind: String,
    version: u64,
}

impl TaskResult {
    /// The numbers of a result. The caller adds the names of the files.
    pub fn new(task: Task, shots: u32, limit: Option<u64>, tally: &Tally, scores: &[Score]) -> Self {
        let subject = |(subject, (questions, correct)): (&String, &(u64, u64))| SubjectResult {
            subject: subject.clone(),
            questions: *questions,
            correct: *correct,
        };
        Self {
            task: task.name().to_owned(),
            template: task.template().to_owned(),
            files: Vec::new(),
            limit,
            shots,
            example_files: Vec::new(),
            seed: SEED,
            questions: tally.questions,
            correct: tally.correct,
            correct_normalised: tally.correct_normalised,
            subjects: tally.subjects.iter().map(subject).collect(),
            loss_nanonats: nanonats(-tally.log_likelihood),
            scores: hash_of_scores(scores),
        }
    }
}

impl TextResult {
    /// The loss on a text of so many bytes, by the scores of its windows.
    pub fn new(file: BlobId, bytes: u64, tokens: u64, scores: &[Score]) -> Self {
        let loss = scores.iter().fold(0.0, |sum, score| sum - score.log_likelihood);
        Self { file, bytes, tokens, loss_nanonats: nanonats(loss), scores: hash_of_scores(scores) }
    }
}

/// A loss as an integer of 1e-9 nats, rounded half away from zero. Losses of this crate are finite and not negative.
fn nanonats(loss: f64) -> u64 {
    (loss * 1e9).round() as u64
}

impl Evaluation {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let framed = FramedRef { body: self, kind: KIND, version: VERSION };
        serde_ipld_dagcbor::to_vec(&framed).expect("encoding into memory cannot fail")
    }

    /// The id: the hash of the canonical bytes.
    pub fn id(&self) -> Hash {
        Hash::of(&self.encode())
    }

    /// Reads canonical bytes and checks every rule.
    ///
    /// # Errors
    /// [`EvaluationError`]
    pub fn decode(bytes: &[u8]) -> Result<Self, EvaluationError> {
        if bytes.len() > MAX_PAYLOAD_BYTES {
            return Err(EvaluationError::Malformed(format!("{} bytes are too many", bytes.len())));
        }
        let framed: Framed =
            serde_ipld_dagcbor::from_slice(bytes).map_err(|error| EvaluationError::Malformed(said(&error)))?;
        if framed.kind != KIND || framed.version != VERSION {
            let found = format!("it is a {:?} of version {}", framed.kind, framed.version);
            return Err(EvaluationError::Malformed(found));
        }
        if framed.body.encode() != bytes {
            return Err(EvaluationError::NotCanonical);
        }
        framed.body.check().map_err(EvaluationError::Rule)?;
        Ok(framed.body)
    }

    fn check(&self) -> Result<(), String> {
        at_most("before", self.before.len(), MAX_ENTRIES)?;
        if self.positions == 0 {
            return Err("positions is zero".to_owned());
        }
        match &self.measured {
            Measured::Task(result) => result.check(),
            Measured::Text(result) if result.bytes > MAX_TEXT_BYTES => {
                Err(format!("a text of {} bytes, at most {MAX_TEXT_BYTES} are measured", result.bytes))
            }
            Measured::Text(_) => Ok(()),
        }
    }

    /// The signature of `key` under this document.
    pub fn sign(&self, key: &SecretKey) -> Witness {
        Witness { signer: key.public(), signature: key.sign(&signed_bytes(&self.id())) }
    }

    /// Checks a signature under this document.
    ///
    /// # Errors
    /// [`EvaluationError::Signature`]
    pub fn verify(&self, witness: &Witness) -> Result<(), EvaluationError> {
        Ok(witness.signer.verify(&signed_bytes(&self.id()), &witness.signature)?)
    }

    /// The name of the first part in which another document differs, with both values, or `None` where they are equal.
    pub fn first_difference(&self, other: &Self) -> Option<String> {
        let parts = |evaluation: &Self| match serde_json::to_value(evaluation) {
            Ok(serde_json::Value::Object(mut parts)) => {
                let inner = parts.remove("measured").and_then(|measured| measured.as_object().cloned());
                parts.into_iter().chain(inner.into_iter().flatten().flat_map(flattened)).collect()
            }
            _ => Vec::new(),
        };
        let (ours, theirs): (Vec<_>, Vec<_>) = (parts(self), parts(other));
        let differing = ours.iter().zip(&theirs).find(|(one, another)| one != another);
        match differing {
            Some(((name, one), (_, another))) => Some(format!("{name} is {one}, not {another}")),
            None => (self != other).then(|| "they measure different things".to_owned()),
        }
    }
}

/// Says in words what the CBOR decoder found, since its own messages are names of its types.
fn said<E: std::fmt::Debug>(error: &serde_ipld_dagcbor::DecodeError<E>) -> String {
    match error {
        serde_ipld_dagcbor::DecodeError::Msg(said) => said.clone(),
        serde_ipld_dagcbor::DecodeError::Eof { .. } => "it ends too early".to_owned(),
        _ => "it is not DAG-CBOR with these fields".to_owned(),
    }
}

/// The fields of what was measured, each by its own name.
fn flattened((name, value): (String, serde_json::Value)) -> Vec<(String, serde_json::Value)> {
    match value {
        serde_json::Value::Object(fields) => fields.into_iter().collect(),
        value => vec![(name, value)],
    }
}

impl TaskResult {
    fn check(&self) -> Result<(), String> {
        let task: Task = self.task.parse().map_err(|error: crate::UnknownTask| error.to_string())?;
        if self.task != task.name() || self.template != task.template() {
            return Err(format!("{:?} by {:?} is not known here", self.task, self.template));
        }
        at_most("files", self.files.len(), MAX_ENTRIES)?;
        at_most("example_files", self.example_files.len(), MAX_ENTRIES)?;
        at_most("subjects", self.subjects.len(), MAX_ENTRIES)?;
        if self.seed != SEED {
            return Err(format!("seed is {}, not {SEED}", self.seed));
        }
        if self.correct > self.questions || self.correct_normalised.is_some_and(|correct| correct > self.questions) {
            return Err("more questions are correct than there are".to_owned());
        }
        if self.correct_normalised.is_some() != task.has_normalised_score() {
            return Err("correct_normalised does not belong to the task, or is missing".to_owned());
        }
        if (self.shots > 0) == self.example_files.is_empty() {
            return Err("shots and example_files do not agree".to_owned());
        }
        self.check_subjects()
    }

    fn check_subjects(&self) -> Result<(), String> {
        if self.subjects.windows(2).any(|pair| pair[0].subject >= pair[1].subject) {
            return Err("subjects is not strictly ascending".to_owned());
        }
        let (mut questions, mut correct) = (0u64, 0u64);
        for subject in &self.subjects {
            at_most("a subject", subject.subject.len(), MAX_TEXT)?;
            if subject.correct > subject.questions {
                return Err("more questions are correct than there are".to_owned());
            }
            questions = questions.saturating_add(subject.questions);
            correct = correct.saturating_add(subject.correct);
        }
        if !self.subjects.is_empty() && (questions, correct) != (self.questions, self.correct) {
            return Err("the counts of the subjects do not add up".to_owned());
        }
        Ok(())
    }
}

fn at_most(what: &str, found: usize, most: usize) -> Result<(), String> {
    if found > most { Err(format!("{what} has {found}, at most {most} are allowed")) } else { Ok(()) }
}

/// The bytes that a signature covers: those of a manifest of this kind that belongs to no run.
fn signed_bytes(id: &Hash) -> Vec<u8> {
    let version = VERSION as u32;
    [b"templar/1\0", KIND.as_bytes(), b"\0", &version.to_le_bytes(), Hash::default().as_bytes(), id.as_bytes()].concat()
}
