//! Logs and metrics.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Settings};

/// Upper bounds of the latency buckets, in seconds: a cached read is tens of microseconds, a
/// request never over one second.
const LATENCY_BUCKETS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.03, 0.1, 0.25, 0.5, 1.0];

/// How often the recorder tidies up what it has collected; without it, memory grows.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Log lines that wait to be written, at most. More are dropped, and counted.
const MAX_BUFFERED_LINES: usize = 8192;

/// A process's log. Lines are written by a thread of their own, so that a reader of standard error
/// who is slow, or gone, delays and breaks nothing. What waits to be written is written when this
/// is dropped, or given up a second later.
pub(crate) struct Logging {
    set_filter: Box<dyn Fn(EnvFilter) -> Result<()> + Send + Sync>,
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Logging {
    /// Starts logging to standard error: standard output belongs to what commands print.
    pub(crate) fn start(settings: &Settings) -> Result<Self> {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(MAX_BUFFERED_LINES)
            .thread_name("log")
            .finish(std::io::stderr());
        let dropped = writer.error_counter();
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter(&settings.log_level)?)
            .with_writer(writer)
            .log_internal_errors(false);
        let set_filter: Box<dyn Fn(EnvFilter) -> Result<()> + Send + Sync>;
        let started = match settings.log_format {
            LogFormat::Text => {
                let builder = builder.with_ansi(is_terminal).with_filter_reloading();
                let handle = builder.reload_handle();
                set_filter = Box::new(move |filter| handle.reload(filter).context("log.level"));
                builder.try_init()
            }
            LogFormat::Json => {
                let builder = builder
                    .json()
                    .flatten_event(true)
                    .with_current_span(true)
                    .with_span_list(false);
                let builder = builder.with_filter_reloading();
                let handle = builder.reload_handle();
                set_filter = Box::new(move |filter| handle.reload(filter).context("log.level"));
                builder.try_init()
            }
        };
        started.map_err(|error| anyhow!("cannot start logging: {error}"))?;
        log_panics();
        Ok(Self { set_filter, dropped, _writer: guard })
    }

    /// Logs what `log.level` says from now on.
    pub(crate) fn set_level(&self, level: &str) -> Result<()> {
        (self.set_filter)(filter(level)?)
    }

    /// Returns the number of lines that were dropped.
    pub(crate) fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// Returns the filter. A plain level is about sessiond; what libraries say below a warning is noise
/// to an operator. A filter is taken as it is.
fn filter(level: &str) -> Result<EnvFilter> {
    let is_plain = !level.contains(['=', ',']);
    let quiet = if is_plain { ",sea_orm_migration=warn,sqlx=warn" } else { "" };
    EnvFilter::try_new(format!("{level}{quiet}")).context("log.level")
}

/// Logs and counts panics. The default hook would write to standard error itself, and wait for its
/// reader.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        metrics::counter!("sessiond_panics_total").increment(1);
        tracing::error!(location, panic = panic.payload_as_str().unwrap_or("unknown"), "a panic");
    }));
}

/// Starts collecting metrics, for `/metrics` to render.
pub(crate) fn start_metrics(dropped_lines: ErrorCounter) -> Result<PrometheusHandle> {
    let latency = Matcher::Full("sessiond_http_request_duration_seconds".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(latency, &LATENCY_BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("cannot start collecting metrics")?;
    describe_metrics();
    for name in [
        "sessiond_panics_total",
        "sessiond_log_lines_dropped_total",
        "sessiond_jwks_fetch_failures_total",
    ] {
        metrics::counter!(name).increment(0);
    }
    metrics::gauge!("sessiond_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            metrics::counter!("sessiond_log_lines_dropped_total")
                .absolute(dropped_lines.dropped_lines() as u64);
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Describes every metric, for the `HELP` lines of `/metrics`.
fn describe_metrics() {
    describe_counter!("sessiond_reads_total", "Reads served, by the layer that had the session");
    describe_counter!("sessiond_http_requests_total", "Requests served");
    describe_histogram!(
        "sessiond_http_request_duration_seconds",
        Unit::Seconds,
        "Time from a request's head to its response"
    );
    describe_gauge!("sessiond_http_connections", "Open connections of a listener");
    describe_gauge!(
        "sessiond_cache_up",
        "1 if the shared cache responds, 0 while the circuit breaker is open"
    );
    describe_counter!(
        "sessiond_cache_errors_total",
        "Commands that the shared cache did not respond to, or refused"
    );
    describe_counter!(
        "sessiond_cache_invalid_values_total",
        "Values of the shared cache that were rejected as invalid"
    );
    describe_counter!("sessiond_activity_writes_total", "Sessions whose activity was written");
    describe_counter!(
        "sessiond_activity_write_errors_total",
        "Attempts to write activity that failed"
    );
    describe_counter!(
        "sessiond_activity_dropped_total",
        "Activity that was dropped because the buffer was full"
    );
    describe_gauge!(
        "sessiond_cleanup_backlog",
        "Sessions that wait to be marked expired, or deleted; 100000 if more"
    );
    describe_counter!("sessiond_purged_total", "What was purged: expired, deleted, events");
    describe_gauge!(
        "sessiond_poll_age_seconds",
        Unit::Seconds,
        "How long ago the last poll of the revocation log was sent"
    );
    describe_counter!(
        "sessiond_cache_refused_total",
        "Cached sessions that were not served, by reason"
    );
    describe_gauge!(
        "sessiond_revocation_entries",
        "Sessions and users for which the node has revocations"
    );
    describe_counter!(
        "sessiond_revocation_resets_total",
        "How often all earlier cached sessions were refused: after a start, a crash, a restore"
    );
    describe_counter!(
        "sessiond_panics_total",
        "Panics; each is a failed request or the end of the process"
    );
    describe_counter!(
        "sessiond_log_lines_dropped_total",
        "Log lines dropped because they were not read fast enough"
    );
    describe_counter!(
        "sessiond_auth_failures_total",
        "Requests refused for their credentials, by reason"
    );
    describe_counter!("sessiond_rate_limited_total", "Requests refused by a limit");
    describe_counter!("sessiond_deadlines_missed_total", "Requests that got no response in time");
    describe_counter!(
        "sessiond_http_connections_closed_total",
        "Connections closed for want of room"
    );
    describe_counter!(
        "sessiond_jwks_fetch_failures_total",
        "Attempts to fetch an issuer's keys that failed"
    );
    describe_gauge!(
        "sessiond_jwks_age_seconds",
        Unit::Seconds,
        "Age of the issuer's keys at the last attempt"
    );
    describe_gauge!("sessiond_build_info", "1, with the version");
}
