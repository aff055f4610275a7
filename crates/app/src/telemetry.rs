use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Settings};

/// Upper bounds of the latency buckets, in seconds: a cached read is tens of microseconds, a request never over one second.
const LATENCY_BUCKETS: [f64; 12] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.03, 0.1, 0.25, 0.5, 1.0];

/// How often the recorder tidies up what it has collected; without it, memory grows.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts logging to standard error: standard output belongs to what commands print.
pub(crate) fn start_logging(settings: &Settings) -> Result<()> {
    // A plain level is about sessiond; what libraries say below a warning is noise to an operator. A filter is taken as it is.
    let plain = !settings.log_level.contains(['=', ',']);
    let quiet = if plain { ",sea_orm_migration=warn,sqlx=warn" } else { "" };
    let filter = EnvFilter::try_new(format!("{}{quiet}", settings.log_level)).context("log.level")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}

/// Starts collecting metrics, for `/metrics` to render.
pub(crate) fn start_metrics() -> Result<PrometheusHandle> {
    let latency = Matcher::Full("sessiond_http_request_duration_seconds".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(latency, &LATENCY_BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("cannot start collecting metrics")?;
    describe_counter!("sessiond_reads_total", "Sessions answered, by the layer that had them");
    describe_counter!("sessiond_http_requests_total", "Requests answered");
    describe_histogram!(
        "sessiond_http_request_duration_seconds",
        Unit::Seconds,
        "Time from a request's head to its answer"
    );
    describe_gauge!("sessiond_http_connections", "Open connections of a listener");
    describe_gauge!("sessiond_cache_up", "1 if the shared cache answers, 0 while it is left alone");
    describe_counter!("sessiond_cache_errors_total", "Commands that the shared cache did not answer or refused");
    describe_counter!("sessiond_cache_rejects_total", "Values of the shared cache that were not believed");
    describe_counter!("sessiond_activity_writes_total", "Sessions whose use was written");
    describe_counter!("sessiond_activity_write_errors_total", "Attempts to write the use of sessions that failed");
    describe_counter!(
        "sessiond_activity_dropped_total",
        "Uses of sessions that were not taken note of, for want of room"
    );
    describe_gauge!("sessiond_cleanup_backlog", "Sessions that wait to be noted as over, or deleted; 100000 if more");
    describe_counter!("sessiond_cleaned_total", "What was cleared away: expired, deleted, events");
    describe_gauge!(
        "sessiond_poll_age_seconds",
        Unit::Seconds,
        "How long ago the last poll of the log of revocations was sent"
    );
    describe_counter!("sessiond_cache_refused_total", "Cached sessions that were not served, by reason");
    describe_gauge!("sessiond_revocation_entries", "Sessions and users for which the node has revocations");
    describe_counter!("sessiond_revocation_resets_total", "How often nothing that was cached before was trusted");
    describe_gauge!("sessiond_build_info", "1, with the version");
    metrics::gauge!("sessiond_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
