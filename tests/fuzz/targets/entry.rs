//! Entries of a log, with the payload and the signature inside.

use templar_protocol::{Entry, Verified};

pub(super) fn decode(bytes: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(bytes) else { return false };
    assert_eq!(entry.encode(), bytes);
    let id = entry.id();
    match Verified::open(entry) {
        Ok(verified) => {
            assert_eq!(verified.id(), id);
            true
        }
        Err(_) => false,
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    super::examples("entry-", ".bin")
}
