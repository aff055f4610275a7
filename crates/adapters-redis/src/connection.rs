//! Connections to Redis, and what this process may do there.

use std::time::Duration;

use fred::bytes::Bytes;
use fred::prelude::{
    Builder, Client, ClientLike, Config, ConnectionConfig, Error, ErrorKind, Expiration,
    KeysInterface, Options, Pool, ReconnectPolicy,
};
use fred::types::config::{PerformanceConfig, TcpConfig, UnresponsiveConfig};
use thiserror::Error;

/// How long one command may take, and with it one look-up: the Redis budget of a request.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_millis(30);
/// How long a connection may take to be made.
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a connection may be silent while a response is due.
const UNRESPONSIVE_TIMEOUT: Duration = Duration::from_millis(500);
/// How many commands may wait in a client; more are refused at once.
const MAX_WAITING_COMMANDS: usize = 10_000;
/// Reconnecting waits this long at first, twice as long each time, at most the second number; in
/// milliseconds.
const RECONNECT_DELAY_MS: (u32, u32) = (50, 2_000);
/// How long starting up waits for Redis; without it, reads ask the database.
const START_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections a process holds to each server.
const CONNECTIONS: usize = 2;

/// Why Redis can never be used as configured. One line each, without secrets. A Redis that is
/// merely down is no error.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The URL is none.
    #[error("not a Redis URL: {0}")]
    Url(String),
    /// Redis wants another user or password.
    #[error("Redis refused the credentials: {0}")]
    Credentials(String),
    /// Redis does not let the user do what the cache does.
    #[error(
        "Redis refuses what sessiond needs: {0}; docs/operating.md has the rights that suffice"
    )]
    Rights(String),
    /// The server's certificate is not to be trusted.
    #[error("no trusted TLS connection to Redis: {0}")]
    Tls(String),
}

/// Returns a pool that connects in the background and never stops trying.
///
/// # Errors
/// [`OpenError`] for what trying again will not mend.
///
/// Also returns what the user may do there, if that could be found out.
pub(crate) async fn connect_pool(
    url: &str,
    key_prefix: &str,
) -> Result<(Pool, Option<Rights>), OpenError> {
    let config = parse(url)?;
    let tried = try_once(&config, key_prefix).await;
    if let Err(error) = &tried {
        match error.kind() {
            _ if error.details().contains("NOPERM") => {
                return Err(OpenError::Rights(one_line(error)));
            }
            ErrorKind::Auth => return Err(OpenError::Credentials(one_line(error))),
            ErrorKind::Tls => return Err(OpenError::Tls(one_line(error))),
            // fred hands on what rustls said as text only.
            _ if error.details().contains("InvalidCertificate") => {
                return Err(OpenError::Tls(one_line(error)));
            }
            _ => {
                tracing::warn!(error = %one_line(error), "redis cannot be used yet; reads ask the \
                    database meanwhile")
            }
        }
    }

    let (first_delay, longest_delay) = RECONNECT_DELAY_MS;
    let pool = builder(config)
        .set_policy(ReconnectPolicy::new_exponential(0, first_delay, longest_delay, 2))
        .build_pool(CONNECTIONS)
        .map_err(|error| OpenError::Url(one_line(&error)))?;
    pool.connect_pool();
    // Best effort: the first reads of a process should find its cache.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, pool.wait_for_connect()).await;
    Ok((pool, tried.ok()))
}

/// What a user may do beyond what the cache cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// `MGET`; without it, concurrent reads are pipelines of `GET`.
    pub mget: bool,
}

/// Runs each command of the cache on a key that no session has.
///
/// # Errors
/// What the server said to the first command that it refused, with the command's name.
pub(crate) async fn check_rights(client: &Client, key_prefix: &str) -> Result<Rights, Error> {
    let client = client.with_options(&options());
    let named = |name: &'static str| {
        move |error: Error| Error::new(error.kind().clone(), format!("{name}: {}", error.details()))
    };
    let key = format!("{key_prefix}check");
    let expire = Some(Expiration::PX(1_000));
    client.set::<(), _, _>(&key, "1", expire, None, false).await.map_err(named("SET"))?;
    client.get::<Option<Bytes>, _>(&key).await.map_err(named("GET"))?;
    let mget = client.mget::<Vec<Option<Bytes>>, _>(vec![key.clone()]).await.is_ok();
    client.unlink::<(), _>(&key).await.map_err(named("UNLINK"))?;
    Ok(Rights { mget })
}

/// Makes one connection without a second try, for the sake of its error: it connects, and does what
/// the cache does. A server that refuses only for now, because it is full or a replica, is no
/// error.
async fn try_once(config: &Config, key_prefix: &str) -> Result<Rights, Error> {
    let client = builder(Config { fail_fast: true, ..config.clone() }).build()?;
    let timeout = |_| Error::new(ErrorKind::Timeout, "no response in time");
    tokio::time::timeout(START_TIMEOUT, client.init()).await.map_err(timeout)??;
    let rights = tokio::time::timeout(START_TIMEOUT, check_rights(&client, key_prefix))
        .await
        .map_err(timeout)?;
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, client.quit()).await;
    rights
}

/// The schemes that say which kind of Redis there is; fred itself takes any other for a single
/// server.
const SCHEMES: [&str; 7] = [
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
    "redis+unix",
];

fn parse(url: &str) -> Result<Config, OpenError> {
    if !url.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme)) {
        return Err(OpenError::Url(format!(
            "it has to start with one of {}, and ://",
            SCHEMES.join(", ")
        )));
    }
    let mut config = Config::from_url(url).map_err(|error| OpenError::Url(one_line(&error)))?;
    config.fail_fast = false;
    Ok(config)
}

fn builder(config: Config) -> Builder {
    let mut builder = Builder::from_config(config);
    // Every caller has a time-out of its own. A second one in fred would count from when it writes
    // the command, which a full socket can delay, and set one more timer for each read.
    builder.set_performance_config(PerformanceConfig {
        default_command_timeout: Duration::ZERO,
        ..PerformanceConfig::default()
    });
    builder.set_connection_config(ConnectionConfig {
        connection_timeout: CONNECTION_TIMEOUT,
        internal_command_timeout: CONNECTION_TIMEOUT,
        max_command_attempts: 1,
        max_command_buffer_len: MAX_WAITING_COMMANDS,
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(UNRESPONSIVE_TIMEOUT),
            interval: Duration::from_millis(100),
        },
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    });
    builder
}

/// Returns the options. A server that is not connected is an error at once, not a wait.
pub(crate) fn options() -> Options {
    Options { max_attempts: Some(1), fail_fast: true, ..Options::default() }
}

pub(crate) fn one_line(error: &Error) -> String {
    error.details().replace(['\r', '\n'], " ")
}
