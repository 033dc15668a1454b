//! The exit codes and hints of everything about addresses, tickets and transfers.

use templar_net::{BindError, FetchError, PeerAddrError, TicketError};

use super::meaning::{Code, FULL, Meaning, hint, plain};

pub(super) fn bind(error: &BindError) -> Meaning {
    match error {
        BindError::NoLan => hint(Code::Usage, "build with --features lan, or name peers with a ticket or --peer"),
        BindError::Lan { .. } => hint(Code::Usage, "listen on all interfaces: --bind 0.0.0.0:4433"),
        BindError::Multicast { .. } => hint(Code::Failed, "leave out --lan, and name peers with a ticket or --peer"),
        _ => hint(
            Code::Failed,
            "choose another address with --bind; `templar doctor` names the process that holds a port",
        ),
    }
}

pub(super) fn fetch(error: &FetchError) -> Meaning {
    match error {
        FetchError::NoPeers { .. } => hint(Code::NotFound, "name a peer with --from TICKET"),
        FetchError::NoProvider { .. } => hint(Code::NotFound, "try again when a peer that has it is online"),
        FetchError::TooLarge { .. } | FetchError::NotAList { .. } => plain(Code::Verification),
        FetchError::DiskFull { .. } => hint(Code::Failed, FULL),
        _ => plain(Code::Failed),
    }
}

pub(super) fn ticket(error: &TicketError) -> Meaning {
    match error {
        TicketError::OfABlob => {
            hint(Code::Usage, "`templar fetch TICKET` takes it; `templar share` prints the ticket of a run")
        }
        TicketError::Content(_) => hint(Code::Usage, "use the version of templar that made it, or ask for a new one"),
        _ => hint(Code::Usage, "copy the ticket whole, as `templar share` printed it"),
    }
}

pub(super) fn peer_addr(_: &PeerAddrError) -> Meaning {
    hint(
        Code::Usage,
        "name a peer as KEY@ADDR:PORT, with the key that `templar key show` prints there, or give a ticket",
    )
}
