//! What became of a registration: what it paid, against what was asked for, and the record that decided.

use serde_json::json;
use templar_manifest::{Hash, Payment, Registration, largest_digest};
use templar_protocol::Node;

use super::standing::Explanation;
use crate::printer::{alpha, amount};

/// Explains a registration from the states before and after its window.
pub(super) fn explain(node: &Node, id: Hash, registration: &Registration) -> Option<Explanation> {
    let state = node.state_at(registration.window)?;
    let certificate = &registration.certificate;
    let anchor = state.members().anchor(certificate.anchor)?;
    let mut found = Explanation::default();
    let paid = match certificate.payment {
        Payment::Hashcash { .. } => {
            let digest = certificate.work(registration.run, &anchor.seed)?;
            let worth = (u128::MAX / digest.max(1)).min(u64::MAX.into()) as u64;
            let enough = digest <= largest_digest(anchor.hashes);
            found.value.push(json!({"worth_hashes": worth, "asked_hashes": anchor.hashes, "enough": enough}));
            let (worth, asked) = (amount(worth as f64), amount(anchor.hashes as f64));
            format!("work that one in {worth} hashes shows; one in {asked} was asked for")
        }
        Payment::Burn { amount_micros } => {
            let price = state.members().burn_micros();
            found.value.push(json!({"burn_micros": amount_micros, "price_micros": price}));
            format!("{} ALPHA to be burnt; a slot cost {}", alpha(amount_micros), alpha(price))
        }
        Payment::Rotation => "nothing: the owner has a slot and names another node key".to_owned(),
    };
    found.lines.push(format!("paid: {paid}"));
    let closed = node.closed().get(usize::try_from(registration.window.0).ok()?);
    let verdict = closed.and_then(|closed| {
        closed.window.admissions.iter().find(|admission| admission.registration.hash() == id).map(|found| found.verdict)
    });
    let said = match (closed, verdict) {
        (Some(closed), Some(verdict)) => format!("record {}: {verdict}", closed.record.short()),
        (Some(closed), None) => format!("record {} does not name it: the cut has none of it", closed.record.short()),
        (None, _) => format!("window {} is open", registration.window),
    };
    found.value.push(json!({"verdict": verdict.map(|verdict| verdict.to_string())}));
    found.lines.push(said);
    let now = node.state().members().by_owner(&certificate.owner);
    found.lines.push(match now {
        Some(member) => format!("the owner has slot {}, and {} trains for it", member.slot, member.node.short()),
        None => "the owner has no slot now".to_owned(),
    });
    Some(found)
}
