//! The counters of a server, in the OpenMetrics text format.

use std::sync::Arc;

use iroh_metrics::{Counter, Gauge, MetricsGroup, MetricsSource as _, Registry};

/// The media type of the text.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a server has done and is doing.
#[derive(Debug, MetricsGroup)]
#[metrics(name = "serve", default)]
pub struct ServeMetrics {
    /// The number of requests that were answered.
    pub requests_answered: Counter,
    /// The number of requests that were refused because of what they say.
    pub requests_refused: Counter,
    /// The number of requests that were turned away because of a quota, a key, or too many texts.
    pub requests_turned_away: Counter,
    /// The number of requests that failed because of the server.
    pub requests_failed: Counter,
    /// The number of requests whose client went away before the end.
    pub requests_abandoned: Counter,
    /// The number of tokens in prompts.
    pub tokens_prompted: Counter,
    /// The number of tokens that were generated.
    pub tokens_generated: Counter,
    /// The number of tokens that the model computed. Those whose keys and values were kept are not among them.
    pub tokens_computed: Counter,
    /// The number of texts under way.
    pub texts_active: Gauge,
    /// The number of texts that wait.
    pub texts_waiting: Gauge,
    /// The number of connections.
    pub connections: Gauge,
    /// The number of models that took the place of another.
    pub models_swapped: Counter,
}

/// All numbers as they are now, as text.
pub(crate) fn text(metrics: &Arc<ServeMetrics>) -> String {
    let mut registry = Registry::default();
    registry.sub_registry_with_prefix("templar").register(metrics.clone());
    // Writing into a string cannot fail.
    registry.encode_openmetrics_to_string().unwrap_or_default()
}
