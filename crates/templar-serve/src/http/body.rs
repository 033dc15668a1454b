//! Bodies: a request's, read within bounds, and an answer's, written while it is computed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use hyper::body::Frame;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::limits::Limits;
use super::shared::Shared;
use crate::api::{ApiError, Label, Request, Stream, stream_event};
use crate::engine::Event;
use crate::keys::Admitted;
use crate::served::Served;

/// The bytes of a request. Its type is not asked for, since clients state any.
///
/// # Errors
/// It is too long, arrives too slowly, or breaks off.
pub(super) async fn read(body: Body, limits: &Limits) -> Result<Bytes, ApiError> {
    // What the head announces is refused before a byte of it is read.
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(ApiError::too_large(limits.body_bytes));
    }
    timeout(limits.body_time, collect(body, limits.body_bytes)).await.map_err(|_| ApiError::slow())?
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| ApiError::malformed("the request breaks off"))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(ApiError::too_large(limit));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// A request that is being answered. When this is dropped the computation ends, and the tokens are charged.
pub(super) struct Conversation {
    pub(super) shared: Arc<Shared>,
    pub(super) served: Arc<Served>,
    pub(super) request: Request,
    pub(super) label: Label,
    pub(super) key: Option<Admitted>,
    pub(super) events: UnboundedReceiver<Event>,
    /// The number of tokens that were generated so far.
    pub(super) generated: u64,
    pub(super) is_over: bool,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.metrics.requests_abandoned.inc();
        }
        self.shared.charge(self.key.as_ref(), self.request.prompted(), self.generated);
    }
}

/// The events of an answer as a body.
pub(super) struct EventBody {
    conversation: Conversation,
    /// The texts that have not ended.
    open: usize,
    /// Events that were written before anything was computed.
    first: Option<String>,
}

impl EventBody {
    /// The body, from its first events on.
    ///
    /// # Errors
    /// A prompt cannot be repeated.
    pub(super) fn new(conversation: Conversation) -> Result<Self, ApiError> {
        let first = stream(&conversation).begin()?;
        Ok(Self { open: conversation.request.texts(), first: Some(first), conversation })
    }

    /// The text of one event, and of the end where it is the last.
    fn written(&mut self, event: Option<Event>) -> String {
        match &event {
            Some(Event::Token { .. }) => self.conversation.generated += 1,
            Some(Event::End { .. }) => self.open -= 1,
            _ => {}
        }
        let failed = || Err(ApiError::failed("it gives no more of the answer"));
        let stream = stream(&self.conversation);
        match event.map_or_else(failed, |event| stream.take(event)) {
            Ok(mut text) => {
                if self.open == 0 {
                    text.push_str(&stream.end(self.conversation.generated));
                    self.conversation.is_over = true;
                    self.conversation.shared.metrics.requests_answered.inc();
                }
                text
            }
            Err(error) => {
                self.conversation.is_over = true;
                self.conversation.shared.metrics.requests_failed.inc();
                stream_event(&error.body())
            }
        }
    }
}

fn stream(conversation: &Conversation) -> Stream<'_> {
    let Conversation { request, served, label, .. } = conversation;
    Stream { request, served, label }
}

impl HttpBody for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let text = match self.first.take().filter(|first| !first.is_empty()) {
            Some(first) => first,
            None => loop {
                if self.conversation.is_over {
                    return Poll::Ready(None);
                }
                let event = ready!(self.conversation.events.poll_recv(context));
                let text = self.written(event);
                if !text.is_empty() {
                    break text;
                }
            },
        };
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}
