//! The assignment: which pages each member trains on in the open window.

use templar_manifest::{Hash, PublicKey, RunId, WindowIndex};

use super::RunState;
use super::draw::{DrawStream, PageDraw, PagesDrawn};

const ASSIGNMENT_CONTEXT: &str = "templar/1 assignment";

/// The pages of each slot in a window, in training order. No page is in two slots, and a slot without a member
/// has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    slots: Vec<Vec<u64>>,
}

impl Assignment {
    /// The pages of a slot, for H full steps, batch after batch. `None` for a slot behind the last member's.
    pub fn slot(&self, slot: usize) -> Option<&[u64]> {
        self.slots.get(slot).map(Vec::as_slice)
    }

    /// The pages of all slots in order, up to the last slot with a member.
    pub fn slots(&self) -> &[Vec<u64>] {
        &self.slots
    }
}

/// The numbers with which a window draws its pages. `seed` is that of the window before.
pub(super) fn order_of(run: &RunId, window: WindowIndex, seed: &Hash) -> DrawStream {
    DrawStream::new(ASSIGNMENT_CONTEXT, &[run.hash().as_bytes(), &window.0.to_le_bytes(), seed.as_bytes()])
}

impl RunState {
    /// The assignment of the open window. Pages are drawn without replacement from those that the epoch has not
    /// used, with the seed of the window before. The member in the first slot takes the first
    /// [`Genesis::pages_per_slot`](templar_manifest::Genesis::pages_per_slot) of them, the next member the
    /// next, and so on.
    pub fn assignment(&self) -> Assignment {
        self.take_pages().0
    }

    /// The assignment, and the pages of the epoch that are left after it.
    pub(super) fn take_pages(&self) -> (Assignment, PageDraw) {
        let mut draw = order_of(&self.run, self.window, &self.seed);
        let mut pages = self.pages.clone();
        let per_slot = self.genesis.pages_per_slot(self.window.0);
        let count = self.members.len() as u64;
        let mut taken = pages.take(count * per_slot, &mut draw).into_iter();
        pages.remember(PagesDrawn { window: self.window, seed: self.seed, pages: count * per_slot });
        let mut slots = Vec::new();
        for member in self.members.iter() {
            slots.resize(member.slot as usize, Vec::new());
            slots.push(taken.by_ref().take(per_slot as usize).collect());
        }
        (Assignment { slots }, pages)
    }

    /// The pages that the member with this owner key trains on; `None` for somebody who is no member.
    pub fn pages_of(&self, owner: &PublicKey) -> Option<Vec<u64>> {
        let member = self.members.by_owner(owner)?;
        self.assignment().slots.get_mut(member.slot as usize).map(std::mem::take)
    }
}
