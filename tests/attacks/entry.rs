//! Bytes that are no entry.

use templar_protocol::{Entry, MAX_ENTRY_BYTES};

use super::{Attack, refused};
use crate::vectors::example;

pub(super) fn attacks() -> Vec<Attack> {
    let bytes = Entry::Envelope(example().closed.contributions[0].envelope()).encode();
    let mut long_head = bytes.clone();
    long_head[0] = 0x80;
    long_head.insert(1, 0);
    let announced = |length: &[u8]| [&[0][..], length].concat();
    let mut short_key = bytes.clone();
    let signer = bytes.len() - 65 - 33;
    short_key[signer] = 31;
    short_key.remove(signer + 32);
    vec![
        refused("no bytes", Entry::decode(&[])),
        refused("one byte more than any entry may have", Entry::decode(&vec![0; MAX_ENTRY_BYTES + 1])),
        refused("cut off", Entry::decode(&bytes[..bytes.len() - 1])),
        refused("a byte behind the end", Entry::decode(&[&bytes[..], &[0]].concat())),
        refused("a number with a long head", Entry::decode(&long_head)),
        refused("an unknown variant", Entry::decode(&[3, 0, 0])),
        refused("a payload announced with ten gigabytes", Entry::decode(&announced(&[0x80, 0xc8, 0xaf, 0xa0, 0x25]))),
        refused("a payload announced with 2^64 - 1 bytes", {
            Entry::decode(&announced(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]))
        }),
        refused("a key of 31 bytes", Entry::decode(&short_key)),
    ]
}
