//! Codes with which this node closes connections of its own protocols, so that the peer learns the reason.
//!
//! Invariant: a number keeps its meaning, since nodes of other versions read it.

use iroh::endpoint::VarInt;

/// The exchange is over, or this node shuts down.
pub(crate) const DONE: VarInt = VarInt::from_u32(0);

/// The request was refused; the reason was sent as a message.
pub(crate) const REFUSED: VarInt = VarInt::from_u32(1);

/// This node serves as many connections as it may.
pub(crate) const BUSY: VarInt = VarInt::from_u32(2);

/// The peer broke the protocol.
pub(crate) const PROTOCOL: VarInt = VarInt::from_u32(3);

/// The peer made no progress for too long.
pub(crate) const STALLED: VarInt = VarInt::from_u32(4);
