//! The bounds of what clients may ask for.

use std::time::Duration;

/// How much clients may ask for, and how long they may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest body of a request, in bytes.
    pub body_bytes: usize,
    /// The longest head of a request, in bytes.
    pub head_bytes: usize,
    /// The largest number of connections. Further ones are closed at once.
    pub connections: usize,
    /// The largest number of texts that are under way or wait. Further requests are turned away.
    pub texts: usize,
    /// How long a client may take for the head of a request. A connection without a request ends after it.
    pub head_time: Duration,
    /// How long a client may take for the body of a request.
    pub body_time: Duration,
    /// How long a client may take nothing of an answer that is there.
    pub write_time: Duration,
    /// How long answers that are under way may take when the server is to stop.
    pub stop_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 4 << 20,
            head_bytes: 16 << 10,
            connections: 256,
            texts: 256,
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(60),
            write_time: Duration::from_secs(60),
            stop_time: Duration::from_secs(30),
        }
    }
}
