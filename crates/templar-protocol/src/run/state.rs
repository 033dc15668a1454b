//! The state as a tree: every fact that the next window follows from, each under a key of its own.
//!
//! The root of the tree is the `state_root` in the header of a record. So whoever trusts a header can check a
//! single balance, member or standing with [`RunState::prove`], and a copy of the whole state by its root. Window,
//! record and checkpoint are in the header itself. All other facts that a rule reads are in the tree, and
//! `manifests/README.md` lists them.
//!
//! The tree follows from the fields of [`RunState`]. After a window, only the entries that differ from those before
//! it are written anew.

mod value;

use std::cmp::Ordering;

use templar_manifest::tree::{Tree, TreeProof};
use templar_manifest::{Genesis, Hash, PublicKey, WindowIndex};

use super::RunState;
use value::{ContributionFacts, MeasuredFacts, MeasurementsFacts, PendingFacts, StateValue};

/// The key of an entry of the state. Keys are ordered as their bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKey {
    /// The free balance of an account.
    Account(PublicKey),
    /// The beginning of a window, to which a certificate of work can be anchored.
    Anchor(WindowIndex),
    /// The last recorded hash-chain value of a validator.
    Chain(PublicKey),
    /// A contribution of a closed window for which verdicts still count, by window and miner.
    Contribution(WindowIndex, PublicKey),
    /// An account that has paid for contradicting itself in a window.
    Convicted(WindowIndex, PublicKey),
    /// The first miner with a delta's body, by the hash of the body.
    DeltaBody(Hash),
    /// The seed from which a window of this epoch drew its pages, and their number.
    Draw(WindowIndex),
    /// An owner that lost its slot for good.
    Expelled(PublicKey),
    /// A node key that is not in use any more, and its owner.
    FormerNode(PublicKey),
    /// Pay that has not vested, by account and the window that minted it.
    Grant(PublicKey, WindowIndex),
    /// The measurement of a contribution to the window before, by miner, where spot checks are made.
    Measured(PublicKey),
    /// The window before, whose measurements may be contested.
    Measurements,
    /// The member in a slot.
    Member(u32),
    /// How many pages the epoch has, and how many are used.
    Pages,
    /// The last recorded contribution of a miner.
    Parent(PublicKey),
    /// A closed window for which verdicts still count.
    Pending(WindowIndex),
    /// The prices of a slot.
    Prices,
    /// The facts about the run that follow from genesis by tensors and files.
    Run,
    /// The seed of the window before.
    Seed,
    /// The standing of a miner.
    Standing(PublicKey),
    /// The last strike of a miner.
    Strike(PublicKey),
    /// The amounts that were ever minted and burnt, and what the treasury holds.
    Supply,
}

impl StateKey {
    /// The name of the sort of entry, with which its key begins.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Account(_) => "account",
            Self::Anchor(_) => "anchor",
            Self::Chain(_) => "chain",
            Self::Contribution(..) => "contribution",
            Self::Convicted(..) => "convicted",
            Self::DeltaBody(_) => "delta-body",
            Self::Draw(_) => "draw",
            Self::Expelled(_) => "expelled",
            Self::FormerNode(_) => "former-node",
            Self::Grant(..) => "grant",
            Self::Measured(_) => "measured",
            Self::Measurements => "measurements",
            Self::Member(_) => "member",
            Self::Pages => "pages",
            Self::Parent(_) => "parent",
            Self::Pending(_) => "pending",
            Self::Prices => "prices",
            Self::Run => "run",
            Self::Seed => "seed",
            Self::Standing(_) => "standing",
            Self::Strike(_) => "strike",
            Self::Supply => "supply",
        }
    }

    /// The key in the tree: the name, a zero byte, then keys and hashes as they are and numbers as u64,
    /// big-endian, so that the bytes order entries as their numbers do.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96);
        bytes.extend_from_slice(self.name().as_bytes());
        bytes.push(0);
        let number = |number: u64| number.to_be_bytes();
        match self {
            Self::Account(key)
            | Self::Chain(key)
            | Self::Expelled(key)
            | Self::FormerNode(key)
            | Self::Measured(key)
            | Self::Parent(key)
            | Self::Standing(key)
            | Self::Strike(key) => bytes.extend_from_slice(key.as_bytes()),
            Self::Anchor(window) | Self::Draw(window) | Self::Pending(window) => bytes.extend(number(window.0)),
            Self::Contribution(window, key) | Self::Convicted(window, key) => {
                bytes.extend(number(window.0));
                bytes.extend_from_slice(key.as_bytes());
            }
            Self::DeltaBody(hash) => bytes.extend_from_slice(hash.as_bytes()),
            Self::Grant(key, window) => {
                bytes.extend_from_slice(key.as_bytes());
                bytes.extend(number(window.0));
            }
            Self::Member(slot) => bytes.extend(number((*slot).into())),
            Self::Measurements | Self::Pages | Self::Prices | Self::Run | Self::Seed | Self::Supply => {}
        }
        bytes
    }

    /// The key with these bytes; the inverse of [`StateKey::bytes`].
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let name = bytes.iter().position(|&byte| byte == 0)?;
        let rest = &bytes[name + 1..];
        let key = |bytes: &[u8]| Some(PublicKey::from_bytes(bytes.try_into().ok()?));
        let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        let window = |bytes: &[u8]| number(bytes).map(WindowIndex);
        let pair = |middle| rest.split_at_checked(middle);
        let alone = |found| rest.is_empty().then_some(found);
        Some(match &bytes[..name] {
            b"account" => Self::Account(key(rest)?),
            b"anchor" => Self::Anchor(window(rest)?),
            b"chain" => Self::Chain(key(rest)?),
            b"contribution" => pair(8).and_then(|(at, of)| Some(Self::Contribution(window(at)?, key(of)?)))?,
            b"convicted" => pair(8).and_then(|(at, of)| Some(Self::Convicted(window(at)?, key(of)?)))?,
            b"delta-body" => Self::DeltaBody(Hash::from_bytes(rest.try_into().ok()?)),
            b"draw" => Self::Draw(window(rest)?),
            b"expelled" => Self::Expelled(key(rest)?),
            b"former-node" => Self::FormerNode(key(rest)?),
            b"grant" => pair(32).and_then(|(of, at)| Some(Self::Grant(key(of)?, window(at)?)))?,
            b"measured" => Self::Measured(key(rest)?),
            b"measurements" => alone(Self::Measurements)?,
            b"member" => Self::Member(number(rest)?.try_into().ok()?),
            b"pages" => alone(Self::Pages)?,
            b"parent" => Self::Parent(key(rest)?),
            b"pending" => Self::Pending(window(rest)?),
            b"prices" => alone(Self::Prices)?,
            b"run" => alone(Self::Run)?,
            b"seed" => alone(Self::Seed)?,
            b"standing" => Self::Standing(key(rest)?),
            b"strike" => Self::Strike(key(rest)?),
            b"supply" => alone(Self::Supply)?,
            _ => return None,
        })
    }
}

/// The root of a set of validators: that of a tree in which the key `validator`, a zero byte and the validator's key
/// has the value stake (u64, little-endian) and anchor of the hash chain.
pub(super) fn validators_root(genesis: &Genesis) -> Hash {
    let mut tree = Tree::new();
    for validator in &genesis.validators {
        let key = [b"validator\0", &validator.key.as_bytes()[..]].concat();
        let value = [&validator.stake.to_le_bytes()[..], validator.chain_anchor.as_bytes()].concat();
        tree.insert(&key, &value);
    }
    tree.root()
}

impl RunState {
    /// The root of the state, as the header of a record names it.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The root of the state, computed from its entries alone. It is equal to [`RunState::root`], which is brought
    /// up to date window after window.
    pub fn root_from_nothing(&self) -> Hash {
        self.written().root()
    }

    /// Proves an entry of the state, or that it has no such entry. The proof is checked against the root with
    /// [`StateKey::bytes`] as the key.
    pub fn prove(&self, key: &StateKey) -> TreeProof {
        self.tree.prove(&key.bytes())
    }

    /// The value of an entry of the state, as bytes.
    pub fn entry(&self, key: &StateKey) -> Option<&[u8]> {
        self.tree.get(&key.bytes())
    }

    /// The tree of this state, written from nothing.
    pub(super) fn written(&self) -> Tree {
        let mut tree = Tree::new();
        for (key, value) in self.entries() {
            tree.insert(&key.bytes(), &value.bytes());
        }
        tree
    }

    /// Brings the tree up to date, which is still that of the state `before`.
    pub(super) fn renew_tree(&mut self, before: &Self) {
        let mut tree = before.tree.clone();
        let (mut old, mut new) = (before.entries().into_iter().peekable(), self.entries().into_iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let gone = if order.is_le() { old.next() } else { None };
            let here = if order.is_ge() { new.next() } else { None };
            match (gone, here) {
                (Some((key, _)), None) => tree.remove(&key.bytes()),
                (None, Some((key, value))) => tree.insert(&key.bytes(), &value.bytes()),
                (Some((_, old)), Some((key, value))) if old != value => tree.insert(&key.bytes(), &value.bytes()),
                _ => {}
            }
        }
        self.tree = tree;
    }

    /// All entries of the state, sorted by key.
    fn entries(&self) -> Vec<(StateKey, StateValue<'_>)> {
        use StateKey as Key;
        use StateValue as Value;
        let Self { members, contributed, offences, ledger, .. } = self;
        let mut all = Vec::new();
        all.extend(
            ledger.accounts().iter().map(|(key, account)| (Key::Account(*key), Value::Account(account.free_micros()))),
        );
        all.extend(members.anchors().map(|anchor| (Key::Anchor(anchor.window), Value::Anchor(anchor))));
        all.extend(self.chains.iter().map(|(key, (window, value))| (Key::Chain(*key), Value::Chain(*window, value))));
        for (window, pending) in &contributed.pending {
            let miners = pending.judged.contributions.keys();
            let facts = |miner| Value::Contribution(ContributionFacts { pending, miner });
            all.extend(miners.map(|miner| (Key::Contribution(*window, *miner), facts(miner))));
        }
        let convicted = offences.convicted.iter();
        all.extend(convicted.map(|(window, account)| (Key::Convicted(*window, *account), Value::Nothing)));
        let bodies = contributed.bodies.iter();
        all.extend(bodies.map(|(body, (window, miner))| (Key::DeltaBody(*body), Value::DeltaBody(*window, miner))));
        all.extend(self.pages.drawn().iter().map(|drawn| (Key::Draw(drawn.window), Value::Draw(drawn))));
        all.extend(offences.expelled.iter().map(|owner| (Key::Expelled(*owner), Value::Nothing)));
        let former = offences.former_nodes.iter();
        all.extend(former.map(|(node, (owner, window))| (Key::FormerNode(*node), Value::FormerNode(owner, *window))));
        for (key, account) in ledger.accounts() {
            all.extend(
                account
                    .grants()
                    .iter()
                    .map(|grant| (Key::Grant(*key, grant.window), Value::Grant(grant.amount_micros))),
            );
        }
        if let Some(measured) = &self.measurements {
            let facts = |miner| Value::Measured(MeasuredFacts { measurements: measured, miner });
            all.extend(measured.of.keys().map(|miner| (Key::Measured(*miner), facts(miner))));
            all.push((Key::Measurements, Value::Measurements(MeasurementsFacts(measured))));
        }
        all.extend(members.iter().map(|member| (Key::Member(member.slot), Value::Member(member))));
        let pages = &self.pages;
        all.push((Key::Pages, Value::Pages([pages.pages(), pages.epoch(), pages.taken()])));
        all.extend(contributed.parents.iter().map(|(miner, last)| (Key::Parent(*miner), Value::Parent(last))));
        let pending = contributed.pending.iter();
        all.extend(pending.map(|(window, facts)| (Key::Pending(*window), Value::Pending(PendingFacts(facts)))));
        all.push((Key::Prices, Value::Prices([members.hashes(), members.burn_micros()])));
        all.push((Key::Run, Value::Run(&self.told)));
        all.push((Key::Seed, Value::Seed(&self.seed)));
        all.extend(self.standings.iter().map(|(miner, of)| (Key::Standing(*miner), Value::Standing(of))));
        all.extend(offences.strikes.iter().map(|(miner, window)| (Key::Strike(*miner), Value::Strike(*window))));
        let supply = [ledger.minted_micros(), ledger.burnt_micros(), ledger.treasury_micros()];
        all.push((Key::Supply, Value::Supply(supply)));
        all
    }
}
