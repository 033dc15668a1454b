//! Bytes that are no entry.

use data_encoding::HEXLOWER;
use serde_json::json;
use templar_protocol::{Entry, EntryError, MAX_ENTRY_BYTES};

use super::{Attack, Told, refused};
use crate::vectors::example;

/// Decodes bytes as a peer would.
fn decode(bytes: &[u8]) -> Told<Entry, EntryError> {
    Told { answer: Entry::decode(bytes), sent: json!({ "entry": HEXLOWER.encode(bytes) }) }
}

pub(crate) fn attacks() -> Vec<Attack> {
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
        refused("no bytes", decode(&[])),
        refused("one byte more than any entry may have", decode(&vec![0; MAX_ENTRY_BYTES + 1])),
        refused("cut off", decode(&bytes[..bytes.len() - 1])),
        refused("a byte behind the end", decode(&[&bytes[..], &[0]].concat())),
        refused("a number with a long head", decode(&long_head)),
        refused("an unknown variant", decode(&[3, 0, 0])),
        refused("a payload announced with ten gigabytes", decode(&announced(&[0x80, 0xc8, 0xaf, 0xa0, 0x25]))),
        refused("a payload announced with 2^64 - 1 bytes", {
            decode(&announced(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]))
        }),
        refused("a key of 31 bytes", decode(&short_key)),
    ]
}
