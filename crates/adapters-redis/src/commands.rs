//! Runs commands within their budget, and reports the outcome to breaker, metrics and log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fred::prelude::{ClientLike, Error, ErrorKind, Pool};

use crate::circuit_breaker::CircuitBreaker;
use crate::connection::{COMMAND_TIMEOUT, one_line};

/// How long dropping and remaking hung connections may take.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The commands of one cache.
pub(crate) struct Commands {
    pub(crate) pool: Pool,
    breaker: CircuitBreaker,
    /// Whether the last command got a response.
    is_up: AtomicBool,
}

impl Commands {
    /// No command has got a response yet.
    pub(crate) fn new(pool: Pool) -> Self {
        metrics::gauge!("sessiond_cache_up").set(0.0);
        // Alerts on rates see only what is there before anything has happened.
        for operation in ["get", "mget", "set", "unlink"] {
            for kind in ["timeout", "connection", "refused"] {
                count_error(operation, kind, 0);
            }
        }
        Self { pool, breaker: CircuitBreaker::default(), is_up: AtomicBool::new(false) }
    }

    /// Returns whether a call may go now.
    pub(crate) fn are_allowed(&self) -> bool {
        self.breaker.allows_call(Instant::now())
    }

    /// Returns whether the last command got a response.
    pub(crate) fn are_served(&self) -> bool {
        self.breaker.is_healthy()
    }

    /// Returns whether the server is left alone.
    pub(crate) fn are_kept_away(&self) -> bool {
        self.breaker.is_open()
    }

    /// Runs one command within its time-out.
    ///
    /// # Errors
    /// What the server said, or that it said nothing in time.
    pub(crate) async fn run<T>(
        &self,
        operation: &'static str,
        command: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let result =
            tokio::time::timeout(COMMAND_TIMEOUT, command).await.unwrap_or_else(|_| Err(timeout()));
        match &result {
            Ok(_) => self.record_response(),
            Err(error) => {
                let kind = kind(error);
                count_error(operation, kind, 1);
                if is_silence(error) {
                    self.record_silence(error);
                } else {
                    // It refused this command (out of memory, read-only, no permission), but it
                    // responds.
                    tracing::debug!(operation, error = %one_line(error), "redis refused a command");
                    self.record_response();
                }
            }
        }
        result
    }

    fn record_response(&self) {
        let closed = self.breaker.success();
        if !self.is_up.load(Ordering::Relaxed) && !self.is_up.swap(true, Ordering::Relaxed) {
            metrics::gauge!("sessiond_cache_up").set(1.0);
        }
        if closed {
            tracing::info!("redis responds again");
        }
    }

    fn record_silence(&self, error: &Error) {
        if !self.breaker.failure(Instant::now()) {
            return;
        }
        self.is_up.store(false, Ordering::Relaxed);
        metrics::gauge!("sessiond_cache_up").set(0.0);
        tracing::warn!(error = %one_line(error), "redis does not respond; reads ask the database \
            meanwhile");
        if *error.kind() == ErrorKind::Timeout {
            // fred notices a broken connection, but not a server that hangs while commands keep
            // being written to it. Nothing got a response for longer than a command may take, so
            // this cancels none that might be.
            let pool = self.pool.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(RECONNECT_TIMEOUT, pool.force_reconnection()).await;
            });
        }
    }
}

pub(crate) fn timeout() -> Error {
    Error::new(ErrorKind::Timeout, "no response in time")
}

/// Returns whether the server said nothing, rather than no.
pub(crate) fn is_silence(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Timeout
            | ErrorKind::IO
            | ErrorKind::Canceled
            | ErrorKind::Backpressure
            | ErrorKind::Routing
            | ErrorKind::Tls
    )
}

/// Returns the label of the metric.
fn kind(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Timeout => "timeout",
        ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Routing => "connection",
        ErrorKind::Backpressure => "backpressure",
        ErrorKind::Auth => "credentials",
        ErrorKind::Tls => "tls",
        ErrorKind::Protocol | ErrorKind::Parse => "protocol",
        _ => "refused",
    }
}

fn count_error(operation: &'static str, kind: &'static str, count: u64) {
    metrics::counter!(
        "sessiond_cache_errors_total",
        "operation" => operation,
        "kind" => kind
    )
    .increment(count);
}
