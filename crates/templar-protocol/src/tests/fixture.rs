//! A run in miniature: genesis, keys, and a cluster of nodes that exchange entries in an order drawn from a
//! seed.
//!
//! A function of window and miner decides everything that would need tensors, so every node measures the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use templar_manifest::chain::Chain;
use templar_manifest::testing::{GenesisBuilder, price_slots};
use templar_manifest::*;

use crate::*;

mod said;

pub(super) use said::*;

pub(super) const NAME: &str = "protocol test";

/// A key that no member has, to stand for the cheat in runs without one.
pub(super) fn nobody() -> PublicKey {
    PublicKey::from_bytes([0; 32])
}

/// Keys that sort in the order of their numbers.
pub(super) fn keys(domain: &str, count: usize) -> Vec<SecretKey> {
    let mut keys: Vec<SecretKey> = (0..count)
        .map(|number| SecretKey::from_bytes(Hash::of(format!("{domain} {number}").as_bytes()).as_bytes()))
        .collect();
    keys.sort_by_key(SecretKey::public);
    keys
}

/// An outer step that came to this checkpoint and loss.
pub(super) fn stepped(checkpoint: CheckpointId, held_out_loss_nanonats: u64) -> Stepped {
    let aggregate = BlobId::of(format!("what gave {checkpoint}").as_bytes());
    Stepped { aggregate, aggregate_bytes: 66, checkpoint, held_out_loss_nanonats }
}

/// Gives a closed window whose body was changed the header and id that its signers would give it.
pub(super) fn named_again(closed: &mut ClosedWindow) {
    closed.window.header.body_root = payload::id_of(&closed.window.body).into();
    closed.record = closed.window.id();
}

/// A chain value; walking a chain takes milliseconds, so each is walked once.
pub(super) fn chain_value(key: &SecretKey, window: WindowIndex) -> Hash {
    static VALUES: Mutex<BTreeMap<(PublicKey, u64), Hash>> = Mutex::new(BTreeMap::new());
    let mut values = VALUES.lock().unwrap();
    *values.entry((key.public(), window.0)).or_insert_with(|| Chain::insecure(key, NAME).value(window).unwrap())
}

/// A run in which one validator replays each contribution, with these validators, stakes, members and windows.
pub(super) fn genesis(validators: &[(&SecretKey, u64)], miners: &[SecretKey], windows: u64) -> Genesis {
    static ANCHORS: Mutex<BTreeMap<PublicKey, Hash>> = Mutex::new(BTreeMap::new());
    let anchor = |key: &SecretKey| {
        *ANCHORS.lock().unwrap().entry(key.public()).or_insert_with(|| Chain::insecure(key, NAME).anchor())
    };
    let validator = |(key, stake): &(&SecretKey, u64)| ValidatorSpec {
        key: key.public(),
        stake: *stake,
        chain_anchor: anchor(key),
    };
    GenesisBuilder::tiny(NAME)
        .validators(validators.iter().map(validator))
        .members_and_cheap_slots(miners.iter().map(SecretKey::public).collect())
        .with(|genesis| {
            genesis.replay = ReplaySpec { fraction_ppm: 0, least_replays: 1, ..ReplaySpec::whole() };
            genesis.windows = windows;
            price(genesis);
        })
        .build()
}

/// States what a slot must cost under the rules of replay, and takes no burns where their price could be less.
pub(super) fn price(genesis: &mut Genesis) {
    price_slots(genesis);
    if genesis.registration.burn.least < genesis.emission.registration_cost_micros {
        genesis.registration.burn.per_window = 0;
    }
}

pub(super) fn state(genesis: Genesis) -> RunState {
    RunState::new(Arc::new(genesis), Hash::of(b"initial").into(), Hash::of(b"zero").into(), 100 * 16 + 1).unwrap()
}

/// Another sequence length from window 2 on, of which a step takes two.
pub(super) fn context(sequence_length: u32) -> ContextSegment {
    ContextSegment {
        from_window: 2,
        sequence_length,
        batch_sequences: 2,
        micro_batch_sequences: 1,
        rope_theta: 10_000,
        rope_scaling: None,
    }
}

/// SplitMix64, for orders of delivery.
pub(super) struct Order(pub(super) u64);

impl Order {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// A registration for the open window, anchored at its beginning, rightly signed; for hashcash the work is found.
pub(super) fn registration_of(state: &RunState, owner: &SecretKey, node: &SecretKey, payment: Payment) -> Registration {
    let anchor = *state.members().newest_anchor().unwrap();
    let mut certificate = Certificate { owner: owner.public(), node: node.public(), anchor: anchor.window, payment };
    if let Payment::Hashcash { .. } = payment {
        let hasher = WorkHasher::new(state.run(), anchor.window, &anchor.seed, &owner.public(), &node.public());
        let nonce = (0..).find(|nonce| hasher.digest(*nonce) <= largest_digest(state.members().hashes())).unwrap();
        certificate.payment = Payment::Hashcash { nonce };
    }
    let owner_signature = certificate.sign(state.run(), owner);
    Registration { run: state.run(), window: state.window(), certificate, owner_signature }
}

/// The contribution of this miner for the open window.
pub(super) fn contribution(state: &RunState, miner: &PublicKey, nonce: u8) -> Contribution {
    let window = state.window();
    let name = |what: &str| Hash::of(format!("{what} {window} {miner} {nonce}").as_bytes());
    let parent = state.parent(miner);
    let context = state.genesis().context_at(window.0);
    Contribution {
        run: state.run(),
        window,
        miner: *miner,
        parent: parent.map(|parent| parent.contribution),
        state_in: parent.map_or(state.zero_state(), |parent| parent.state_out),
        state_out: name("state").into(),
        delta: name("delta").into(),
        delta_bytes: 100,
        trace: name("trace").into(),
        trace_bytes: 100,
        steps: 3,
        tokens: 3 * u64::from(context.batch_sequences) * u64::from(context.sequence_length),
        loss_nanonats: 5_000_000_000,
    }
}

/// One node with its driver.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) node: Node,
    pub(super) key: Option<SecretKey>,
    pub(super) journal: Vec<Entry>,
    pub(super) online: bool,
    under_way: BTreeSet<String>,
    timers: BTreeSet<(WindowIndex, Phase)>,
}

/// Changes the entries of a score that a validator's plan asked for.
type Lie = fn(&JudgePlan, &mut [ScoreEntry]);

/// Nodes and what is on its way to them.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) members: Vec<Member>,
    pub(super) validators: Vec<SecretKey>,
    pub(super) miners: Vec<SecretKey>,
    pub(super) cheat: PublicKey,
    pub(super) silent: BTreeSet<PublicKey>,
    /// A validator that replays nothing: it says that all matches, or with `true` that all departs.
    pub(super) liar: Option<(PublicKey, bool)>,
    pub(super) events: Vec<Output>,
    queue: Vec<(usize, Input)>,
    refused: Vec<(usize, Input)>,
    tolerate_floods: bool,
    /// A miner whose delta so many validators get too late, those after its replayer.
    pub(super) late_to_serve: Option<(PublicKey, usize)>,
    /// A validator whose outer steps come out wrong.
    pub(super) faulty_machine: Option<PublicKey>,
    pub(super) keeper: Option<Keeper>,
    /// Validators that change what they measured.
    pub(super) false_losses: Option<(Vec<PublicKey>, Lie)>,
    /// How far members were asked to replay what others disagree about.
    pub(super) uptos: Vec<Option<u32>>,
    /// A validator that contests whatever it checks.
    pub(super) contests_all: Option<PublicKey>,
    /// A validator that says of everything that it was drawn to replay after the record that it is withheld.
    pub(super) challenger: Option<PublicKey>,
}

impl Cluster {
    /// Validators with these stakes, miners, and one node that only follows. The second miner cheats.
    pub(super) fn new(stakes: &[u64], miners: usize, windows: u64) -> Self {
        let (validators, miners) = (keys("validator", stakes.len()), keys("miner", miners));
        let with_stakes: Vec<(&SecretKey, u64)> = validators.iter().zip(stakes.iter().copied()).collect();
        let start = genesis(&with_stakes, &miners, windows);
        Self::of(start, validators, miners)
    }

    /// The run of a genesis with these validators and miners.
    pub(super) fn of(genesis: Genesis, validators: Vec<SecretKey>, miners: Vec<SecretKey>) -> Self {
        let start = state(genesis);
        let everybody = validators.iter().chain(&miners).map(|key| Some(key.clone())).chain([None]);
        let members: Vec<Member> = everybody
            .map(|key| Member {
                node: Node::new(start.clone(), key.as_ref().map(SecretKey::public)),
                key,
                journal: Vec::new(),
                online: true,
                under_way: BTreeSet::new(),
                timers: BTreeSet::new(),
            })
            .collect();
        let cheat = miners[1 % miners.len()].public();
        Self {
            members,
            validators,
            miners,
            cheat,
            silent: BTreeSet::new(),
            liar: None,
            events: Vec::new(),
            queue: Vec::new(),
            refused: Vec::new(),
            tolerate_floods: false,
            late_to_serve: None,
            faulty_machine: None,
            keeper: None,
            challenger: None,
            false_losses: None,
            uptos: Vec::new(),
            contests_all: None,
        }
    }

    /// A cluster in which everybody has begun.
    pub(super) fn started(stakes: &[u64], miners: usize, windows: u64) -> Self {
        let mut cluster = Self::new(stakes, miners, windows);
        cluster.wake();
        cluster
    }

    /// Asks every node what it should be doing.
    pub(super) fn wake(&mut self) {
        for member in 0..self.members.len() {
            let outputs = self.members[member].node.todo();
            self.carry(member, outputs);
        }
    }

    /// Delivers in the order drawn from `order`, some twice, some only at a later try, until nothing is left or
    /// `until` holds.
    pub(super) fn run(&mut self, order: &mut Order, until: impl Fn(&Self) -> bool) {
        while !self.queue.is_empty() && !until(self) {
            let index = order.below(self.queue.len());
            let (to, input) = self.queue.swap_remove(index);
            if !self.members[to].online {
                continue;
            }
            match order.below(8) {
                0 => self.queue.push((to, input)),
                1 => {
                    self.deliver(to, input.clone());
                    self.deliver(to, input);
                }
                _ => self.deliver(to, input),
            }
        }
    }

    /// Delivers while a liar floods: entries that do not fit are offered again later, as a sync would do, until
    /// nothing changes any more.
    pub(super) fn run_tolerating_floods(&mut self, order: &mut Order) {
        self.tolerate_floods = true;
        let mut accepted = usize::MAX;
        loop {
            self.run(order, |_| false);
            self.queue = std::mem::take(&mut self.refused);
            let now = self.members.iter().map(|member| member.journal.len()).sum();
            if self.queue.is_empty() || accepted == now {
                break;
            }
            accepted = now;
        }
        self.tolerate_floods = false;
    }

    /// Delivers so many inputs, of which some come back later as a sync would bring them.
    pub(super) fn run_some(&mut self, order: &mut Order, steps: usize) {
        let left = std::cell::Cell::new(steps + 1);
        self.tolerate_floods = true;
        self.run(order, |_| {
            left.set(left.get() - 1);
            left.get() == 0
        });
        self.tolerate_floods = false;
        self.queue.append(&mut self.refused);
    }

    /// Sends an entry to one node.
    pub(super) fn send(&mut self, to: usize, entry: Entry) {
        self.queue.push((to, Input::Entry(entry)));
    }

    pub(super) fn deliver(&mut self, to: usize, input: Input) {
        let before = self.members[to].node.clone();
        match self.members[to].node.step(input.clone()) {
            Ok(outputs) => self.carry(to, outputs),
            Err(reject) => {
                assert_eq!(self.members[to].node, before, "{reject} changed the state");
                match reject {
                    // It is not offered again at once, since it may wait for an entry that did not fit either.
                    Reject::Early { .. } if self.tolerate_floods => self.refused.push((to, input)),
                    Reject::Early { .. } => self.queue.push((to, input)),
                    Reject::NotInCut(_) | Reject::AfterSet(_) | Reject::Over | Reject::Wrong(_) => {}
                    Reject::TooMany { .. } if self.tolerate_floods => self.refused.push((to, input)),
                    other => panic!("member {to} refuses: {other}: {input:?}"),
                }
            }
        }
    }

    /// Lets the time of every phase that a node waits in run out.
    pub(super) fn expire(&mut self) {
        (0..self.members.len()).for_each(|member| self.expire_one(member));
    }

    /// The same for one node.
    pub(super) fn expire_one(&mut self, member: usize) {
        let window = self.members[member].node.state().window();
        for (of, phase) in std::mem::take(&mut self.members[member].timers) {
            if of == window && self.members[member].online {
                self.deliver(member, Input::Deadline { window, phase });
            }
        }
    }

    /// Ends a node and starts it again from its journal.
    pub(super) fn restart(&mut self, member: usize) {
        let old = &mut self.members[member];
        let start = old.node.state_at(WindowIndex(0)).unwrap();
        let mut node = Node::new(start, old.key.as_ref().map(SecretKey::public));
        for entry in &old.journal {
            node.step(Input::Entry(entry.clone())).unwrap();
        }
        assert_eq!(node.state(), old.node.state());
        assert_eq!(node.closed(), old.node.closed());
        old.node = node;
        old.under_way.clear();
        old.timers.clear();
        let outputs = old.node.todo();
        self.carry(member, outputs);
    }

    /// Sends everything that one node knows to another, as a sync would.
    pub(super) fn sync(&mut self, from: usize, to: usize) {
        let journal = self.members[from].journal.clone();
        self.queue.extend(journal.into_iter().map(|entry| (to, Input::Entry(entry))));
    }

    pub(super) fn send_to_all(&mut self, entry: &Entry) {
        for to in 0..self.members.len() {
            self.queue.push((to, Input::Entry(entry.clone())));
        }
    }

    fn carry(&mut self, from: usize, outputs: Vec<Output>) {
        for output in outputs {
            match &output {
                Output::Accepted { entry, .. } => {
                    let entry = entry.entry();
                    self.members[from].journal.push(entry.clone());
                    for to in (0..self.members.len()).filter(|to| *to != from) {
                        self.queue.push((to, Input::Entry(entry.clone())));
                    }
                    continue;
                }
                Output::Dropped { .. } | Output::Wrong { .. } | Output::Equivocation { .. } | Output::Dispute(_) => {
                    self.events.push(output.clone());
                    continue;
                }
                Output::Closed { .. } => continue,
                _ => {}
            }
            if let (Output::Sign(document @ Unsigned::Vote(_)), Some(key)) = (&output, self.members[from].key.clone())
                && !self.silent.contains(&key.public())
            {
                // As in a driver, the vote is in the journal before anything else happens. Outputs after it are
                // stale then.
                return self.deliver(from, Input::Entry(document.clone().sign(&key)));
            }
            let window = self.members[from].node.state().window();
            if self.members[from].under_way.insert(format!("{window:?} {output:?}"))
                && let Some(input) = self.work(from, output)
            {
                self.queue.push((from, input));
            }
        }
    }

    fn work(&mut self, from: usize, output: Output) -> Option<Input> {
        let (cheat, liar) = (self.cheat, self.liar);
        let member = &mut self.members[from];
        let key = member.key.clone().expect("a node without a key has nothing to do");
        if self.silent.contains(&key.public()) {
            return None;
        }
        Some(match output {
            Output::Train { .. } => {
                let owner = member.node.contributor().expect("who trains has a slot");
                let claimed = contribution(member.node.state(), &owner, 0);
                Input::Entry(Entry::Envelope(Signed::sign(claimed, &key).envelope()))
            }
            Output::Sign(document) => Input::Entry(document.sign(&key)),
            Output::Reveal { window } => Input::Entry(Entry::Reveal(RevealEntry {
                run: member.node.state().run(),
                window,
                validator: key.public(),
                value: chain_value(&key, window),
            })),
            Output::Judge(plan) => {
                let judging = member.node.judging().unwrap();
                let mut entries = measured(judging, &plan, &cheat);
                if let Some((late, to)) = self.late_to_serve {
                    let validators: Vec<PublicKey> = judging.reveals().iter().map(|reveal| reveal.validator).collect();
                    let replayer = judging.replayers()[&late][0];
                    let replayer = validators.iter().position(|key| *key == replayer).unwrap();
                    let own = validators.iter().position(|key| *key == plan.validator).unwrap();
                    let after = (own + validators.len() - replayer) % validators.len();
                    let entry = entries.iter_mut().find(|entry| entry.miner == late).unwrap();
                    if (1..=to).contains(&after) {
                        *entry = withheld(entry);
                    }
                }
                if let Some(keeper) = &self.keeper {
                    let contributions = judging.contributions();
                    let keeps = |entry: &ScoreEntry| {
                        plan.replay.contains(&entry.miner)
                            && keeper.keeps(&contributions[&entry.miner], &plan.validator)
                    };
                    entries.iter_mut().filter(|entry| keeps(entry)).for_each(|entry| *entry = withheld(entry));
                    forget_withheld(&mut entries);
                }
                let mut verdicts = late(&plan, &cheat, self.keeper.as_ref());
                if let Some((_, accuses)) = liar.filter(|(liar, _)| *liar == plan.validator) {
                    lie(&plan, accuses, &mut entries, &mut verdicts);
                }
                if let Some((_, lie)) = self.false_losses.as_ref().filter(|(liars, _)| liars.contains(&plan.validator))
                {
                    lie(&plan, &mut entries);
                }
                let contests = contests(&plan, self.contests_all == Some(plan.validator));
                if self.challenger == Some(plan.validator) {
                    let missing = plan.late.iter().chain(&plan.wanted).map(|task| task.id).collect();
                    verdicts = plan.verdicts(Vec::new(), &missing);
                }
                Input::Measured(Measured::Judged { window: plan.window, seed: plan.seed, entries, verdicts, contests })
            }
            Output::Confirm { window, subject, task, .. } => {
                self.uptos.push(task.upto);
                let keeps = |keeper: &Keeper| keeper.keeps(&task.contribution, &key.public());
                let replay = if self.keeper.as_ref().is_some_and(keeps) {
                    Replay::Refused(Refusal::Withheld)
                } else {
                    replayed(&subject.miner, &cheat)
                };
                Input::Measured(confirmed(window, subject, &task, replay))
            }
            Output::Remeasure { window, subject, task } => Input::Measured(remeasured(window, subject, &task)),
            Output::Apply { window, outcomes, .. } => {
                let faulty = if self.faulty_machine == Some(key.public()) { "wrong " } else { "" };
                let checkpoint = Hash::of(format!("{faulty}{window} {outcomes:?}").as_bytes()).into();
                let stepped = stepped(checkpoint, 5_000_000_000 - window.0);
                Input::Measured(Measured::Applied { window, outcomes, stepped })
            }
            Output::Timer { window, phase, .. } => {
                member.timers.insert((window, phase));
                return None;
            }
            _ => unreachable!("events were handled"),
        })
    }
}
