//! Frames carry one message each in this project's own protocols.
//!
//! A frame is the message's length (four bytes, little-endian) followed by the message in postcard. Invariant:
//! the length is checked against a bound before memory is allocated for it, and memory grows only with the
//! bytes that arrive.

use bytes::Bytes;
use iroh::endpoint::{ReadExactError, RecvStream, SendStream};
use serde::{Deserialize, Serialize};

use crate::foreign::ForeignText;
use crate::words;

/// The number of bytes for which memory is allocated before they have arrived.
const STEP: usize = 64 << 10;

/// A frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream ended between two frames.
    #[error("the stream ended")]
    Ended,
    /// The connection broke, for this reason.
    #[error("connection lost: {0}")]
    Lost(ForeignText),
    /// The frame's length is above its bound.
    #[error("a frame of {len} bytes, more than {max}")]
    TooLong { len: usize, max: usize },
    /// The bytes are not a message of the expected type, or are followed by others.
    #[error("a message that does not parse")]
    Garbage,
}

impl FrameError {
    /// Whether the peer broke the protocol, as opposed to going away.
    pub(crate) fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::Garbage)
    }
}

/// Encodes a message of at most `max` bytes with its length in front.
pub(crate) fn encode<T: Serialize>(message: &T, max: usize) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    frame = postcard::to_extend(message, frame).map_err(|_| FrameError::Garbage)?;
    let len = frame.len() - 4;
    match u32::try_from(len) {
        Ok(prefix) if len <= max => frame[..4].copy_from_slice(&prefix.to_le_bytes()),
        _ => return Err(FrameError::TooLong { len, max }),
    }
    Ok(frame)
}

/// Decodes the message of a frame. Bytes after the message are an error.
pub(crate) fn decode<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Garbage),
    }
}

/// Writes a message of at most `max` bytes as one frame.
pub(crate) async fn write<T: Serialize>(stream: &mut SendStream, message: &T, max: usize) -> Result<(), FrameError> {
    let frame = encode(message, max)?;
    stream.write_all(&frame).await.map_err(|error| FrameError::Lost(words::unwritten(&error)))
}

/// Reads the length in front of a frame and checks that it is at most `max` bytes.
pub(crate) async fn read_len(stream: &mut RecvStream, max: usize) -> Result<usize, FrameError> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(0) => FrameError::Ended,
        other => FrameError::Lost(words::cut_short(&other)),
    })?;
    let len = u32::from_le_bytes(prefix) as usize;
    if len > max { Err(FrameError::TooLong { len, max }) } else { Ok(len) }
}

/// Reads the `len` bytes of a frame's message, after [`read_len`] has bounded them.
pub(crate) async fn read_body(stream: &mut RecvStream, len: usize) -> Result<Bytes, FrameError> {
    let mut body = Vec::with_capacity(len.min(STEP));
    while body.len() < len {
        let start = body.len();
        body.resize(len.min(start + STEP), 0);
        stream.read_exact(&mut body[start..]).await.map_err(|error| FrameError::Lost(words::cut_short(&error)))?;
    }
    Ok(body.into())
}
