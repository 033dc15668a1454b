//! Any bytes from a stranger give a message or an error, and never a panic.

use proptest::prelude::*;
use templar_manifest::Hash;

use crate::frame::{decode, encode};
use crate::sync::wire::{Ask, Cursor, MAX_ENTRY_BYTES, MAX_REPLY, MAX_REQUEST, SyncReply, SyncRequest};

#[test]
fn the_longest_entry_fits_a_frame() {
    let longest = vec![0; MAX_ENTRY_BYTES];
    let frame = encode(&SyncReply::Entry { seq: u64::MAX, bytes: &longest }, MAX_REPLY).unwrap();
    assert_eq!(decode::<SyncReply>(&frame[4..]).unwrap(), SyncReply::Entry { seq: u64::MAX, bytes: &longest });
    let longer = vec![0; MAX_REPLY];
    assert!(encode(&SyncReply::Entry { seq: 1, bytes: &longer }, MAX_REPLY).is_err());
}

proptest! {
    #[test]
    fn a_request_comes_back(run in any::<[u8; 32]>(), seq in any::<u64>(), entry in any::<[u8; 32]>(), some in any::<bool>(), ports in proptest::collection::vec(any::<u16>(), 0..8)) {
        let cursor = Cursor { seq, entry: Hash::from_bytes(entry) };
        let addrs = ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect();
        let reached = vec![Hash::from_bytes(entry); usize::from(some)];
        let ask = Ask::Log { after: some.then_some(cursor), reached, addrs };
        let request = SyncRequest { run: Hash::from_bytes(run), ask };
        let frame = encode(&request, MAX_REQUEST).unwrap();
        prop_assert_eq!(decode::<SyncRequest>(&frame[4..]).unwrap(), request);
    }

    #[test]
    fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::<SyncRequest>(&bytes);
        let _ = decode::<SyncReply>(&bytes);
    }

    /// A false count does not make the decoder allocate memory for it.
    #[test]
    fn a_count_that_lies_is_garbage(count in 1000_u64..u64::MAX) {
        let mut bytes = vec![1];
        let mut count = count;
        while count >= 0x80 {
            bytes.push((count & 0x7f) as u8 | 0x80);
            count >>= 7;
        }
        bytes.push(count as u8);
        prop_assert!(decode::<SyncReply>(&bytes).is_err());
    }
}
