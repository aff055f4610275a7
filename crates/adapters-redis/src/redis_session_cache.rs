use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::TimeDelta;
use domain::coherence::ReadVersion;
use domain::ports::{CachedSession, Clock, HealthCheck, Layer, PortError, SessionCache, SessionKey};
use domain::{Session, SessionId, UserId};
use fred::bytes::Bytes;
use fred::prelude::{ClientLike, Error, ErrorKind, Expiration, KeysInterface, Pool};

use crate::batched_gets::BatchedGets;
use crate::cached_value::{self, Signer, VERSION};
use crate::circuit_breaker::CircuitBreaker;
use crate::connection::{COMMAND_TIMEOUT, OpenError, connect_pool, one_line, options};

/// How long an entry lives, at most; less if its session does.
const TIME_TO_LIVE: TimeDelta = TimeDelta::minutes(10);
/// How long a sign of life may take.
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);
/// Keys that are removed by one pipeline.
const REMOVE_BATCH: usize = 500;
/// How long dropping and remaking hung connections may take.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// [`SessionCache`] on Redis or Valkey.
///
/// A command gets 30 ms; after five failures in a row a circuit breaker keeps calls away but for a probe each quarter of a
/// second; while the last command failed, nothing is populated. So a stopped Redis costs a request 30 ms at most, and
/// nothing once the breaker is open.
pub struct RedisSessionCache {
    pool: Pool,
    /// `None` on a cluster, where one command asks for keys of one server only.
    batched: Option<BatchedGets>,
    breaker: CircuitBreaker,
    key_prefix: String,
    signer: Signer,
    clock: Arc<dyn Clock>,
}

impl RedisSessionCache {
    /// A cache on the Redis of `url`; its keys start with `key_prefix`, its values are signed with `mac_key`. Connects in the background: a Redis that is down is
    /// used when it comes.
    ///
    /// # Errors
    /// [`OpenError`] for what waiting will not mend: a URL that is none, refused credentials, an untrusted certificate.
    pub async fn open(url: &str, key_prefix: &str, mac_key: &[u8], clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let pool = connect_pool(url).await?;
        metrics::gauge!("sessiond_cache_up").set(1.0);
        let is_cluster = pool.next().client_config().server.is_clustered();
        Ok(Self {
            batched: (!is_cluster).then(|| BatchedGets::new(pool.clone())),
            pool,
            breaker: CircuitBreaker::default(),
            key_prefix: key_prefix.to_owned(),
            signer: Signer::new(mac_key),
            clock,
        })
    }

    /// Closes every connection.
    pub async fn close(&self) {
        let _ = tokio::time::timeout(RECONNECT_TIMEOUT, self.pool.quit()).await;
    }

    /// A printable prefix and the format's version, for people and access rules; then both ids as they are, for size.
    fn key(&self, session_id: SessionId, user_id: UserId) -> Bytes {
        let mut key = Vec::with_capacity(self.key_prefix.len() + 36);
        key.extend_from_slice(self.key_prefix.as_bytes());
        key.extend_from_slice(&[b'0' + VERSION, b':']);
        key.extend_from_slice(session_id.0.as_bytes());
        key.extend_from_slice(user_id.0.as_bytes());
        key.into()
    }

    /// Runs one command if the breaker lets it, within its time-out; tells the breaker, the metrics and, once, the log.
    async fn run<T>(&self, operation: &'static str, command: impl Future<Output = Result<T, Error>>) -> Option<T> {
        if !self.breaker.allows_call(Instant::now()) {
            return None;
        }
        let result = match tokio::time::timeout(COMMAND_TIMEOUT, command).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
        };
        match result {
            Ok(value) => {
                self.answered();
                Some(value)
            }
            Err(error) => {
                metrics::counter!("sessiond_cache_errors_total", "operation" => operation, "kind" => kind(&error))
                    .increment(1);
                if is_silence(&error) {
                    self.unanswered(&error);
                } else {
                    // It refused this command (out of memory, read-only, no permission), but it answers.
                    tracing::debug!(operation, error = %one_line(&error), "redis refused a command");
                    self.answered();
                }
                None
            }
        }
    }

    fn answered(&self) {
        if self.breaker.success() {
            metrics::gauge!("sessiond_cache_up").set(1.0);
            tracing::info!("redis answers again");
        }
    }

    fn unanswered(&self, error: &Error) {
        if !self.breaker.failure(Instant::now()) {
            return;
        }
        metrics::gauge!("sessiond_cache_up").set(0.0);
        tracing::warn!(error = %one_line(error), "redis does not answer; reads ask the database meanwhile");
        if *error.kind() == ErrorKind::Timeout {
            // fred notices a broken connection, but not a server that hangs while commands keep being written to it.
            let pool = self.pool.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(RECONNECT_TIMEOUT, pool.force_reconnection()).await;
            });
        }
    }
}

#[async_trait]
impl SessionCache for RedisSessionCache {
    async fn get(&self, session_id: SessionId, user_id: UserId) -> Option<CachedSession> {
        let key = self.key(session_id, user_id);
        let value: Option<Bytes> = match &self.batched {
            Some(batched) => self.run("get", batched.get(key.clone())).await?,
            None => self.run("get", self.pool.next().with_options(&options()).get(key.clone())).await?,
        };
        match cached_value::decode(&value?, &self.signer, &key, session_id, user_id, self.clock.now()) {
            Ok((session, version)) => Some(CachedSession { session: Arc::new(session), version, layer: Layer::Shared }),
            Err(reject) => {
                metrics::counter!("sessiond_cache_rejects_total", "reason" => reject.reason()).increment(1);
                None
            }
        }
    }

    async fn set(&self, session: &Arc<Session>, version: &ReadVersion) {
        let remaining = (session.expires_at - self.clock.now()).min(TIME_TO_LIVE).num_milliseconds();
        if remaining <= 0 || !self.breaker.is_healthy() {
            return;
        }
        let client = self.pool.next().with_options(&options());
        let key = self.key(session.id, session.user_id);
        let Some(value) = cached_value::encode(session, version, &self.signer, &key).map(Bytes::from) else { return };
        let _: Option<()> = self.run("set", client.set(key, value, Some(Expiration::PX(remaining)), None, false)).await;
    }

    /// In pipelines of `REMOVE_BATCH`, until one is not answered: what is left expires by itself.
    async fn remove(&self, sessions: &[SessionKey]) {
        for batch in sessions.chunks(REMOVE_BATCH) {
            let pipeline = self.pool.next().pipeline();
            let queued = async {
                for session in batch {
                    let _: () = pipeline.unlink(self.key(session.id, session.user_id)).await?;
                }
                pipeline.last::<()>().await
            };
            if self.run("unlink", queued).await.is_none() {
                return;
            }
        }
    }
}

#[async_trait]
impl HealthCheck for RedisSessionCache {
    /// Asks past the breaker: an operator wants to know how Redis is, not how it was.
    async fn check(&self) -> Result<(), PortError> {
        let client = self.pool.next().with_options(&options());
        let answer = tokio::time::timeout(CHECK_TIMEOUT, client.ping::<()>(None)).await;
        answer.map_err(PortError::unavailable)?.map_err(PortError::unavailable)
    }
}

/// Whether Redis said nothing, rather than no.
fn is_silence(error: &Error) -> bool {
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

/// The label of the metric.
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
