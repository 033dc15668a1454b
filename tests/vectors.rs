//! The examples in `manifests/` are computed again, read back, and compared with their specification.
//!
//! `cargo test --release --test templar -- --ignored write_examples` writes them anew. Until release 0.1.0
//! freezes the formats, examples and code may change in one commit. After it they never change.

mod absent;
mod flips;
pub(crate) mod folder;
mod reading;
pub(crate) mod window;

use std::sync::{Arc, OnceLock};

use templar_device::{Cpu, Isa};
use templar_manifest::*;
use templar_protocol::{ClosedWindow, Entry, Input, Node, Output, RunState, VoteCertificate};

use folder::Folder;
use window::{Example, compute};

/// The example run, computed once for all tests.
pub(crate) fn example() -> &'static Example {
    static EXAMPLE: OnceLock<Example> = OnceLock::new();
    EXAMPLE.get_or_init(compute)
}

#[test]
#[ignore = "writes into manifests/"]
fn write_examples() {
    Folder::of(example()).write();
}

#[test]
fn the_examples_are_what_the_program_computes() {
    let (written, computed) = (Folder::read(), Folder::of(example()));
    let names = |folder: &Folder| folder.files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&computed));
    assert!(written == computed, "a file differs from what is computed");
}

#[test]
fn every_instruction_set_and_thread_count_computes_them() {
    let expected = Folder::of(example());
    let best = Cpu::default().isa();
    for isa in Isa::available() {
        for threads in [1, 2] {
            Cpu::set_default_isa(isa).unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| Folder::of(&compute()));
            assert!(found == expected, "{isa:?} with {threads} threads");
        }
    }
    Cpu::set_default_isa(best).unwrap();
}

#[test]
fn files_are_named_by_their_hash_and_every_signature_verifies() {
    let folder = Folder::read();
    for (name, bytes) in &folder.files {
        let stem = name.split('.').next().unwrap();
        let hash: Hash = stem.split_once('-').unwrap().1.parse().unwrap();
        if !name.ends_with(".witness.json") {
            assert_eq!(hash, Hash::of(bytes), "{name}");
        }
    }
    let mut seen = Vec::new();
    for (kind, id) in folder.payloads() {
        seen.push(kind);
        match kind {
            Kind::Genesis => check::<Genesis>(&folder, &id, 1),
            Kind::Dataset => check::<Dataset>(&folder, &id, 1),
            Kind::Contribution => check::<Contribution>(&folder, &id, 1),
            Kind::Registration => check::<Registration>(&folder, &id, 1),
            Kind::Inbox => check::<Inbox>(&folder, &id, 1),
            Kind::Cut => check::<Cut>(&folder, &id, 1),
            Kind::Reveals => check::<RevealSet>(&folder, &id, 1),
            Kind::Score => check::<Score>(&folder, &id, 1),
            Kind::Window => check::<WindowHeader>(&folder, &id, 1),
            Kind::Body => check::<WindowBody>(&folder, &id, 0),
            Kind::Vote => check::<Vote>(&folder, &id, 2),
            Kind::Checkpoint => check::<Checkpoint>(&folder, &id, 0),
            Kind::State => check::<State>(&folder, &id, 0),
            Kind::Audit => check::<Audit>(&folder, &id, 1),
        }
    }
    for kind in Kind::ALL {
        assert!(seen.contains(&kind), "no example of a {kind} manifest");
    }
}

fn check<T: Payload>(folder: &Folder, id: &Hash, witnesses: usize) {
    let payload: T = folder.get(id);
    assert_eq!(payload::id_of(&payload), *id);
    let envelopes = folder.envelopes(T::KIND, id);
    assert_eq!(envelopes.len(), witnesses, "{} {id}", T::KIND);
    for envelope in envelopes {
        assert_eq!(envelope.open::<T>().unwrap().payload(), &payload);
    }
}

/// The certificate of a cut, reveal set or record. The vote for it is found by its content.
fn certificate<T: Payload>(folder: &Folder, body: &T, on: VoteOn) -> VoteCertificate {
    let publisher = folder.witnesses(T::KIND, &payload::id_of(body))[0];
    let mut certificate = VoteCertificate { attempt: 0, publisher, witnesses: Vec::new() };
    let vote = certificate.vote(body.run().unwrap(), WindowIndex(0), on, body);
    certificate.witnesses = folder.witnesses(Kind::Vote, &payload::id_of(&vote));
    certificate
}

/// Rebuilds the window from the files alone, as a stranger would, starting with the record's id.
fn closed_from_files(folder: &Folder) -> (RunState, ClosedWindow) {
    let only = |kind| folder.payloads().into_iter().find(|(found, _)| *found == kind).unwrap().1;
    let header: WindowHeader = folder.get(&only(Kind::Window));
    let body: WindowBody = folder.get(&header.body_root.hash());
    let record = WindowRecord { header, body };
    let WindowRecord { header, body } = &record;
    let genesis: Genesis = folder.get(&header.run.hash());
    let dataset: Dataset = folder.get(&genesis.dataset.hash());
    let start: Checkpoint = folder.get(&body.checkpoint_before.hash());
    let cut: Cut = folder.get(&body.cut.hash());
    let contributions: Vec<Signed<Contribution>> =
        cut.contributions.iter().map(|entry| folder.signed_by_one(&entry.contribution.hash())).collect();
    let registrations =
        cut.registrations.iter().map(|entry| folder.signed_by_one(&entry.registration.hash())).collect();
    let zero = contributions[0].payload().state_in;
    assert_eq!(folder.get::<State>(&zero.hash()).optimizer_steps, 0);
    let tokens = dataset.training_tokens();
    let state = RunState::new(Arc::new(genesis), payload::id_of(&start).into(), zero, tokens).unwrap();
    let closed = ClosedWindow {
        record: record.id(),
        inboxes: cut.inboxes.iter().map(|id| folder.signed_by_one(&id.hash())).collect(),
        scores: body.scores.iter().map(|id| folder.signed_by_one(&id.hash())).collect(),
        refuted: body.refuted.iter().map(|refuted| folder.signed_by_one(&refuted.score.hash())).collect(),
        cut_certificate: certificate(folder, &cut, VoteOn::Cut),
        reveals_certificate: certificate(folder, &RevealSet::of(body), VoteOn::Reveals),
        record_certificate: certificate(folder, header, VoteOn::Window),
        contributions,
        registrations,
        window: record,
        cut,
    };
    (state, closed)
}

#[test]
fn the_files_alone_are_a_window_that_recomputes() {
    let folder = Folder::read();
    let (mut state, closed) = closed_from_files(&folder);
    closed.check_certificates(state.genesis()).unwrap();
    state.advance(&closed).unwrap();
    assert_eq!(state.window(), WindowIndex(1));
    assert_eq!(state.root(), closed.window.header.state_root);
    let end: Checkpoint = folder.get(&state.checkpoint().hash());
    assert_eq!(end.window, WindowIndex(1));
    let refused = |outcome: &&Outcome| matches!(outcome.verdict, Verdict::Refused(Refusal::Mismatch { .. }));
    assert_eq!(closed.window.body.outcomes.iter().filter(refused).count(), 1);
}

#[test]
fn a_node_that_is_told_the_entries_closes_the_window() {
    let (state, closed) = closed_from_files(&Folder::read());
    let mut node = Node::new(state, None);
    let entries = closed.entries();
    let mut events = Vec::new();
    // The last entries come first. The node holds each one until it can be checked.
    for entry in entries.into_iter().rev() {
        let entry = Entry::decode(&entry.encode()).unwrap();
        events.extend(node.step(Input::Entry(entry)).unwrap());
    }
    assert!(events.contains(&Output::Closed { record: closed.record, window: WindowIndex(0) }));
    assert_eq!(node.closed(), [closed]);
}
