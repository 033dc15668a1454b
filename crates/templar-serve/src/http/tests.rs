//! A server on a real socket: answers, limits, clients that go away, and a stop in order.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Limits, Server, ServerSettings};
use crate::engine::Batching;
use crate::keys::ApiKeys;
use crate::testing::{chatting, served};

const LONG: Duration = Duration::from_secs(60);

/// A server that runs until it is told to stop.
struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    swap: Box<dyn Fn(crate::Served) + Send + Sync>,
}

async fn run(settings: ServerSettings) -> Running {
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), settings, chatting(1)).await.unwrap();
    let (addr, swap) = (server.addr(), Box::new(server.swapper()));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(async { drop(stopped.await) }));
    Running { addr, stop, task, swap }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(LONG, self.task).await.unwrap().unwrap();
    }

    /// Everything that the server writes to one connection.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        split(&self.raw(request.as_bytes()).await)
    }

    async fn post(&self, path: &str, more: &str, body: &Value) -> (u16, String) {
        split(&self.raw(&posted(path, more, &body.to_string())).await)
    }

    async fn complete(&self, body: Value) -> Value {
        let (status, text) = self.post("/v1/completions", "", &body).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// A number of `/metrics`.
    async fn count(&self, name: &str) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("templar_serve_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Waits until a number has this value.
    async fn until(&self, name: &str, value: u64) {
        let reached = async {
            while self.count(name).await != value {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, reached).await.unwrap_or_else(|_| panic!("{name} never was {value}"));
    }
}

/// A request as curl sends it: the type of a form, with JSON in it.
fn posted(path: &str, more: &str, body: &str) -> Vec<u8> {
    let kind = "application/x-www-form-urlencoded";
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\n");
    format!("{head}content-length: {length}\r\n{more}\r\n{body}").into_bytes()
}

/// The status and the body. Chunks are joined.
fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head[9..12].parse().unwrap();
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return (status, body.to_owned());
    }
    let (mut joined, mut rest) = (String::new(), body);
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        joined.push_str(&after[..length]);
        rest = &after[length + 2..];
    }
    (status, joined)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_whole_and_as_events() {
    let server = run(ServerSettings::default()).await;
    assert_eq!(server.get("/health").await, (200, r#"{"status":"ok"}"#.to_owned()));
    let (_, models) = server.get("/v1/models").await;
    let models: Value = serde_json::from_str(&models).unwrap();
    assert_eq!((&models["data"][0]["id"], &models["data"][0]["max_model_len"]), (&json!("letters"), &json!(96)));
    assert_eq!(server.get("/v1/models/letters").await.0, 200);
    assert_eq!(server.get("/v1/models/other/one").await.0, 404);

    let body = json!({ "prompt": "ab", "max_tokens": 12, "seed": 1, "logprobs": 1 });
    let raw = server.raw(&posted("/v1/completions", "", &body.to_string())).await;
    for header in ["x-templar-checkpoint: cafe", "x-templar-run: 0123", "x-templar-licence: CC0-1.0"] {
        assert!(raw.contains(header), "{raw}");
    }
    let answer = server.complete(body.clone()).await;
    let mut stream = body;
    stream["stream"] = json!(true);
    let (status, events) = server.post("/v1/completions", "accept: application/json\r\n", &stream).await;
    assert!(status == 200 && events.ends_with("\n\ndata: [DONE]\n\n"), "{events}");
    let chunk = |event: &str| event.strip_prefix("data: ").and_then(|text| serde_json::from_str::<Value>(text).ok());
    let texts =
        events.split("\n\n").filter_map(chunk).map(|chunk| chunk["choices"][0]["text"].as_str().unwrap().to_owned());
    assert_eq!(answer["choices"][0]["text"], texts.collect::<String>());

    let chat = json!({ "model": "letters", "messages": [{ "role": "user", "content": "ab" }] });
    assert_eq!(server.post("/v1/chat/completions", "", &chat).await.0, 200);
    server.until("requests_answered_total", 4).await;
    assert!(server.count("tokens_generated_total").await >= 24);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_answered_by_a_status_and_the_server_lives() {
    let limits = Limits { body_bytes: 1000, body_time: Duration::from_millis(300), ..Limits::default() };
    let server = run(ServerSettings { limits, ..ServerSettings::default() }).await;
    let post = |body: &str| posted("/v1/completions", "", body);
    let chunked =
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let large = format!("5dc\r\n{}\r\n0\r\n\r\n", " ".repeat(1500));
    let gigabyte = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1073741824\r\n\r\n".to_vec();
    let slow = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{".to_vec();
    let long = format!(r#"{{"prompt": "{}"}}"#, "a".repeat(96));
    for (request, status, word) in [
        (post("{"), 400, "not JSON"),
        (post(""), 400, "not JSON"),
        (post("[]"), 400, "not a JSON object"),
        (post(&"[".repeat(900)), 400, "not JSON"),
        (post(r#"{"model": "gpt-4"}"#), 404, "not served here"),
        (post(&long), 400, "context"),
        (gigabyte, 413, "1000 bytes"),
        ([&chunked[..], large.as_bytes()].concat(), 413, "1000 bytes"),
        (slow, 408, "in time"),
        (posted("/v1/embeddings", "", "{}"), 404, "no such path"),
        (b"GET /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(), 405, "POST"),
    ] {
        let (found, body) = split(&server.raw(&request).await);
        let body: Value = serde_json::from_str(&body).unwrap();
        let error = body["error"].as_object().unwrap();
        assert_eq!((found, error.len()), (status, 4), "{body}");
        assert!(error["message"].as_str().unwrap().contains(word), "{body}");
    }
    assert_eq!(server.complete(json!({ "prompt": "a", "max_tokens": 2 })).await["object"], "text_completion");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_its_computation() {
    // One text at a time, so that the second waits for the first.
    let batching = Batching { texts: 1, ..Batching::default() };
    let server = run(ServerSettings { batching, ..ServerSettings::default() }).await;
    for stream in [true, false] {
        let body = json!({ "prompt": vec!["a"; 200], "max_tokens": 95, "stream": stream });
        let mut client = TcpStream::connect(server.addr).await.unwrap();
        client.write_all(&posted("/v1/completions", "", &body.to_string())).await.unwrap();
        server.until("texts_active", 1).await;
        drop(client);
        server.until("texts_active", 0).await;
        server.until("texts_waiting", 0).await;
    }
    server.until("requests_abandoned_total", 2).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_texts_are_turned_away() {
    let limits = Limits { texts: 4, ..Limits::default() };
    let server = run(ServerSettings { limits, ..ServerSettings::default() }).await;
    let (status, body) = server.post("/v1/completions", "", &json!({ "prompt": "a", "n": 5 })).await;
    assert!(status == 400 && body.contains("4 at most"), "{body}");
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    let body = json!({ "prompt": "a", "n": 4, "max_tokens": 95, "stream": true });
    client.write_all(&posted("/v1/completions", "", &body.to_string())).await.unwrap();
    let mut first = [0; 15];
    client.read_exact(&mut first).await.unwrap();
    let raw = server.raw(&posted("/v1/completions", "", r#"{"prompt": "a", "max_tokens": 1}"#)).await;
    // The first request may have ended by now; until then nobody else has a place.
    assert!(raw.starts_with("HTTP/1.1 200") || (raw.starts_with("HTTP/1.1 503") && raw.contains("retry-after: 1")));
    drop(client);
    server.until("texts_active", 0).await;
    server.complete(json!({ "prompt": "a", "n": 4, "max_tokens": 1 })).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lets_in_until_its_quota_is_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.toml");
    let hash = blake3::hash(b"secret");
    std::fs::write(&path, format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\ntokens_per_day = 10\n")).unwrap();
    let keys = Some(ApiKeys::read(&path).unwrap());
    let server = run(ServerSettings { keys, ..ServerSettings::default() }).await;
    let body = json!({ "prompt": [1, 2, 3], "max_tokens": 20, "temperature": 0 });
    let ask =
        async |key: &str| server.post("/v1/completions", &format!("authorization: Bearer {key}\r\n"), &body).await;
    for wrong in ["", "other"] {
        let (status, text) = ask(wrong).await;
        assert!(status == 401 && text.contains("invalid_api_key"), "{text}");
    }
    assert_eq!(server.get("/v1/models").await.0, 401);
    assert_eq!(server.get("/health").await.0, 200);
    assert_eq!(ask("secret").await.0, 200);
    let (status, text) = ask("secret").await;
    assert!(status == 429 && text.contains("rate_limit_exceeded"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_takes_over_and_nobody_is_dropped() {
    let server = run(ServerSettings::default()).await;
    let body = json!({ "prompt": "ab", "max_tokens": 90, "seed": 5, "stream": true });
    let whole = |events: &str| {
        let chunk = |event: &str| serde_json::from_str::<Value>(event.strip_prefix("data: ")?).ok();
        let texts = events
            .split("\n\n")
            .filter_map(chunk)
            .map(|chunk| chunk["choices"][0]["text"].as_str().unwrap().to_owned());
        texts.collect::<String>()
    };
    let (_, old) = server.post("/v1/completions", "", &body).await;
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    client.write_all(&posted("/v1/completions", "", &body.to_string())).await.unwrap();
    let mut begun = [0; 15];
    client.read_exact(&mut begun).await.unwrap();
    (server.swap)(served(2));
    let (_, new) = server.post("/v1/completions", "", &body).await;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    let (_, meanwhile) = split(&(String::from_utf8(begun.to_vec()).unwrap() + std::str::from_utf8(&rest).unwrap()));
    assert_eq!(whole(&meanwhile), whole(&old));
    assert_ne!(whole(&new), whole(&old));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_no_answer_in_the_middle() {
    let server = run(ServerSettings::default()).await;
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    let body = json!({ "prompt": "ab", "max_tokens": 90, "stream": true, "seed": 5 });
    client.write_all(&posted("/v1/completions", "", &body.to_string())).await.unwrap();
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    let mut first = [0; 15];
    client.read_exact(&mut first).await.unwrap();
    let addr = server.addr;
    server.stop().await;
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("data: [DONE]"), "{rest}");
    assert_eq!(idle.read(&mut first).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(addr).await.is_err());
}
