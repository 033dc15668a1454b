//! Live news: a text that changes whenever a page would be another one now, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use n0_future::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// How often the server looks, and how often it does before it ends the news. A browser then asks again.
const LOOK_EVERY: Duration = Duration::from_millis(700);
const LOOKS: u32 = 80;

/// Every so many looks without news, a line tells that the connection lives.
const SIGN_OF_LIFE: u32 = 20;

/// Gives the text as it is now. It may read files.
pub(super) type Look = Arc<dyn Fn() -> String + Send + Sync>;

/// A client that hears the news.
struct Listener {
    look: Look,
    looks: u32,
    told: Option<String>,
    /// Its place among those who listen, while it does.
    _place: OwnedSemaphorePermit,
}

/// The news as a body that goes on, for a client that has a place among those who listen.
pub(super) fn news(look: Look, place: OwnedSemaphorePermit) -> Body {
    let listener = Listener { look, looks: 0, told: None, _place: place };
    Body::from_stream(stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), listener))
    }))
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
            let look = self.look.clone();
            let now = spawn_blocking(move || look()).await.unwrap_or_default();
            if self.told.as_ref() != Some(&now) {
                self.told = Some(now.clone());
                return Some(format!("retry: 1000\ndata: {now}\n\n"));
            }
            if self.looks.is_multiple_of(SIGN_OF_LIFE) {
                return Some(": here\n\n".to_owned());
            }
        }
    }
}
