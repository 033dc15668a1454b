//! The site over HTTP: who may ask, what is bounded, and the headers of every answer.
//!
//! A browser may be made to send requests here by a page of somebody else. So a request must name this server by a Host
//! that is on a list, which a rebound name is not; no answer may be read by another origin; and the one request that
//! changes something must carry a token that only a page of this site holds. Whoever reaches the address can read the
//! run, as anybody with its records can, and nothing else of the home.
//!
//! A connection answers one request, and everything about it is bounded: the length of the request, the time until it
//! is there, the time until the answer is taken, and the number of connections.

mod live;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use templar_node::http::{self, HttpBounds};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::answer::{Answer, answer};
use crate::assets;
use crate::audit::AuditDesk;
use crate::page::Desk;
use crate::place::{Form, Place, field};
use crate::source::Source;

/// The longest body of a request, in bytes: a form with a token.
const MAX_BODY: usize = 1 << 10;

/// The bounds of a connection. Live news end before it does, and are asked for again.
const BOUNDS: HttpBounds = HttpBounds { clients: 64, head_bytes: 16 << 10, longest: Duration::from_secs(90) };

/// The greatest number of clients that hear live news, and of pages that are made at the same time.
const MAX_LIVE: usize = 24;
const MAX_AT_WORK: usize = 4;

/// How a request names a server that only this machine can reach.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// What a page may load: files of this site. There is no script in a page, and no frame around one.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A run as a site.
pub struct Site {
    source: Arc<Source>,
    audit: AuditDesk,
    hosts: BTreeSet<String>,
    token: Option<String>,
    at_work: Arc<Semaphore>,
    live: Arc<Semaphore>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("source", &self.source).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Site {
    /// The site of a run that listens on `address`. Requests may name it by that address, by `localhost` where only
    /// this machine can reach it, and by `names`. `token` is a text that nobody can guess. It starts an audit, where
    /// only this machine can reach the address.
    pub fn new(source: Arc<Source>, address: SocketAddr, names: &[String], token: String) -> Arc<Self> {
        let mut hosts: BTreeSet<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        hosts.insert(host_of(address.ip()));
        let is_local = address.ip().is_loopback();
        if is_local {
            hosts.extend(LOCAL_NAMES.map(str::to_owned));
        }
        Arc::new(Self {
            source,
            audit: AuditDesk::default(),
            hosts,
            token: is_local.then_some(token),
            at_work: Arc::new(Semaphore::new(MAX_AT_WORK)),
            live: Arc::new(Semaphore::new(MAX_LIVE)),
        })
    }

    /// Whether a request may name this server so: a name or an address, with or without a port.
    fn is_named(&self, host: &str) -> bool {
        self.hosts.contains(&name_in(host))
    }

    /// The token that starts an audit, for a request that names this server so.
    fn token(&self, host: &str) -> Option<&str> {
        let is_local = LOCAL_NAMES.contains(&name_in(host).as_str());
        self.token.as_deref().filter(|_| is_local)
    }

    /// The answer for a place, made on a thread that may wait for files.
    async fn page(self: &Arc<Self>, host: &str, place: Option<Place>, form: Form) -> Response {
        let Ok(_turn) = self.at_work.clone().acquire_owned().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the server ends\n");
        };
        let (site, token) = (self.clone(), self.token(host).map(str::to_owned));
        let made = spawn_blocking(move || {
            let desk = Desk { source: &site.source, audit: &site.audit, token: token.as_deref(), form };
            answer(&desk, place.as_ref())
        });
        match made.await {
            Ok(answer) => response(answer),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made; this is a bug\n"),
        }
    }

    /// Live news, unless too many hear them already.
    fn news(self: &Arc<Self>) -> Response {
        let Ok(place) = self.live.clone().try_acquire_owned() else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many pages are live already; this one works without\n");
        };
        let site = self.clone();
        let look: live::Look = Arc::new(move || {
            // A journal that cannot be read now gives no news; the pages say why.
            let _ = site.source.follow();
            site.audit.news(site.source.entries())
        });
        guarded(StatusCode::OK, "text/event-stream", live::news(look, place))
    }

    /// Starts an audit, if the request comes from a page of this site.
    async fn start_audit(self: &Arc<Self>, host: &str, headers: &HeaderMap, body: Body) -> Response {
        let Ok(body) = to_bytes(body, MAX_BODY).await else {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the form is too long\n");
        };
        let token = field(str::from_utf8(&body).ok(), "token");
        let asked = self.token(host);
        if !is_same_origin(headers) || asked.is_none() || token.as_deref() != asked {
            return plain(StatusCode::FORBIDDEN, "only the form of this site's own audit page can start an audit\n");
        }
        let site = self.clone();
        let started = spawn_blocking(move || {
            let access = site.source.access().map_err(|error| templar_query::error_line(&*error))?;
            site.audit.start(access, site.source.context().run);
            Ok::<_, String>(())
        });
        match started.await {
            Ok(Ok(())) => with(plain(StatusCode::SEE_OTHER, ""), LOCATION, "/audit"),
            Ok(Err(why)) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("the home cannot be read now: {why}\n")),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the audit could not be started; this is a bug\n"),
        }
    }
}

/// The name in a Host header, in lowercase and without a port.
fn name_in(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.to_ascii_lowercase()
}

/// The name of an address in a URL.
fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Whether a request was sent by a page of the server that it names. Browsers say so in one of two headers.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let by_origin = match (text(ORIGIN), text(HOST)) {
        (Some(origin), Some(host)) => origin.eq_ignore_ascii_case(&format!("http://{host}")),
        (Some(_), None) => false,
        (None, _) => true,
    };
    by_origin
        && text(HeaderName::from_static("sec-fetch-site")).is_none_or(|site| matches!(site, "same-origin" | "none"))
}

/// All requests to the site.
pub fn router(site: Arc<Site>) -> Router {
    Router::new().fallback(handle).with_state(site)
}

/// Answers one request.
async fn handle(State(site): State<Arc<Site>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let named = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(host) = named.filter(|host| site.is_named(host) && head.headers.get_all(HOST).iter().count() == 1) else {
        return plain(
            StatusCode::MISDIRECTED_REQUEST,
            "this server has another name; open the address that it printed\n",
        );
    };
    let path = head.uri.path();
    match (&head.method, path) {
        (&Method::POST, "/audit") => site.start_audit(host, &head.headers, body).await,
        (&Method::GET | &Method::HEAD, "/style.css") => asset("text/css; charset=utf-8", assets::STYLE),
        (&Method::GET | &Method::HEAD, "/live.js") => asset("text/javascript; charset=utf-8", assets::SCRIPT),
        (&Method::GET | &Method::HEAD, "/icon.svg" | "/favicon.ico") => asset("image/svg+xml", assets::ICON),
        (&Method::GET, "/live") => site.news(),
        (&Method::GET | &Method::HEAD, _) => match Place::parse(path, head.uri.query()) {
            Some((place, form)) => site.page(host, Some(place), form).await,
            None => site.page(host, None, if path.ends_with(".json") { Form::Json } else { Form::Html }).await,
        },
        _ => with(plain(StatusCode::METHOD_NOT_ALLOWED, "there is only GET here\n"), ALLOW, "GET, HEAD"),
    }
}

fn response(answer: Answer) -> Response {
    let kind = match answer.form {
        Form::Html => "text/html; charset=utf-8",
        Form::Json => "application/json",
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let response = guarded(status, kind, Body::from(answer.body));
    match answer.location {
        // A location is made of hexadecimal digits and the names of pages.
        Some(location) => with(response, LOCATION, &location),
        None => response,
    }
}

fn asset(kind: &str, text: &'static str) -> Response {
    guarded(StatusCode::OK, kind, Body::from(text))
}

fn plain(status: StatusCode, text: &str) -> Response {
    guarded(status, "text/plain; charset=utf-8", Body::from(text.to_owned()))
}

/// An answer with the headers that every answer has.
fn guarded(status: StatusCode, kind: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer`, browsers send the form of this site as if it came from nowhere.
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    headers.into_iter().fold(response, |response, (name, value)| with(response, name, value))
}

fn with(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Serves the site until it is dropped.
pub async fn serve(listener: TcpListener, site: Arc<Site>) {
    http::serve(listener, router(site), BOUNDS).await;
}
