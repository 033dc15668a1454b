//! Refuted statements: a lie in a score costs its validator, and nobody can have a true one refuted.

use templar_manifest::*;

use super::fixture::*;
use crate::*;

/// The entries that the members of a cluster have, but for records and votes on them.
fn before_the_vote(cluster: &Cluster) -> impl Iterator<Item = &Entry> {
    let entries = cluster.members.iter().flat_map(|member| &member.journal);
    entries.filter(|entry| match entry {
        Entry::Envelope(envelope) => envelope.open::<Vote>().map_or(true, |vote| vote.payload().on != VoteOn::Window),
        Entry::Reveal(_) | Entry::Evidence(_) => true,
        Entry::Record(_) => false,
    })
}

/// Does everything that a node asks for, honestly, until it asks for a vote on the record or for nothing new. Returns
/// the value of that vote.
fn prevoted(node: &mut Node) -> Option<Hash> {
    for _ in 0..16 {
        for output in node.todo() {
            let input = match output {
                Output::Sign(Unsigned::Vote(vote)) if vote.on == VoteOn::Window => return vote.value,
                Output::Confirm { window, subject, task, .. } => {
                    confirmed(window, subject, &task, replayed(&subject.miner, &nobody()))
                }
                Output::Remeasure { window, subject, task } => remeasured(window, subject, &task),
                Output::Apply { window, outcomes, .. } => {
                    let stepped = step_of(window, &outcomes);
                    Measured::Applied { window, outcomes, stepped }
                }
                _ => continue,
            };
            node.step(Input::Measured(input)).unwrap();
        }
    }
    None
}

/// The outer step that every node of a cluster computes.
fn step_of(window: WindowIndex, outcomes: &[Outcome]) -> Stepped {
    stepped(Hash::of(format!("{window} {outcomes:?}").as_bytes()).into(), 5_000_000_000 - window.0)
}

/// A proposer counts the scores of three of four validators. If it also refutes what the fourth has truly measured,
/// an honest validator looks for itself and does not vote for it.
#[test]
fn a_true_statement_cannot_be_refuted() {
    let mut cluster = Cluster::started(&[1, 1, 1, 1], 3, 1);
    cluster.cheat = nobody();
    cluster.run(&mut Order(6), |cluster| cluster.members.iter().any(|member| member.node.records().next().is_some()));
    let known = cluster.members.iter().find_map(|member| member.node.records().next().cloned()).unwrap();
    let proposer = cluster.validators[0].clone();
    let mut voter = Node::new(cluster.members[1].node.state().clone(), Some(cluster.validators[1].public()));
    for entry in before_the_vote(&cluster) {
        voter.step(Input::Entry(entry.clone())).unwrap();
    }
    let state = voter.state().clone();
    let scores: Vec<Signed<Score>> = voter.scores().cloned().collect();
    assert_eq!(scores.len(), 4, "not everybody has scored");
    let contributions: Vec<Signed<Contribution>> = before_the_vote(&cluster)
        .filter_map(|entry| match entry {
            Entry::Envelope(envelope) => envelope.open().ok(),
            _ => None,
        })
        .collect();
    let contributions = contributions.iter().map(Signed::payload);
    let cut = cluster.members[1].node.cut().unwrap().1.clone();
    let judging = state.judging(&cut, contributions, [], known.body.reveals).unwrap();

    let measured = |score: &Signed<Score>| {
        let entry = score.payload().entries.iter().find(|entry| entry.evaluation.measurement().is_some())?;
        Some((score.id(), score.signer(), entry.miner))
    };
    let others =
        |score: &&Signed<Score>| ![proposer.public(), cluster.validators[1].public()].contains(&score.signer());
    let (id, accused, miner) = scores.iter().filter(others).find_map(measured).expect("somebody measured");
    let refuted = Refuted {
        validator: accused,
        score: id.into(),
        window: state.window(),
        miner,
        statement: Statement::Evaluation,
    };
    let counted: Vec<(ScoreId, &Score)> = scores
        .iter()
        .filter(|score| score.signer() != accused)
        .map(|score| (score.id().into(), score.payload()))
        .collect();
    let payloads: Vec<&Score> = counted.iter().map(|(_, score)| *score).collect();
    let step = step_of(state.window(), &state.outcomes(&judging, &payloads));
    for (refuted, is_right) in [(vec![], true), (vec![refuted], false)] {
        let own = state.shared_close(&judging, &counted, &refuted, step).unwrap();
        let mut voter = voter.clone();
        let (run, window, value) = (state.run(), state.window(), Some(own.id.hash()));
        let vote = Vote { run, window, on: VoteOn::Window, attempt: 0, step: VoteStep::Prevote, value };
        let vote = Entry::Envelope(Signed::sign(vote, &proposer).envelope());
        for entry in [vote, Unsigned::Window(Box::new(own.record.clone())).sign(&proposer)] {
            voter.step(Input::Entry(entry)).unwrap();
        }
        assert_eq!(prevoted(&mut voter) == value, is_right, "{refuted:?}");
    }
}

/// A closed window whose record refutes a lie: it recomputes only together with the score that makes the statement.
#[test]
fn a_record_that_refutes_comes_with_the_score() {
    let mut cluster = Cluster::new(&[1, 1, 1, 1], 3, 3);
    cluster.cheat = nobody();
    let liar = cluster.validators[3].public();
    let untried = |_: &JudgePlan, entries: &mut [ScoreEntry]| {
        entries.iter_mut().filter(|entry| entry.evaluation.measurement().is_some()).for_each(|entry| {
            entry.evaluation = Evaluation::Untried;
        });
    };
    cluster.false_losses = Some((vec![liar], untried));
    cluster.wake();
    let order = &mut Order(7);
    for _ in 0..40 {
        cluster.run(order, |_| false);
        cluster.expire();
    }
    let node = &cluster.members[0].node;
    super::certified::fold_through_copies(node);
    let refutes = |closed: &&ClosedWindow| !closed.refuted.is_empty();
    let closed = node.closed().iter().find(refutes).expect("it lied and nobody refuted it");
    let state = node.state_at(closed.window.header.window).unwrap();
    assert_eq!(state.clone().advance(closed), Ok(()));
    let refuted = closed.window.body.refuted[0];
    assert_eq!((refuted.validator, refuted.statement), (liar, Statement::Evaluation));
    let slash = closed.window.body.slashes.iter().find(|slash| slash.account == liar).unwrap();
    assert_eq!((slash.cause, slash.window), (SlashCause::Falsehood, state.window()));

    let unstated = Err(AdvanceError::Unstated(liar.short()));
    let mut without = ClosedWindow::clone(closed);
    without.refuted.clear();
    assert_eq!(state.clone().advance(&without), unstated);
    let changes: [fn(&mut Refuted); 3] = [
        |refuted| refuted.miner = nobody(),
        |refuted| refuted.score = ScoreId::default(),
        |refuted| refuted.window.0 += 1,
    ];
    for change in changes {
        let mut changed = ClosedWindow::clone(closed);
        change(&mut changed.window.body.refuted[0]);
        named_again(&mut changed);
        assert_eq!(state.clone().advance(&changed), unstated);
    }
    let mut unpunished = ClosedWindow::clone(closed);
    unpunished.window.body.refuted.clear();
    unpunished.refuted.clear();
    named_again(&mut unpunished);
    assert_eq!(state.clone().advance(&unpunished), Err(AdvanceError::Differs(RecordField::Slashes)));
}
