//! Texts are the same alone and among others, kept or not, and as one generation gives them.

use std::sync::Arc;

use proptest::prelude::*;
use templar_device::Cpu;
use templar_model::Model;
use templar_model::generate::{LanguageModel, Request, Sampler, Sampling};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::job::{Asker, Event, Finish, Job, Wanted};
use super::scheduler::{Batching, Scheduler};
use crate::served::Served;
use crate::testing::{foreign, letters, parameters, served, spec};

fn sampling(seed: u8) -> Sampling {
    match seed {
        0 => Sampling::Greedy,
        _ => Sampling::Draw { temperature: 1.5, top_p: 0.9, seed: [seed; 32] },
    }
}

/// A question of a test.
#[derive(Debug, Clone)]
struct Asked {
    prompt: Vec<u32>,
    texts: u8,
    seed: u8,
    wanted: Wanted,
}

impl Asked {
    fn job(&self, model: &Arc<Served>) -> (Job, UnboundedReceiver<Event>) {
        let (events, receiver) = unbounded_channel();
        let texts = (0..self.texts).map(|text| (text.into(), Sampler::new(sampling(self.seed + text)).unwrap()));
        let (model, prompt, wanted) = (model.clone(), self.prompt.clone(), self.wanted.clone());
        let asker = Asker::default();
        (Job { asker, model, prompt, wanted, texts: texts.collect(), events, places: None }, receiver)
    }
}

/// Everything that was told of a job, text by text: between texts there is no order.
fn told(receiver: &mut UnboundedReceiver<Event>, texts: u8) -> Vec<Vec<Event>> {
    let mut told = vec![Vec::new(); usize::from(texts)];
    while let Ok(event) = receiver.try_recv() {
        let (Event::Prompt { text, .. } | Event::Token { text, .. } | Event::End { text, .. }) = &event else {
            panic!("{event:?}");
        };
        told[*text].push(event);
    }
    told
}

/// Computes jobs to their end.
pub(crate) fn answered(jobs: Vec<Job>) {
    let mut scheduler = scheduler(Batching::default());
    jobs.into_iter().for_each(|job| scheduler.submit(job));
    while !scheduler.is_idle() {
        scheduler.step();
    }
}

fn scheduler(batching: Batching) -> Scheduler {
    Scheduler::new(batching, Arc::default())
}

/// The answers to questions that are asked together, each some steps after the one before.
fn answers(model: &Arc<Served>, asked: &[(Asked, usize)], batching: Batching) -> Vec<Vec<Vec<Event>>> {
    let mut scheduler = scheduler(batching);
    let mut receivers = Vec::new();
    for (asked, steps) in asked {
        let (job, receiver) = asked.job(model);
        scheduler.submit(job);
        receivers.push(receiver);
        (0..*steps).for_each(|_| scheduler.step());
    }
    while !scheduler.is_idle() {
        scheduler.step();
    }
    receivers.iter_mut().zip(asked).map(|(receiver, (asked, _))| told(receiver, asked.texts)).collect()
}

fn alone(model: &Arc<Served>, asked: &Asked) -> Vec<Vec<Event>> {
    answers(model, &[(asked.clone(), 0)], Batching::default()).remove(0)
}

prop_compose! {
    /// A question about one of three beginnings, so that keys and values are kept and found.
    fn asked()(
        beginning in 1u32..4, shared in 0usize..60, own in prop::collection::vec(1u32..27, 1..20), texts in 1u8..4,
        seed in 0u8..4, max_tokens in 0usize..24, stop in prop::collection::vec("[a-z]{1,2}", 0..2),
        logprobs in prop::option::of(0usize..3), scores in any::<bool>(),
    ) -> Asked {
        let prompt: Vec<u32> = (0..shared as u32).map(|i| (i * 7 * beginning) % 26 + 1).chain(own).collect();
        let score_prompt_from = (scores && logprobs.is_some()).then_some(0);
        Asked { prompt, texts, seed, wanted: Wanted { max_tokens, stop, is_chat: false, logprobs, score_prompt_from } }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn nobody_changes_the_answer_of_another(
        asked in prop::collection::vec((asked(), 0usize..4), 1..6), texts in 1usize..9, rows in 64usize..90,
    ) {
        let model = Arc::new(served(1));
        let batching = Batching { texts, rows, kept_tokens: 300 };
        let together = answers(&model, &asked, batching);
        // The same once more, with everything kept that was computed the first time.
        let twice = answers(&model, &[&asked[..], &asked[..]].concat(), batching).split_off(asked.len());
        for (((asked, _), together), again) in asked.iter().zip(together).zip(twice) {
            let alone = alone(&model, asked);
            prop_assert_eq!(&together, &alone, "{:?}", asked);
            prop_assert_eq!(&again, &alone, "kept: {:?}", asked);
        }
    }
}

/// The tokens of a text, by the names of the letters.
fn text(told: &[Event]) -> (String, Option<Finish>) {
    let (mut text, mut end) = (String::new(), None);
    for event in told {
        match event {
            Event::Token { added, .. } => text.push_str(added),
            Event::End { added, finish, .. } => {
                text.push_str(added);
                end = Some(*finish);
            }
            _ => {}
        }
    }
    (text, end)
}

#[test]
fn texts_are_those_of_one_generation() {
    let served = Arc::new(served(1));
    let mut model = LanguageModel::on(Arc::new(Cpu::best()), &spec(), &parameters(1)).unwrap();
    let is_token: Vec<bool> = (0..30).map(|id| id < 27).collect();
    let mut ended = 0;
    for (seed, length) in (0..6u8).zip([1, 5, 30, 64, 90, 95]) {
        let prompt: Vec<u32> = (0..length).map(|i| (i * 5 + u32::from(seed)) % 26 + 1).collect();
        let request =
            Request { prompt: &prompt, max_tokens: 40, sampling: sampling(seed), ends: &[0], is_token: &is_token };
        let tokens = model.generate(request).unwrap().collect::<Result<Vec<u32>, _>>().unwrap();
        let wanted = Wanted { max_tokens: 40, ..Wanted::default() };
        let (found, finish) = text(&alone(&served, &Asked { prompt, texts: 1, seed, wanted })[0]);
        assert_eq!(found, letters().decode(&tokens).unwrap());
        assert_eq!(finish == Some(Finish::Stop), tokens.len() < 40.min(97 - length as usize));
        ended += usize::from(finish == Some(Finish::Stop));
    }
    assert!(ended > 0, "no text had an end of its own");
}

#[test]
fn scores_are_the_losses_of_training() {
    let served = Arc::new(served(1));
    let device: Arc<dyn templar_device::Device> = Arc::new(Cpu::best());
    let mut model = Model::new(&spec(), device.clone()).unwrap();
    let parameters = device.upload(parameters(1).into()).unwrap();
    // 97 tokens: the last is scored, and no place is left to go on.
    let prompt: Vec<u32> = (0..97).map(|i| i * 11 % 26 + 1).collect();
    let wanted = Wanted { logprobs: Some(1), score_prompt_from: Some(0), ..Wanted::default() };
    let told = alone(&served, &Asked { prompt: prompt.clone(), texts: 1, seed: 0, wanted });
    let Event::Prompt { scores, .. } = &told[0][0] else { panic!("{told:?}") };
    assert_eq!(scores.len(), 96);
    let losses: f64 = scores.iter().map(|score| -f64::from(score.logprob)).sum();
    assert_eq!(losses.to_bits(), model.loss(&parameters, &prompt).unwrap().to_bits());
}

#[test]
fn a_relative_answers_one_text_after_another() {
    let model = Arc::new(foreign(2));
    let wanted = Wanted { max_tokens: 6, logprobs: Some(1), score_prompt_from: Some(0), ..Wanted::default() };
    let one = Asked { prompt: vec![3, 1, 4, 1, 5], texts: 2, seed: 0, wanted: wanted.clone() };
    let other =
        Asked { prompt: vec![9, 2, 6], texts: 1, seed: 1, wanted: Wanted { score_prompt_from: None, ..wanted } };
    let together = answers(&model, &[(one.clone(), 2), (other.clone(), 0)], Batching::default());
    assert_eq!(together, [alone(&model, &one), alone(&model, &other)]);
    let scored = together[0].iter().map(|told| matches!(told[0], Event::Prompt { .. }));
    assert_eq!(scored.collect::<Vec<_>>(), [true, false]);
}

#[test]
fn what_nobody_waits_for_is_not_computed() {
    let model = Arc::new(served(1));
    let mut scheduler = scheduler(Batching { texts: 1, ..Batching::default() });
    let wanted = Wanted { max_tokens: 90, ..Wanted::default() };
    let asked = Asked { prompt: vec![1], texts: 1, seed: 0, wanted };
    let (job, mut first) = asked.job(&model);
    scheduler.submit(job);
    let (job, second) = asked.job(&model);
    scheduler.submit(job);
    scheduler.step();
    assert!(first.try_recv().is_ok());
    drop((first, second));
    scheduler.step();
    assert!(scheduler.is_idle());
}

/// The steps until a short question is answered that comes after others.
fn steps_until_answered(model: &Arc<Served>, others: Vec<Job>, batching: Batching) -> usize {
    let mut scheduler = scheduler(batching);
    others.into_iter().for_each(|job| scheduler.submit(job));
    scheduler.step();
    let wanted = Wanted { max_tokens: 2, ..Wanted::default() };
    let (job, mut receiver) = Asked { prompt: vec![5, 6, 7], texts: 1, seed: 0, wanted }.job(model);
    scheduler.submit(job);
    for steps in 1.. {
        scheduler.step();
        while let Ok(event) = receiver.try_recv() {
            if let Event::End { .. } = event {
                return steps;
            }
        }
    }
    unreachable!("the loop has no end")
}

#[test]
fn a_short_question_is_answered_soon_whatever_else_is_asked() {
    let model = Arc::new(served(1));
    let long: Vec<u32> = (0..90).map(|i| i * 7 % 26 + 1).collect();
    // The receivers stay, so that somebody waits for the answers.
    let mut receivers = Vec::new();
    let mut ask = |prompt: &[u32], texts, max_tokens, asker: &Asker| {
        let wanted = Wanted { max_tokens, ..Wanted::default() };
        let (job, receiver) = Asked { prompt: prompt.to_vec(), texts, seed: 1, wanted }.job(&model);
        receivers.push(receiver);
        Job { asker: asker.clone(), ..job }
    };
    let one = Asker::default();
    let small = Batching { texts: 4, rows: 64, ..Batching::default() };
    // Nothing else is asked: two tokens take two steps.
    assert_eq!(steps_until_answered(&model, Vec::new(), small), 2);
    let prompts: Vec<Job> = (0..32).map(|_| ask(&[1, 2, 3], 1, 60, &one)).collect();
    assert_eq!(steps_until_answered(&model, prompts, small), 2, "one request of many prompts");
    let texts = vec![ask(&[1, 2, 3], 32, 60, &one)];
    assert_eq!(steps_until_answered(&model, texts, small), 2, "one request of many texts");
    // The prompts of the others take turns with it for the 64 rows of a step.
    let prompts: Vec<Job> = (0..32).map(|_| ask(&long, 1, 4, &one)).collect();
    assert!(steps_until_answered(&model, prompts, small) <= 4, "long prompts");
}

#[test]
fn a_free_place_goes_to_who_holds_the_fewest() {
    let model = Arc::new(served(1));
    let mut scheduler = scheduler(Batching { texts: 8, ..Batching::default() });
    let askers = [Asker::default(), Asker::default(), Asker::default()];
    let mut receivers = Vec::new();
    for asker in askers.iter().flat_map(|asker| std::iter::repeat_n(asker, 20)) {
        let wanted = Wanted { max_tokens: 90, ..Wanted::default() };
        let (job, receiver) = Asked { prompt: vec![1, 2], texts: 1, seed: 1, wanted }.job(&model);
        receivers.push(receiver);
        scheduler.submit(Job { asker: asker.clone(), ..job });
    }
    scheduler.step();
    let held = |scheduler: &Scheduler| askers.each_ref().map(|asker| scheduler.held(asker));
    assert_eq!(held(&scheduler), [3, 3, 2]);
    // Alone, an asker has all places but one.
    drop(receivers.split_off(20));
    (0..3).for_each(|_| scheduler.step());
    assert_eq!(held(&scheduler), [7, 0, 0]);
}
