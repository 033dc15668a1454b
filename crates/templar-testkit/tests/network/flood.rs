//! An entry for which a node has no room, because its signer has said too much, is set aside. The node takes it once
//! other entries build on it.

use templar_home::Home;
use templar_home::access::Access;
use templar_home::replica::{Replica, Taken};
use templar_manifest::*;
use templar_protocol::{Entry, Output};

use super::{key, stage};

fn bytes<T: Payload>(payload: T, signer: &str) -> Vec<u8> {
    Entry::Envelope(Signed::sign(payload, &key(signer)).envelope()).encode()
}

fn accepted(taken: Taken) -> usize {
    let Taken::In(outputs) = taken else { panic!("{taken:?}") };
    outputs.iter().filter(|output| matches!(output, Output::Accepted { .. })).count()
}

#[test]
fn a_third_inbox_is_taken_when_a_cut_names_it_and_the_journal_can_be_folded() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _) = stage(dir.path(), 2, false, &[]);
    let access = Access::write(&dir.path().join("validator-1")).unwrap();
    let context = access.run(None).unwrap();
    let home: &Home = &access.home;
    let mut replica = Replica::open(home, context.clone(), key("validator-1")).unwrap();
    let state = replica.node().state().clone();
    let (window, steps) = (state.window(), state.genesis().inner.steps);
    let contribution = |miner: &str| Contribution {
        run,
        window,
        miner: key(miner).public(),
        parent: None,
        state_in: state.zero_state(),
        state_out: Hash::of(miner.as_bytes()).into(),
        delta: BlobId::of(miner.as_bytes()),
        delta_bytes: 1,
        trace: BlobId::of(miner.as_bytes()),
        trace_bytes: 1,
        steps,
        tokens: u64::from(steps) * 2 * 16,
        loss_nanonats: 1,
    };
    let miners = ["miner-1", "miner-2", "miner-3"];
    let mut entries: Vec<CutEntry> = Vec::new();
    for miner in miners {
        let claimed = contribution(miner);
        entries.push(CutEntry { miner: claimed.miner, contribution: payload::id_of(&claimed).into() });
        assert_eq!(accepted(replica.take(&bytes(claimed, miner)).unwrap()), 1);
    }
    entries.sort_unstable();
    let inbox = |validator: &str, named: &[CutEntry]| Inbox {
        run,
        window,
        validator: key(validator).public(),
        contributions: named.to_vec(),
        registrations: Vec::new(),
    };
    // The liar's third is too many, as long as nobody builds on it; then it is wanted.
    for count in 0..2 {
        assert_eq!(accepted(replica.take(&bytes(inbox("validator-2", &entries[..count]), "validator-2")).unwrap()), 1);
    }
    let third = inbox("validator-2", &entries);
    let third_bytes = bytes(third.clone(), "validator-2");
    for _ in 0..2 {
        assert_eq!(accepted(replica.take(&third_bytes).unwrap()), 0);
    }
    let own = inbox("validator-1", &entries);
    assert_eq!(accepted(replica.take(&bytes(own.clone(), "validator-1")).unwrap()), 1);
    let named = [(payload::id_of(&own).into(), &own), (payload::id_of(&third).into(), &third)];
    let cut = state.cut(&named).unwrap();
    assert_eq!(accepted(replica.take(&bytes(cut.clone(), "validator-2")).unwrap()), 2);
    assert_eq!(accepted(replica.take(&third_bytes).unwrap()), 0);
    let value = Some(payload::id_of(&cut));
    for validator in ["validator-1", "validator-2"] {
        let vote = Vote { run, window, on: VoteOn::Cut, attempt: 0, step: VoteStep::Precommit, value };
        assert_eq!(accepted(replica.take(&bytes(vote, validator)).unwrap()), 1);
    }
    assert_eq!(replica.node().cut().map(|(_, found)| found.clone()), Some(cut.clone()));
    let (before, entries) = (replica.node().clone(), replica.entries());
    drop(replica);
    let replica = Replica::open(home, context, key("validator-1")).unwrap();
    assert_eq!(replica.entries(), entries);
    assert_eq!(replica.node().cut(), before.cut());
}
