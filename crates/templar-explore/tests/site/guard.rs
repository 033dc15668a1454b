//! Requests that a browser was tricked into, requests that never end, and names that are none.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::fixture::{Reply, Stage, TOKEN, stage};
use templar_explore::server::{Site, router, serve};

fn with_host(stage: &Stage, host: Option<&str>) -> Reply {
    let request = Request::get("/run");
    let request = host.into_iter().fold(request, |request, host| request.header("host", host));
    stage.ask(request.body(Body::empty()).unwrap())
}

fn post(stage: &Stage, body: impl Into<Body>, headers: &[(&str, &str)]) -> Reply {
    let request = Request::post("/audit").header("host", "127.0.0.1:8460");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    stage.ask(request.body(body.into()).unwrap())
}

#[test]
fn only_the_names_of_this_server_are_answered() {
    let stage = stage();
    for host in ["localhost", "localhost:8460", "LOCALHOST:1", "127.0.0.1:8460", "[::1]:8460", "[::1]"] {
        assert_eq!(with_host(&stage, Some(host)).status, 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8460",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
        "a:b:c",
    ] {
        let reply = with_host(&stage, Some(host));
        assert_eq!(reply.status, 421, "{host}");
        assert!(!reply.body.contains("html"));
    }
    assert_eq!(with_host(&stage, None).status, 421);
    let twice = Request::get("/run").header("host", "localhost").header("host", "evil.example");
    assert_eq!(stage.ask(twice.body(Body::empty()).unwrap()).status, 421);
}

#[test]
fn every_answer_carries_the_rules_for_browsers() {
    let stage = stage();
    for path in ["/run", "/run.json", "/style.css", "/live.js", "/nothing", "/icon.svg"] {
        let reply = stage.get(path);
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(reply.header("access-control-allow-origin"), "");
    }
}

#[test]
fn nothing_changes_without_the_token_of_this_site() {
    let stage = stage();
    let token = format!("token={TOKEN}");
    let origin = [("origin", "http://127.0.0.1:8460")];
    for (body, headers) in [
        ("", &origin[..]),
        ("token=", &origin),
        ("token=0123", &origin),
        (&token, &[("origin", "http://evil.example")]),
        (&token, &[("origin", "http://localhost:8460")]),
        (&token, &[("origin", "null")]),
        (&token, &[("sec-fetch-site", "cross-site")]),
        (&token, &[("sec-fetch-site", "same-site")]),
    ] {
        assert_eq!(post(&stage, body.to_owned(), headers).status, 403, "{body} {headers:?}");
    }
    assert_eq!(post(&stage, vec![b'a'; 2_000], &origin).status, 413);
    for method in [Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let request = Request::builder().method(method).uri("/audit").header("host", "localhost");
        assert_eq!(stage.ask(request.body(Body::from(token.clone())).unwrap()).status, 405);
    }
    let request = Request::post("/run").header("host", "localhost").body(Body::from(token)).unwrap();
    assert_eq!(stage.ask(request).status, 405);
    let progress: serde_json::Value = serde_json::from_str(&stage.get("/audit.json").body).unwrap();
    assert_eq!(progress["error"], serde_json::Value::Null);
}

/// Where others can reach the address too, nobody starts an audit, and only the names that were given are answered.
#[test]
fn an_open_address_only_shows() {
    let stage = stage();
    let source = stage.source.clone();
    let site = Site::new(source, "192.0.2.7:80".parse().unwrap(), &["run.example".to_owned()], TOKEN.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = |request: Request<Body>| {
        runtime.block_on(async { router(site.clone()).oneshot(request).await.unwrap().status().as_u16() })
    };
    for (host, expected) in [("192.0.2.7:80", 200), ("RUN.example", 200), ("localhost", 421), ("127.0.0.1:80", 421)] {
        assert_eq!(status(Request::get("/run").header("host", host).body(Body::empty()).unwrap()), expected, "{host}");
    }
    let start = Request::post("/audit").header("host", "run.example").body(Body::from(format!("token={TOKEN}")));
    assert_eq!(status(start.unwrap()), 403);
}

/// A site that is reached by another name too, such as that of a proxy, starts audits only from this machine.
#[test]
fn a_proxy_only_shows() {
    let stage = stage();
    let names = ["run.example".to_owned()];
    let site = Site::new(stage.source.clone(), "127.0.0.1:8460".parse().unwrap(), &names, TOKEN.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |request: Request<Body>| runtime.block_on(async { router(site.clone()).oneshot(request).await.unwrap() });
    let page = ask(Request::get("/audit").header("host", "run.example").body(Body::empty()).unwrap());
    assert_eq!(page.status(), 200);
    let page = runtime.block_on(axum::body::to_bytes(page.into_body(), 1 << 20)).unwrap();
    assert!(!String::from_utf8_lossy(&page).contains(TOKEN));
    let start = Request::post("/audit").header("host", "run.example").header("origin", "http://run.example");
    assert_eq!(ask(start.body(Body::from(format!("token={TOKEN}"))).unwrap()).status(), 403);
}

#[test]
fn ids_cut_short_or_of_another_kind_are_named() {
    let stage = stage();
    let (miner, validator) = (stage.honest.to_string(), stage.validator.to_string());
    let reply = stage.get(&format!("/miner/{}", &miner[..8]));
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, format!("/miner/{miner}").as_str()));
    let reply = stage.get(&format!("/miner/{}/pay/1.json", &miner[..8]));
    assert_eq!(reply.header("location"), format!("/miner/{miner}/pay/1.json"));
    let reply = stage.get(&format!("/object/{}", &stage.run.to_string()[..12]));
    assert_eq!(reply.header("location"), format!("/object/{}", stage.run));
    for (path, says) in [
        (format!("/miner/{validator}"), format!("/validator/{validator}")),
        (format!("/validator/{miner}"), format!("/miner/{miner}")),
        (format!("/object/{miner}"), format!("/miner/{miner}")),
        (format!("/miner/{}", stage.run), format!("/object/{}", stage.run)),
        (format!("/object/{}", "0".repeat(64)), "No object".to_owned()),
        ("/object/abc".to_owned(), "No object".to_owned()),
        ("/object/xyz".to_owned(), "No object".to_owned()),
        ("/window/99".to_owned(), "ended after 3 windows".to_owned()),
        (format!("/miner/{miner}/pay/99"), "not closed".to_owned()),
        ("/dataset/training/9999999".to_owned(), "There is no page 9999999".to_owned()),
    ] {
        let reply = stage.get(&path);
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.body.contains(&says), "{path}: {}", reply.body);
        let twin: serde_json::Value = serde_json::from_str(&stage.get(&format!("{path}.json")).body).unwrap();
        assert!(twin["why"].is_string(), "{path}");
    }
    for (typed, leads) in [
        ("w2", "/window/2".to_owned()),
        (&miner[..6], format!("/miner/{miner}")),
        (&validator, format!("/validator/{validator}")),
    ] {
        assert_eq!(stage.get(&format!("/find?q={typed}")).header("location"), leads);
    }
}

async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A server that hangs up on what it has not read may reset the connection after its answer.
    let _ = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn clients_that_stall_or_come_in_crowds_are_bounded() {
    let stage = stage();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, stage.site.clone()));
        let page = ask(address, b"GET /run HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("</html>"), "{page}");
        let head = ask(address, b"HEAD /run HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let endless = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'y'; 16 << 10]].concat();
        assert!(ask(address, &endless).await.starts_with("HTTP/1.1 4"));

        let mut live = TcpStream::connect(address).await.unwrap();
        live.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut news = String::new();
        while !news.contains("data: ") {
            let mut some = [0; 512];
            let read = timeout(Duration::from_secs(30), live.read(&mut some)).await.unwrap().unwrap();
            assert!(read > 0, "{news}");
            news.push_str(&String::from_utf8_lossy(&some[..read]));
        }
        assert!(news.contains("text/event-stream"));

        let mut silent = Vec::new();
        for _ in 0..80 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut last = silent.pop().unwrap();
        let mut nothing = [0; 1];
        let read = timeout(Duration::from_secs(3), last.read(&mut nothing)).await.expect("it is sent away at once");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        drop((silent, live));
        serving.abort();
    });
}
