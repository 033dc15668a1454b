//! The votes on one decision of a window: its cut, its reveal set or its record. An attempt has two steps of voting.
//!
//! The rules are those of Tendermint (Buchman, Kwon, Milosevic, *The latest gossip on BFT consensus*,
//! arXiv:1807.04938), with three differences:
//!
//! * Nobody proposes in attempt 0, because every honest validator computes the same value from the same inboxes,
//!   hash-chain values or scores.
//! * A proposal is the prevote of the attempt's proposer.
//! * Only votes in a journal count. So a reader of a journal sees every lock and every majority that its writer
//!   saw.
//!
//! The good case takes three message delays, no more than the two steps of a proposer after the inboxes did.
//! Two delays are impossible with fewer than five times as many validators as faults (Abraham, Nayak, Ren,
//! Xiang, *Good-case latency of Byzantine broadcast*, arXiv:2102.07240).
//!
//! # Rules
//!
//! Attempts are numbered from 0. In each, a validator gives at most one *prevote* and then at most one
//! *precommit*, for the id of one cut, reveal set or record or for none. *More than two thirds* means of the stake.
//!
//! 1. Prevotes for one value by more than two thirds in one attempt are its **polka**.
//! 2. A validator precommits a value only in the attempt of its polka, and only if all that the value names is
//!    here and recomputes. It is then **locked** on the value. It precommits none when its time is up or when
//!    no value can have a polka any more, and then it prevotes before: others may not see that.
//! 3. A validator prevotes another value than the one it is locked on only if that other value has a polka in
//!    an attempt that is not before the lock's. In attempt 0 it prevotes the value that it computes itself, or
//!    the value that the proposer prevoted. Later it prevotes the value that the attempt's proposer prevoted.
//!    At the end of its time it prevotes the value of the newest polka, or none.
//! 4. After a vote in one attempt a validator gives none in an earlier one. It enters the next attempt in two
//!    cases: more than two thirds have precommitted something in this one, and its time is up or no value can
//!    win any more; or more than a third have voted in the next one.
//! 5. Precommits for one value by more than two thirds in one attempt are its **certificate**, and the value is
//!    decided.
//!
//! A vote is an entry. It is in the journal before it is sent, and rules 2 to 4 read the journal, so a restart
//! forgets no vote.
//!
//! # Safety: two values are never certified
//!
//! Suppose that less than a third of the stake is faulty and that v is certified in attempt r. *Claim: no other
//! value has a polka in r or later*, and therefore no certificate.
//!
//! In r itself: two polkas of one attempt share more than a third of the stake, and so an honest validator that
//! prevoted twice, which no honest validator does.
//!
//! Later: let r' > r be the first attempt in which another value w has a polka. Of the validators that
//! precommitted v in r, the honest ones hold more than a third. So one of them, p, prevoted w in r', and by
//! rule 4 after its precommit. At that time its lock was of an attempt from r to r' − 1 and, as that attempt
//! had a polka, on v. By rule 3, p had seen a polka of w in an attempt from r to r' − 1. So r' was not the
//! first, a contradiction. The argument does not depend on time.
//!
//! # Liveness: every decision ends
//!
//! Suppose that messages arrive in time again. Waiting times grow with the attempt. So there is an attempt with
//! times that are long enough and an honest proposer, in which all honest validators are together. Any entry
//! that one of them has accepted reaches the others, polkas included, because every entry that a vote or a body
//! names is admitted (`admission.rs`). The proposer prevotes the value of the newest polka, which no lock
//! forbids. If there is no polka, nobody is locked, and it prevotes the value that it computes. So all prevote
//! it, all precommit it, and it is decided. f faulty proposers in a row cost f attempts.
//!
//! No attempt hangs. Each honest validator prevotes and then precommits, so each sees more than two thirds of either
//! step, and a timer ends what does not win. A precommit without a prevote would break that: whoever was shown other
//! votes would wait for the prevote for ever.
//!
//! # Why no library
//!
//! *Verdict: keep our own ballot.* Malachite's core (`arc-malachitebft-core-driver` 0.8) implements the same paper.
//! `.ci/long malachite` plays the journals of validators through it (`tests/malachite`). In 1,500 random courses of 4 and
//! 7 validators with 59,045 votes and 23,988 decisions it voted, decided and waited as this module does, apart from the
//! differences by design that the test names, and found the same contradictions. So both follow the paper, and these
//! reasons decide:
//!
//! * A vote here is an entry of the journal, and so of the log that peers pull. The library brings a log of its own,
//!   which would be a second truth about which votes were given.
//! * Here all compute the same value in the good case, and nobody waits for a proposal. The library decides nothing
//!   before a proposal and its value are there.
//! * The library drops votes that are more than ten rounds ahead and queues those for heights to come. A reader of a
//!   journal must fold all of them, in any order, and end in the same state.
//! * It would not have prevented the stall that made us ask. Validators with less than a third of the stake once held windows open by
//!   releasing their values late. No two values were ever certified; the question that was voted on changed. The
//!   reveal set answers that (`voting.rs`).
//!
//! One fault of this module the library never had: a precommit of nothing without a prevote. Whoever was shown other votes
//! waited for that prevote, and one validator of seven that signed another vote for everybody stopped runs. The comparison
//! had named it a difference by design.
//!
//! `tests/ballot.rs` follows every course that a vote can take among four validators of whom one is faulty, with the
//! code of this module and of `voting.rs`, and finds two certificates as soon as validators forget their locks. In every
//! state that it reaches somebody has more to say.

use std::collections::BTreeMap;
use std::ops::Range;

use templar_manifest::{
    Envelope, Genesis, Hash, PublicKey, RunId, Signature, Vote, VoteOn, VoteStep, WindowIndex, payload,
};

use crate::stake::{self, more_than_a_third, more_than_two_thirds};

/// The votes of one step of one attempt: by value, then by validator.
///
/// The sums of stake are kept while votes come in, since they are asked for with every entry of a window.
#[derive(Debug, Clone, PartialEq, Default)]
struct Round {
    values: BTreeMap<Option<Hash>, Voters>,
    /// The stake of all voters, each counted once.
    stake: u64,
}

/// The validators that gave the same vote, with their signatures.
#[derive(Debug, Clone, PartialEq, Default)]
struct Voters {
    signatures: BTreeMap<PublicKey, Signature>,
    stake: u64,
}

/// All votes on one decision: the cut, the reveal set or the record.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Ballot {
    rounds: BTreeMap<(u32, VoteStep), Round>,
    /// The latest attempt in which each validator has voted.
    latest: BTreeMap<PublicKey, u32>,
    /// The highest of these.
    last: u32,
}

impl Voters {
    fn has(&self, signer: &PublicKey) -> bool {
        self.signatures.contains_key(signer)
    }
}

impl Round {
    /// Takes in a vote of a validator with this stake.
    fn insert(&mut self, value: Option<Hash>, signer: PublicKey, signature: Signature, stake: u64) {
        if !self.values.values().any(|voters| voters.has(&signer)) {
            self.stake += stake;
        }
        let voters = self.values.entry(value).or_default();
        if voters.signatures.insert(signer, signature).is_none() {
            voters.stake += stake;
        }
    }

    /// The value for which more than two thirds have voted.
    fn won(&self, genesis: &Genesis) -> Option<Hash> {
        let total = genesis.total_stake();
        let values = self.values.iter().filter_map(|(value, voters)| value.map(|value| (value, voters)));
        values.filter(|(_, voters)| more_than_two_thirds(voters.stake, total)).map(|(value, _)| value).next()
    }

    /// Whether more than two thirds have voted for anything.
    fn is_full(&self, genesis: &Genesis) -> bool {
        more_than_two_thirds(self.stake, genesis.total_stake())
    }

    /// Whether no value can win any more, however the others vote. A validator that has voted and votes again may still
    /// make one win.
    fn is_split(&self, genesis: &Genesis) -> bool {
        let total = genesis.total_stake();
        let left = total - self.stake;
        let values = self.values.iter().filter(|(value, _)| value.is_some());
        let most = values.map(|(_, voters)| voters.stake).max().unwrap_or(0);
        !more_than_two_thirds(most + left, total)
    }
}

impl Ballot {
    /// Takes in a vote of a validator with this stake.
    pub(super) fn insert(&mut self, vote: &Vote, signer: PublicKey, signature: Signature, stake: u64) {
        let round = self.rounds.entry((vote.attempt, vote.step)).or_default();
        round.insert(vote.value, signer, signature, stake);
        let latest = self.latest.entry(signer).or_default();
        *latest = vote.attempt.max(*latest);
        self.last = vote.attempt.max(self.last);
    }

    /// The values that a validator has voted for in one step. An honest one votes for one value.
    pub(super) fn said(&self, signer: &PublicKey, attempt: u32, step: VoteStep) -> impl Iterator<Item = Option<Hash>> {
        let values = self.rounds.get(&(attempt, step)).into_iter().flat_map(|round| &round.values);
        values.filter(|(_, voters)| voters.has(signer)).map(|(value, _)| *value)
    }

    pub(super) fn has_voted(&self, signer: &PublicKey, attempt: u32, step: VoteStep) -> bool {
        self.said(signer, attempt, step).next().is_some()
    }

    /// Whether validators other than `signer` with more than a third of the stake gave the same vote. If so, an
    /// honest one did.
    pub(super) fn is_supported(&self, genesis: &Genesis, vote: &Vote, signer: &PublicKey) -> bool {
        let voters = self.rounds.get(&(vote.attempt, vote.step)).and_then(|round| round.values.get(&vote.value));
        let own = voters.filter(|voters| voters.has(signer)).map_or(0, |_| stake::stake_of(genesis, [signer]));
        let others = voters.map_or(0, |voters| voters.stake) - own;
        more_than_a_third(others, genesis.total_stake())
    }

    /// All votes of a validator: attempt, step and value.
    pub(super) fn votes_of(&self, signer: &PublicKey) -> impl Iterator<Item = (u32, VoteStep, Option<Hash>)> {
        let rounds = self.rounds.iter();
        rounds.flat_map(move |((attempt, step), round)| {
            let said = round.values.iter().filter(move |(_, voters)| voters.has(signer));
            said.map(move |(value, _)| (*attempt, *step, *value))
        })
    }

    /// The number of votes of a validator in attempts after `attempt`.
    pub(super) fn votes_behind(&self, signer: &PublicKey, attempt: u32) -> usize {
        let rounds = self.rounds.iter().filter(|((of, _), _)| *of > attempt);
        rounds.flat_map(|(_, round)| round.values.values()).filter(|voters| voters.has(signer)).count()
    }

    /// Whether anybody has voted for this value.
    pub(super) fn names(&self, value: &Hash) -> bool {
        self.rounds.values().any(|round| round.values.contains_key(&Some(*value)))
    }

    /// The latest attempt in which an honest validator can be, as far as can be seen. In that attempt or later
    /// more than a third have voted, or more than two thirds have ended the one before.
    pub(super) fn open(&self, genesis: &Genesis) -> u32 {
        let ended =
            self.rounds.iter().rev().find(|((_, step), round)| *step == VoteStep::Precommit && round.is_full(genesis));
        ended.map_or(0, |((attempt, _), _)| attempt.saturating_add(1)).max(self.joined(genesis))
    }

    /// The latest attempt such that more than a third have voted in it or later.
    fn joined(&self, genesis: &Genesis) -> u32 {
        if self.last == 0 {
            return 0;
        }
        let mut latest: Vec<(u32, &PublicKey)> = self.latest.iter().map(|(key, attempt)| (*attempt, key)).collect();
        latest.sort_unstable_by(|a, b| b.cmp(a));
        let total = genesis.total_stake();
        let mut stake = 0;
        for (attempt, key) in latest {
            stake += stake::stake_of(genesis, [key]);
            if more_than_a_third(stake, total) {
                return attempt;
            }
        }
        0
    }

    /// The attempt that a validator is in (rule 4). `is_late` says whether its time in an attempt is up.
    pub(super) fn attempt(&self, genesis: &Genesis, me: &PublicKey, is_late: impl Fn(u32) -> bool) -> u32 {
        let mut attempt = self.latest.get(me).copied().unwrap_or(0).max(self.joined(genesis));
        while self
            .rounds
            .get(&(attempt, VoteStep::Precommit))
            .is_some_and(|round| round.is_full(genesis) && (round.is_split(genesis) || is_late(attempt)))
        {
            attempt = attempt.saturating_add(1);
        }
        attempt
    }

    pub(super) fn polka(&self, genesis: &Genesis, attempt: u32) -> Option<Hash> {
        self.rounds.get(&(attempt, VoteStep::Prevote)).and_then(|round| round.won(genesis))
    }

    /// The newest polka before an attempt.
    pub(super) fn last_polka(&self, genesis: &Genesis, before: u32) -> Option<Hash> {
        let rounds = self.rounds.range(..(before, VoteStep::Prevote)).rev();
        rounds.filter(|((_, step), _)| *step == VoteStep::Prevote).find_map(|(_, round)| round.won(genesis))
    }

    /// Whether a value has a polka in one of these attempts.
    pub(super) fn has_polka(&self, genesis: &Genesis, value: &Hash, attempts: Range<u32>) -> bool {
        let rounds = self.rounds.range((attempts.start, VoteStep::Prevote)..(attempts.end, VoteStep::Prevote));
        let mut polkas =
            rounds.filter(|((_, step), _)| *step == VoteStep::Prevote).filter_map(|(_, round)| round.won(genesis));
        polkas.any(|polka| polka == *value)
    }

    /// The lock of a validator: the attempt and value of its newest precommit for a value.
    pub(super) fn lock(&self, me: &PublicKey) -> Option<(u32, Hash)> {
        let rounds = self.rounds.iter().rev().filter(|((_, step), _)| *step == VoteStep::Precommit);
        let mut own = rounds.flat_map(|((attempt, _), round)| round.values.iter().map(move |found| (*attempt, found)));
        own.find_map(|(attempt, (value, voters))| Some((attempt, (*value).filter(|_| voters.has(me))?)))
    }

    /// Whether more than two thirds have taken a step.
    pub(super) fn is_full(&self, genesis: &Genesis, attempt: u32, step: VoteStep) -> bool {
        self.rounds.get(&(attempt, step)).is_some_and(|round| round.is_full(genesis))
    }

    /// Whether no value can win a step any more.
    pub(super) fn is_split(&self, genesis: &Genesis, attempt: u32, step: VoteStep) -> bool {
        self.rounds.get(&(attempt, step)).is_some_and(|round| round.is_split(genesis))
    }

    /// The decided value and its attempt (rule 5).
    pub(super) fn decided(&self, genesis: &Genesis) -> Option<(u32, Hash)> {
        let mut rounds = self.rounds.iter().filter(|((_, step), _)| *step == VoteStep::Precommit);
        rounds.find_map(|((attempt, _), round)| Some((*attempt, round.won(genesis)?)))
    }

    /// The contradictory votes: for each validator that voted for two values in one step of one attempt, two of
    /// its signed votes.
    pub(super) fn twice(&self, run: RunId, window: WindowIndex, on: VoteOn) -> Vec<Vec<Envelope>> {
        let mut found = Vec::new();
        for ((attempt, step), round) in &self.rounds {
            let mut said = BTreeMap::<PublicKey, Vec<Envelope>>::new();
            for (value, voters) in round.values.iter().filter(|_| round.values.len() > 1) {
                let vote = Vote { run, window, on, attempt: *attempt, step: *step, value: *value };
                let payload = payload::encode(&vote);
                for (&signer, &signature) in &voters.signatures {
                    said.entry(signer).or_default().push(Envelope { payload: payload.clone(), signer, signature });
                }
            }
            found.extend(said.into_values().filter(|said| said.len() > 1));
        }
        found
    }

    /// The signatures under one vote.
    pub(super) fn witnesses(
        &self,
        attempt: u32,
        step: VoteStep,
        value: &Hash,
    ) -> Option<&BTreeMap<PublicKey, Signature>> {
        Some(&self.rounds.get(&(attempt, step))?.values.get(&Some(*value))?.signatures)
    }
}
