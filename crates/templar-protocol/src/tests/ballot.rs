//! Every course that a vote can take among four validators, one of them faulty, up to a number of attempts.
//!
//! The search asks the real code (`Ballot`, `voting.rs`) what each honest validator would say, and follows every
//! answer. It allows more than can happen, so what it does not find cannot happen:
//!
//! * A validator may see any part of the votes that others have given, another part each time, and may forget
//!   what it saw. It remembers only its own votes, as a journal does.
//! * The faulty validator says anything to anybody: another vote in each step to each validator each time.
//! * Any timer may be up, and any of the two cuts may be the validator's own.
//!
//! In every state somebody has more to say: no course ends before a cut is decided, whatever the faulty validator shows
//! to whom.
//!
//! Votes for nothing are played too. A state is the votes that the three honest validators have given, two bits
//! for each step. What a validator would say follows from its own votes and from parts of those of others, so it
//! is worked out once for each such view.

use std::collections::{BTreeSet, HashMap, HashSet};

use templar_manifest::*;

use super::fixture::*;
use crate::*;

/// The votes of a validator, two bits for each step of each attempt: none given, for nothing, for the first or
/// the second cut. Prevotes have the lower bits of an attempt.
type Votes = u32;

const VALIDATORS: usize = 4;
const STEPS: [VoteStep; 2] = [VoteStep::Prevote, VoteStep::Precommit];

fn vote_at(votes: Votes, place: u32) -> u32 {
    votes >> (2 * place) & 3
}

/// The places at which a validator has voted.
fn given(votes: Votes) -> impl Iterator<Item = u32> {
    (0..16).filter(move |place| vote_at(votes, *place) != 0)
}

/// The latest attempt in which a validator has voted.
fn attempt_of(votes: Votes) -> u32 {
    given(votes).last().map_or(0, |place| place / 2)
}

/// A search: the nodes that are asked, what they have answered, and how they remember.
struct Search {
    /// For each honest validator: a node whose own cut is the first one, and one whose own is the second.
    honest: Vec<[Node; 2]>,
    keys: Vec<PublicKey>,
    faulty: usize,
    cuts: [Hash; 2],
    attempts: u32,
    /// Whether validators forget what they precommitted, so that they have no locks.
    amnesia: bool,
    answers: HashMap<(usize, Votes, Votes, Votes), Vec<u32>>,
    /// How often the real code was asked.
    asked: u64,
}

impl Search {
    /// A window of four validators in which all contributions and inboxes are known, and two cuts are proposed: one
    /// of the inboxes of the honest, and one of all.
    fn new(faulty: usize, attempts: u32, amnesia: bool) -> Self {
        let cluster = Cluster::new(&[1; VALIDATORS], 2, 1);
        let state = cluster.members[0].node.state().clone();
        let (run, window) = (state.run(), state.window());
        let said: Vec<Signed<Contribution>> =
            cluster.miners.iter().map(|key| Signed::sign(contribution(&state, &key.public(), 0), key)).collect();
        let named = said.iter().map(|signed| CutEntry { miner: signed.signer(), contribution: signed.id().into() });
        let named: Vec<CutEntry> = named.collect();
        let inbox = |key: &SecretKey| {
            let (validator, contributions) = (key.public(), named.clone());
            Signed::sign(Inbox { run, window, validator, contributions, registrations: vec![] }, key)
        };
        let inboxes: Vec<Signed<Inbox>> = cluster.validators.iter().map(inbox).collect();
        let cut = |left_out: Option<usize>| {
            let listed = inboxes.iter().enumerate().filter(|(place, _)| Some(*place) != left_out);
            let listed: Vec<_> = listed.map(|(_, inbox)| (inbox.id().into(), inbox.payload())).collect();
            Signed::sign(state.cut(&listed).unwrap(), &cluster.validators[faulty])
        };
        let cuts = [cut(Some(faulty)), cut(None)];
        let node = |who: usize, own: usize| {
            let mut node = Node::new(state.clone(), Some(cluster.validators[who].public()));
            let mut take = |envelope: Envelope| drop(node.step(Input::Entry(Entry::Envelope(envelope))).unwrap());
            said.iter().for_each(|signed| take(signed.envelope()));
            let here = inboxes.iter().enumerate().filter(|(place, _)| own == 1 || *place != faulty);
            here.for_each(|(_, inbox)| take(inbox.envelope()));
            cuts.iter().for_each(|cut| take(cut.envelope()));
            node
        };
        let honest = (0..VALIDATORS).filter(|who| *who != faulty).map(|who| [node(who, 0), node(who, 1)]).collect();
        let keys = cluster.validators.iter().map(SecretKey::public).collect();
        let cuts = cuts.map(|cut| cut.id());
        Self { honest, keys, faulty, cuts, attempts, amnesia, answers: HashMap::new(), asked: 0 }
    }

    /// The validator with this number among the honest.
    fn key(&self, honest: usize) -> PublicKey {
        self.keys[honest + usize::from(honest >= self.faulty)]
    }

    fn vote(&self, place: u32, value: u32) -> Vote {
        let state = self.honest[0][0].state();
        let value = value.checked_sub(2).map(|cut| self.cuts[cut as usize]);
        let step = STEPS[place as usize % 2];
        Vote { run: state.run(), window: state.window(), on: VoteOn::Cut, attempt: place / 2, step, value }
    }

    /// A vote as the search writes it; `None` beyond the attempts that are searched.
    fn written(&self, vote: &Vote) -> Option<u32> {
        let place = 2 * vote.attempt + u32::from(vote.step == VoteStep::Precommit);
        let value = vote.value.map_or(1, |value| if value == self.cuts[0] { 2 } else { 3 });
        (vote.attempt < self.attempts).then_some(value << (2 * place))
    }

    /// The next votes of a validator, for its own votes and any parts of those of the two others.
    fn answers(&mut self, who: usize, own: Votes, others: [Votes; 2]) -> Vec<u32> {
        // Precommits of earlier attempts change nothing any more, unless they decide.
        let at = attempt_of(own);
        let past = (0..at).fold(0, |past, attempt| past | 3 << (4 * attempt + 2));
        let others = others.map(|votes| votes & !past);
        let view = (who, own, others[0], others[1]);
        if let Some(known) = self.answers.get(&view) {
            return known.clone();
        }
        let mut found: BTreeSet<u32> = self.asked_with(who, own, others).into_iter().collect();
        // Of earlier attempts a validator knows all prevotes or none, which gives it the most and the fewest polkas.
        for place in given(others[0]).filter(|place| place / 2 >= at) {
            found.extend(self.answers(who, own, [others[0] & !(3 << (2 * place)), others[1]]));
        }
        for place in given(others[1]).filter(|place| place / 2 >= at) {
            found.extend(self.answers(who, own, [others[0], others[1] & !(3 << (2 * place))]));
        }
        let found: Vec<u32> = found.into_iter().collect();
        self.answers.insert(view, found.clone());
        found
    }

    /// The answers of the real code with exactly these votes of the others in this attempt and later, whatever it
    /// knows of earlier ones, whatever the faulty one says, whichever timers are up, and whichever cut is its own.
    fn asked_with(&mut self, who: usize, own: Votes, others: [Votes; 2]) -> Vec<u32> {
        let at = attempt_of(own);
        let faulty = self.keys[self.faulty];
        // Without locks a validator remembers that it precommitted, and not what.
        let remembered = |place: u32| if self.amnesia && place % 2 == 1 { 1 } else { vote_at(own, place) };
        let own: Vec<(PublicKey, Vote)> =
            given(own).map(|place| (self.key(who), self.vote(place, remembered(place)))).collect();
        let has_precommitted = own.last().is_some_and(|(_, vote)| vote.step == VoteStep::Precommit);
        // What the faulty one says matters where this validator looks next: in its step of this attempt, and in the
        // next attempt.
        let step = 2 * at + u32::from(has_precommitted);
        let mut answers = Vec::new();
        for (known, now, next) in (0..1 << at).flat_map(|known| (0..16).map(move |lie| (known, lie / 4, lie % 4))) {
            let mut votes = own.clone();
            let is_known = |place: &u32| place / 2 >= at || known >> (place / 2) & 1 == 1;
            for (other, said) in (0..3).filter(|other| *other != who).zip(others) {
                let said = given(said).filter(is_known).map(|place| self.vote(place, vote_at(said, place)));
                votes.extend(said.map(|vote| (self.key(other), vote)));
            }
            let earlier = (0..at).filter(|attempt| known >> attempt & 1 == 1);
            let earlier = earlier.flat_map(|attempt| [(2 * attempt, 2), (2 * attempt, 3)]);
            let told = [(step, now), (2 * at + 2, next)].into_iter().filter(|(_, value)| *value != 0);
            votes.extend(earlier.chain(told).map(|(place, value)| (faulty, self.vote(place, value))));
            for (is_late, own_cut) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
                self.asked += 1;
                for output in self.honest[who][own_cut].would(VoteOn::Cut, &votes, is_late) {
                    if let Output::Sign(Unsigned::Vote(vote)) = output {
                        answers.extend(self.written(&vote));
                    }
                }
            }
        }
        answers.sort_unstable();
        answers.dedup();
        answers
    }

    /// The cuts that are decided once the faulty validator votes for each in every step.
    fn decided(&self, votes: [Votes; 3]) -> usize {
        let is_decided = |value: u32| {
            let said = |place: u32| votes.iter().filter(|votes| vote_at(**votes, place) == value).count();
            (0..self.attempts).any(|attempt| (said(2 * attempt + 1) + 1) * 3 > VALIDATORS * 2)
        };
        [2, 3].into_iter().filter(|value| is_decided(*value)).count()
    }

    /// Whether no honest validator says anything more in a state, however long it waits, although each has all votes of
    /// the others. The faulty one is silent, or has shown each of them another vote. What it prevoted for a polka that
    /// one of them saw is everywhere, since more than a third of the others voted the same.
    fn is_stuck(&mut self, votes: [Votes; 3]) -> bool {
        let faulty = self.keys[self.faulty];
        let said = |who: usize| given(votes[who]).map(move |place| (who, place, vote_at(votes[who], place)));
        let here: Vec<(PublicKey, Vote)> =
            (0..3).flat_map(said).map(|(who, place, value)| (self.key(who), self.vote(place, value))).collect();
        let of_polkas = (0..3).flat_map(said).filter(|(_, place, value)| place % 2 == 1 && *value > 1);
        let of_polkas = of_polkas.map(|(_, place, value)| (faulty, self.vote(place - 1, value)));
        let here: Vec<(PublicKey, Vote)> = here.iter().cloned().chain(of_polkas).collect();
        (0..3).all(|who| {
            let shown = [0, 1, 2, 3].map(|value| (value, 2 * attempt_of(votes[who])));
            shown.into_iter().any(|(value, place)| {
                let lie = Some((faulty, self.vote(place, value))).filter(|_| value != 0);
                let here: Vec<(PublicKey, Vote)> = here.iter().cloned().chain(lie).collect();
                self.honest[who][0].is_silent(VoteOn::Cut, &here)
            })
        })
    }

    /// Follows every course. Returns the number of states, or a state in which two cuts are decided.
    fn run(&mut self) -> Result<(usize, bool), [Votes; 3]> {
        let (mut seen, mut left) = (HashSet::from([[0; 3]]), vec![[0; 3]]);
        let mut is_decided = false;
        while let Some(votes) = left.pop() {
            let decided = self.decided(votes);
            if decided > 1 {
                return Err(votes);
            }
            is_decided |= decided == 1;
            assert!(decided > 0 || !self.is_stuck(votes), "nobody says anything more: {votes:x?}");
            for who in 0..3 {
                let others = [votes[(who + 1) % 3], votes[(who + 2) % 3]];
                let others = if who == 1 { [others[1], others[0]] } else { others };
                for answer in self.answers(who, votes[who], others) {
                    let mut next = votes;
                    next[who] |= answer;
                    if seen.insert(next) {
                        left.push(next);
                    }
                }
            }
        }
        Ok((seen.len(), is_decided))
    }
}

/// The faulty validator proposes in the first attempt, in the second, or in none.
fn search(attempts: u32) {
    for faulty in 0..3 {
        let mut search = Search::new(faulty, attempts, false);
        let found = search.run();
        println!("{attempts} attempts, faulty {faulty}: {found:?}, the code was asked {} times", search.asked);
        let (states, is_decided) = found.unwrap_or_else(|votes| panic!("two cuts are decided: {votes:x?}"));
        assert!(is_decided && states > 100, "{states} states");
    }
}

#[test]
fn no_course_of_one_attempt_decides_two_cuts() {
    search(1);
}

#[test]
#[ignore = "takes long: .ci/long ballot"]
fn no_course_of_two_attempts_decides_two_cuts() {
    search(2);
}

/// The search finds what is there to find: without locks two cuts are decided.
#[test]
fn without_locks_two_cuts_are_decided() {
    assert!(Search::new(0, 2, true).run().is_err());
}
