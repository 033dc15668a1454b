//! Live news: a number that changes whenever a page would be another one now, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use n0_future::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Site, guarded, plain};

/// How often the server looks, and how often it does before it ends the news. A browser then asks again.
const LOOK_EVERY: Duration = Duration::from_millis(700);
const LOOKS: u32 = 80;

/// Every so many looks without news, a line tells that the connection lives.
const SIGN_OF_LIFE: u32 = 20;

/// A client that hears the news.
struct Listener {
    site: Arc<Site>,
    looks: u32,
    told: Option<String>,
    /// Its place among those who listen, while it does.
    _place: OwnedSemaphorePermit,
}

/// The news as an answer that goes on; none if too many listen already.
pub(super) fn news(site: &Arc<Site>) -> Response {
    let Ok(place) = site.live.clone().try_acquire_owned() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "too many pages are live already; this one works without\n");
    };
    let listener = Listener { site: site.clone(), looks: 0, told: None, _place: place };
    let events = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), listener))
    });
    guarded(StatusCode::OK, "text/event-stream", Body::from_stream(events))
}

impl Listener {
    /// The next event, or a sign of life; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.looks > 0 {
                sleep(LOOK_EVERY).await;
            }
            self.looks += 1;
            if self.looks > LOOKS {
                return None;
            }
            let now = self.now().await;
            if self.told.as_ref() != Some(&now) {
                self.told = Some(now.clone());
                return Some(format!("retry: 1000\ndata: {now}\n\n"));
            }
            if self.looks.is_multiple_of(SIGN_OF_LIFE) {
                return Some(": here\n\n".to_owned());
            }
        }
    }

    /// The number of entries, and of steps of the audit.
    async fn now(&self) -> String {
        let site = self.site.clone();
        let followed = spawn_blocking(move || {
            // A journal that cannot be read now gives no news; the pages say why.
            let _ = site.source.follow();
            site.news()
        });
        followed.await.unwrap_or_default()
    }
}
