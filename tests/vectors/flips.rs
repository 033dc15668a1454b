//! Every integer of the example's scores and record is changed by one bit. The rules refuse the change, or an
//! audit finds it.
//!
//! The liar is a validator that all others agree with: it signs the changed score and the record that follows
//! from it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use templar_audit::{AuditInputs, AuditTask, States, audit_window};
use templar_manifest::*;
use templar_protocol::{ClosedWindow, Stepped};
use templar_train::Recipe;

use super::example;
use super::window::{key, validators};

/// The pointers to all numbers of a value.
fn numbers(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| numbers(value, &format!("{at}/{name}"), found)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| numbers(value, &format!("{at}/{index}"), found));
        }
        Value::Number(_) => found.push(at.to_owned()),
        _ => {}
    }
}

/// One copy of the payload for each of its integers, with the lowest bit of that integer changed, and its
/// place.
fn flipped<T: Serialize + DeserializeOwned>(payload: &T) -> Vec<(String, T)> {
    let value = serde_json::to_value(payload).unwrap();
    let mut places = Vec::new();
    numbers(&value, "", &mut places);
    places
        .into_iter()
        .map(|place| {
            let mut changed = value.clone();
            let number = changed.pointer_mut(&place).unwrap();
            *number = (number.as_u64().unwrap() ^ 1).into();
            (place, serde_json::from_value(changed).unwrap())
        })
        .collect()
}

/// The result of an audit of the changed window.
fn audited(closed: &ClosedWindow) -> AuditVerdict {
    let example = example();
    let genesis = &example.genesis;
    let recipe = Recipe::new(genesis.id().into(), genesis.payload().clone()).unwrap();
    let inputs = AuditInputs::new(&recipe, example.dataset.payload(), &example.blobs).unwrap();
    let parameters = recipe.initial_parameters(&example.blobs).unwrap();
    let auditor = key("auditor").public();
    let mut states = States::default();
    let task = AuditTask { before: &example.before, parameters: &parameters, closed, auditor };
    audit_window(&inputs, &task, &mut states, &mut |_| {}).verdict().clone()
}

fn assert_found(what: &str, closed: &ClosedWindow) {
    let verdict = audited(closed);
    assert!(matches!(verdict, AuditVerdict::Mismatch { .. }), "{what}: {verdict:?}");
}

#[test]
fn any_single_changed_integer_of_a_score_is_found() {
    let example = example();
    assert_eq!(audited(&example.closed), AuditVerdict::Match);
    let judging = example.before.judging_of(&example.closed).unwrap();
    let mut by_audit = 0;
    for (index, key) in validators().iter().enumerate() {
        for (place, score) in flipped(example.closed.scores[index].payload()) {
            let sound = payload::decode::<Score>(&payload::encode(&score)).is_ok();
            if !sound || example.before.check_score(&judging, &score).is_err() {
                continue;
            }
            let mut closed = example.closed.clone();
            closed.scores[index] = Signed::sign(score, key);
            let scores: Vec<&Score> = closed.scores.iter().map(Signed::payload).collect();
            let record = example.before.close(&judging, &scores, Stepped::of(&closed.window)).unwrap();
            closed.record = record.id();
            closed.window = record;
            example.before.clone().advance(&closed).unwrap();
            assert_found(&format!("score {index}, {place}"), &closed);
            by_audit += 1;
        }
    }
    // Losses that keep their order change no rank, so only an audit of tensors notices them.
    assert!(by_audit > 4, "{by_audit}");
}

#[test]
fn any_single_changed_integer_of_a_record_is_found() {
    let example = example();
    let mut by_audit = Vec::new();
    for (place, body) in flipped(&example.closed.window.body) {
        let mut closed = example.closed.clone();
        closed.window.header.body_root = payload::id_of(&body).into();
        closed.window.body = body;
        closed.record = closed.window.id();
        if example.before.clone().advance(&closed).is_ok() {
            assert_found(&place, &closed);
            by_audit.push(place);
        }
    }
    assert_eq!(by_audit, ["/aggregate_bytes", "/held_out_loss_nanonats"]);
}
