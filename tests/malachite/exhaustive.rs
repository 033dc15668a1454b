//! Every order in which one validator of four can take in a few votes and timers, on the cut.

use std::collections::HashSet;
use std::rc::Rc;

use templar_manifest::{Cut, Inbox, InboxId, PublicKey, Signed, Vote, VoteOn, VoteStep, payload};
use templar_protocol::{Input, Phase, Verified};

use crate::counts::Counts;
use crate::member::{Member, Setting};
use crate::said::{Library, sign};

/// The votes that are played.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    /// In so many attempts.
    pub(crate) attempts: u32,
    /// In a course are at most so many votes and timers.
    pub(crate) depth: usize,
    /// Whether one of the others gives every vote, also such that contradict each other.
    pub(crate) has_liar: bool,
}

struct Search {
    scope: Scope,
    /// The events, and of which slot each is: a slot has one event at most.
    events: Vec<(usize, Input)>,
    seen: HashSet<(Vec<u16>, Vec<Phase>, Vec<(u32, VoteStep, Option<templar_manifest::Hash>)>)>,
    me: PublicKey,
}

/// Follows every course of one validator. Returns the number of its states.
pub(crate) fn search(setting: &Setting, who: usize, scope: Scope, counts: &mut Counts) -> Result<usize, String> {
    let library = Rc::new(Library::default());
    let (run, window) = (setting.start.run(), setting.start.window());
    let inboxes: Vec<Signed<Inbox>> = setting
        .keys
        .iter()
        .map(|key| {
            let (contributions, registrations) = (vec![], vec![]);
            Signed::sign(Inbox { run, window, validator: key.public(), contributions, registrations }, key)
        })
        .collect();
    let last = (0..setting.keys.len()).rev().find(|place| *place != who).expect("there are others");
    let cut = |left_out: Option<usize>| -> Cut {
        let listed = inboxes.iter().enumerate().filter(|(place, _)| Some(*place) != left_out);
        let listed: Vec<(InboxId, &Inbox)> = listed.map(|(_, inbox)| (inbox.id().into(), inbox.payload())).collect();
        setting.start.cut(&listed).expect("three are enough")
    };
    let cuts = [cut(Some(last)), cut(None)];
    let mut member = Member::new(setting, who, false, &library);
    let open = |inbox: &Signed<Inbox>| {
        Verified::open(templar_protocol::Entry::Envelope(inbox.envelope())).expect("it is signed")
    };
    for (place, inbox) in inboxes.iter().enumerate() {
        if place != last {
            member.take(Input::Verified(open(inbox)), counts)?;
        }
    }
    for cut in &cuts {
        member.take(Input::Verified(sign(cut.clone(), &setting.keys[last])), counts)?;
    }
    let mut events = vec![(0, Input::Verified(open(&inboxes[last])))];
    let mut slot = 1;
    let values = [None, Some(payload::id_of(&cuts[0])), Some(payload::id_of(&cuts[1]))];
    for voter in (0..setting.keys.len()).filter(|voter| *voter != who) {
        for (attempt, step) in
            (0..scope.attempts).flat_map(|attempt| [VoteStep::Prevote, VoteStep::Precommit].map(|step| (attempt, step)))
        {
            for value in values {
                let vote = Vote { run, window, on: VoteOn::Cut, attempt, step, value };
                events.push((slot, Input::Verified(sign(vote, &setting.keys[voter]))));
                slot += usize::from(scope.has_liar && voter == last);
            }
            slot += 1;
        }
    }
    let mut search = Search { scope, events, seen: HashSet::new(), me: setting.keys[who].public() };
    counts.courses += 1;
    search.follow(&member, &mut Vec::new(), &mut Vec::new(), counts)?;
    Ok(search.seen.len())
}

impl Search {
    fn follow(
        &mut self,
        member: &Member,
        past: &mut Vec<u16>,
        over: &mut Vec<Phase>,
        counts: &mut Counts,
    ) -> Result<(), String> {
        if past.len() + over.len() >= self.scope.depth {
            return Ok(());
        }
        for place in 0..self.events.len() {
            let (slot, input) = self.events[place].clone();
            if past.iter().any(|other| self.events[usize::from(*other)].0 == slot) {
                continue;
            }
            past.push(place as u16);
            self.step(member, input, past, over, counts)?;
            past.pop();
        }
        for phase in member.waits.clone() {
            if matches!(phase, Phase::Reveal | Phase::Judge) {
                continue;
            }
            let window = member.node.state().window();
            over.push(phase);
            self.step(member, Input::Deadline { window, phase }, past, over, counts)?;
            over.pop();
        }
        Ok(())
    }

    fn step(
        &mut self,
        member: &Member,
        input: Input,
        past: &mut Vec<u16>,
        over: &mut Vec<Phase>,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let mut next = member.clone();
        next.take(input, counts).map_err(|why| format!("{why}, after {past:?} and {over:?}"))?;
        if let Some(beside) = &next.beside {
            beside.compare_contradictions(counts)?;
        }
        let (mut events, mut phases) = (past.clone(), over.clone());
        events.sort_unstable();
        phases.sort_unstable();
        let votes =
            next.node.votes_of(&self.me).into_iter().map(|vote| (vote.attempt, vote.step, vote.value)).collect();
        if self.seen.insert((events, phases, votes)) {
            self.follow(&next, past, over, counts)?;
        }
        Ok(())
    }
}
