//! What the transport says about a connection, in words for people who have never heard of its crates.
//!
//! A peer may have had a hand in some of these words, such as the reason with which it closed a connection. So all of
//! them are [`ForeignText`].

use std::io;

use iroh::endpoint::{
    ConnectError, ConnectWithOptsError, ConnectingError, ConnectionError, ReadError, ReadExactError,
    TransportErrorCode, WriteError,
};
use iroh_blobs::get::GetError;

use crate::foreign::ForeignText;

/// The alert of TLS where two ends have no protocol in common.
const NO_COMMON_PROTOCOL: u8 = 120;

/// Why no connection was made.
pub(crate) fn unconnected(error: &ConnectError) -> ForeignText {
    match error {
        ConnectError::Connect { source, .. } => match source {
            ConnectWithOptsError::SelfConnect { .. } => ForeignText::of("it is this node itself"),
            ConnectWithOptsError::NoAddress { .. } => ForeignText::of("no address of it is known"),
            ConnectWithOptsError::Noq { source, .. } => {
                ForeignText::of(format_args!("nothing can be sent to it: {source}"))
            }
            ConnectWithOptsError::EndpointClosed { .. } | ConnectWithOptsError::InternalConsistencyError { .. } => {
                ForeignText::of("this node is stopping")
            }
            other => ForeignText::of(other),
        },
        ConnectError::Connecting { source, .. } => match source {
            ConnectingError::ConnectionError { source, .. } => lost(source),
            ConnectingError::HandshakeFailure { source, .. } => {
                ForeignText::of(format_args!("it does not prove its key: {source}"))
            }
            ConnectingError::InternalConsistencyError { .. } => ForeignText::of("this node is stopping"),
            other => ForeignText::of(other),
        },
        ConnectError::Connection { source, .. } => lost(source),
        other => ForeignText::of(other),
    }
}

/// Why a connection ended.
pub(crate) fn lost(error: &ConnectionError) -> ForeignText {
    let text = match error {
        ConnectionError::TimedOut => "no answer".to_owned(),
        ConnectionError::Reset => "it does not know the connection any more, as after a restart".to_owned(),
        ConnectionError::LocallyClosed => "this node closed the connection".to_owned(),
        ConnectionError::VersionMismatch => "it speaks another version of QUIC".to_owned(),
        ConnectionError::CidsExhausted => "there are too many connections here".to_owned(),
        ConnectionError::ApplicationClosed(close) if close.reason.is_empty() => {
            format!("it closed the connection without a reason (code {})", close.error_code)
        }
        ConnectionError::ApplicationClosed(close) => {
            format!("it closed the connection: {}", String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::crypto(NO_COMMON_PROTOCOL) =>
        {
            "it has no protocol in common with this node, so it may be another program or version".to_owned()
        }
        ConnectionError::ConnectionClosed(close) => format!("it ended the connection: {close}"),
        ConnectionError::TransportError(error) => format!("it broke the rules of QUIC: {error}"),
    };
    ForeignText::of(text)
}

/// Why nothing can be sent on a stream any more.
pub(crate) fn unwritten(error: &WriteError) -> ForeignText {
    match error {
        WriteError::ConnectionLost(error) => lost(error),
        WriteError::Stopped(code) => ForeignText::of(format_args!("it takes no more (code {code})")),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => ForeignText::of("the stream is closed"),
    }
}

/// Why a stream was not read to its end.
pub(crate) fn unread(error: &ReadError) -> ForeignText {
    match error {
        ReadError::ConnectionLost(error) => lost(error),
        ReadError::Reset(code) => ForeignText::of(format_args!("it stopped sending (code {code})")),
        ReadError::ClosedStream | ReadError::ZeroRttRejected => ForeignText::of("the stream is closed"),
    }
}

/// Why bytes that were to come did not all come.
pub(crate) fn cut_short(error: &ReadExactError) -> ForeignText {
    match error {
        ReadExactError::FinishedEarly(_) => ForeignText::of("it stopped in the middle of a message"),
        ReadExactError::ReadError(error) => unread(error),
    }
}

/// Why a transfer of a blob broke.
pub(crate) fn transfer(error: &GetError) -> ForeignText {
    let source = error.open().or_else(|| error.remote_read()).or_else(|| error.remote_write());
    match source {
        Some(source) => stream(source),
        None => ForeignText::of(error),
    }
}

/// Why reading or writing a stream failed, where the error is hidden in one of the operating system's type.
fn stream(error: &io::Error) -> ForeignText {
    let hidden = error.get_ref();
    let of = |hidden: &(dyn std::error::Error + Send + Sync + 'static)| {
        let connection = hidden.downcast_ref().map(lost);
        connection.or_else(|| hidden.downcast_ref().map(unread)).or_else(|| hidden.downcast_ref().map(unwritten))
    };
    match hidden.and_then(of) {
        Some(told) => told,
        None if error.kind() == io::ErrorKind::UnexpectedEof => ForeignText::of("it stopped in the middle"),
        None => ForeignText::of(error),
    }
}

/// The operating system's reason among the causes of an error, or else the error itself.
pub(crate) fn of_system(error: &(dyn std::error::Error + 'static)) -> String {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|cause| cause.downcast_ref::<io::Error>()).map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use iroh::endpoint::{ApplicationClose, VarInt};

    use super::*;

    #[test]
    fn the_end_of_a_connection_is_told_without_the_words_of_the_transport() {
        let closed = |reason: &'static [u8]| {
            ConnectionError::ApplicationClosed(ApplicationClose {
                error_code: VarInt::from_u32(7),
                reason: reason.into(),
            })
        };
        assert_eq!(&*lost(&ConnectionError::TimedOut), "no answer");
        assert_eq!(&*lost(&closed(b"too many connections")), "it closed the connection: too many connections");
        assert_eq!(&*lost(&closed(b"")), "it closed the connection without a reason (code 7)");
        assert_eq!(&*lost(&closed(b"\x1b[2J")), r"it closed the connection: \u{1b}[2J", "it moves no cursor");
        assert_eq!(&*unwritten(&WriteError::ConnectionLost(ConnectionError::TimedOut)), "no answer");
        assert_eq!(&*cut_short(&ReadExactError::FinishedEarly(3)), "it stopped in the middle of a message");
        let hidden = io::Error::other(ReadError::ConnectionLost(ConnectionError::Reset));
        assert_eq!(&*stream(&hidden), "it does not know the connection any more, as after a restart");
        assert_eq!(&*stream(&io::Error::from(io::ErrorKind::UnexpectedEof)), "it stopped in the middle");
    }

    #[test]
    fn a_reason_of_the_system_is_found_among_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("Failed to bind sockets")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::from_raw_os_error(98));
        assert_eq!(of_system(&error), io::Error::from_raw_os_error(98).to_string());
        assert_eq!(of_system(&std::fmt::Error), std::fmt::Error.to_string());
    }
}
