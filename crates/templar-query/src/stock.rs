//! The blobs in the store of a home by type, and the blobs that no run needs any more.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;
use templar_home::access::Access;
use templar_home::inventory::{self, Held};
use templar_home::retention::Sort;
use templar_home::unfinished;
use templar_manifest::Hash;

use crate::error::QueryError;

/// A number of blobs and their length.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BlobTotal {
    /// The number of blobs.
    pub blobs: u64,
    /// The bytes that they take on the disk.
    pub bytes: u64,
}

impl BlobTotal {
    fn of<'a>(held: impl Iterator<Item = &'a Held>) -> Self {
        held.fold(Self::default(), |sum, held| Self { blobs: sum.blobs + 1, bytes: sum.bytes + held.bytes })
    }
}

/// The blobs of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TypeTotal {
    /// The name of the type, such as `checkpoint`.
    pub sort: &'static str,
    /// The number of blobs.
    pub blobs: u64,
    /// The bytes that they take on the disk.
    pub bytes: u64,
    /// The number of blobs that no run needs any more.
    pub may_go_blobs: u64,
    /// The bytes of the blobs that no run needs any more.
    pub may_go_bytes: u64,
}

/// The store of a home in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// The totals of each type.
    pub sorts: Vec<TypeTotal>,
    /// The number of blobs.
    pub blobs: u64,
    /// The bytes that they take on the disk.
    pub bytes: u64,
    /// The number of blobs that no run needs any more.
    pub may_go_blobs: u64,
    /// The bytes of the blobs that no run needs any more.
    pub may_go_bytes: u64,
    /// The number of blobs of which only a part is here.
    pub partial_blobs: u64,
    /// The bytes of those parts.
    pub partial_bytes: u64,
    /// The blobs that were whole once and are damaged.
    pub torn: BTreeSet<Hash>,
    /// The number of snapshots of training whose window is over.
    pub stale_snapshots: usize,
}

/// The blobs of a home, each with its type and whether a run still needs it.
#[derive(Debug)]
pub struct StoreInventory {
    /// The blobs, whole or in part.
    pub held: Vec<Held>,
    /// The parts of blobs that were whole once and are damaged.
    pub torn: BTreeSet<Hash>,
    /// The snapshots of training whose window is over.
    pub stale_snapshots: Vec<PathBuf>,
}

impl StoreInventory {
    /// Takes stock of a home, also beside a running node.
    ///
    /// # Errors
    /// The store does not list its blobs, or a run cannot be read, so it is unknown which blobs it needs.
    pub fn read(access: &Access) -> Result<Self, QueryError> {
        let stock = access.stock()?;
        let (mut held, stale_snapshots) = inventory::take(&access.home, access.blobs(), &stock)?;
        // Beside a node nobody can tell what is left behind from what that node writes.
        if let Some(store) = access.store_to_read() {
            let left_behind = access.runtime().block_on(store.left_behind(&unfinished::listed(&access.home)?))?;
            let left = |(id, bytes)| Held { id, bytes, sort: Sort::Dataset, whole: false, stays: false };
            held.extend(left_behind.into_iter().map(left));
        }
        Ok(Self { held, torn: stock.torn, stale_snapshots })
    }

    /// The blobs that no run needs any more.
    pub fn unneeded(&self) -> impl Iterator<Item = &Held> {
        self.held.iter().filter(|held| !held.stays)
    }

    /// The totals of each type.
    pub fn by_type(&self) -> Vec<TypeTotal> {
        let total = |sort: Sort| {
            let all = BlobTotal::of(self.held.iter().filter(|held| held.sort == sort));
            let may_go = BlobTotal::of(self.unneeded().filter(|held| held.sort == sort));
            TypeTotal {
                sort: sort.name(),
                blobs: all.blobs,
                bytes: all.bytes,
                may_go_blobs: may_go.blobs,
                may_go_bytes: may_go.bytes,
            }
        };
        Sort::ALL.into_iter().map(total).collect()
    }

    /// The figures about the whole store.
    pub fn report(&self) -> StoreReport {
        let (all, may_go) = (BlobTotal::of(self.held.iter()), self.may_go());
        let partial = BlobTotal::of(self.held.iter().filter(|held| !held.whole));
        StoreReport {
            sorts: self.by_type(),
            blobs: all.blobs,
            bytes: all.bytes,
            may_go_blobs: may_go.blobs,
            may_go_bytes: may_go.bytes,
            partial_blobs: partial.blobs,
            partial_bytes: partial.bytes,
            torn: self.torn.clone(),
            stale_snapshots: self.stale_snapshots.len(),
        }
    }

    /// The total of the blobs that no run needs any more.
    pub fn may_go(&self) -> BlobTotal {
        BlobTotal::of(self.unneeded())
    }

    /// The total of the blobs that stay.
    pub fn stays(&self) -> BlobTotal {
        BlobTotal::of(self.held.iter().filter(|held| held.stays))
    }
}
