//! Gives up the network, as a proof that an audit needs none.
//!
//! On Linux, a process can move into a network namespace of its own that has no interfaces. Some kernels and
//! containers forbid this. The audit then says so and continues; it opens no socket anyway.

/// The network of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkAccess {
    /// The process keeps its network, because the user did not ask otherwise.
    Kept,
    /// The process has given up its network.
    Unshared,
    /// The system did not allow it to give up the network.
    NotAvailable,
}

impl NetworkAccess {
    /// The name in JSON; `None` when the network is kept.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Kept => None,
            Self::Unshared => Some("unshared"),
            Self::NotAvailable => Some("not available"),
        }
    }
}

/// Moves this process into an empty network namespace. It must still have only one thread.
#[cfg(target_os = "linux")]
pub(crate) fn leave() -> NetworkAccess {
    use nix::sched::{CloneFlags, unshare};
    // An ordinary user needs a user namespace too. A privileged user can do without, where user namespaces are
    // forbidden.
    let ways = [CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET, CloneFlags::CLONE_NEWNET];
    if ways.into_iter().any(|flags| unshare(flags).is_ok()) {
        NetworkAccess::Unshared
    } else {
        NetworkAccess::NotAvailable
    }
}

/// Systems other than Linux have no network namespaces.
#[cfg(not(target_os = "linux"))]
pub(crate) fn leave() -> NetworkAccess {
    NetworkAccess::NotAvailable
}
