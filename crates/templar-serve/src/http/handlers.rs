//! One function for each path.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::body::{Conversation, EventBody, read};
use super::shared::{Shared, about, random};
use crate::api::{Answer, ApiError, Request};
use crate::metrics;
use crate::served::Served;

/// How one endpoint understands a body.
type Understand = fn(&Value, &Served, u64) -> Result<Request, ApiError>;

pub(super) async fn completions(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    answered(&shared, ask(shared.clone(), &headers, body, "cmpl", Request::completion).await)
}

pub(super) async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    answered(&shared, ask(shared.clone(), &headers, body, "chatcmpl", Request::chat).await)
}

/// Lets a request in, understands it, and answers it.
async fn ask(
    shared: Arc<Shared>,
    headers: &HeaderMap,
    body: Body,
    kind: &str,
    understand: Understand,
) -> Result<Response, ApiError> {
    let key = shared.admit(headers)?;
    let bytes = read(body, &shared.limits).await?;
    // The turns are never closed. A request that is given up gives its turn back.
    let turn = shared.turns.acquire().await.map_err(ApiError::failed)?;
    let served = shared.served();
    let (request, served) = understood(bytes, served, understand).await?;
    drop(turn);
    let events = shared.submit(&served, &request, key.as_ref())?;
    let label = shared.label(kind);
    let headers = about(&served);
    let is_stream = request.stream.is_some();
    let conversation = Conversation { shared, served, request, label, key, events, generated: 0, is_over: false };
    let mut response = if is_stream {
        let body = Body::new(EventBody::new(conversation)?);
        ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")], body).into_response()
    } else {
        json_body(StatusCode::OK, &whole(conversation).await?)
    };
    response.headers_mut().extend(headers);
    Ok(response)
}

/// Parses and tokenises on a thread for such work: a long text takes a while.
async fn understood(
    bytes: Bytes,
    served: Arc<Served>,
    understand: Understand,
) -> Result<(Request, Arc<Served>), ApiError> {
    let work = move || {
        let body = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::malformed(format!("the body is not JSON: {error}")))?;
        understand(&body, &served, random()).map(|request| (request, served))
    };
    tokio::task::spawn_blocking(work).await.map_err(ApiError::failed)?
}

/// Waits for the whole answer.
async fn whole(mut conversation: Conversation) -> Result<Value, ApiError> {
    let Conversation { shared, served, request, label, events, generated, is_over, .. } = &mut conversation;
    let mut answer = Answer::new(request, served)?;
    let mut outcome = Ok(());
    while outcome.is_ok() && !answer.is_complete() {
        outcome = match events.recv().await {
            Some(event) => answer.take(event),
            None => Err(ApiError::failed("it gives no more of the answer")),
        };
        *generated = answer.generated();
    }
    *is_over = true;
    outcome?;
    shared.metrics.requests_answered.inc();
    Ok(answer.document(label))
}

pub(super) async fn models(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let list = || -> Result<Response, ApiError> {
        shared.admit(&headers)?;
        let served = shared.served();
        let list = json!({ "object": "list", "data": [described(&shared, &served)] });
        let mut response = json_body(StatusCode::OK, &list);
        response.headers_mut().extend(about(&served));
        Ok(response)
    };
    answered(&shared, list())
}

pub(super) async fn model(State(shared): State<Arc<Shared>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let one = || -> Result<Response, ApiError> {
        shared.admit(&headers)?;
        let served = shared.served();
        let name = &served.about().name;
        if id != *name {
            return Err(ApiError::model(&id, name));
        }
        Ok(json_body(StatusCode::OK, &described(&shared, &served)))
    };
    answered(&shared, one())
}

fn described(shared: &Shared, served: &Served) -> Value {
    let known = served.about();
    json!({
        "id": known.name, "object": "model", "created": shared.started, "owned_by": "templar",
        "checkpoint": known.checkpoint, "run": known.run, "licence": known.licence,
        "max_model_len": served.positions(), "exact": served.is_exact(),
    })
}

pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    if shared.is_well() {
        json_body(StatusCode::OK, &json!({ "status": "ok" }))
    } else {
        json_body(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "stopping" }))
    }
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(CONTENT_TYPE, metrics::OPEN_METRICS)], metrics::text(&shared.metrics)).into_response()
}

pub(super) async fn not_post(State(shared): State<Arc<Shared>>) -> Response {
    other_method(&shared, "POST")
}

pub(super) async fn not_get(State(shared): State<Arc<Shared>>) -> Response {
    other_method(&shared, "GET")
}

fn other_method(shared: &Shared, allowed: &'static str) -> Response {
    let mut response = answered(shared, Err(ApiError::method(allowed)));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

pub(super) async fn other_path(State(shared): State<Arc<Shared>>) -> Response {
    answered(&shared, Err(ApiError::path()))
}

/// The answer, or what says why there is none. Answers are counted where they end; refusals are counted here.
fn answered(shared: &Shared, outcome: Result<Response, ApiError>) -> Response {
    let error = match outcome {
        Ok(response) => return response,
        Err(error) => error,
    };
    match error.status {
        401 | 429 | 503 => shared.metrics.requests_turned_away.inc(),
        500.. => shared.metrics.requests_failed.inc(),
        _ => shared.metrics.requests_refused.inc(),
    };
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_body(status, &error.body());
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn json_body(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
