//! The outcome of a registration: its payment against the price, and the record that decided.

use serde::{Serialize, Serializer};
use templar_manifest::{Admitted, Hash, Payment, PublicKey, RecordId, Registration, WindowIndex, largest_digest};
use templar_protocol::Node;

/// The payment of a registration, and the price at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PaymentView {
    /// Proof of work: a hash with enough leading zeros.
    Work {
        /// The number of hashes that such work takes on average.
        worth_hashes: u64,
        /// The price of a slot, in hashes.
        asked_hashes: u64,
        /// Whether the work meets the price.
        enough: bool,
    },
    /// Tokens that are burnt when the registration is accepted.
    Burn {
        /// The offer, in micro-ALPHA.
        burn_micros: u64,
        /// The price of a slot, in micro-ALPHA.
        price_micros: u64,
    },
    /// No payment: the owner has a slot and names another node key.
    Rotation,
}

/// The decision about a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationOutcome {
    /// The window is still open.
    Open,
    /// The window is closed, and its cut does not contain the registration.
    NotInCut {
        /// The record of the window.
        record: RecordId,
    },
    /// The record of the window decided.
    Decided {
        /// The record of the window.
        record: RecordId,
        /// The decision of the record.
        verdict: Admitted,
    },
}

/// The payment and the outcome of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationExplanation {
    /// The window that the registration is for.
    pub window: WindowIndex,
    /// The payment, beside the price.
    pub payment: PaymentView,
    /// The decision about the registration.
    pub outcome: RegistrationOutcome,
    /// The owner's slot today, with the node key that trains for it.
    pub slot_now: Option<(u32, PublicKey)>,
}

impl Serialize for RegistrationExplanation {
    /// A list: the payment, unless it is a rotation, and then the verdict.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum ListItem {
            Payment(PaymentView),
            Verdict { verdict: Option<String> },
        }
        let payment = (self.payment != PaymentView::Rotation).then_some(ListItem::Payment(self.payment));
        let verdict = match self.outcome {
            RegistrationOutcome::Decided { verdict, .. } => Some(verdict.to_string()),
            RegistrationOutcome::Open | RegistrationOutcome::NotInCut { .. } => None,
        };
        serializer.collect_seq(payment.into_iter().chain([ListItem::Verdict { verdict }]))
    }
}

impl RegistrationExplanation {
    /// Explains the registration `id` from the states before and after its window; `None` when `node` has not
    /// got so far.
    pub fn of(node: &Node, id: Hash, registration: &Registration) -> Option<Self> {
        let state = node.state_at(registration.window)?;
        let certificate = &registration.certificate;
        let anchor = state.members().anchor(certificate.anchor)?;
        let payment = match certificate.payment {
            Payment::Hashcash { .. } => {
                let digest = certificate.work(registration.run, &anchor.seed)?;
                let worth_hashes = (u128::MAX / digest.max(1)).min(u64::MAX.into()) as u64;
                let asked_hashes = state.members().hashes();
                PaymentView::Work { worth_hashes, asked_hashes, enough: digest <= largest_digest(asked_hashes) }
            }
            Payment::Burn { amount_micros } => {
                PaymentView::Burn { burn_micros: amount_micros, price_micros: state.members().burn_micros() }
            }
            Payment::Rotation => PaymentView::Rotation,
        };
        let closed = node.closed_window(registration.window);
        let outcome = match closed {
            None => RegistrationOutcome::Open,
            Some(closed) => {
                let record = closed.record;
                let mut admissions = closed.window.body.admissions.iter();
                match admissions.find(|admission| admission.registration.hash() == id) {
                    Some(admission) => RegistrationOutcome::Decided { record, verdict: admission.verdict },
                    None => RegistrationOutcome::NotInCut { record },
                }
            }
        };
        let member = node.state().members().by_owner(&certificate.owner);
        let slot_now = member.map(|member| (member.slot, member.node));
        Some(Self { window: registration.window, payment, outcome, slot_now })
    }
}
