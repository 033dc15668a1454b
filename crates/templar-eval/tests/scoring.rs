//! Scores of a small model: the same bits in every batch, after every interruption, and those of the logits.

use std::sync::Arc;

use serde_json::json;
use templar_data::{Tokenizer, bundled};
use templar_device::{Cpu, Device};
use templar_eval::{
    Ask, Benchmark, EncodeError, Encoder, Evaluation, EvaluationError, Measured, Request, Score, Scorer, Scoring,
    Source, Task, TaskResult, TextResult, model_root,
};
use templar_manifest::{Arithmetic, BlobId, Hash, ModelSpec, SecretKey};
use templar_model::generate::LanguageModel;
use templar_model::{Model, sizes};

const POSITIONS: u32 = 48;

struct Small {
    spec: ModelSpec,
    parameters: Vec<f32>,
    tokenizer: Tokenizer,
}

fn small() -> Small {
    let tokenizer = bundled::tokenizer().unwrap();
    let spec = ModelSpec { sequence_length: POSITIONS, ..sizes::preset("tiny", tokenizer.vocab_size()).unwrap() };
    let mut parameters = Model::new(&spec, Arc::new(Cpu::best())).unwrap().init(&[3; 32]);
    // First parameters are so small that all tokens are about as likely.
    parameters.iter_mut().for_each(|parameter| *parameter *= 4.0);
    Small { spec, parameters, tokenizer }
}

impl Small {
    fn scorer(&self) -> Scorer {
        Scorer::exact(&self.spec, &self.parameters, Arc::new(Cpu::best())).unwrap()
    }

    fn encoder(&self) -> Encoder<'_> {
        Encoder::new(&self.tokenizer, Vec::new(), self.tokenizer.end_token(), POSITIONS as usize)
    }

    fn root(&self) -> Hash {
        model_root(&self.spec, &self.parameters).unwrap()
    }
}

fn ask(context: &str, continuation: &str) -> Ask {
    Ask { context: context.to_owned(), continuation: continuation.to_owned() }
}

/// Questions of all lengths, some of which share contexts, and one that is longer than the model's context.
fn questions() -> Vec<Source> {
    let row = |number: usize| {
        json!({ "question": format!("{} {number}", "What is it? ".repeat(number % 9)), "answerKey": "B",
            "choices": { "text": ["a rose", "by any other name", "a"], "label": ["A", "B", "C"] } })
    };
    (0..30).map(|number| Source { item: Task::ArcEasy.item(&row(number)).unwrap(), fields: row(number) }).collect()
}

fn all(small: &Small, requests: &[Request]) -> Vec<Score> {
    let mut scoring = Scoring::new(small.root(), requests);
    let mut scorer = small.scorer();
    while !scoring.is_done() {
        scoring.step(&mut scorer).unwrap();
    }
    scoring.scores().unwrap()
}

#[test]
fn a_batch_gives_the_bits_of_one_by_one() {
    let small = small();
    let questions = questions();
    let benchmark = Benchmark::new(Task::ArcEasy, &questions, (2, &questions), &mut small.encoder()).unwrap();
    let together = all(&small, benchmark.requests());
    for (request, score) in benchmark.requests().iter().zip(&together) {
        assert!(request.tokens.len() <= POSITIONS as usize + 1);
        let alone = all(&small, std::slice::from_ref(request));
        assert_eq!(alone[0].log_likelihood.to_bits(), score.log_likelihood.to_bits());
        assert_eq!(alone[0].is_greedy, score.is_greedy);
    }
    // The sums are those of the model's own losses.
    let device = Arc::new(Cpu::best());
    let mut model = Model::new(&small.spec, device.clone()).unwrap();
    let parameters = device.upload(small.parameters.as_slice().into()).unwrap();
    let vocab = small.spec.vocab_size as usize;
    for (Request { tokens, scored }, score) in benchmark.requests().iter().zip(&together).take(9) {
        let logits = model.logits(&parameters, &tokens[..tokens.len() - 1]).unwrap();
        let mut loss = 0.0;
        for at in tokens.len() - scored..tokens.len() {
            let row = &logits[(at - 1) * vocab..at * vocab];
            loss += f64::from(templar_model::Likelihood::of(row, tokens[at]).nats);
        }
        assert_eq!((-loss).to_bits(), score.log_likelihood.to_bits());
    }
}

/// Questions of MMLU behind the same examples, which are computed once, and the same questions one by one.
#[test]
fn shared_examples_change_no_bit() {
    let small = small();
    let row = |number: usize| json!({ "subject": "a", "question": "What? ".repeat(number % 4), "choices": ["p", "q", "r", "s"], "answer": 1 });
    let rows: Vec<Source> =
        (0..9).map(|at| Source { item: Task::Mmlu.item(&row(at)).unwrap(), fields: row(at) }).collect();
    let benchmark = Benchmark::new(Task::Mmlu, &rows, (1, &rows[..1]), &mut wide(&small)).unwrap();
    let spec = ModelSpec { sequence_length: WIDE, ..small.spec.clone() };
    let small = Small { spec, ..small };
    for (request, score) in benchmark.requests().iter().zip(all(&small, benchmark.requests())) {
        assert!(request.tokens.len() <= WIDE as usize);
        assert_eq!(all(&small, std::slice::from_ref(request)), [score]);
    }
}

const WIDE: u32 = 200;

fn wide(small: &Small) -> Encoder<'_> {
    Encoder::new(&small.tokenizer, Vec::new(), small.tokenizer.end_token(), WIDE as usize)
}

#[test]
fn candle_comes_to_nearly_the_same() {
    let small = small();
    let questions = &questions()[..4];
    let benchmark = Benchmark::new(Task::ArcEasy, questions, (0, &[]), &mut small.encoder()).unwrap();
    let mut scorer = Scorer::candle(LanguageModel::new(&small.spec, &small.parameters).unwrap());
    assert!(!scorer.is_exact() && small.scorer().is_exact());
    let mut scoring = Scoring::new(Hash::default(), benchmark.requests());
    while !scoring.is_done() {
        scoring.step(&mut scorer).unwrap();
    }
    let theirs = scoring.scores().unwrap();
    for (ours, theirs) in all(&small, benchmark.requests()).iter().zip(theirs) {
        assert!((ours.log_likelihood - theirs.log_likelihood).abs() < 1e-3, "{ours:?} {theirs:?}");
    }
}

#[test]
fn work_goes_on_from_a_saved_state_and_from_no_other() {
    let small = small();
    let requests: Vec<Request> = (0..200u32)
        .map(|number| Request { tokens: (0..40).map(|at| (number * 7 + at * at) % 2000).collect(), scored: 3 })
        .collect();
    let expected = all(&small, &requests);
    let mut scorer = small.scorer();
    let mut first = Scoring::new(small.root(), &requests);
    first.step(&mut scorer).unwrap();
    first.step(&mut scorer).unwrap();
    let saved = first.save();
    let (total, done) = first.progress();
    assert!(0 < done && done < total);

    let mut resumed = Scoring::new(small.root(), &requests);
    assert!(resumed.resume(&saved));
    assert_eq!(resumed.progress(), (total, done));
    while !resumed.is_done() {
        resumed.step(&mut scorer).unwrap();
    }
    assert_eq!(resumed.scores().unwrap(), expected);

    let refuses = |saved: &[u8], root: Hash| {
        let mut scoring = Scoring::new(root, &requests);
        !scoring.resume(saved) && scoring.progress().1 == 0
    };
    assert!(refuses(&saved, Hash::of(b"another model")));
    for length in [0, 15, 16, 60, saved.len() - 1] {
        assert!(refuses(&saved[..length], small.root()), "{length}");
    }
    for at in (0..saved.len()).step_by(7) {
        let mut damaged = saved.clone();
        damaged[at] ^= 1;
        assert!(refuses(&damaged, small.root()), "byte {at}");
    }
    // A state with a right hash that claims more batches than there are.
    let mut forged = saved[..saved.len() - 32].to_vec();
    forged[48..56].copy_from_slice(&u64::MAX.to_le_bytes());
    let forged = [&forged[..], Hash::of(&forged).as_bytes()].concat();
    assert!(refuses(&forged, small.root()));
}

#[test]
fn texts_are_cut_where_the_context_alone_would_end() {
    let small = small();
    let mut encoder = small.encoder();
    let tokens = |text: &str| small.tokenizer.encode(text).unwrap();
    let request = encoder.ask(&ask("To be or", " not to be")).unwrap();
    assert_eq!(request.tokens, tokens("To be or not to be"));
    assert_eq!(request.scored, request.tokens.len() - tokens("To be or").len());
    // White space at the end of a context goes to the continuation.
    let moved = encoder.ask(&ask("To be or \n", " not")).unwrap();
    assert_eq!((moved.tokens.clone(), moved.scored), {
        let whole = tokens("To be or \n not");
        let scored = whole.len() - tokens("To be or").len();
        (whole, scored)
    });
    // Nothing before a text: it follows the end token, as a document does.
    let alone = encoder.ask(&ask(" ", "To be")).unwrap();
    assert_eq!(alone.tokens, [vec![small.tokenizer.end_token()], tokens(" To be")].concat());
    assert_eq!(alone.scored + 1, alone.tokens.len());
    // Too long a context is cut at its front; too long a continuation is refused.
    assert_eq!(encoder.shortened(), 0);
    let long = encoder.ask(&ask(&"word ".repeat(200), "end")).unwrap();
    assert_eq!(encoder.shortened(), 1);
    assert_eq!(long.tokens.len(), POSITIONS as usize + 1);
    let whole = tokens(&format!("{}end", "word ".repeat(200)));
    assert!(whole.ends_with(&long.tokens));
    let error = encoder.ask(&ask("a", &" word".repeat(200))).unwrap_err();
    assert!(matches!(error, EncodeError::TooLong { positions: 48, .. }), "{error}");
    assert!(matches!(encoder.ask(&ask("a", "")).unwrap_err(), EncodeError::NoToken(_)));
    // A start token stands before the context and changes no boundary.
    let mut started = Encoder::new(&small.tokenizer, vec![7], 7, POSITIONS as usize);
    let request = started.ask(&ask("To be or", " not to be")).unwrap();
    assert_eq!(request.tokens, [vec![7], tokens("To be or not to be")].concat());
}

#[test]
fn each_token_of_a_text_is_scored_once() {
    let small = small();
    let encoder = small.encoder();
    let text = "Shall I compare thee to a summer's day? ".repeat(30);
    let tokens = small.tokenizer.encode(&text).unwrap();
    let requests = encoder.text(&text).unwrap();
    let scored: Vec<u32> =
        requests.iter().flat_map(|request| request.tokens[request.tokens.len() - request.scored..].to_vec()).collect();
    assert_eq!(scored, tokens);
    assert_eq!(requests[0].tokens[0], small.tokenizer.end_token());
    // All windows but those of a short text are full, the last one too.
    assert!(requests.len() > 2 && requests.iter().all(|request| request.tokens.len() == POSITIONS as usize + 1));
    let short = encoder.text("day").unwrap();
    assert_eq!((short.len(), short[0].scored + 1), (1, short[0].tokens.len()));
    assert_eq!(encoder.text("").unwrap(), []);
}

fn evaluation(small: &Small) -> Evaluation {
    let questions = questions();
    let benchmark = Benchmark::new(Task::ArcEasy, &questions, (0, &[]), &mut small.encoder()).unwrap();
    let scores = all(small, benchmark.requests());
    let tally = benchmark.tally(&benchmark.outcomes(&scores));
    assert_eq!(tally.questions, 30);
    Evaluation {
        arithmetic: Arithmetic::F32,
        model: small.root(),
        checkpoint: None,
        tokenizer: small.tokenizer.id(),
        positions: POSITIONS,
        before: Vec::new(),
        alone: small.tokenizer.end_token(),
        measured: Measured::Task(TaskResult {
            files: vec![BlobId::of(b"questions")],
            ..TaskResult::new(Task::ArcEasy, 0, None, &tally, &scores)
        }),
    }
}

/// Everything that the document depends on is the same on every machine, so its hash is frozen. A change of prompts,
/// arithmetic or format shows here.
#[test]
fn the_document_of_a_small_model_is_frozen() {
    let evaluation = evaluation(&small());
    assert_eq!(evaluation.id().to_string(), FROZEN);
}

#[test]
fn a_document_is_read_strictly() {
    let evaluation = evaluation(&small());
    let bytes = evaluation.encode();
    assert_eq!(Evaluation::decode(&bytes), Ok(evaluation.clone()));
    for length in 0..bytes.len() {
        assert!(Evaluation::decode(&bytes[..length]).is_err());
    }
    assert!(Evaluation::decode(&[&bytes[..], &[0]].concat()).is_err());
    let broken = |change: &dyn Fn(&mut TaskResult)| {
        let mut other = evaluation.clone();
        let Measured::Task(result) = &mut other.measured else { unreachable!() };
        change(result);
        Evaluation::decode(&other.encode()).unwrap_err().to_string()
    };
    let rule = |said: &str| format!("the evaluation breaks a rule: {said}");
    assert_eq!(broken(&|result| result.correct = 31), rule("more questions are correct than there are"));
    assert_eq!(broken(&|result| result.seed = 5), rule("seed is 5, not 1234"));
    assert_eq!(broken(&|result| result.shots = 5), rule("shots and example_files do not agree"));
    assert!(broken(&|result| result.template = "x".into()).contains("is not known here"));
    assert!(broken(&|result| result.correct_normalised = None).contains("correct_normalised"));
    let (bytes, tokens) = (1 << 40, 5);
    let text = TextResult { file: BlobId::default(), bytes, tokens, loss_nanonats: 0, scores: Hash::default() };
    let text = Evaluation { measured: Measured::Text(text), ..evaluation };
    let said = "a text of 1099511627776 bytes, at most 268435456 are measured";
    assert_eq!(Evaluation::decode(&text.encode()).unwrap_err().to_string(), rule(said));
}

#[test]
fn a_signature_is_of_one_document() {
    let one = evaluation(&small());
    let other = Evaluation { alone: 1, ..one.clone() };
    let witness = one.sign(&SecretKey::from_bytes(&[9; 32]));
    assert_eq!(one.verify(&witness), Ok(()));
    assert!(matches!(other.verify(&witness), Err(EvaluationError::Signature(_))));
    assert_eq!(one.first_difference(&one.clone()), None);
    let alone = one.alone;
    assert_eq!(one.first_difference(&other), Some(format!("alone is {alone}, not 1")));
    let mut wrong = one.clone();
    let Measured::Task(result) = &mut wrong.measured else { unreachable!() };
    result.correct = 29;
    assert!(one.first_difference(&wrong).unwrap().starts_with("correct is "));
}

#[test]
fn a_root_is_of_the_tensors_and_the_whole_context() {
    let Small { spec, mut parameters, .. } = small();
    let root = model_root(&spec, &parameters).unwrap();
    let short = ModelSpec { sequence_length: 16, position_limit: Some(POSITIONS), ..spec.clone() };
    assert_eq!(model_root(&short, &parameters), Ok(root), "trained on shorter sequences");
    assert_ne!(model_root(&ModelSpec { rope_theta: 5, ..spec.clone() }, &parameters), Ok(root));
    parameters[0] += 1.0;
    assert_ne!(model_root(&spec, &parameters), Ok(root));
}

const FROZEN: &str = "3b13a679a57f258cef0e4e3c153bcc39493ccfd664c51e940a39ce8b2e0a3fa2";
