//! From the entries of a state tree back to the state.
//!
//! The entries are those of a certified root, so validators have computed them. All the same nothing here relies on
//! that: what does not parse is malformed, and the state that comes out must give the same tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::tree::Tree;
use templar_manifest::{
    CheckpointId, Contribution, ContributionId, CutId, Genesis, Hash, Losses, PublicKey, RecordId, Reveal, ScoreId,
    StateId, WindowHeader, WindowIndex, payload,
};

use super::error::CertifiedStateError;
use crate::gauntlet::{Rating, Standing};
use crate::ledger::{Account, Grant, Ledger};
use crate::run::draw::{PageDraw, PagesDrawn};
use crate::run::judged::{Judged, JudgedContribution};
use crate::run::measurements::{Measurements, StatedMeasurement};
use crate::run::members::{Anchor, Member, Members};
use crate::run::pending::{OpenChallenge, Pending};
use crate::run::{Contributed, Offences, Parent, RunState, SharedWork, StateKey, Told, Tried, assignment};

/// The bytes of a value while they are read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn signed(&mut self) -> Option<i64> {
        self.bytes().map(i64::from_le_bytes)
    }

    fn window(&mut self) -> Option<WindowIndex> {
        self.number().map(WindowIndex)
    }

    fn hash(&mut self) -> Option<Hash> {
        self.bytes().map(Hash::from_bytes)
    }

    fn key(&mut self) -> Option<PublicKey> {
        self.bytes().map(PublicKey::from_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A list with its number before it. Nothing is allocated that is longer than the bytes which are here.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.number()?).map(|_| one(self)).collect()
    }

    fn keys(&mut self) -> Option<Vec<PublicKey>> {
        self.list(Self::key)
    }

    /// Reads a whole value.
    fn whole<T>(value: &'a [u8], read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let mut reader = Self(value);
        read(&mut reader).filter(|_| reader.0.is_empty())
    }
}

/// A contribution of a closed window, as an entry has it.
struct Claimed {
    id: ContributionId,
    accepted: bool,
    refuted: bool,
    challenged: bool,
    drawn: Vec<PublicKey>,
    landed: Vec<PublicKey>,
    challenge: Option<OpenChallenge>,
    pages: Vec<u64>,
}

/// A closed window, as an entry has it.
struct Open {
    checkpoint: CheckpointId,
    cut: CutId,
    seed: Hash,
    reveals: Vec<Reveal>,
}

/// A measurement of the window before, as an entry has it.
struct Measured {
    id: ContributionId,
    evaluators: Vec<PublicKey>,
    assigned: Vec<u64>,
    stated: Tried,
    by: Vec<(PublicKey, ScoreId)>,
}

/// The window before, as an entry has it.
struct MeasuredWindow {
    checkpoint: CheckpointId,
    seed: Hash,
    unassigned: Vec<u64>,
}

/// The entries of a state, read one after the other.
#[derive(Default)]
struct Entries {
    free: BTreeMap<PublicKey, u64>,
    grants: BTreeMap<PublicKey, Vec<Grant>>,
    anchors: Vec<Anchor>,
    chains: BTreeMap<PublicKey, (WindowIndex, Hash)>,
    claimed: BTreeMap<WindowIndex, BTreeMap<PublicKey, Claimed>>,
    open: BTreeMap<WindowIndex, Open>,
    bodies: BTreeMap<Hash, (WindowIndex, PublicKey)>,
    drawn: Vec<PagesDrawn>,
    measured: BTreeMap<PublicKey, Measured>,
    measured_window: Option<MeasuredWindow>,
    offences: Offences,
    members: Vec<Member>,
    pages: Option<[u64; 3]>,
    parents: BTreeMap<PublicKey, Parent>,
    prices: Option<[u64; 2]>,
    told: Option<Told>,
    seed: Option<Hash>,
    standings: BTreeMap<PublicKey, Standing>,
    supply: Option<[u64; 3]>,
}

fn numbers<const N: usize>(from: &mut Reader<'_>) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = from.number()?;
    }
    Some(numbers)
}

fn standing(from: &mut Reader<'_>) -> Option<Standing> {
    let rating = Rating { mu_picos: from.signed()?, sigma_picos: from.number()? };
    let proof_nanos = from.signed()?;
    let [missing, withheld, negative] = numbers(from)?;
    Some(Standing {
        rating,
        proof_nanos,
        missing: u8::try_from(missing).ok()?.into(),
        withheld: u8::try_from(withheld).ok()?.into(),
        negative: u8::try_from(negative).ok()?.into(),
        excluded_until: from.window()?,
        factor_nanos: from.number()?,
    })
}

fn member(slot: u32, from: &mut Reader<'_>) -> Option<Member> {
    Some(Member {
        owner: from.key()?,
        node: from.key()?,
        slot,
        since: from.window()?,
        anchor: from.window()?,
        merit_nanos: from.number()?,
        idle_since: from.window()?,
    })
}

fn claimed(from: &mut Reader<'_>) -> Option<Claimed> {
    Some(Claimed {
        id: from.hash()?.into(),
        accepted: from.flag()?,
        refuted: from.flag()?,
        challenged: from.flag()?,
        drawn: from.keys()?,
        landed: from.keys()?,
        challenge: match from.flag()? {
            false => None,
            true => Some(OpenChallenge { since: from.window()?, unanswered: from.keys()?.into_iter().collect() }),
        },
        pages: from.list(Reader::number)?,
    })
}

fn measured(from: &mut Reader<'_>) -> Option<Measured> {
    let id = from.hash()?.into();
    let (evaluators, assigned) = (from.keys()?, from.list(Reader::number)?);
    let stated = if from.flag()? {
        let [assigned_before, assigned_after, unassigned_before, unassigned_after] = numbers(from)?;
        let losses = Losses {
            assigned_before_nanonats: assigned_before,
            assigned_after_nanonats: assigned_after,
            unassigned_before_nanonats: unassigned_before,
            unassigned_after_nanonats: unassigned_after,
        };
        Tried::Measured { losses, witnesses: from.list(Reader::number)? }
    } else {
        Tried::Untried
    };
    let by = from.list(|from| Some((from.key()?, from.hash()?.into())))?;
    Some(Measured { id, evaluators, assigned, stated, by })
}

fn measured_window(from: &mut Reader<'_>) -> Option<MeasuredWindow> {
    let (checkpoint, seed) = (from.hash()?.into(), from.hash()?);
    Some(MeasuredWindow { checkpoint, seed, unassigned: from.list(Reader::number)? })
}

fn open(from: &mut Reader<'_>) -> Option<Open> {
    let (checkpoint, cut, seed) = (from.hash()?.into(), from.hash()?.into(), from.hash()?);
    let reveal = |from: &mut Reader<'_>| Some(Reveal { validator: from.key()?, value: from.hash()? });
    Some(Open { checkpoint, cut, seed, reveals: from.list(reveal)? })
}

impl Entries {
    fn read(tree: &Tree) -> Option<Self> {
        let mut entries = Self::default();
        for (key, value) in tree.iter() {
            let key = StateKey::parse(key)?;
            Reader::whole(value, |value| entries.take(key, value))?;
        }
        Some(entries)
    }

    fn take(&mut self, key: StateKey, value: &mut Reader<'_>) -> Option<()> {
        match key {
            StateKey::Account(key) => _ = self.free.insert(key, value.number()?),
            StateKey::Anchor(window) => self.anchors.push(Anchor { window, seed: value.hash()? }),
            StateKey::Chain(key) => _ = self.chains.insert(key, (value.window()?, value.hash()?)),
            StateKey::Contribution(window, miner) => {
                self.claimed.entry(window).or_default().insert(miner, claimed(value)?);
            }
            StateKey::Convicted(window, account) => _ = self.offences.convicted.insert((window, account)),
            StateKey::DeltaBody(body) => _ = self.bodies.insert(body, (value.window()?, value.key()?)),
            StateKey::Draw(window) => {
                self.drawn.push(PagesDrawn { window, seed: value.hash()?, pages: value.number()? });
            }
            StateKey::Expelled(owner) => _ = self.offences.expelled.insert(owner),
            StateKey::FormerNode(node) => {
                self.offences.former_nodes.insert(node, (value.key()?, value.window()?));
            }
            StateKey::Grant(key, window) => {
                let grant = Grant { window, amount_micros: value.number()? };
                self.grants.entry(key).or_default().push(grant);
            }
            StateKey::Measured(miner) => _ = self.measured.insert(miner, measured(value)?),
            StateKey::Measurements => self.measured_window = Some(measured_window(value)?),
            StateKey::Member(slot) => self.members.push(member(slot, value)?),
            StateKey::Pages => self.pages = Some(numbers(value)?),
            StateKey::Parent(miner) => {
                let parent = Parent { contribution: value.hash()?.into(), state_out: value.hash()?.into() };
                self.parents.insert(miner, parent);
            }
            StateKey::Pending(window) => _ = self.open.insert(window, open(value)?),
            StateKey::Prices => self.prices = Some(numbers(value)?),
            StateKey::Run => {
                let zero_state: StateId = value.hash()?.into();
                self.told = Some(Told { zero_state, training_tokens: value.number()? });
            }
            StateKey::Seed => self.seed = Some(value.hash()?),
            StateKey::Standing(miner) => _ = self.standings.insert(miner, standing(value)?),
            StateKey::Strike(miner) => _ = self.offences.strikes.insert(miner, value.window()?),
            StateKey::Supply => self.supply = Some(numbers(value)?),
        }
        Some(())
    }

    fn accounts(&mut self) -> BTreeMap<PublicKey, Account> {
        let free = std::mem::take(&mut self.free).into_iter();
        free.map(|(key, free)| (key, Account::restored(free, self.grants.remove(&key).unwrap_or_default()))).collect()
    }

    /// The measurements of the window before.
    fn measurements(
        &mut self,
        header: &WindowHeader,
        contributions: &BTreeMap<ContributionId, Contribution>,
    ) -> Result<Option<Arc<Measurements>>, CertifiedStateError> {
        let Some(MeasuredWindow { checkpoint, seed, unassigned }) = self.measured_window.take() else {
            return Ok(None);
        };
        let mut of = BTreeMap::new();
        for (miner, Measured { id, evaluators, assigned, stated, by }) in std::mem::take(&mut self.measured) {
            let contribution = contributions.get(&id).ok_or(CertifiedStateError::Contribution(id))?.clone();
            of.insert(miner, StatedMeasurement { id, contribution, evaluators, assigned, stated, by });
        }
        let (run, window) = (header.run, header.window);
        Ok(Some(Arc::new(Measurements { run, window, checkpoint, seed, unassigned, of })))
    }

    /// The closed windows for which verdicts still count.
    fn pending(
        &mut self,
        header: &WindowHeader,
        contributions: &BTreeMap<ContributionId, Contribution>,
    ) -> Result<BTreeMap<WindowIndex, Arc<Pending>>, CertifiedStateError> {
        let mut all = BTreeMap::new();
        for (window, open) in std::mem::take(&mut self.open) {
            let judged = Judged {
                run: header.run,
                window,
                cut_id: open.cut,
                seed: open.seed,
                reveals: open.reveals,
                contributions: BTreeMap::new(),
            };
            let mut pending = Pending {
                judged,
                checkpoint: open.checkpoint,
                pages: BTreeMap::new(),
                accepted: BTreeSet::new(),
                landed: BTreeSet::new(),
                refuted: BTreeSet::new(),
                challenges: BTreeMap::new(),
                challenged: BTreeSet::new(),
            };
            for (miner, claimed) in self.claimed.remove(&window).unwrap_or_default() {
                let missing = || CertifiedStateError::Contribution(claimed.id);
                let contribution = contributions.get(&claimed.id).ok_or_else(missing)?.clone();
                let judged = JudgedContribution { id: claimed.id, contribution, replayers: claimed.drawn };
                pending.judged.contributions.insert(miner, judged);
                for (set, is_in) in [
                    (&mut pending.accepted, claimed.accepted),
                    (&mut pending.refuted, claimed.refuted),
                    (&mut pending.challenged, claimed.challenged),
                ] {
                    if is_in {
                        set.insert(miner);
                    }
                }
                pending.landed.extend(claimed.landed.into_iter().map(|validator| (miner, validator)));
                pending.challenges.extend(claimed.challenge.map(|challenge| (miner, challenge)));
                pending.pages.insert(miner, claimed.pages);
            }
            all.insert(window, Arc::new(pending));
        }
        Ok(all)
    }
}

/// The state after the window of `header`, whose entries `tree` has.
pub(super) fn restore(
    genesis: Arc<Genesis>,
    header: &WindowHeader,
    tree: Tree,
    contributions: &BTreeMap<ContributionId, Contribution>,
) -> Result<RunState, CertifiedStateError> {
    let mut entries = Entries::read(&tree).ok_or(CertifiedStateError::Malformed)?;
    let pending = entries.pending(header, contributions)?;
    let measurements = entries.measurements(header, contributions)?;
    let accounts = entries.accounts();
    let run = header.run;
    let restored = || {
        let [pages, epoch, taken] = entries.pages?;
        let order = |drawn: &PagesDrawn| assignment::order_of(&run, drawn.window, &drawn.seed);
        let pages = PageDraw::restored(pages, epoch, entries.drawn, order).filter(|pages| pages.taken() == taken)?;
        let ledger = Ledger::restored(genesis.emission.vesting_windows, accounts, entries.supply?)?;
        Some(RunState {
            run,
            told: entries.told?,
            window: header.window.next(),
            seed: entries.seed?,
            checkpoint: header.checkpoint,
            record: Some(RecordId::new(payload::id_of(header))),
            members: Members::restored(entries.members, entries.anchors, entries.prices?),
            contributed: Contributed { parents: entries.parents, bodies: entries.bodies, pending },
            measurements,
            standings: entries.standings,
            ledger,
            pages,
            chains: entries.chains,
            offences: entries.offences,
            tree,
            shared: SharedWork::default(),
            genesis,
        })
    };
    let state = restored().ok_or(CertifiedStateError::Malformed)?;
    // Whatever an entry says that the state does not hold would be lost here.
    if state.root_from_nothing() == state.root() { Ok(state) } else { Err(CertifiedStateError::Malformed) }
}
