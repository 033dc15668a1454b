//! Payloads of every kind.

use templar_manifest::{
    Audit, Checkpoint, Contribution, Cut, Dataset, Genesis, Hash, Inbox, Payload, Registration, RevealSet, Score,
    State, Vote, WindowBody, WindowHeader, payload,
};

/// Decodes bytes as one kind; an accepted payload has no other spelling.
fn is_a<T: Payload>(bytes: &[u8]) -> bool {
    let Ok(decoded) = payload::decode::<T>(bytes) else { return false };
    assert_eq!(payload::encode(&decoded), bytes);
    assert_eq!(payload::id_of(&decoded), Hash::of(bytes));
    true
}

pub(super) fn decode(bytes: &[u8]) -> bool {
    let kinds: [fn(&[u8]) -> bool; 14] = [
        is_a::<Genesis>,
        is_a::<Dataset>,
        is_a::<Contribution>,
        is_a::<Registration>,
        is_a::<Inbox>,
        is_a::<Cut>,
        is_a::<RevealSet>,
        is_a::<Score>,
        is_a::<WindowHeader>,
        is_a::<WindowBody>,
        is_a::<Vote>,
        is_a::<Checkpoint>,
        is_a::<State>,
        is_a::<Audit>,
    ];
    let accepted = kinds.into_iter().filter(|decode| decode(bytes)).count();
    assert!(accepted <= 1, "a payload is of one kind");
    accepted == 1
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    super::examples("", ".cbor")
}
