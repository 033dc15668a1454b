//! What a request is refused with: a status, and the body that clients take apart.

use serde_json::{Value, json};

/// An answer that says why there is no other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The status of the answer.
    pub status: u16,
    /// The kind, in the words of the interface.
    pub kind: &'static str,
    /// A word for programs.
    pub code: Option<&'static str>,
    /// The field of the request that is at fault.
    pub param: Option<String>,
    /// The reason, for people.
    pub message: String,
    /// The seconds after which another try makes sense.
    pub retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: u16, kind: &'static str, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, kind, code, param: None, message: message.into(), retry_after: None }
    }

    /// A field of the request is wrong.
    pub(crate) fn field(param: &str, message: impl Into<String>) -> Self {
        let error = Self::new(400, "invalid_request_error", Some("invalid_value"), message);
        Self { param: Some(param.to_owned()), ..error }
    }

    /// The request as a whole is wrong.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", Some("malformed"), message)
    }

    /// The request asks for something that is not offered here.
    pub(crate) fn unsupported(param: &str, message: impl Into<String>) -> Self {
        Self { code: Some("unsupported"), ..Self::field(param, message) }
    }

    /// The text is longer than the model reads.
    pub(crate) fn context(param: &str, found: usize, positions: usize) -> Self {
        let message = format!(
            "the prompt has {found} tokens, and the context of this model has {positions}, of which the answer needs one"
        );
        Self { code: Some("context_length_exceeded"), ..Self::field(param, message) }
    }

    /// There is no such model.
    pub(crate) fn model(asked: &str, served: &str) -> Self {
        let message = format!("the model {asked:?} is not served here: {served:?} is");
        let error = Self::new(404, "invalid_request_error", Some("model_not_found"), message);
        Self { param: Some("model".to_owned()), ..error }
    }

    /// There is no such path.
    pub(crate) fn path() -> Self {
        Self::new(404, "invalid_request_error", Some("unknown_url"), "there is no such path here")
    }

    /// The path is asked for with another method.
    pub(crate) fn method(allowed: &str) -> Self {
        let message = format!("this path is asked for with {allowed}");
        Self::new(405, "invalid_request_error", Some("method_not_allowed"), message)
    }

    /// The request is too long.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(413, "invalid_request_error", Some("too_large"), format!("the request has more than {limit} bytes"))
    }

    /// The client takes too long to send its request.
    pub(crate) fn slow() -> Self {
        Self::new(408, "invalid_request_error", Some("timeout"), "the request did not arrive in time")
    }

    /// The request has no key, or one that nobody gave out.
    pub(crate) fn key() -> Self {
        let message = "this server asks for a key that it knows: `Authorization: Bearer KEY`";
        Self::new(401, "authentication_error", Some("invalid_api_key"), message)
    }

    /// The key has used up its quota.
    pub(crate) fn quota(what: &str, retry_after: u64) -> Self {
        let message = format!("this key has used up its {what}; there is more in {retry_after} s");
        let error = Self::new(429, "rate_limit_error", Some("rate_limit_exceeded"), message);
        Self { retry_after: Some(retry_after), ..error }
    }

    /// Too many texts wait already.
    pub(crate) fn busy(limit: usize) -> Self {
        let message = format!("the server is busy: {limit} texts are under way or wait; try again");
        let error = Self::new(503, "server_error", Some("overloaded"), message);
        Self { retry_after: Some(1), ..error }
    }

    /// The request asks for more texts than ever have room here.
    pub(crate) fn too_many(texts: usize, limit: usize) -> Self {
        Self::field("prompt", format!("{texts} texts in one request, and this server computes {limit} at most"))
    }

    /// The model fails.
    pub(crate) fn failed(reason: impl std::fmt::Display) -> Self {
        Self::new(500, "server_error", Some("failed"), format!("the model failed: {reason}"))
    }

    /// The server is about to stop.
    pub(crate) fn stopping() -> Self {
        Self::new(503, "server_error", Some("stopping"), "the server is about to stop")
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind, "param": self.param, "code": self.code } })
    }
}
