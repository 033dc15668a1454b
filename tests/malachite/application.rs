//! The part of a validator that Tendermint leaves to the application: the value that it would propose, and which values
//! are right. It is computed from the journal alone, by the public functions of the run's state.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use templar_manifest::{
    Cut, CutId, Hash, Inbox, InboxId, PublicKey, Reveal, RevealSet, Score, ScoreId, VoteOn, WindowRecord, payload,
};
use templar_protocol::{Judging, Phase, RunState, Stepped};

use crate::said::{Library, Said};

/// What one validator knows of the open window, its votes aside.
#[derive(Debug, Clone)]
pub(crate) struct Application {
    library: Rc<Library>,
    state: Arc<RunState>,
    inboxes: BTreeMap<InboxId, Inbox>,
    cuts: BTreeMap<Hash, Cut>,
    values: BTreeMap<PublicKey, Hash>,
    /// The values that were here at the first vote on the reveal set.
    listed: Option<BTreeMap<PublicKey, Hash>>,
    sets: BTreeMap<Hash, RevealSet>,
    scores: BTreeMap<ScoreId, Score>,
    records: BTreeMap<Hash, WindowRecord>,
    over: BTreeSet<Phase>,
    /// The outer step that this validator took.
    stepped: Option<Stepped>,
    certified: Option<Hash>,
    agreed: Option<Arc<Judging>>,
}

impl Application {
    pub(crate) fn new(state: Arc<RunState>, library: Rc<Library>) -> Self {
        Self {
            library,
            state,
            inboxes: BTreeMap::new(),
            cuts: BTreeMap::new(),
            values: BTreeMap::new(),
            listed: None,
            sets: BTreeMap::new(),
            scores: BTreeMap::new(),
            records: BTreeMap::new(),
            over: BTreeSet::new(),
            stepped: None,
            certified: None,
            agreed: None,
        }
    }

    pub(crate) fn is_certified(&self) -> bool {
        self.certified.is_some()
    }

    /// The certified cut.
    pub(crate) fn certified(&self) -> Option<Hash> {
        self.certified
    }

    /// The seed that follows from the agreed reveal set.
    pub(crate) fn seed(&self) -> Option<Hash> {
        self.agreed.as_ref().map(|judging| judging.seed())
    }

    /// Takes in an accepted entry. Votes are no matter of the application.
    pub(crate) fn take(&mut self, said: &Said) {
        match said {
            Said::Inbox(id, inbox) => _ = self.inboxes.insert(*id, inbox.clone()),
            Said::Cut(id, cut) => _ = self.cuts.insert(id.hash(), cut.clone()),
            Said::Value(validator, value) => _ = self.values.insert(*validator, *value),
            Said::Reveals(id, set) => _ = self.sets.insert(*id, set.clone()),
            Said::Score(id, score) => _ = self.scores.insert(*id, score.clone()),
            Said::Record(id, record) => _ = self.records.insert(*id, WindowRecord::clone(record)),
            Said::Vote(..) | Said::Nothing => {}
        }
    }

    pub(crate) fn deadline(&mut self, phase: Phase) {
        self.over.insert(phase);
    }

    pub(crate) fn applied(&mut self, stepped: Stepped) {
        self.stepped = Some(stepped);
    }

    /// Fixes the list of values, at the first vote on the reveal set.
    pub(crate) fn votes_on_the_set(&mut self) {
        self.listed.get_or_insert_with(|| self.values.clone());
    }

    /// Notes the decided cut or reveal set, once it is here and right.
    pub(crate) fn decided(&mut self, on: VoteOn, value: &Hash) {
        if !self.is_right(on, value) {
            return;
        }
        match on {
            VoteOn::Cut if self.certified.is_none() => self.certified = Some(*value),
            VoteOn::Reveals if self.agreed.is_none() => {
                let cut = self.certified.and_then(|id| self.cuts.get(&id));
                let reveals = self.sets.get(value).map(|set| set.reveals.clone());
                if let (Some(cut), Some(reveals)) = (cut, reveals) {
                    self.agreed = self.state.judging(cut, [], [], reveals).ok().map(Arc::new);
                }
            }
            _ => {}
        }
    }

    fn stake<'a>(&self, keys: impl IntoIterator<Item = &'a PublicKey>) -> u64 {
        let keys: BTreeSet<&PublicKey> = keys.into_iter().collect();
        keys.into_iter().filter_map(|key| self.state.genesis().validator(key)).map(|validator| validator.stake).sum()
    }

    fn is_quorum<'a>(&self, keys: impl IntoIterator<Item = &'a PublicKey>) -> bool {
        3 * self.stake(keys) > 2 * self.state.genesis().total_stake()
    }

    fn is_whole(&self, count: usize) -> bool {
        count == self.state.genesis().validators.len()
    }

    /// The value that this validator would propose, as soon as it can tell.
    pub(crate) fn own(&self, on: VoteOn, attempt: u32) -> Option<Hash> {
        match on {
            VoteOn::Cut => self.own_cut(attempt),
            VoteOn::Reveals => {
                let is_time = self.is_whole(self.values.len()) || attempt > 0 || self.over.contains(&Phase::Reveal);
                let cut = self.certified.filter(|_| is_time && self.is_quorum(self.values.keys()))?;
                let reveals = self.values.iter();
                let reveals = reveals.map(|(validator, value)| Reveal { validator: *validator, value: *value });
                let (run, window) = (self.state.run(), self.state.window());
                Some(payload::id_of(&RevealSet { run, window, cut: CutId::new(cut), reveals: reveals.collect() }))
            }
            VoteOn::Window => self.own_record(attempt),
        }
    }

    fn own_cut(&self, attempt: u32) -> Option<Hash> {
        let mut inboxes = BTreeMap::<PublicKey, (InboxId, &Inbox)>::new();
        for (id, inbox) in &self.inboxes {
            inboxes.entry(inbox.validator).or_insert((*id, inbox));
        }
        let is_time = self.is_whole(inboxes.len()) || attempt > 0 || self.over.contains(&Phase::Commit);
        let inboxes: Vec<(InboxId, &Inbox)> = inboxes.into_values().collect();
        is_time.then(|| self.state.cut(&inboxes).ok().map(|cut| payload::id_of(&cut))).flatten()
    }

    fn own_record(&self, attempt: u32) -> Option<Hash> {
        let judging = self.agreed.as_ref()?;
        let mut scores = BTreeMap::<PublicKey, (ScoreId, &Score)>::new();
        for (id, score) in &self.scores {
            scores.entry(score.validator).or_insert((*id, score));
        }
        let is_enough = if attempt > 0 || self.over.contains(&Phase::Judge) {
            self.is_quorum(scores.keys())
        } else {
            scores.retain(|validator, _| judging.reveal(validator).is_some());
            scores.len() == judging.reveals().len()
        };
        if !is_enough || !self.is_quorum(scores.keys()) {
            return None;
        }
        self.record_of(judging, scores.into_values().collect(), self.stepped?)
    }

    /// The id of the record of these scores.
    fn record_of(&self, judging: &Judging, scores: Vec<(ScoreId, &Score)>, stepped: Stepped) -> Option<Hash> {
        let ids = scores.iter().map(|(id, _)| *id).collect();
        let key = (judging.seed(), ids, stepped.checkpoint.hash());
        if let Some(known) = self.library.records.borrow().get(&key) {
            return Some(*known);
        }
        let scores: Vec<&Score> = scores.into_iter().map(|(_, score)| score).collect();
        let record = self.state.close(judging, &scores, stepped).ok()?.id().hash();
        self.library.records.borrow_mut().insert(key, record);
        Some(record)
    }

    /// Whether a value is here with all that it names, and recomputes.
    pub(crate) fn is_right(&self, on: VoteOn, id: &Hash) -> bool {
        match on {
            VoteOn::Cut => self.cuts.get(id).is_some_and(|cut| {
                let named = cut.inboxes.iter().map(|id| self.inboxes.get(id).map(|inbox| (*id, inbox)));
                let named: Option<Vec<(InboxId, &Inbox)>> = named.collect();
                named.is_some_and(|inboxes| self.state.cut(&inboxes).as_ref() == Ok(cut))
            }),
            VoteOn::Reveals => self.sets.get(id).is_some_and(|set| {
                self.certified == Some(set.cut.hash()) && self.state.check_reveals(&set.reveals).is_ok()
            }),
            VoteOn::Window => {
                let (Some(record), Some(judging)) = (self.records.get(id), &self.agreed) else { return false };
                let body = &record.body;
                let named = body.scores.iter().map(|id| self.scores.get(id).map(|score| (*id, score)));
                let Some(named) = named.collect::<Option<Vec<(ScoreId, &Score)>>>() else { return false };
                self.record_of(judging, named, Stepped::of(record)) == Some(*id)
            }
        }
    }

    /// Whether this validator would not prevote a right value that has no polka yet.
    pub(crate) fn objects(&self, on: VoteOn, id: &Hash, attempt: u32) -> bool {
        match on {
            VoteOn::Cut => false,
            VoteOn::Reveals => {
                let Some(set) = self.sets.get(id) else { return true };
                let has = |validator: &PublicKey| set.reveals.iter().any(|reveal| reveal.validator == *validator);
                let is_time = self.is_whole(set.reveals.len()) || attempt > 0 || self.over.contains(&Phase::Reveal);
                !is_time || !self.listed.as_ref().unwrap_or(&self.values).keys().all(has)
            }
            VoteOn::Window => self.records.get(id).map(Stepped::of) != self.stepped,
        }
    }
}
