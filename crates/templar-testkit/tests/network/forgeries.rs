//! Ways to lie about a window that is closed, by everybody who could together, and that an audit finds each.

use std::collections::BTreeSet;
use std::sync::Mutex;

use bytes::Bytes;
use templar_audit::{AuditInputs, AuditTask, InputError, States, WindowAudit, audit_window};
use templar_blob::{BlobSource, ReadError};
use templar_home::context::RunContext;
use templar_manifest::proof::witness;
use templar_manifest::{
    Admission, Admitted, AuditVerdict, Challenge, Contribution, Evaluation, Hash, Measurement, Refusal, Replay,
    ReplayProof, Score, SecretKey, Signed, Slash, SlashCause, Verdict, WindowBody, WindowHeader, WindowIndex, payload,
};
use templar_protocol::ClosedWindow;

/// Audits closed windows from the first, as far as each leads to the next.
pub(crate) fn audit(
    context: &RunContext,
    closed: &[ClosedWindow],
    blobs: &dyn BlobSource,
) -> Result<Vec<WindowAudit>, InputError> {
    let inputs = AuditInputs::new(&context.recipe, &context.dataset, blobs).unwrap();
    let mut state = context.first_state().unwrap();
    let mut parameters = inputs.initial_parameters()?;
    let mut states = States::default();
    let mut audits = Vec::new();
    for closed in closed {
        let auditor = SecretKey::from_bytes(&[1; 32]).public();
        let task = AuditTask { before: &state, parameters: &parameters, closed, auditor };
        let found = audit_window(&inputs, &task, &mut states, &mut |_| {});
        let next = found.after.clone().zip(found.parameters.clone());
        audits.push(found);
        let Some(next) = next else { break };
        (state, parameters) = next;
    }
    Ok(audits)
}

/// Blobs of which one has rotted; remembers what was read.
struct Rotten<'a> {
    blobs: &'a dyn BlobSource,
    rotten: Option<Hash>,
    read: Mutex<BTreeSet<Hash>>,
}

impl BlobSource for Rotten<'_> {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        let bytes = self.blobs.read(id, max_bytes)?;
        self.read.lock().unwrap().insert(*id);
        if self.rotten == Some(*id) {
            // Every source gives this error for bytes that do not hash to their name.
            return Err(ReadError::Corrupt { id: *id, reason: "one bit is another".to_owned() });
        }
        Ok(bytes)
    }

    fn contains(&self, id: &Hash) -> bool {
        self.blobs.contains(id)
    }
}

/// Every blob that the audit reads, and every one that its records name and that is here, rotten in turn. The audit
/// notices each, and accuses nobody of it.
pub(crate) fn one_changed_blob(context: &RunContext, closed: &[ClosedWindow], blobs: &dyn BlobSource) {
    let healthy = Rotten { blobs, rotten: None, read: Mutex::default() };
    assert!(audit(context, closed, &healthy).unwrap().iter().all(|found| *found.verdict() == AuditVerdict::Match));
    let read = healthy.read.into_inner().unwrap();
    for named in closed.iter().flat_map(|closed| &closed.contributions).map(Signed::payload) {
        assert!(read.contains(&named.delta.hash()) && read.contains(&named.trace.hash()));
    }
    for closed in closed {
        assert!(read.contains(&closed.window.header.checkpoint.hash()));
    }
    assert!(read.len() > 30, "{}", read.len());
    for id in read {
        let rotten = Rotten { blobs, rotten: Some(id), read: Mutex::default() };
        match audit(context, closed, &rotten) {
            Ok(found) => {
                let verdicts: Vec<_> = found.iter().map(WindowAudit::verdict).collect();
                let is_accused = verdicts.iter().any(|verdict| matches!(verdict, AuditVerdict::Mismatch { .. }));
                assert!(!is_accused, "blob {id} has rotted here: {verdicts:?}");
                let is_noticed = |verdict: &&AuditVerdict| matches!(verdict, AuditVerdict::Unavailable { what } if what.starts_with("damaged here: "));
                assert!(verdicts.into_iter().any(|verdict| is_noticed(&verdict)), "blob {id} has rotted unnoticed");
            }
            // A tensor that the run starts from.
            Err(error) => assert!(matches!(error, InputError::Damaged { blob, .. } if blob == id), "{error}"),
        }
    }
}

/// The key of a validator of the test.
fn signing_key(named: &templar_manifest::PublicKey) -> SecretKey {
    let names = ["validator-1", "validator-2", "miner-1", "miner-2", "miner-3"];
    names.into_iter().map(super::key).find(|key| key.public() == *named).expect("a key of the test")
}

/// Puts a changed score into a window, signed by its validator and named by the record.
fn with_score(closed: &ClosedWindow, change: impl Fn(&mut Score)) -> ClosedWindow {
    let mut forged = closed.clone();
    let mut score = forged.scores[0].payload().clone();
    change(&mut score);
    forged.scores[0] = Signed::sign(score.clone(), &signing_key(&score.validator));
    forged.window.body.scores[0] = forged.scores[0].id().into();
    named(forged)
}

fn with_record(closed: &ClosedWindow, change: impl Fn(&mut WindowBody)) -> ClosedWindow {
    let mut forged = closed.clone();
    change(&mut forged.window.body);
    named(forged)
}

fn with_header(closed: &ClosedWindow, change: impl Fn(&mut WindowHeader)) -> ClosedWindow {
    let mut forged = named(closed.clone());
    change(&mut forged.window.header);
    forged.record = forged.window.id();
    forged
}

fn with_contribution(closed: &ClosedWindow, index: usize, change: impl Fn(&mut Contribution)) -> ClosedWindow {
    let mut forged = closed.clone();
    let mut contribution = forged.contributions[index].payload().clone();
    change(&mut contribution);
    forged.contributions[index] = Signed::sign(contribution.clone(), &signing_key(&contribution.miner));
    named(forged)
}

/// The header of the body and the record's id as its signers would give them.
fn named(mut closed: ClosedWindow) -> ClosedWindow {
    closed.window.header.body_root = payload::id_of(&closed.window.body).into();
    closed.record = closed.window.id();
    closed
}

/// A slot for a key that has not asked.
fn invented() -> Admission {
    let verdict = Admitted::Joined { slot: 3, replaced: None };
    Admission { owner: super::key("friend").public(), registration: Hash::of(b"nothing").into(), verdict }
}

/// Changes a measurement, or denies one where the validator was not drawn to give it.
fn misstate(evaluation: &mut Evaluation, change: impl FnOnce(&mut Measurement)) {
    match evaluation {
        Evaluation::Measured(measured) => change(measured),
        Evaluation::NotDrawn => *evaluation = Evaluation::Untried,
        Evaluation::Untried => *evaluation = Evaluation::NotDrawn,
    }
}

/// Numbers of the first window, changed one at a time and signed again by those whose they are.
pub(crate) fn one_changed_number(context: &RunContext, closed: &[ClosedWindow], blobs: &dyn BlobSource) {
    let first = &closed[0];
    let refused = first.window.body.outcomes.iter().position(|outcome| matches!(outcome.verdict, Verdict::Refused(_)));
    let refused = refused.expect("the cheat is refused");
    let honest = (refused + 1) % first.contributions.len();
    let other_delta = first.contributions[(refused + 2) % first.contributions.len()].payload().clone();
    let forgeries = [
        (
            "a loss",
            with_score(first, |score| {
                misstate(&mut score.entries[honest].evaluation, |said| said.losses.assigned_after_nanonats += 1)
            }),
        ),
        (
            "a loss before",
            with_score(first, |score| {
                misstate(&mut score.entries[honest].evaluation, |said| said.losses.unassigned_before_nanonats += 1)
            }),
        ),
        ("a likeness", with_score(first, |score| score.entries[honest].overlap_ppm ^= 1)),
        ("a claim", with_score(first, |score| lie(&mut score.entries[honest].proof))),
        ("a witness", with_score(first, |score| contradict(&mut score.entries[honest].proof))),
        ("a strike", with_record(first, |record| record.slashes.clear())),
        ("a slash", with_record(first, |record| record.slashes[0].amount_micros += 1)),
        ("another's slash", with_record(first, |record| record.slashes[0].account = record.outcomes[honest].miner)),
        ("a body", with_score(first, |score| score.entries[honest].body = Some(Hash::of(b"another")))),
        ("a seed", with_score(first, |score| score.seed = Hash::of(b"another"))),
        (
            "a proof of losses",
            with_score(first, |score| {
                misstate(&mut score.entries[honest].evaluation, |said| said.claim = Hash::of(b"another"))
            }),
        ),
        ("a checkpoint", with_header(first, |header| header.checkpoint = Hash::of(b"another").into())),
        ("an aggregate", with_record(first, |record| record.aggregate = Hash::of(b"another").into())),
        ("an aggregate's length", with_record(first, |record| record.aggregate_bytes += 1)),
        ("a held-out loss", with_record(first, |record| record.held_out_loss_nanonats -= 1)),
        ("a state", with_header(first, |header| header.state_root = Hash::of(b"another"))),
        ("validators", with_header(first, |header| header.validators_root = Hash::of(b"another"))),
        ("another body", with_header(first, |header| header.body_root = Hash::of(b"another").into())),
        ("a newcomer that paid nothing", with_record(first, |record| record.admissions.push(invented()))),
        ("a mint", with_record(first, |record| record.mints[0].amount_micros += 1)),
        ("a pardon", with_record(first, |record| record.outcomes[refused].verdict = Verdict::Aggregated)),
        ("a reserve", with_record(first, |record| record.outcomes[honest].verdict = Verdict::Reserve)),
        ("a reveal", with_record(first, |record| record.reveals[0].value = Hash::of(b"another"))),
        ("a swapped delta", with_contribution(first, honest, |claimed| claimed.delta = other_delta.delta)),
        ("a training loss", with_contribution(first, honest, |claimed| claimed.loss_nanonats -= 1)),
        ("a miner's state", with_contribution(first, honest, |claimed| claimed.state_out = other_delta.state_out)),
    ];
    for (name, forged) in forgeries {
        assert_ne!(forged, *first, "{name} was not changed");
        let found = audit(context, std::slice::from_ref(&forged), blobs).unwrap();
        let verdict = found[0].verdict();
        assert!(matches!(verdict, AuditVerdict::Mismatch { .. }), "{name}: {verdict:?}");
    }
}

/// Challenges of the records, and slashed pay for those that nobody answered, changed one at a time. The audit
/// names the part of the record that was changed.
pub(crate) fn one_changed_challenge(context: &RunContext, closed: &[ClosedWindow], blobs: &dyn BlobSource) {
    let position =
        |found: &dyn Fn(&WindowBody) -> bool| closed.iter().position(|closed| found(&closed.window.body)).unwrap();
    let listing = position(&|record| !record.challenges.is_empty());
    let is_unanswered = |slash: &Slash| slash.cause == SlashCause::Unanswered;
    let slashing = position(&|record| record.slashes.iter().any(is_unanswered));
    let place = closed[slashing].window.body.slashes.iter().position(is_unanswered).unwrap();
    let (listed, said) = (&closed[listing], closed[listing].window.body.challenges[0]);
    let other = super::key("friend").public();
    let (challenges, slashes) = ("challenges", "burns");
    let forgeries = [
        (
            "a challenge that is left out",
            listing,
            challenges,
            with_record(listed, |record| _ = record.challenges.remove(0)),
        ),
        ("another miner", listing, challenges, with_record(listed, |record| record.challenges[0].miner = other)),
        ("another window", listing, challenges, with_record(listed, |record| record.challenges[0].window.0 -= 1)),
        ("another time", listing, challenges, with_record(listed, |record| record.challenges[0].since.0 -= 1)),
        (
            "another contribution",
            listing,
            challenges,
            with_record(listed, |record| record.challenges[0].contribution = Hash::of(b"another").into()),
        ),
        (
            "a second challenge",
            listing,
            challenges,
            with_record(listed, |record| {
                let second = Challenge { window: WindowIndex(said.window.0 + 1), ..said };
                record.challenges.push(second);
            }),
        ),
        (
            "a challenge that nobody opened",
            0,
            challenges,
            with_record(&closed[0], |record| record.challenges.push(said)),
        ),
        (
            "a challenge that stays open",
            slashing,
            challenges,
            with_record(&closed[slashing], |record| record.challenges.insert(0, said)),
        ),
        (
            "a word of which nothing follows",
            listing,
            challenges,
            with_score(listed, |score| score.verdicts.retain(|verdict| !verdict.is_challenge())),
        ),
        ("no slash", slashing, slashes, with_record(&closed[slashing], |record| _ = record.slashes.remove(place))),
        (
            "a slash for something else",
            slashing,
            slashes,
            with_record(&closed[slashing], |record| record.slashes[place].cause = SlashCause::Mismatch),
        ),
        (
            "a slash for another window",
            slashing,
            slashes,
            with_record(&closed[slashing], |record| record.slashes[place].window.0 -= 1),
        ),
        (
            "a slash of another amount",
            slashing,
            slashes,
            with_record(&closed[slashing], |record| record.slashes[place].amount_micros ^= 1),
        ),
        (
            "a slash before its time",
            listing,
            slashes,
            with_record(listed, |record| record.slashes.push(closed[slashing].window.body.slashes[place])),
        ),
    ];
    for (name, window, part, forged) in forgeries {
        assert_ne!(forged, closed[window], "{name}: nothing was changed");
        let mut windows = closed[..window].to_vec();
        windows.push(forged);
        let found = audit(context, &windows, blobs).unwrap();
        let AuditVerdict::Mismatch { what } = &found[window].audit.record_verdict else { panic!("{name}: not found") };
        assert!(what.contains(part), "{name}: {what}");
    }
}

/// A claim that was not made by a replay, with a witness of its own that fits it.
fn lie(proof: &mut Option<ReplayProof>) {
    let proof = proof.as_mut().expect("a match");
    let own = witness(&proof.claim);
    proof.claim = Hash::of(b"no state");
    let made_up = witness(&proof.claim);
    proof.witnesses.iter_mut().filter(|known| **known == own).for_each(|known| *known = made_up);
}

/// Changes the witness of another validator's claim.
fn contradict(proof: &mut Option<ReplayProof>) {
    let proof = proof.as_mut().expect("a match");
    let own = witness(&proof.claim);
    let other = proof.witnesses.iter_mut().find(|known| **known != own).expect("two replay it");
    *other ^= 1;
}

/// Changes the verdicts of validators on closed windows, one number at a time. An audit replays every one of them.
pub(crate) fn one_changed_verdict(context: &RunContext, closed: &[ClosedWindow], blobs: &dyn BlobSource) {
    let mut tried = 0;
    for (window, honest) in closed.iter().enumerate() {
        for place in 0..honest.scores[0].payload().verdicts.len() {
            let mut forgeries = vec![with_score(honest, |score| {
                let verdict = &mut score.verdicts[place];
                let other = Refusal::Mismatch { step: 2, tensor: "model.norm.weight".to_owned() };
                (verdict.replay, verdict.proof) = (Replay::Refused(other), None);
            })];
            if honest.scores[0].payload().verdicts[place].proof.is_some() {
                forgeries.push(with_score(honest, |score| lie(&mut score.verdicts[place].proof)));
            }
            for forged in forgeries {
                let mut windows = closed[..window].to_vec();
                windows.push(forged);
                let found = audit(context, &windows, blobs).unwrap();
                let verdict = &found[window].audit.record_verdict;
                assert!(matches!(verdict, AuditVerdict::Mismatch { .. }), "window {window}, verdict {place}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 3, "{tried}");
}
