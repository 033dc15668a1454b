//! Signatures that are not what they seem.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use templar_manifest::envelope::signed_bytes;
use templar_manifest::*;

use super::{Attack, Told, refused};
use crate::vectors::example;
use crate::vectors::window::{key, miners, validators};

/// The order of the curve's base point, little-endian.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The same signature with the group's order added to its scalar. The verification equation still holds.
fn malleable(signature: &Signature) -> Signature {
    let mut bytes = *signature.as_bytes();
    let mut carry = 0u16;
    for (byte, order) in bytes[32..].iter_mut().zip(GROUP_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    Signature::from_bytes(bytes)
}

/// A signed payload, which `expected` should have signed.
fn sent(envelope: &Envelope, kind: Kind, expected: &PublicKey) -> Value {
    json!({
        "kind": kind.to_string(),
        "payload": HEXLOWER.encode(&envelope.payload),
        "signer": HEXLOWER.encode(envelope.signer.as_bytes()),
        "signature": HEXLOWER.encode(envelope.signature.as_bytes()),
        "expected": HEXLOWER.encode(expected.as_bytes()),
    })
}

/// Opens a signed payload and checks who signed it.
fn expect<T: Payload>(envelope: &Envelope, signer: &PublicKey) -> Told<(), EnvelopeError> {
    let answer = envelope.open::<T>().and_then(|signed| signed.expect_signer(signer));
    Told { answer: answer.map(drop), sent: sent(envelope, T::KIND, signer) }
}

pub(crate) fn attacks() -> Vec<Attack> {
    let honest = example().closed.contributions[0].envelope();
    let id = honest.id();
    let run = example().before.run();
    let miner = &miners()[0];
    let open = |envelope: &Envelope| expect::<Contribution>(envelope, &envelope.signer);
    let signed_as = |signature: Signature| Envelope { signature, ..honest.clone() };
    let by = |bytes: &[u8]| signed_as(miner.sign(bytes));
    let contribution = Contribution::KIND;
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut no_signature = [0; 64];
    no_signature[0] = 1;
    let small_order = Envelope {
        signer: PublicKey::from_bytes(identity),
        signature: Signature::from_bytes(no_signature),
        payload: honest.payload.clone(),
    };
    let mut off_curve = [0; 32];
    off_curve[0] = 2;
    let stranger = Envelope { signer: PublicKey::from_bytes(off_curve), ..honest.clone() };
    let mut changed = honest.clone();
    *changed.payload.last_mut().unwrap() = 0;
    let loss = changed.payload.windows(13).position(|bytes| bytes == b"loss_nanonats").unwrap() + 13;
    changed.payload[loss + 8] ^= 1;
    assert!(open(&honest).answer.is_ok());
    vec![
        refused("a changed payload", open(&changed)),
        refused(
            "another's name over one's own signature",
            open(&signed_as(key("auditor").sign(&signed_bytes(contribution, 0, Some(run), &id)))),
        ),
        refused("a contribution signed by another key", {
            let theirs = Signed::sign(example().closed.contributions[0].payload().clone(), &miners()[1]);
            expect::<Contribution>(&theirs.envelope(), &miner.public())
        }),
        refused("a score signed by another validator", {
            let theirs = Signed::sign(example().closed.scores[0].payload().clone(), &validators()[1]);
            expect::<Score>(&theirs.envelope(), &validators()[0].public())
        }),
        refused("a signature over the bare hash", open(&by(id.as_bytes()))),
        refused("a signature for another kind", open(&by(&signed_bytes(Kind::Inbox, 0, Some(run), &id)))),
        refused("a signature for another version", open(&by(&signed_bytes(contribution, 1, Some(run), &id)))),
        refused("a signature for another run", open(&by(&signed_bytes(contribution, 0, None, &id)))),
        refused("a key of small order", open(&small_order)),
        refused("a key that is no point of the curve", open(&stranger)),
        refused("a scalar with the group's order added", open(&signed_as(malleable(&honest.signature)))),
    ]
}
