//! Waiting for the signal that ends a node.

use tokio::sync::watch;

/// Returns when `stop` is true, or when nobody is left who could make it so.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
