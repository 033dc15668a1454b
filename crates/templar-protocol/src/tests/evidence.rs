//! Evidence: statements that contradict each other, statements that do not, and the cost of a contradiction.

use templar_manifest::*;

use super::fixture::*;
use crate::run::evidence::EvidenceError;
use crate::*;

fn shown(state: &RunState, miner: &SecretKey, nonces: [u8; 2]) -> Contradiction {
    let say = |nonce| Signed::sign(contribution(state, &miner.public(), nonce), miner).envelope();
    evidence::of(state.window(), say(nonces[0]), say(nonces[1]))
}

fn entry(run: RunId, window: u64, contradiction: &Contradiction) -> Entry {
    let (window, contradiction) = (WindowIndex(window), contradiction.clone());
    Entry::Evidence(Box::new(EvidenceEntry { run, window, contradiction }))
}

/// A run in which nobody cheats, the state before its first window, and a miner that can contradict itself there.
fn before_the_first_window() -> (Cluster, RunState, SecretKey) {
    let mut cluster = Cluster::new(&[1, 1], 3, 6);
    cluster.cheat = nobody();
    let (first, miner) = (cluster.members[0].node.state().clone(), cluster.miners[1].clone());
    (cluster, first, miner)
}

#[test]
fn evidence_that_proves_nothing_is_refused_by_its_name() {
    let cluster = Cluster::new(&[1, 1], 2, 3);
    let state = cluster.members[0].node.state();
    let (miner, other) = (&cluster.miners[0], &cluster.miners[1]);
    let good = shown(state, miner, [0, 1]);
    assert_eq!(state.check_evidence(&good), Ok(()));
    let name = miner.public().short();
    let error = |change: &dyn Fn(&mut Contradiction)| {
        let mut evidence = good.clone();
        change(&mut evidence);
        state.check_evidence(&evidence).unwrap_err()
    };
    let another = |what: &'static str| EvidenceError::Other { signer: name.clone(), what };
    // The same twice, or in the other order.
    assert_eq!(error(&|e| e.second = e.first.clone()), EvidenceError::Same(name.clone()));
    assert_eq!(error(&|e| std::mem::swap(&mut e.first, &mut e.second)), EvidenceError::Same(name.clone()));
    // Somebody else's statement, or one that somebody else signed.
    let of_other = shown(state, other, [0, 1]);
    assert_eq!(error(&|e| e.second = of_other.second.clone()), another("signer"));
    assert_eq!(
        error(&|e| e.signer = other.public()),
        EvidenceError::Other { signer: other.public().short(), what: "signer" }
    );
    let forged = |e: &mut Contradiction| e.second.signature = e.first.signature;
    assert!(matches!(error(&forged), EvidenceError::Envelope { source: EnvelopeError::Key(_), .. }));
    let broken = |e: &mut Contradiction| e.first.payload.truncate(20);
    assert!(matches!(error(&broken), EvidenceError::Envelope { source: EnvelopeError::Decode(_), .. }));
    // Of two kinds, and of a kind of which many things may be said.
    let inbox = Inbox {
        run: state.run(),
        window: state.window(),
        validator: miner.public(),
        contributions: vec![],
        registrations: vec![],
    };
    let inbox = Signed::sign(inbox, miner).envelope();
    assert_eq!(error(&|e| e.second = inbox.clone()), another("kind"));
    let genesis = Signed::sign(Genesis::clone(state.genesis()), miner).envelope();
    assert_eq!(error(&|e| e.second = genesis.clone()), EvidenceError::Kind(Kind::Genesis));
    // Of another window or run, or of a window that is not open.
    let elsewhere = |change: &dyn Fn(&mut Contribution)| {
        let mut claimed = contribution(state, &miner.public(), 1);
        change(&mut claimed);
        let envelope = Signed::sign(claimed, miner).envelope();
        error(&|e| e.second = envelope.clone())
    };
    assert_eq!(elsewhere(&|c| c.window = WindowIndex(7)), another("window"));
    assert_eq!(elsewhere(&|c| c.run = RunId::default()), another("run"));
    let early = EvidenceError::Window { signer: name, window: WindowIndex(1) };
    assert_eq!(error(&|e| e.window = WindowIndex(1)), early);
    let stranger = SecretKey::from_bytes(&[77; 32]);
    let strange = shown(state, &stranger, [0, 1]);
    assert_eq!(state.check_evidence(&strange), Err(EvidenceError::Stranger(stranger.public().short())));
}

/// A miner signs two contributions in a window. A validator that hears both shows them in its score. The record
/// slashes the miner's unvested pay, once, even if the same evidence is shown again.
#[test]
fn who_contradicts_itself_is_shown_and_loses_what_has_not_vested() {
    let mut cluster = Cluster::new(&[1, 1], 3, 6);
    cluster.cheat = nobody();
    cluster.wake();
    let mut order = Order(2);
    let at = |cluster: &Cluster| cluster.members[0].node.state().window().0;
    cluster.run(&mut order, |cluster| at(cluster) == 2);
    let liar = cluster.miners[2].clone();
    let state = cluster.members[0].node.shared_state();
    // The second statement reaches the validators before they have scored.
    let second = Signed::sign(contribution(&state, &liar.public(), 9), &liar);
    for validator in 0..2 {
        if cluster.members[validator].node.state().window().0 == 2 {
            cluster.deliver(validator, Input::Entry(Entry::Envelope(second.envelope())));
        }
    }
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.is_over()));
    let node = &cluster.members[0].node;
    assert!(node.is_over(), "stalled");
    let slashes: Vec<(u64, Slash)> = node
        .closed()
        .iter()
        .flat_map(|closed| closed.window.body.slashes.iter().map(|slash| (closed.window.header.window.0, *slash)))
        .collect();
    let [(recorded, slash)] = slashes[..] else { panic!("{slashes:?}") };
    assert_eq!((slash.account, slash.cause, slash.window), (liar.public(), SlashCause::Contradiction, WindowIndex(2)));
    let before = node.state_at(WindowIndex(recorded)).unwrap();
    assert_eq!(slash.amount_micros, before.ledger().accounts()[&liar.public()].vesting_micros());
    assert!(slash.amount_micros > 0);
    // It keeps its slot and its standing, and is paid for what it does afterwards.
    assert!(!node.state().is_expelled(&liar.public()));
    // Shown again it is refused; and it is found where the record is changed.
    let evidence = node.closed()[recorded as usize].scores.iter().find_map(|score| score.payload().evidence.first());
    let after = node.state_at(WindowIndex(recorded + 1)).unwrap();
    let paid = EvidenceError::Paid(liar.public().short());
    assert_eq!(after.check_evidence(evidence.expect("it was shown")), Err(paid));
    let changes: [fn(&mut Slash); 3] = [
        |slash| slash.amount_micros -= 1,
        |slash| slash.window = WindowIndex(1),
        |slash| slash.cause = SlashCause::Mismatch,
    ];
    for change in changes {
        let mut changed = node.closed()[recorded as usize].clone();
        change(&mut changed.window.body.slashes[0]);
        named_again(&mut changed);
        assert_eq!(before.clone().advance(&changed), Err(AdvanceError::Differs(RecordField::Slashes)));
    }
}

/// An observer hands in two statements long after their window. They reach the validators like any entry, one
/// score is enough, and the record slashes.
#[test]
fn what_anybody_hands_in_is_shown_and_slashed() {
    let (mut cluster, first, miner) = before_the_first_window();
    let say = |nonce| Signed::sign(contribution(&first, &miner.public(), nonce), &miner).envelope();
    let found = evidence::of_two(&first.run(), say(5), say(6)).unwrap();
    assert_eq!(Ok(found.clone()), evidence::of_two(&first.run(), say(6), say(5)));
    cluster.wake();
    let mut order = Order(3);
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.state().window().0 >= 2));
    // The node that has no key and no part in the run.
    let follower = cluster.members.len() - 1;
    let node = cluster.members[follower].node.clone();
    let (run, window) = (first.run(), node.state().window().0);
    let now = |contradiction: &Contradiction| entry(run, window, contradiction);
    // Evidence that proves nothing is refused by name, and nothing changes.
    let refused = |entry: Entry| {
        let mut after = node.clone();
        let reject = after.step(Input::Entry(entry)).unwrap_err();
        assert_eq!(after, node);
        reject
    };
    let mut same = found.clone();
    same.second = same.first.clone();
    assert_eq!(refused(now(&same)), Reject::Evidence(EvidenceError::Same(miner.public().short())));
    let mut late = found.clone();
    late.window = WindowIndex(9);
    let other = EvidenceError::Other { signer: miner.public().short(), what: "window" };
    assert_eq!(refused(now(&late)), Reject::Evidence(other));
    let mut forged = found.clone();
    forged.second.signature = forged.first.signature;
    assert!(matches!(refused(now(&forged)), Reject::Evidence(EvidenceError::Envelope { .. })));
    let strange = keys("stranger", 1).remove(0);
    let by_stranger = |nonce| Signed::sign(contribution(&first, &miner.public(), nonce), &strange).envelope();
    let of_stranger = evidence::of_two(&run, by_stranger(5), by_stranger(6)).unwrap();
    assert_eq!(refused(now(&of_stranger)), Reject::Evidence(EvidenceError::Stranger(strange.public().short())));
    assert!(matches!(refused(entry(run, window + 1, &found)), Reject::Early { .. }));
    assert!(matches!(refused(entry(RunId::default(), window, &found)), Reject::Evidence(_)));
    // One is enough: another against the same signer and window has no room, and is no reason to ask again.
    let mut taken = node.clone();
    taken.step(Input::Entry(now(&found))).unwrap();
    let rival = evidence::of_two(&run, say(5), say(7)).unwrap();
    let before = taken.clone();
    assert_eq!(taken.step(Input::Entry(now(&rival))), Err(Reject::Shown(miner.public().short())));
    assert_eq!(taken, before);
    // It came from far away from the validators, and they show the same statements.
    cluster.send(follower, now(&found));
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.is_over()));
    let node = &cluster.members[0].node;
    super::certified::fold_through_copies(node);
    let slashes: Vec<&Slash> = node.closed().iter().flat_map(|closed| &closed.window.body.slashes).collect();
    assert_eq!(slashes.len(), 1, "{slashes:?}");
    assert_eq!(
        (slashes[0].account, slashes[0].cause, slashes[0].window),
        (miner.public(), SlashCause::Contradiction, WindowIndex(0))
    );
    assert!(slashes[0].amount_micros > 0);
    let shown = node.closed().iter().flat_map(|closed| &closed.scores).flat_map(|score| &score.payload().evidence);
    assert!(shown.clone().count() > 0 && shown.into_iter().all(|shown| *shown == found));
}

/// Evidence that is handed in when all have scored is shown by the scores of the next window.
#[test]
fn what_is_handed_in_after_the_scores_is_shown_in_the_next_window() {
    let (mut cluster, first, miner) = before_the_first_window();
    let found = shown(&first, &miner, [5, 6]);
    cluster.wake();
    let mut order = Order(4);
    let scored = |cluster: &Cluster| {
        let nodes = cluster.members[..2].iter().map(|member| &member.node);
        nodes.clone().all(|node| node.state().window().0 == 2 && node.scores().count() == 2)
    };
    cluster.run(&mut order, scored);
    assert!(scored(&cluster), "there is no such moment in this order");
    let entry = || entry(first.run(), 2, &found);
    for validator in 0..2 {
        cluster.send(validator, entry());
    }
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.state().window().0 >= 3));
    // It is kept, and not taken once more.
    let before = cluster.members[0].node.clone();
    let mut after = before.clone();
    assert_eq!((after.step(Input::Entry(entry())), before.state().window().0), (Ok(Vec::new()), 3));
    assert_eq!(after, before);
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.is_over()));
    let slashed =
        |closed: &ClosedWindow| closed.window.body.slashes.iter().map(|slash| slash.account).collect::<Vec<_>>();
    let slashes: Vec<Vec<PublicKey>> = cluster.members[0].node.closed().iter().map(slashed).collect();
    assert_eq!(slashes[3], [miner.public()], "{slashes:?}");
    assert_eq!(slashes.concat().len(), 1);
}

/// Evidence that was handed in for a window and reaches everybody after it has closed is shown in the open one.
#[test]
fn what_comes_when_its_window_has_closed_is_shown_in_the_open_one() {
    let (mut cluster, first, miner) = before_the_first_window();
    let found = shown(&first, &miner, [5, 6]);
    let entry = |window, contradiction: &Contradiction| entry(first.run(), window, contradiction);
    cluster.wake();
    let mut order = Order(5);
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.state().window().0 >= 2));
    let follower = cluster.members.len() - 1;
    cluster.send(follower, entry(1, &found));
    // Nothing of what comes in addition is an offence: the same for another window, and other statements of the
    // same signer and window.
    let mut node = cluster.members[follower].node.clone();
    let rival = shown(&first, &miner, [5, 7]);
    assert!(matches!(node.step(Input::Entry(entry(1, &found))).unwrap()[..], [Output::Accepted { .. }]));
    let before = node.clone();
    for late in [entry(0, &found), entry(1, &rival)] {
        assert_eq!(node.step(Input::Entry(late)), Ok(Vec::new()));
        assert_eq!(node, before);
    }
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.state().window().0 >= 5));
    let node = &cluster.members[follower].node;
    super::certified::fold_through_copies(node);
    let slashes: Vec<&Slash> = node.closed().iter().flat_map(|closed| &closed.window.body.slashes).collect();
    assert_eq!(slashes.len(), 1, "{slashes:?}");
    assert_eq!((slashes[0].account, slashes[0].cause), (miner.public(), SlashCause::Contradiction));
    // It is paid for. A node that hears of it once more has nothing to do.
    let mut after = node.clone();
    assert_eq!(after.step(Input::Entry(entry(1, &found))), Ok(Vec::new()));
    assert_eq!(&after, node);
}
