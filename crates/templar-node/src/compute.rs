//! Computing and blocking reads, away from the threads that carry messages.
//!
//! A panic there is a bug of this program; it becomes the caller's, so that it is reported and not lost with a task.

use tracing::Span;

/// Does `work` on a thread that may block, within the caller's span.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let span = Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only a runtime that ends cancels such work, and it drops whoever waits here.
        Err(_) => std::future::pending().await,
    }
}
