//! Entries that lie: each is refused by its name, and nothing changes.

use proptest::prelude::*;
use templar_manifest::*;

use super::fixture::*;
use crate::*;

fn forge<T: Payload>(payload: T, key: &SecretKey) -> Entry {
    Entry::Envelope(Signed::sign(payload, key).envelope())
}

/// Gives an entry to a node that must refuse it and stay as it is.
fn refused(node: &Node, entry: &Entry) -> Reject {
    let mut after = node.clone();
    let reject = after.step(Input::Entry(entry.clone())).unwrap_err();
    assert_eq!(&after, node, "{reject} changed the state");
    reject
}

/// The refusal of a cut, reveal set or record that is wrong and that nobody has voted for.
fn found_wrong(reject: Reject) -> Reject {
    Reject::Wrong(Box::new(reject))
}

fn voted(node: &Node, on: VoteOn, attempt: u32, step: VoteStep, value: Option<Hash>) -> Vote {
    Vote { run: node.state().run(), window: node.state().window(), on, attempt, step, value }
}

/// Gives an entry to a node; returns the events.
fn given(node: &mut Node, entry: &Entry) -> Vec<Output> {
    node.step(Input::Entry(entry.clone())).unwrap()
}

fn accepted(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Accepted { .. })).count()
}

/// The statements that members have made so far, of the kind that `pick` picks, by signer.
fn said<T: Payload>(cluster: &Cluster) -> Vec<Signed<T>> {
    let entries = cluster.members.iter().flat_map(|member| &member.journal);
    entries
        .filter_map(|entry| match entry {
            Entry::Envelope(envelope) => envelope.open::<T>().ok(),
            Entry::Reveal(_) | Entry::Evidence(_) | Entry::Record(_) => None,
        })
        .collect()
}

/// The records that validators of the cluster have proposed.
fn proposed(cluster: &Cluster) -> Vec<WindowRecord> {
    cluster.members.iter().flat_map(|member| member.node.records().cloned()).collect()
}

/// A record with this body, whose header names it and is signed.
fn forge_record(header: &WindowHeader, body: WindowBody, key: &SecretKey) -> Entry {
    let header = WindowHeader { body_root: payload::id_of(&body).into(), ..*header };
    Unsigned::Window(Box::new(WindowRecord { header, body })).sign(key)
}

#[test]
fn strangers_and_impostors_are_refused() {
    let cluster = Cluster::new(&[1, 1], 2, 2);
    let node = &cluster.members[4].node;
    let stranger = SecretKey::from_bytes(&[77; 32]);
    let (validator, miner) = (&cluster.validators[0], &cluster.miners[0]);
    let claimed = contribution(node.state(), &miner.public(), 0);
    let (run, window) = (node.state().run(), node.state().window());

    let mut own = claimed.clone();
    own.miner = stranger.public();
    assert!(matches!(refused(node, &forge(own, &stranger)), Reject::NotRegistered(_)));
    assert!(matches!(
        refused(node, &forge(claimed.clone(), &cluster.miners[1])),
        Reject::Envelope(EnvelopeError::WrongSigner { .. })
    ));
    let inbox = Inbox { run, window, validator: miner.public(), contributions: vec![], registrations: vec![] };
    assert!(matches!(refused(node, &forge(inbox, miner)), Reject::NotAValidator(_)));
    let cut = Cut { run, window, inboxes: vec![InboxId::default()], contributions: vec![], registrations: vec![] };
    assert!(matches!(refused(node, &forge(cut, miner)), Reject::NotAValidator(_)));
    let mut foreign = claimed.clone();
    foreign.run = RunId::default();
    assert_eq!(refused(node, &forge(foreign, miner)), Reject::OtherRun);
    let mut early = claimed.clone();
    early.window = WindowIndex(1);
    assert!(matches!(refused(node, &forge(early, miner)), Reject::Early { .. }));
    let mut wrong = claimed;
    wrong.tokens += 1;
    assert_eq!(refused(node, &forge(wrong, miner)), Reject::Claim("tokens"));
    let unknown = CutEntry { miner: stranger.public(), contribution: ContributionId::default() };
    let inbox =
        Inbox { run, window, validator: validator.public(), contributions: vec![unknown], registrations: vec![] };
    assert!(matches!(refused(node, &forge(inbox, validator)), Reject::Cut(CutError::NotRegistered { .. })));
    let genesis = Genesis::clone(node.state().genesis());
    assert_eq!(refused(node, &forge(genesis, validator)), Reject::Kind(Kind::Genesis));
}

#[test]
fn a_value_off_the_chain_is_refused() {
    let cluster = Cluster::new(&[1, 1], 1, 3);
    let node = &cluster.members[0].node;
    let reveal = |validator: &SecretKey, value: Hash| {
        let (run, window) = (node.state().run(), node.state().window());
        Entry::Reveal(RevealEntry { run, window, validator: validator.public(), value })
    };
    let [first, second] = &cluster.validators[..] else { unreachable!() };
    assert!(matches!(refused(node, &reveal(first, Hash::default())), Reject::Reveal(_)));
    assert!(matches!(refused(node, &reveal(first, chain_value(second, WindowIndex(0)))), Reject::Reveal(_)));
    assert!(matches!(refused(node, &reveal(first, chain_value(first, WindowIndex(1)))), Reject::Reveal(_)));
    assert!(matches!(refused(node, &reveal(&cluster.miners[0], Hash::default())), Reject::NotAValidator(_)));
    assert_eq!(accepted(&given(&mut node.clone(), &reveal(first, chain_value(first, WindowIndex(0))))), 1);
}

#[test]
fn a_miner_that_says_two_things_is_noted_and_cannot_split_the_cut() {
    let cluster = Cluster::new(&[1, 1], 2, 1);
    let mut node = cluster.members[0].node.clone();
    let miner = &cluster.miners[0];
    let says: Vec<Entry> =
        (0..4).map(|nonce| forge(contribution(node.state(), &miner.public(), nonce), miner)).collect();
    assert_eq!(accepted(&given(&mut node, &says[0])), 1);
    // Once more is nothing new.
    assert_eq!(given(&mut node, &says[0]), []);
    let second = given(&mut node, &says[1]);
    assert_eq!(accepted(&second), 1);
    assert!(second.iter().any(|output| matches!(output, Output::Equivocation { kind: "contribution", .. })));
    assert_eq!(given(&mut node, &says[2]), []);
    // Unless a validator had it first: the cut may name it.
    let named = CutEntry {
        miner: miner.public(),
        contribution: payload::id_of(&contribution(node.state(), &miner.public(), 2)).into(),
    };
    let (run, window, other) = (node.state().run(), node.state().window(), &cluster.validators[1]);
    let inbox = Inbox { run, window, validator: other.public(), contributions: vec![named], registrations: vec![] };
    assert_eq!(accepted(&given(&mut node, &forge(inbox, other))), 2);
    assert_eq!(given(&mut node, &says[2]), []);
    assert_eq!(given(&mut node, &says[3]), []);
    assert!(node.contribution(&payload::id_of(&contribution(node.state(), &miner.public(), 3)).into()).is_none());
}

#[test]
fn a_run_goes_on_whatever_a_miner_says_to_whom() {
    let mut cluster = Cluster::new(&[1, 1], 3, 1);
    let liar = cluster.miners[2].clone();
    cluster.silent.insert(liar.public());
    for member in 0..cluster.members.len() {
        let claimed = contribution(cluster.members[member].node.state(), &liar.public(), member as u8);
        cluster.deliver(member, Input::Entry(forge(claimed, &liar)));
    }
    // Nothing of the liar's is passed on: every node has heard something else, and two is what they keep.
    for member in &mut cluster.members {
        member.journal.clear();
    }
    cluster.wake();
    let mut order = Order(1);
    cluster.run_tolerating_floods(&mut order);
    let records: Vec<_> = cluster.members.iter().map(|member| member.node.closed().len()).collect();
    assert_eq!(records, vec![1; cluster.members.len()]);
    assert!(cluster.events.iter().any(|event| matches!(event, Output::Equivocation { .. })));
}

#[test]
fn a_cut_that_adds_or_drops_is_refused() {
    let mut cluster = Cluster::started(&[1, 1], 2, 1);
    // The following node, which has everything but a cut.
    cluster.run(&mut Order(3), |cluster| !said::<Cut>(cluster).is_empty() && said::<Inbox>(cluster).len() >= 4);
    let honest = said::<Cut>(&cluster).remove(0).payload().clone();
    let mut node = Node::new(cluster.members[0].node.state().clone(), None);
    for inbox in said::<Inbox>(&cluster) {
        given(&mut node, &Entry::Envelope(inbox.envelope()));
    }
    let validator = &cluster.validators[0];
    let mut drops = honest.clone();
    drops.contributions.pop();
    assert_eq!(refused(&node, &forge(drops, validator)), found_wrong(Reject::CutDiffers));
    let mut adds = honest.clone();
    adds.contributions[0].contribution = ContributionId::default();
    assert_eq!(refused(&node, &forge(adds.clone(), validator)), found_wrong(Reject::CutDiffers));
    let mut few = honest.clone();
    few.inboxes.pop();
    let no_quorum = CutError::NoQuorum { stake: 1, total: 2 };
    assert_eq!(refused(&node, &forge(few, validator)), found_wrong(Reject::Cut(no_quorum)));
    let mut many = honest.clone();
    many.inboxes.push(InboxId::default());
    assert_eq!(refused(&node, &forge(many, validator)), Reject::Oversized("cut"));
    // One that a vote names is taken in all the same, as others may have done who could not tell, and is said
    // to be wrong.
    let id = payload::id_of(&adds);
    let vote = voted(&node, VoteOn::Cut, 0, VoteStep::Prevote, Some(id));
    let mut told = node.clone();
    given(&mut told, &forge(vote, validator));
    let outputs = given(&mut told, &forge(adds, validator));
    assert_eq!(accepted(&outputs), 1);
    let signer = validator.public();
    assert!(outputs.contains(&Output::Wrong { kind: "cut", signer, id, reject: Reject::CutDiffers }));
    // Before its contributions are here it is passed on, and nobody votes for it.
    let id = payload::id_of(&honest);
    assert_eq!(accepted(&given(&mut node, &forge(honest, validator))), 1);
    let mut contributions = said::<Contribution>(&cluster);
    contributions.sort_by_key(Signed::id);
    contributions.dedup_by_key(|signed| signed.id());
    let precommit = voted(&node, VoteOn::Cut, 0, VoteStep::Precommit, Some(id));
    for key in &cluster.validators {
        given(&mut node, &forge(precommit, key));
    }
    assert_eq!(node.cut(), None);
    for contribution in contributions {
        given(&mut node, &Entry::Envelope(contribution.envelope()));
    }
    assert!(node.cut().is_some());
}

#[test]
fn what_cannot_be_checked_yet_is_held_within_bounds() {
    let cluster = Cluster::new(&[1, 1, 1, 1], 2, 1);
    let mut node = cluster.members[4].node.clone();
    let (run, window) = (node.state().run(), node.state().window());
    let validator = &cluster.validators[0];
    let cut = |number: u8| {
        forge(
            Cut {
                run,
                window,
                inboxes: vec![Hash::of(&[number]).into()],
                contributions: vec![],
                registrations: vec![],
            },
            validator,
        )
    };
    for number in 0..2 {
        assert_eq!(accepted(&given(&mut node, &cut(number))), 1);
    }
    // So many more of a kind are set aside, and no more.
    for number in 2..34 {
        assert_eq!(given(&mut node, &cut(number)), []);
    }
    assert!(matches!(refused(&node, &cut(34)), Reject::TooMany { kind: "cut", .. }));
    let score = |number: u8| {
        let cut = Hash::of(&[number]).into();
        let (entries, verdicts, evidence) = (vec![], vec![], vec![]);
        let seed = Hash::of(&[number]);
        forge(
            Score {
                run,
                window,
                validator: validator.public(),
                cut,
                seed,
                entries,
                verdicts,
                evidence,
                contests: Vec::new(),
            },
            validator,
        )
    };
    for number in 0..2 {
        given(&mut node, &score(number));
    }
    for number in 2..34 {
        assert_eq!(given(&mut node, &score(number)), []);
    }
    assert!(matches!(refused(&node, &score(34)), Reject::TooMany { kind: "score", .. }));
    // Votes: two for each step; and few for attempts in which nobody is known to be.
    let vote = |attempt, number: u8| {
        let vote =
            voted(&cluster.members[4].node, VoteOn::Window, attempt, VoteStep::Prevote, Some(Hash::of(&[number])));
        forge(vote, validator)
    };
    given(&mut node, &vote(0, 0));
    let second = given(&mut node, &vote(0, 1));
    assert!(second.iter().any(|output| matches!(output, Output::Equivocation { kind: "vote", .. })));
    for number in 2..34 {
        assert_eq!(given(&mut node, &vote(0, number)), []);
    }
    assert!(matches!(refused(&node, &vote(0, 34)), Reject::TooMany { kind: "vote", .. }));
    let mut flooded = node.clone();
    for attempt in 1..=4 {
        given(&mut flooded, &vote(attempt * 1000, 0));
    }
    assert!(matches!(refused(&flooded, &vote(7, 0)), Reject::TooMany { kind: "vote", .. }));
    // A vote that more than a third of the others gave as well is taken in after any number of other
    // statements.
    for (node, entry) in [(&mut node, vote(0, 34)), (&mut flooded, vote(7, 0))] {
        let Entry::Envelope(envelope) = &entry else { unreachable!() };
        let said: Signed<Vote> = envelope.open().unwrap();
        for other in &cluster.validators[1..3] {
            given(node, &forge(*said.payload(), other));
        }
        assert_eq!(accepted(&given(node, &entry)), 1);
    }
}

#[test]
fn scores_and_records_that_do_not_recompute_are_refused() {
    let mut cluster = Cluster::started(&[1, 1], 3, 2);
    let proposer = cluster.validators[0].clone();
    cluster.run(&mut Order(9), |cluster| !proposed(cluster).is_empty());
    let WindowRecord { header, body } = proposed(&cluster).remove(0);
    let score = said::<Score>(&cluster)
        .into_iter()
        .find(|score| score.signer() == proposer.public())
        .unwrap()
        .payload()
        .clone();
    // A node that has everything of the window but scores and record.
    let mut node = Node::new(cluster.members[0].node.state().clone(), None);
    let journal = &cluster.members[0].journal;
    let rest = journal.iter().filter(|entry| match entry {
        Entry::Envelope(envelope) => !matches!(payload::peek(&envelope.payload), Ok((Kind::Score, _))),
        Entry::Reveal(_) | Entry::Evidence(_) => true,
        Entry::Record(_) => false,
    });
    for entry in rest {
        given(&mut node, entry);
    }
    let mut wrong = score.clone();
    let measured = wrong.entries.iter_mut().find_map(|entry| match &mut entry.evaluation {
        Evaluation::Measured(measured) => Some(measured),
        _ => None,
    });
    measured.unwrap().claim = Hash::default();
    let Reject::Score(ScoreError::Entry { rule, .. }) = refused(&node, &forge(wrong, &proposer)) else { panic!() };
    assert_eq!(rule, "a proof whose claim is not its own witness");
    let mut wrong = score.clone();
    wrong.seed = Hash::default();
    assert_eq!(refused(&node, &forge(wrong, &proposer)), Reject::Score(ScoreError::Foreign("seed")));
    let mut wrong = score.clone();
    wrong.cut = CutId::default();
    assert_eq!(refused(&node, &forge(wrong, &proposer)), Reject::OtherCut("score"));

    let forge_record = |body| forge_record(&header, body, &proposer);
    let mut of_another_cut = body.clone();
    of_another_cut.cut = CutId::default();
    assert_eq!(refused(&node, &forge_record(of_another_cut)), found_wrong(Reject::OtherCut("window")));
    let mut off_chain = body.clone();
    off_chain.reveals[0].value = Hash::default();
    let off = Reject::Record(AdvanceError::Differs(RecordField::Reveals));
    assert_eq!(refused(&node, &forge_record(off_chain)), found_wrong(off));
    // A body that its header does not name is no record, whoever signed the header.
    let other = WindowHeader { body_root: Hash::of(b"another body").into(), ..header };
    let torn = Unsigned::Window(Box::new(WindowRecord { header: other, body: body.clone() })).sign(&proposer);
    assert_eq!(refused(&node, &torn), Reject::OtherBody(proposer.public().short()));
    let previous = Some(Hash::of(b"another record").into());
    let later = WindowHeader { window: header.window.next(), previous, ..header };
    let torn = Unsigned::Window(Box::new(WindowRecord { header: later, body: body.clone() })).sign(&proposer);
    assert_eq!(refused(&node, &torn), Reject::OtherBody(proposer.public().short()));
    // One with wrong money cannot be told while its scores are unknown, and is found out as soon as they are here.
    let mut generous = body.clone();
    generous.mints[0].amount_micros += 1;
    let unaware = node.clone();
    given(&mut node, &forge_record(generous.clone()));
    let mut outputs = Vec::new();
    for score in said::<Score>(&cluster) {
        outputs.extend(given(&mut node, &Entry::Envelope(score.envelope())));
    }
    let found = outputs.iter().find_map(|output| match output {
        Output::Wrong { reject, .. } => Some(reject.clone()),
        _ => None,
    });
    assert_eq!(found, Some(Reject::Record(AdvanceError::Differs(RecordField::Mints))));
    let mut aware = unaware;
    for score in said::<Score>(&cluster) {
        given(&mut aware, &Entry::Envelope(score.envelope()));
    }
    assert_eq!(
        refused(&aware, &forge_record(generous)),
        found_wrong(Reject::Record(AdvanceError::Differs(RecordField::Mints)))
    );
    // A right body under a header with another state.
    let wrong = WindowHeader { state_root: Hash::of(b"another state"), ..header };
    let wrong = Unsigned::Window(Box::new(WindowRecord { header: wrong, body: body.clone() })).sign(&proposer);
    let differs = Reject::Record(AdvanceError::Differs(RecordField::StateRoot));
    assert_eq!(refused(&aware, &wrong), found_wrong(differs));
    assert_eq!(accepted(&given(&mut node, &forge_record(body))), 1);
}

#[test]
fn a_validator_signs_no_second_cut_and_no_foreign_checkpoint() {
    let mut cluster = Cluster::started(&[1, 1], 3, 1);
    let mut order = Order(6);
    let voter = 1;
    // The proposer's record, with another checkpoint: the voter recomputes, and disputes it.
    cluster.run(&mut order, |cluster| !proposed(cluster).is_empty());
    let mut record = proposed(&cluster).remove(0);
    record.header.checkpoint = Hash::of(b"poisoned").into();
    let proposer = cluster.validators[0].clone();
    let start = cluster.members[voter].node.state().clone();
    let mut node = Node::new(start, Some(cluster.validators[voter].public()));
    let votes = |entry: &Entry| match entry {
        Entry::Envelope(envelope) => envelope.open::<Vote>().is_ok_and(|vote| vote.payload().on == VoteOn::Window),
        Entry::Reveal(_) | Entry::Evidence(_) | Entry::Record(_) => false,
    };
    for entry in cluster.members[voter].journal.iter().chain(&cluster.members[0].journal) {
        if !matches!(entry, Entry::Record(_)) && !votes(entry) {
            given(&mut node, entry);
        }
    }
    let id = record.id().hash();
    let prevote = voted(&node, VoteOn::Window, 0, VoteStep::Prevote, Some(id));
    given(&mut node, &forge(prevote, &proposer));
    let entry = forge_record(&record.header, record.body.clone(), &proposer);
    let mut outputs = given(&mut node, &entry);
    // It does all work honestly that it is asked for.
    for _ in 0..8 {
        let cheat = cluster.cheat;
        let inputs: Vec<Input> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::Confirm { window, subject, task, .. } => {
                    Some(Input::Measured(confirmed(*window, *subject, task, replayed(&subject.miner, &cheat))))
                }
                Output::Apply { window, outcomes, .. } => Some(Input::Measured(Measured::Applied {
                    window: *window,
                    outcomes: outcomes.clone(),
                    stepped: stepped(Hash::of(b"honest").into(), record.body.held_out_loss_nanonats),
                })),
                Output::Sign(Unsigned::Vote(vote)) if vote.value == Some(id) => {
                    panic!("voted for a checkpoint that it did not compute")
                }
                _ => None,
            })
            .collect();
        for input in inputs {
            outputs = node.step(input).unwrap();
        }
    }
    assert!(node.todo().iter().any(|output| matches!(output, Output::Dispute(Dispute::Record { .. }))));

    // Nor is it ever asked for a vote on a second cut, even if the proposer signs several.
    let (run, window) = (node.state().run(), node.state().window());
    let cut = Cut { run, window, inboxes: vec![InboxId::default()], contributions: vec![], registrations: vec![] };
    let prevote = voted(&node, VoteOn::Cut, 0, VoteStep::Prevote, Some(payload::id_of(&cut)));
    given(&mut node, &forge(prevote, &proposer));
    given(&mut node, &forge(cut, &proposer));
    let is_vote = |output: &Output| matches!(output, Output::Sign(Unsigned::Vote(vote)) if vote.on == VoteOn::Cut);
    assert!(!node.todo().iter().any(is_vote));
}

/// A validator refuses an honest miner. The others replay it, and neither count nor sign that score; with three
/// of four left the window closes with the miner accepted.
#[test]
fn a_false_refusal_is_confirmed_by_nobody() {
    let mut cluster = Cluster::new(&[1, 1, 1, 1], 12, 1);
    cluster.cheat = nobody();
    let liar = cluster.validators[3].clone();
    cluster.silent.insert(liar.public());
    cluster.wake();
    let mut order = Order(2);
    // All but the liar bring the window to the point where only its score is missing. It does its other duties.
    cluster.run(&mut order, |_| false);
    for _ in 0..8 {
        let duties: Vec<Entry> = cluster.members[3]
            .node
            .todo()
            .into_iter()
            .filter_map(|output| match output {
                Output::Sign(Unsigned::Vote(vote)) if vote.on == VoteOn::Window => None,
                Output::Sign(
                    document @ (Unsigned::Inbox(_) | Unsigned::Cut(_) | Unsigned::Reveals(_) | Unsigned::Vote(_)),
                ) => Some(document.sign(&liar)),
                Output::Reveal { window } => Some(Entry::Reveal(RevealEntry {
                    run: cluster.members[3].node.state().run(),
                    window,
                    validator: liar.public(),
                    value: chain_value(&liar, window),
                })),
                _ => None,
            })
            .collect();
        for entry in duties {
            cluster.send_to_all(&entry);
        }
        cluster.run(&mut order, |_| false);
    }
    let node = &cluster.members[3].node;
    let judging = node.judging().expect("everybody has revealed");
    assert_eq!(judging.reveals().len(), 4);
    let plan = node.state().judge_plan(judging, &liar.public()).unwrap();
    let mut entries = measured(judging, &plan, &cluster.cheat);
    let victim = entries.iter().position(|entry| plan.replay.contains(&entry.miner)).unwrap();
    entries[victim].replay = Replay::Refused(Refusal::Mismatch { step: 1, tensor: "t".to_owned() });
    entries[victim].proof = None;
    let victim = entries[victim].miner;
    let score = node.state().score(judging, &liar.public(), Judgement::of_the_window(entries)).unwrap();
    cluster.send_to_all(&forge(score, &liar));
    cluster.run(&mut order, |_| false);
    cluster.expire();
    cluster.run(&mut order, |_| false);
    let closed = &cluster.members[0].node.closed()[0];
    assert_eq!(closed.scores.len(), 3);
    let outcome = closed.window.body.outcomes.iter().find(|outcome| outcome.miner == victim).unwrap();
    // Its replayer lied, so nobody vouches for the victim in this window; but it is not called a cheat.
    assert_eq!(outcome.verdict, Verdict::Refused(Refusal::NotReplayed));
    assert!(closed.record_certificate.witnesses.iter().all(|witness| witness.signer != liar.public()));
    // It named the first step, and nobody took another again.
    assert!(!cluster.uptos.is_empty() && cluster.uptos.iter().all(|upto| *upto == Some(1)), "{:?}", cluster.uptos);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// One flipped bit anywhere in any entry is refused, or is nothing new; the state stays as it is.
    #[test]
    fn a_flipped_bit_changes_nothing(order in 0u64..3, steps in 1usize..400, pick in any::<usize>(), bit in any::<usize>()) {
        let mut cluster = Cluster::started(&[1, 1], 3, 2);
        let left = std::cell::Cell::new(steps);
        cluster.run(&mut Order(order), |_| {
            left.set(left.get() - 1);
            left.get() == 0
        });
        let said: Vec<Entry> = cluster.members.iter().flat_map(|member| member.journal.clone()).collect();
        prop_assume!(!said.is_empty());
        let mut bytes = said[pick % said.len()].encode();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(entry) = Entry::decode(&bytes) {
            for member in &cluster.members {
                let mut after = member.node.clone();
                if let Ok(outputs) = after.step(Input::Entry(entry.clone())) {
                    prop_assert_eq!(outputs, vec![]);
                }
                prop_assert_eq!(&after, &member.node);
            }
        }
    }
}
