//! [`SessionCache`] on Redis or Valkey.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use chrono::TimeDelta;
use domain::coherence::ReadVersion;
use domain::ports::{
    CachedSession, Clock, HealthCheck, Layer, PortError, SessionCache, SessionKey,
};
use domain::{Session, SessionId, UserId};
use fred::bytes::Bytes;
use fred::prelude::{ClientLike, Expiration, KeysInterface};

use crate::batched_gets::BatchedGets;
use crate::cached_value::{self, Reject, Signer, VERSION};
use crate::commands::{Commands, is_silence, timeout};
use crate::connection::{COMMAND_TIMEOUT, OpenError, Rights, check_rights, connect_pool, options};

/// How long an entry lives, at most; less if its session does.
const TIME_TO_LIVE: TimeDelta = TimeDelta::minutes(10);
/// How much less an entry lives, at most, so that entries that are set together do not expire
/// together.
const JITTER: TimeDelta = TimeDelta::minutes(1);
/// How long a sign of life may take.
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long one look-up may wait, the queue included. A little more than its command may take,
/// which then reports to the breaker before the next call asks it.
const LOOK_UP_TIMEOUT: Duration = COMMAND_TIMEOUT.saturating_add(Duration::from_millis(2));
/// Keys that are removed by one pipeline.
const REMOVE_BATCH: usize = 500;
/// How long saying goodbye may take.
const QUIT_TIMEOUT: Duration = Duration::from_millis(100);

/// [`SessionCache`] on Redis or Valkey.
///
/// A command gets 30 ms; once none got a response for 100 ms a circuit breaker keeps calls away but
/// for a probe each quarter of a second; while the last command failed, nothing is populated. So a
/// stopped Redis costs a request 30 ms at most, and nothing once the breaker is open.
pub struct RedisSessionCache {
    server: ArcSwap<Server>,
    key_prefix: String,
    signer: Signer,
    clock: Arc<dyn Clock>,
}

/// The Redis of one URL.
struct Server {
    url: String,
    commands: Arc<Commands>,
    /// `None` on a cluster, where one command asks for keys of one server only.
    batched: Option<BatchedGets>,
}

impl Server {
    async fn connect(url: &str, key_prefix: &str) -> Result<Self, OpenError> {
        let (pool, rights) = connect_pool(url, key_prefix).await?;
        let is_cluster = pool.next().client_config().server.is_clustered();
        let has_mget = rights.is_none_or(|rights| rights.mget);
        let commands = Arc::new(Commands::new(pool));
        let batched = (!is_cluster).then(|| BatchedGets::new(commands.clone(), has_mget));
        Ok(Self { url: url.to_owned(), commands, batched })
    }

    /// Closes every connection. A server that does not respond is left without a goodbye.
    async fn close(&self) {
        if self.commands.are_served() && !self.commands.are_kept_away() {
            let _ = tokio::time::timeout(QUIT_TIMEOUT, self.commands.pool.quit()).await;
        }
    }
}

impl RedisSessionCache {
    /// Creates a cache on the Redis of `url`; its keys start with `key_prefix`, its values are
    /// signed with `mac_key`. Connects in the background: a Redis that is down is used when it
    /// comes.
    ///
    /// # Errors
    /// [`OpenError`] for what waiting will not mend: a URL that is none, refused credentials,
    /// missing rights, an untrusted certificate.
    pub async fn open(
        url: &str,
        key_prefix: &str,
        mac_key: &[u8],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let server = Server::connect(url, key_prefix).await?;
        // Alerts on rates see only what is there before anything has happened.
        for reject in Reject::ALL {
            count_invalid_value(reject, 0);
        }
        Ok(Self {
            server: ArcSwap::from_pointee(server),
            key_prefix: key_prefix.to_owned(),
            signer: Signer::new(mac_key),
            clock,
        })
    }

    /// Connects to the Redis of another URL, whose password may have been rotated, and closes the
    /// connections to the one before. Does nothing if the URL is the same.
    ///
    /// # Errors
    /// As for [`open`](Self::open); the cache goes on with the connections that it has.
    pub async fn set_url(&self, url: &str) -> Result<(), OpenError> {
        if self.server.load().url != url {
            let server = Server::connect(url, &self.key_prefix).await?;
            self.server.swap(Arc::new(server)).close().await;
        }
        Ok(())
    }

    /// Runs what the cache runs, on a key of its own, past the breaker: an operator wants to know
    /// how Redis is, not how it was.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] that names the command that got no response;
    /// [`PortError::Corrupt`] that names the one that was refused: trying again does not help.
    pub async fn inspect(&self) -> Result<Rights, PortError> {
        let server = self.server.load_full();
        let check = check_rights(server.commands.pool.next(), &self.key_prefix);
        let checked = tokio::time::timeout(CHECK_TIMEOUT, check).await;
        let checked = checked.unwrap_or_else(|_| Err(timeout()));
        checked.map_err(|error| {
            if is_silence(&error) {
                PortError::unavailable(error)
            } else {
                PortError::corrupt(error)
            }
        })
    }

    /// Closes every connection. A server that does not respond is left without a goodbye.
    pub async fn close(&self) {
        self.server.load_full().close().await;
    }

    /// Returns a printable prefix and the format's version, for people and access rules; then both
    /// ids as they are, for size.
    fn key(&self, session_id: SessionId, user_id: UserId) -> Bytes {
        let mut key = Vec::with_capacity(self.key_prefix.len() + 36);
        key.extend_from_slice(self.key_prefix.as_bytes());
        key.extend_from_slice(&[b'0' + VERSION, b':']);
        key.extend_from_slice(session_id.0.as_bytes());
        key.extend_from_slice(user_id.0.as_bytes());
        key.into()
    }
}

#[async_trait]
impl SessionCache for RedisSessionCache {
    async fn get(&self, session_id: SessionId, user_id: UserId) -> Option<CachedSession> {
        let key = self.key(session_id, user_id);
        let Server { commands, batched, .. } = &*self.server.load_full();
        if !commands.are_allowed() {
            return None;
        }
        let value: Option<Bytes> = match batched {
            Some(batched) => {
                tokio::time::timeout(LOOK_UP_TIMEOUT, batched.get(key.clone())).await.ok()?.ok()?
            }
            None => {
                let client = commands.pool.next().with_options(&options());
                commands.run("get", client.get(key.clone())).await.ok()?
            }
        };
        match cached_value::decode(
            &value?,
            &self.signer,
            &key,
            session_id,
            user_id,
            self.clock.now(),
        ) {
            Ok((session, version)) => {
                Some(CachedSession { session: Arc::new(session), version, layer: Layer::Shared })
            }
            Err(reject) => {
                count_invalid_value(reject, 1);
                None
            }
        }
    }

    async fn set(&self, session: &Arc<Session>, version: &ReadVersion) {
        // The last byte of an id is random.
        let jitter = JITTER * i32::from(session.id.0.as_bytes()[15]) / 256;
        let remaining =
            (session.expires_at - self.clock.now()).min(TIME_TO_LIVE - jitter).num_milliseconds();
        let Server { commands, .. } = &*self.server.load_full();
        if remaining <= 0 || !commands.are_served() {
            return;
        }
        let client = commands.pool.next().with_options(&options());
        let key = self.key(session.id, session.user_id);
        let Some(value) =
            cached_value::encode(session, version, &self.signer, &key).map(Bytes::from)
        else {
            return;
        };
        let set = client.set::<(), _, _>(key, value, Some(Expiration::PX(remaining)), None, false);
        let _ = commands.run("set", set).await;
    }

    /// In pipelines of `REMOVE_BATCH`, until one gets no response: what is left expires by itself.
    async fn remove(&self, sessions: &[SessionKey]) {
        let Server { commands, .. } = &*self.server.load_full();
        for batch in sessions.chunks(REMOVE_BATCH) {
            if !commands.are_allowed() {
                return;
            }
            let pipeline = commands.pool.next().pipeline();
            let queued = async {
                for session in batch {
                    let _: () = pipeline.unlink(self.key(session.id, session.user_id)).await?;
                }
                pipeline.last::<()>().await
            };
            if commands.run("unlink", queued).await.is_err() {
                return;
            }
        }
    }
}

#[async_trait]
impl HealthCheck for RedisSessionCache {
    async fn check(&self) -> Result<(), PortError> {
        self.inspect().await.map(drop)
    }
}

fn count_invalid_value(reject: Reject, count: u64) {
    let reason = reject.reason();
    metrics::counter!("sessiond_cache_invalid_values_total", "reason" => reason).increment(count);
}
