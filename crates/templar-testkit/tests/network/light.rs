//! A node without deltas needs only the checkpoint before a window and the one blob that its record names.

use std::path::Path;

use templar_audit::{AuditInputs, InputError, apply_aggregate};
use templar_blob::MemoryBlobs;
use templar_home::access::Access;
use templar_manifest::{Signed, payload};

/// From the first parameters to every model of a run by its aggregates alone, which a miner has fetched instead
/// of the others' deltas.
pub(crate) fn follows_by_aggregates(miner: &Path) {
    let access = Access::read(miner).unwrap();
    let context = access.run(None).unwrap();
    let closed = access.fold(&context).unwrap().closed().to_vec();
    let mut parameters = context.recipe.initial_parameters(access.blobs()).unwrap();
    for (index, window) in closed.iter().enumerate() {
        let record = &window.window;
        let own = access.home.key().unwrap().public();
        for contribution in window.contributions.iter().map(Signed::payload) {
            let here = access.blobs().contains(&contribution.delta.hash());
            assert_eq!(here, contribution.miner == own, "window {index}: deltas of others are not needed");
        }
        let mut only = MemoryBlobs::new();
        let inputs = AuditInputs::new(&context.recipe, &context.dataset, &only).unwrap();
        let error = apply_aggregate(&inputs, record, parameters.clone()).unwrap_err();
        assert!(matches!(error, InputError::Unavailable { .. }), "{error}");

        let bytes = access.blobs().read(&record.body.aggregate.hash(), record.body.aggregate_bytes).unwrap();
        assert_eq!(bytes.len() as u64, record.body.aggregate_bytes);
        only.insert(bytes);
        let inputs = AuditInputs::new(&context.recipe, &context.dataset, &only).unwrap();
        // A record that names the blob of another window, or counts other contributors.
        let mut other = record.clone();
        other.body.window = record.body.window.next();
        let error = apply_aggregate(&inputs, &other, parameters.clone()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("window is {index}, expected {}", index + 1)), "{error}");
        other.body.window = record.body.window;
        other.body.outcomes.clear();
        assert!(apply_aggregate(&inputs, &other, parameters.clone()).is_err());

        let (after, checkpoint) = apply_aggregate(&inputs, record, parameters).unwrap();
        assert_eq!(payload::id_of(&checkpoint), record.header.checkpoint.hash());
        parameters = after;
    }
}
