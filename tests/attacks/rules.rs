//! Statements that are well formed and rightly signed, but break a rule of the window.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use templar_manifest::*;
use templar_protocol::{AdvanceError, ClosedWindow, Entry, Input, Node, Output, RecordEntry, Reject, RevealEntry};

use super::{Attack, Told, answered, refused};
use crate::vectors::example;
use crate::vectors::window::{certificate, key, miners, newcomer, validators};

/// The stage that the example window has reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    Committed,
    Received,
    Cut,
    Revealed,
    Agreed,
    Scored,
}

fn envelope<T: Payload>(signed: &Signed<T>) -> Entry {
    Entry::Envelope(signed.envelope())
}

fn sign<T: Payload>(payload: &T, key: &SecretKey) -> Entry {
    envelope(&Signed::sign(payload.clone(), key))
}

/// A record with a signed header.
fn proposed(header: WindowHeader, body: &WindowBody, key: &SecretKey) -> Entry {
    let header = Signed::sign(header, key).envelope();
    Entry::Record(Box::new(RecordEntry { header, body: payload::encode(body) }))
}

fn reveal(reveal: &Reveal) -> RevealEntry {
    let record = &example().closed.window.body;
    RevealEntry { run: record.run, window: record.window, validator: reveal.validator, value: reveal.value }
}

/// The example window's entries up to `stage`.
fn entries(stage: Stage) -> Vec<Entry> {
    let closed = &example().closed;
    let mut entries: Vec<(Stage, Entry)> = Vec::new();
    entries.extend(closed.contributions.iter().map(|signed| (Stage::Committed, envelope(signed))));
    entries.extend(closed.registrations.iter().map(|signed| (Stage::Committed, envelope(signed))));
    entries.extend(closed.inboxes.iter().map(|signed| (Stage::Received, envelope(signed))));
    let vote =
        closed.cut_certificate.vote(closed.window.header.run, closed.window.header.window, VoteOn::Cut, &closed.cut);
    entries.push((Stage::Cut, sign(&closed.cut, &validators()[0])));
    entries.extend(validators().iter().map(|key| (Stage::Cut, sign(&vote, key))));
    entries.extend(closed.window.body.reveals.iter().map(|value| (Stage::Revealed, Entry::Reveal(reveal(value)))));
    let set = closed.reveal_set();
    let vote = closed.reveals_certificate.vote(set.run, set.window, VoteOn::Reveals, &set);
    entries.push((Stage::Agreed, sign(&set, &validators()[0])));
    entries.extend(validators().iter().map(|key| (Stage::Agreed, sign(&vote, key))));
    entries.extend(closed.scores.iter().map(|signed| (Stage::Scored, envelope(signed))));
    entries.into_iter().filter(|(of, _)| *of <= stage).map(|(_, entry)| entry).collect()
}

/// A node without a part in the run, after it received the example window's entries up to `stage`.
fn node(stage: Stage) -> Node {
    let mut node = Node::new(example().before.clone(), None);
    for entry in entries(stage) {
        node.step(Input::Entry(entry)).unwrap();
    }
    node
}

/// A run as a second implementation reads it: these entries, and the example's genesis and dataset.
fn sent(entries: &[Entry], expect: Option<RecordId>) -> Value {
    let files = [payload::encode(example().genesis.payload()), payload::encode(example().dataset.payload())];
    let entries: Vec<String> = entries.iter().map(|entry| HEXLOWER.encode(&entry.encode())).collect();
    let mut sent = json!({ "files": files.map(|file| HEXLOWER.encode(&file)), "entries": entries });
    if let Some(record) = expect {
        sent["expect"] = json!(record.hash().to_string());
    }
    sent
}

/// Gives a node an entry. If the node refuses it, its state must not have changed.
fn tell(stage: Stage, entry: Entry) -> Told<Vec<Output>, Reject> {
    let mut node = node(stage);
    let before = node.clone();
    let mut told = entries(stage);
    told.push(entry.clone());
    let answer = node.step(Input::Entry(entry));
    assert!(answer.is_ok() || node == before, "a refused entry changed the node");
    Told { answer, sent: sent(&told, None) }
}

/// A signed payload of the example, changed and signed again.
fn changed<T: Payload>(
    stage: Stage,
    base: &T,
    key: &SecretKey,
    change: impl FnOnce(&mut T),
) -> Told<Vec<Output>, Reject> {
    let mut payload = base.clone();
    change(&mut payload);
    tell(stage, sign(&payload, key))
}

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks = committing();
    attacks.extend(registering());
    attacks.extend(cutting());
    attacks.extend(judging());
    attacks
}

fn committing() -> Vec<Attack> {
    let closed = &example().closed;
    let (miners, validators) = (miners(), validators());
    let honest = closed.contributions[0].payload();
    let with = |change: fn(&mut Contribution)| changed(Stage::Open, honest, &miners[0], change);
    let other = Hash::of(b"another");
    let another = |nonce: &[u8]| {
        let mut contribution = honest.clone();
        contribution.delta = BlobId::of(nonce);
        sign(&contribution, &miners[0])
    };
    let second = tell(Stage::Committed, another(b"second")).answer.unwrap();
    let one_more = {
        let mut node = node(Stage::Committed);
        node.step(Input::Entry(another(b"second"))).unwrap();
        // These entries are set aside, because an inbox may still name them.
        (0..32u8).for_each(|number| assert_eq!(node.step(Input::Entry(another(&[number]))).unwrap(), []));
        node.step(Input::Entry(another(b"one more")))
    };
    let equivocation = second.iter().find_map(|output| match output {
        Output::Equivocation { kind, .. } => {
            Some(format!("accepted, with a proof that its signer made two of the kind {kind}"))
        }
        _ => None,
    });
    let stranger = key("stranger");
    vec![
        refused("contribution: of another run", with(|c| c.run = Hash::of(b"run").into())),
        refused("contribution: of a later window", with(|c| c.window = WindowIndex(1))),
        refused("contribution: by somebody who is not registered", {
            changed(Stage::Open, honest, &stranger, |c| c.miner = key("stranger").public())
        }),
        refused("contribution: continues one that no record accepts", with(|c| c.parent = Some(Hash::of(b"").into()))),
        refused("contribution: starts from a state of its own", with(|c| c.state_in = Hash::of(b"state").into())),
        refused("contribution: more steps than H", with(|c| c.steps = 4)),
        refused("contribution: tokens that the steps do not give", with(|c| c.tokens += 1)),
        answered("contribution: a second one of the same miner", equivocation.unwrap()),
        refused("contribution: a thirty-fifth one of the same miner", one_more),
        refused("contribution: after a cut without it", tell(Stage::Cut, another(b"late"))),
        refused("inbox: by somebody who is not a validator", {
            changed(Stage::Committed, closed.inboxes[0].payload(), &miners[0], |i| i.validator = honest.miner)
        }),
        refused("inbox: names somebody who is not registered", {
            changed(Stage::Committed, closed.inboxes[0].payload(), &validators[0], |i| {
                i.contributions[0].miner = PublicKey::from_bytes([0; 32])
            })
        }),
        refused("a genesis in place of an entry", tell(Stage::Open, sign(example().genesis.payload(), &validators[0]))),
        refused("an audit in place of an entry", tell(Stage::Open, sign(example().audit.payload(), &validators[0]))),
        refused("bytes in place of a payload", {
            let signature = validators[0].sign(other.as_bytes());
            tell(
                Stage::Open,
                Entry::Envelope(Envelope { payload: vec![0xff; 100], signer: validators[0].public(), signature }),
            )
        }),
    ]
}

fn registering() -> Vec<Attack> {
    let closed = &example().closed;
    let before = &example().before;
    let honest = closed.registrations[0].payload();
    let (owner, node, miner, thief) = (newcomer(), key("newcomer's node"), &miners()[0], key("thief"));
    // A registration that its owner and its node key have signed after its certificate was changed.
    let certified = |owner: &SecretKey, node: &SecretKey, change: &dyn Fn(&mut Certificate)| {
        let mut asked = honest.clone();
        (asked.certificate.owner, asked.certificate.node) = (owner.public(), node.public());
        change(&mut asked.certificate);
        asked.owner_signature = asked.certificate.sign(asked.run, owner);
        sign(&asked, node)
    };
    let is_work = |certificate: &Certificate| {
        certificate.work(honest.run, &before.seed()).is_some_and(|digest| digest <= largest_digest(1 << 12))
    };
    // The first nonce from `first` on that has enough work for a slot, or the first that has not.
    let look = |certificate: &mut Certificate, first: u64, wanted: bool| {
        let with = |nonce| Certificate { payment: Payment::Hashcash { nonce }, ..*certificate };
        *certificate = (first..).map(with).find(|certificate| is_work(certificate) == wanted).unwrap();
    };
    let worked = |owner: &SecretKey, node: &SecretKey| certified(owner, node, &|c| look(c, 0, true));
    let with = |change: &dyn Fn(&mut Certificate)| tell(Stage::Open, certified(&owner, &node, change));
    let burn = |amount_micros| with(&|c| c.payment = Payment::Burn { amount_micros });
    let later = |window: u64| {
        let mut state = before.clone();
        state.advance(closed).unwrap();
        let asked = Registration { window: WindowIndex(window), ..honest.clone() };
        Node::new(state, None).step(Input::Entry(sign(&asked, &node)))
    };
    vec![
        refused("registration: a nonce that is no work", with(&|c| look(c, 0, false))),
        refused("registration: work of another owner", tell(Stage::Open, certified(&thief, &node, &|_| {}))),
        refused("registration: work of another node key", tell(Stage::Open, certified(&owner, &thief, &|_| {}))),
        refused("registration: by another node key than it names", tell(Stage::Open, sign(honest, &thief))),
        refused("registration: of a member", tell(Stage::Open, worked(miner, &node))),
        refused("registration: with a member's node key", tell(Stage::Open, worked(&owner, miner))),
        refused("registration: burns less than a slot costs", burn(999_999)),
        refused("registration: burns what its account does not hold", burn(1_000_000)),
        refused("registration: another node key for who has no slot", with(&|c| c.payment = Payment::Rotation)),
        refused("registration: another node key, with a certificate that is not newer", {
            tell(Stage::Open, certified(miner, &node, &|c| c.payment = Payment::Rotation))
        }),
        refused("registration: a second one of the same owner", {
            tell(Stage::Committed, certified(&owner, &node, &|c| look(c, 1 << 40, true)))
        }),
        refused("registration: after a cut without it", tell(Stage::Cut, worked(&key("late"), &key("late")))),
        refused("registration: of who has joined meanwhile", later(1)),
        refused("registration: of a later window", later(2)),
        refused("inbox: names more registrations than can matter", {
            changed(Stage::Open, closed.inboxes[0].payload(), &validators()[0], |i| {
                let owners = (0..21).map(|number| PublicKey::from_bytes([number; 32]));
                let named = |owner| CutRegistration { owner, registration: RegistrationId::default() };
                i.registrations = owners.map(named).collect();
            })
        }),
    ]
}

fn cutting() -> Vec<Attack> {
    let closed = &example().closed;
    let validators = validators();
    let cut = |change: fn(&mut Cut)| changed(Stage::Received, &closed.cut, &validators[0], change);
    let told = |change: fn(&mut RevealEntry)| {
        let mut entry = reveal(&closed.window.body.reveals[0]);
        change(&mut entry);
        tell(Stage::Cut, Entry::Reveal(entry))
    };
    vec![
        refused("cut: drops a contribution", cut(|c| c.contributions.truncate(1))),
        refused("cut: drops a registration", cut(|c| c.registrations.clear())),
        refused(
            "cut: puts another contribution in its place",
            cut(|c| c.contributions[0].contribution = Hash::of(b"").into()),
        ),
        refused("cut: from too few inboxes", cut(|c| c.inboxes.truncate(1))),
        refused("cut: inboxes in another order", cut(|c| c.inboxes.reverse())),
        refused("cut: an inbox twice", cut(|c| c.inboxes[1] = c.inboxes[0])),
        refused("cut: by a miner", tell(Stage::Received, sign(&closed.cut, &miners()[0]))),
        refused("cut: signed by one of two validators", {
            let mut alone = closed.clone();
            alone.cut_certificate.witnesses.pop();
            alone.check_certificates(example().before.genesis())
        }),
        refused("reveal: a value off the chain", told(|r| r.value = Hash::of(b"value"))),
        refused("reveal: another validator's value", told(|r| r.validator = validators_key(1))),
        refused("reveal: by somebody who is not a validator", told(|r| r.validator = PublicKey::from_bytes([0; 32]))),
        refused("reveal: of another run", told(|r| r.run = Hash::of(b"run").into())),
        refused("reveal: of a later window", told(|r| r.window = WindowIndex(7))),
    ]
}

fn validators_key(index: usize) -> PublicKey {
    validators()[index].public()
}

fn judging() -> Vec<Attack> {
    let closed = &example().closed;
    let validators = validators();
    let of = |index: usize, change: &dyn Fn(&mut Score)| {
        changed(Stage::Agreed, closed.scores[index].payload(), &validators[index], |score| change(score))
    };
    let score = |change: &dyn Fn(&mut Score)| of(0, change);
    // One of the two validators replays each contribution: the one that replays the first, and the other one.
    let replays = |index: usize| closed.scores[index].payload().entries[0].replay != Replay::NotDrawn;
    let (drawn, other) = if replays(0) { (0, 1) } else { (1, 0) };
    assert!(replays(drawn) && !replays(other));
    let made_up = || {
        let claim = Hash::of(b"no state");
        Some(ReplayProof { claim, witnesses: vec![proof::witness(&claim)] })
    };
    vec![
        refused("score: of another cut", score(&|s| s.cut = Hash::of(b"cut").into())),
        refused("score: with another seed", score(&|s| s.seed = Hash::of(b"seed"))),
        refused("score: of a validator for another", {
            changed(Stage::Agreed, closed.scores[0].payload(), &validators[1], |s| s.validator = validators_key(1))
        }),
        refused("score: leaves a contribution out", score(&|s| s.entries.truncate(1))),
        refused("score: judges another contribution", score(&|s| s.entries[0].contribution = Hash::of(b"").into())),
        refused("score: does not replay what was drawn", {
            of(drawn, &|s| (s.entries[0].replay, s.entries[0].proof) = (Replay::NotDrawn, None))
        }),
        refused("score: replays what was not drawn", {
            of(other, &|s| (s.entries[0].replay, s.entries[0].proof) = (Replay::Match, made_up()))
        }),
        refused(
            "score: a match without a proof",
            of(drawn, &|s| {
                (s.entries[0].replay, s.entries[0].proof) = (Replay::Match, None);
            }),
        ),
        refused(
            "score: a proof of another claim",
            of(drawn, &|s| {
                (s.entries[0].replay, s.entries[0].proof) = (Replay::Match, made_up());
                s.entries[0].proof.as_mut().unwrap().claim = Hash::of(b"another state");
            }),
        ),
        refused(
            "score: a proof for more than were drawn",
            of(drawn, &|s| {
                (s.entries[0].replay, s.entries[0].proof) = (Replay::Match, made_up());
                s.entries[0].proof.as_mut().unwrap().witnesses.push(0);
            }),
        ),
        refused(
            "score: a late verdict where verdicts come before the record",
            score(&|s| {
                let entry = &s.entries[0];
                let (window, miner, contribution) = (WindowIndex(0), entry.miner, entry.contribution);
                let replay = Replay::Refused(Refusal::WrongClaim { field: "steps".into() });
                s.verdicts.push(LateVerdict { window, miner, contribution, replay, proof: None });
            }),
        ),
        refused("score: losses of a delta that it could not get", {
            of(drawn, &|s| (s.entries[0].replay, s.entries[0].proof) = (Replay::Refused(Refusal::Withheld), None))
        }),
        refused("score: losses of a delta that does not decode", {
            of(other, &|s| {
                let entry = &mut s.entries[0];
                (entry.body, entry.nearest, entry.overlap_ppm) = (None, None, 0);
                let other = &mut s.entries[1];
                (other.nearest, other.overlap_ppm) = (None, 0);
            })
        }),
        refused("score: says what only a record can", {
            of(drawn, &|s| (s.entries[0].replay, s.entries[0].proof) = (Replay::Refused(Refusal::NotReplayed), None))
        }),
        refused(
            "score: does not measure what was drawn",
            score(&|s| {
                s.entries[0].evaluation = Evaluation::NotDrawn;
            }),
        ),
        refused(
            "score: a proof of evaluation for another validator",
            score(&|s| {
                s.entries[0].evaluation = closed.scores[1].payload().entries[0].evaluation.clone();
            }),
        ),
        refused(
            "score: a proof of evaluation for more than were drawn",
            score(&|s| {
                if let Evaluation::Measured(measured) = &mut s.entries[0].evaluation {
                    measured.witnesses.push(0);
                }
            }),
        ),
    ]
}

pub(crate) fn records() -> Vec<Attack> {
    let closed = &example().closed;
    let validators = validators();
    let WindowRecord { header: right, body } = &closed.window;
    let tell_record = |header, body: &WindowBody| tell(Stage::Scored, proposed(header, body, &validators[0]));
    // A changed body under a header that names it.
    let record = |change: fn(&mut WindowBody)| {
        let mut body = body.clone();
        change(&mut body);
        tell_record(WindowHeader { body_root: payload::id_of(&body).into(), ..*right }, &body)
    };
    let header = |change: fn(&mut WindowHeader)| {
        let mut header = *right;
        change(&mut header);
        tell_record(header, body)
    };
    let mut vec = vec![
        refused("a changed balance: a larger mint", record(|w| w.mints[1].amount_micros += 1)),
        refused(
            "a changed balance: a mint to somebody else",
            record(|w| w.mints[1].account = PublicKey::from_bytes([1; 32])),
        ),
        refused("a slash that is too small", record(|w| w.slashes[0].amount_micros += 1)),
        refused("a mismatch that costs nothing", record(|w| w.slashes.clear())),
        refused("a slot lost at the first mismatch", record(|w| w.slashes[0].cause = SlashCause::Expulsion)),
        refused("a registration refused that has a slot", record(|w| w.admissions[0].verdict = Admitted::NoSlot)),
        refused("a registration left out", record(|w| w.admissions.clear())),
        refused("another state", header(|h| h.state_root = Hash::of(b"state"))),
        refused("other validators", header(|h| h.validators_root = Hash::of(b"validators"))),
        refused("another record before", header(|h| h.previous = Some(Hash::of(b"record").into()))),
        refused("a body that the header does not name", header(|h| h.body_root = Hash::of(b"body").into())),
        refused("a header of another window", header(|h| h.window.0 += 1)),
        refused("a header alone", tell(Stage::Scored, sign(right, &validators[0]))),
        refused("a body alone", tell(Stage::Scored, sign(body, &validators[0]))),
        refused("another weight", record(|w| w.weights[0].weight_ppm -= 1)),
        refused("a refused contribution accepted", record(|w| w.outcomes[1].verdict = Verdict::Aggregated)),
        refused(
            "an accepted contribution refused",
            record(|w| w.outcomes[0].verdict = Verdict::Refused(Refusal::Withheld)),
        ),
        refused("another reason of refusal", {
            record(|w| w.outcomes[1].verdict = Verdict::Refused(Refusal::Mismatch { step: 1, tensor: "delta".into() }))
        }),
        refused("a seed of its own", record(|w| w.seed = Hash::of(b"seed"))),
        refused("a reveal off the chain", record(|w| w.reveals[0].value = Hash::of(b"value"))),
        refused("a reveal left out", record(|w| w.reveals.truncate(1))),
        refused("another cut", record(|w| w.cut = Hash::of(b"cut").into())),
        refused("another start", record(|w| w.checkpoint_before = Hash::of(b"checkpoint").into())),
        refused("a score left out", record(|w| w.scores.truncate(1))),
        refused("a score twice", record(|w| w.scores[1] = w.scores[0])),
        refused("signed by a miner", tell(Stage::Scored, proposed(*right, body, &miners()[0]))),
    ];
    // A closed window as a stranger receives it when it folds or audits a run.
    let folded = |change: fn(&mut ClosedWindow)| -> Told<(), AdvanceError> {
        let mut closed = closed.clone();
        change(&mut closed);
        let mut state = example().before.clone();
        let answer = closed.check_certificates(example().before.genesis()).and_then(|()| state.advance(&closed));
        Told { answer, sent: sent(&closed.entries(), Some(closed.record)) }
    };
    assert!(folded(|_| {}).answer.is_ok());
    vec.extend([
        refused("closed: signed by one of two validators", folded(|c| c.record_certificate.witnesses.truncate(1))),
        refused(
            "closed: one signature twice",
            folded(|c| c.record_certificate.witnesses[1] = c.record_certificate.witnesses[0]),
        ),
        refused(
            "closed: the cut's signatures under the record",
            folded(|c| c.record_certificate.witnesses = c.cut_certificate.witnesses.clone()),
        ),
        refused(
            "closed: a changed balance, signed again by all",
            folded(|c| {
                c.window.body.mints[1].amount_micros += 1;
                c.window.header.body_root = payload::id_of(&c.window.body).into();
                c.record = c.window.id();
                c.record_certificate =
                    certificate(&c.window.header, VoteOn::Window, &crate::vectors::window::validators());
            }),
        ),
        refused("closed: under another id", folded(|c| c.record = Hash::of(b"record").into())),
        refused("closed: a contribution left out", folded(|c| c.contributions.truncate(1))),
        refused("closed: a registration left out", folded(|c| c.registrations.clear())),
        refused(
            "closed: a contribution signed by another miner",
            folded(|c| {
                let payload = c.contributions[0].payload().clone();
                c.contributions[0] = Signed::sign(payload, &miners()[1]);
            }),
        ),
        refused("closed: a score exchanged for the other", folded(|c| c.scores[1] = c.scores[0].clone())),
        refused("closed: an inbox left out", folded(|c| c.inboxes.truncate(1))),
    ]);
    vec
}
