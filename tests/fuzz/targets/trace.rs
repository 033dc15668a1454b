//! Traces, which must have the header that is expected.

use templar_manifest::trace::{Trace, TraceHeader};

pub(super) fn decode(bytes: &[u8]) -> bool {
    // A real reader expects a certain header. Here it is the input's own, so that mutations get past its check; sizes
    // that no model has would make the length wrong, and the length is checked before anything is allocated.
    let Some(header) = TraceHeader::peek(bytes) else { return false };
    let Ok(trace) = Trace::decode(bytes, &header) else { return false };
    assert_eq!(trace.encode(), bytes);
    true
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    super::examples("trace-", ".bin")
}
