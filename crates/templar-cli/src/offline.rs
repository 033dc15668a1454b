//! Leaves the network, so that an audit shows by construction that it needs none.
//!
//! On Linux a process may move into a network namespace of its own, which holds no interface at all. Some kernels and
//! containers forbid it; then the audit says so and goes on, since it opens no socket anyway.

/// Whether this process has a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Nobody asked.
    Kept,
    /// It has none.
    Unshared,
    /// The system did not let it go.
    NotAvailable,
}

impl Network {
    /// For programs.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Kept => None,
            Self::Unshared => Some("unshared"),
            Self::NotAvailable => Some("not available"),
        }
    }
}

/// Moves this process, which must still have one thread, into an empty network namespace.
#[cfg(target_os = "linux")]
pub(crate) fn leave() -> Network {
    use nix::sched::{CloneFlags, unshare};
    // An ordinary user needs a user namespace for it; where those are forbidden, a privileged one does not.
    let ways = [CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET, CloneFlags::CLONE_NEWNET];
    if ways.into_iter().any(|flags| unshare(flags).is_ok()) { Network::Unshared } else { Network::NotAvailable }
}

/// Other systems have no network namespaces.
#[cfg(not(target_os = "linux"))]
pub(crate) fn leave() -> Network {
    Network::NotAvailable
}
