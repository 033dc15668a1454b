//! Which pages each member trains on in the open window.

use templar_manifest::PublicKey;

use super::RunState;
use super::draw::{DrawStream, PageDraw};

const ASSIGNMENT_CONTEXT: &str = "templar/1 assignment";

/// Which pages each slot trains on in a window, in training order. Slots are disjoint; one without a member has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    slots: Vec<Vec<u64>>,
}

impl Assignment {
    /// The pages of a slot; H full steps, batch after batch.
    pub fn slot(&self, slot: usize) -> Option<&[u64]> {
        self.slots.get(slot).map(Vec::as_slice)
    }

    /// The slots in their order, up to the last that has a member.
    pub fn slots(&self) -> &[Vec<u64>] {
        &self.slots
    }
}

impl RunState {
    /// The pages of the open window: drawn without replacement from those that the epoch has not used, with the seed of
    /// the window before; the member in the first slot takes the first [`Genesis::pages_per_slot`] of them, and so on. A slot
    /// without a member takes none.
    pub fn assignment(&self) -> Assignment {
        self.take_pages().0
    }

    /// The assignment, and the epoch's pages after it.
    pub(super) fn take_pages(&self) -> (Assignment, PageDraw) {
        let mut draw = DrawStream::new(
            ASSIGNMENT_CONTEXT,
            &[self.run.hash().as_bytes(), &self.window.0.to_le_bytes(), self.seed.as_bytes()],
        );
        let mut pages = self.pages.clone();
        let per_slot = self.genesis.pages_per_slot(self.window.0);
        let count = self.members.len() as u64;
        let mut taken = pages.take(count * per_slot, &mut draw).into_iter();
        let mut slots = Vec::new();
        for member in self.members.iter() {
            slots.resize(member.slot as usize, Vec::new());
            slots.push(taken.by_ref().take(per_slot as usize).collect());
        }
        (Assignment { slots }, pages)
    }

    /// The pages of a member, by its owner.
    pub fn pages_of(&self, owner: &PublicKey) -> Option<Vec<u64>> {
        let member = self.members.by_owner(owner)?;
        self.assignment().slots.get_mut(member.slot as usize).map(std::mem::take)
    }
}
