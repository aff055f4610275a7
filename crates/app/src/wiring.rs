//! The composition root: the only file that names concrete adapters.
//!
//! To add an adapter: one variant in `config/settings.rs`, one arm here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adapters_maxmind::MaxMindLocationEnricher;
use adapters_memory::MemorySessionCache;
use adapters_postgres::{
    DashtamSessions, PostgresDatabase, PostgresEventOutbox, PostgresRevocationFeed, PostgresSessionRepository,
    PostgresSessionRetention,
};
use adapters_redis::RedisSessionCache;
use adapters_sqlite::{
    DatabaseFile, SqliteDatabase, SqliteEventOutbox, SqliteRevocationFeed, SqliteSessionRepository,
    SqliteSessionRetention,
};
use adapters_ua_parser::UaParserDeviceEnricher;
use anyhow::{Context, Result, bail};
use application::commands::handlers::{CleanUpHandler, Enrichers, ImportSessionsHandler};
use application::{Application, Background, Ports};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::ports::{
    Clock, EventOutbox, HealthCheck, IdGenerator, LocationEnricher, RevocationFeed, SessionCache, SessionRepository,
    SessionRetention,
};
use secrecy::ExposeSecret;

use crate::auth::{DevKeys, RemoteJwks, ServiceKeys, TokenRules, TokenVerifier, VerificationKey};
use crate::config::{AuthSettings, Settings, StoreUrl};
use crate::http::Health;
use crate::system::{SystemClock, SystemIds, SystemMonotonicClock};

/// Connections that read a SQLite file, at most.
const MAX_SQLITE_READERS: u32 = 4;

/// An application with what it stands on.
pub struct Node {
    /// Every use case.
    pub application: Arc<Application>,
    /// What goes on beside them, once somebody runs it. Without it nothing is served from a cache.
    pub background: Option<Background>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Whether the dependencies answer.
    pub health: Arc<Health>,
    /// Where sessions are, in words.
    pub store_description: String,
    /// What remembers them, in words.
    pub cache_description: &'static str,
    adapters: Vec<Arc<dyn Close>>,
}

impl Node {
    /// Closes every connection, orderly.
    pub async fn close(&self) {
        for adapter in &self.adapters {
            adapter.close().await;
        }
    }
}

/// Whatever has connections to close.
#[async_trait]
trait Close: Send + Sync {
    async fn close(&self);
}

macro_rules! closes {
    ($($adapter:ty),*) => {
        $(
            #[async_trait]
            impl Close for $adapter {
                async fn close(&self) {
                    <$adapter>::close(self).await;
                }
            }
        )*
    };
}
closes!(DashtamSessions, PostgresDatabase, PostgresRevocationFeed, SqliteDatabase, RedisSessionCache);

/// The ports of the configured store.
struct Store {
    session_repo: Arc<dyn SessionRepository>,
    event_outbox: Arc<dyn EventOutbox>,
    session_retention: Arc<dyn SessionRetention>,
    revocation_feed: Arc<dyn RevocationFeed>,
    health: Arc<dyn HealthCheck>,
    description: String,
    cache_key: [u8; 32],
    connections: Vec<Arc<dyn Close>>,
}

impl Store {
    async fn open(settings: &Settings) -> Result<Self> {
        match &settings.store_url {
            StoreUrl::Postgres(url) => {
                let open = PostgresDatabase::open(url.expose_secret(), settings.pool_size).await;
                let database = Arc::new(open.context("store.url")?);
                let feed = PostgresRevocationFeed::open(database.clone(), url.expose_secret(), SystemIds.next_id());
                let feed = Arc::new(feed.await.context("store.url")?);
                Ok(Self {
                    revocation_feed: feed.clone(),
                    session_repo: Arc::new(PostgresSessionRepository::new(database.clone())),
                    event_outbox: Arc::new(PostgresEventOutbox::new(database.clone())),
                    session_retention: Arc::new(PostgresSessionRetention::new(database.clone())),
                    health: database.clone(),
                    description: "PostgreSQL".to_owned(),
                    cache_key: database.cache_key().await.context("store.url")?,
                    connections: vec![feed, database],
                })
            }
            StoreUrl::Sqlite(url) => {
                let file = DatabaseFile::lock(url).context("store.url")?;
                let path = std::path::absolute(file.path()).unwrap_or_else(|_| file.path().to_owned());
                let readers = settings.pool_size.min(MAX_SQLITE_READERS);
                let database = Arc::new(SqliteDatabase::open(file, readers).await.context("store.url")?);
                Ok(Self {
                    session_repo: Arc::new(SqliteSessionRepository::new(database.clone())),
                    event_outbox: Arc::new(SqliteEventOutbox::new(database.clone())),
                    session_retention: Arc::new(SqliteSessionRetention::new(database.clone())),
                    revocation_feed: Arc::new(SqliteRevocationFeed::new(database.clone())),
                    health: database.clone(),
                    description: path.display().to_string(),
                    cache_key: database.cache_key().await.context("store.url")?,
                    connections: vec![database],
                })
            }
        }
    }
}

/// What fills in a new session what the backend does not say.
fn enrichers(geoip_file: Option<&Path>) -> Result<Enrichers> {
    let open = |path| MaxMindLocationEnricher::open(path).context("enrich.geoip_file");
    let location = geoip_file.map(open).transpose()?;
    Ok(Enrichers {
        device: Arc::new(UaParserDeviceEnricher::new()?),
        location: location.map(|location| Arc::new(location) as Arc<dyn LocationEnricher>),
    })
}

/// Connects the adapters that the configuration names, and builds the application on them.
///
/// # Errors
/// If the database cannot be used, or the shared cache never could. A shared cache that is down is no error.
pub async fn wire(settings: &Settings) -> Result<Node> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut adapters: Vec<Arc<dyn Close>> = Vec::new();

    // Compiling patterns takes a while, and so does connecting.
    let geoip_file = settings.geoip_file.clone();
    let enrichers = tokio::task::spawn_blocking(move || enrichers(geoip_file.as_deref()));
    let store = Store::open(settings).await?;
    adapters.extend(store.connections);

    let mut cache_health: Option<Arc<dyn HealthCheck>> = None;
    let mut shared_cache: Option<Arc<dyn SessionCache>> = None;
    if let Some(url) = &settings.cache.url {
        let prefix = &settings.cache.key_prefix;
        let key = match &settings.cache.mac_key {
            Some(key) => key.expose_secret().as_bytes().to_vec(),
            None => store.cache_key.to_vec(),
        };
        let open = RedisSessionCache::open(url.expose_secret(), prefix, &key, clock.clone()).await;
        let cache = Arc::new(open.context("cache.url")?);
        adapters.push(cache.clone());
        cache_health = Some(cache.clone());
        shared_cache = Some(cache);
    }
    let near_entries = settings.cache.near_entries;
    let near = || Arc::new(MemorySessionCache::new(near_entries, clock.clone())) as Arc<dyn SessionCache>;
    let near_cache = (near_entries > 0).then(near);
    let cache_description = match (&near_cache, &shared_cache) {
        (Some(_), Some(_)) => "in this process, redis",
        (Some(_), None) => "in this process",
        (None, Some(_)) => "redis",
        (None, None) => "none",
    };

    let ports = Ports {
        session_repo: store.session_repo,
        near_cache,
        shared_cache,
        revocation_feed: store.revocation_feed,
        event_outbox: store.event_outbox,
        session_retention: store.session_retention,
        enrichers: enrichers.await??,
        clock: clock.clone(),
        monotonic_clock: Arc::new(SystemMonotonicClock::default()),
        ids: Arc::new(SystemIds),
    };
    let (application, background) = Application::new(ports, settings.policies);
    let health = Health::new(store.health, cache_health, application.revocation_state.clone());
    Ok(Node {
        application: Arc::new(application),
        background: Some(background),
        clock,
        health: Arc::new(health),
        store_description: store.description,
        cache_description,
        adapters,
    })
}

/// The schema version that this build makes in such a store.
pub fn schema_version(store: &StoreUrl) -> i32 {
    match store {
        StoreUrl::Postgres(_) => adapters_postgres::SCHEMA_VERSION,
        StoreUrl::Sqlite(_) => adapters_sqlite::SCHEMA_VERSION,
    }
}

/// What `migrate` did.
pub struct Migrated {
    /// The schema's version before, if there was a schema.
    pub from: Option<i32>,
    /// The schema's version now.
    pub to: i32,
}

/// Brings the schema of the configured store up to date.
///
/// # Errors
/// If the database cannot be used.
pub async fn migrate(store: &StoreUrl) -> Result<Migrated> {
    match store {
        StoreUrl::Postgres(url) => {
            let migrated = adapters_postgres::migrate(url.expose_secret()).await.context("store.url")?;
            Ok(Migrated { from: migrated.from, to: migrated.to })
        }
        StoreUrl::Sqlite(url) => {
            let file = DatabaseFile::lock(url).context("store.url")?;
            let migrated = adapters_sqlite::migrate(&file).await.context("store.url")?;
            Ok(Migrated { from: migrated.from, to: migrated.to })
        }
    }
}

/// Work on the store itself, without a node: what it works with, and its connections.
pub struct OnStore<T> {
    /// The handler.
    pub handler: T,
    connections: Vec<Arc<dyn Close>>,
}

impl<T> OnStore<T> {
    /// Closes every connection, orderly.
    pub async fn close(&self) {
        for connection in &self.connections {
            connection.close().await;
        }
    }
}

/// What clears away what is over, on the configured store.
///
/// # Errors
/// If the database cannot be used.
pub async fn clean_up(settings: &Settings) -> Result<OnStore<CleanUpHandler>> {
    let store = Store::open(settings).await?;
    let handler = CleanUpHandler::new(store.session_retention, Arc::new(SystemClock), settings.policies.retention);
    Ok(OnStore { handler, connections: store.connections })
}

/// What brings the sessions of the Python original over to the configured store.
///
/// # Errors
/// If either database cannot be used.
pub async fn import_dashtam(settings: &Settings, from: &str) -> Result<OnStore<ImportSessionsHandler>> {
    let source = DashtamSessions::open(from, settings.policies.sessions.lifetime).await.context("--from")?;
    let source = Arc::new(source);
    let store = Store::open(settings).await?;
    let handler = ImportSessionsHandler::new(source.clone(), store.session_repo);
    let mut connections = store.connections;
    connections.push(source);
    Ok(OnStore { handler, connections })
}

/// What a store says about itself.
pub enum StoreInspection {
    /// A PostgreSQL server's version, the schema's version if there is a schema, and the server's clock.
    Postgres {
        /// Such as "15.18".
        server_version: String,
        /// The schema's version.
        schema_version: Option<i32>,
        /// The server's wall clock.
        now: DateTime<Utc>,
        /// Since when the oldest transaction of the server has been open, and whose it is.
        oldest_transaction: Option<(DateTime<Utc>, String)>,
    },
    /// A SQLite file that nobody else uses, with its schema's version if it has a schema.
    Sqlite {
        /// The schema's version.
        schema_version: Option<i32>,
    },
    /// There is no file yet; a node will make it.
    NoFile,
    /// A SQLite file that a running node has.
    InUse,
}

/// Looks at the configured store and changes nothing.
///
/// # Errors
/// If it cannot be used.
pub async fn inspect_store(store: &StoreUrl) -> Result<StoreInspection> {
    match store {
        StoreUrl::Postgres(url) => {
            let found = adapters_postgres::inspect(url.expose_secret()).await?;
            let (server_version, schema_version, now) = (found.server_version, found.schema_version, found.now);
            let oldest_transaction = found.oldest_transaction.map(|transaction| (transaction.since, transaction.of));
            Ok(StoreInspection::Postgres { server_version, schema_version, now, oldest_transaction })
        }
        StoreUrl::Sqlite(url) => {
            if !DatabaseFile::path_of(url)?.exists() {
                return Ok(StoreInspection::NoFile);
            }
            match DatabaseFile::lock(url) {
                Err(adapters_sqlite::OpenError::InUse { .. }) => Ok(StoreInspection::InUse),
                file => Ok(StoreInspection::Sqlite { schema_version: adapters_sqlite::inspect(&file?).await? }),
            }
        }
    }
}

/// Asks the configured shared cache for a sign of life.
///
/// # Errors
/// If it gives none.
pub async fn inspect_cache(settings: &Settings) -> Result<()> {
    let Some(url) = &settings.cache.url else { return Ok(()) };
    // It is only asked for a sign of life, so any key will do.
    let (prefix, clock) = (&settings.cache.key_prefix, Arc::new(SystemClock));
    let cache = RedisSessionCache::open(url.expose_secret(), prefix, &[0; 32], clock).await?;
    let checked = cache.check().await;
    cache.close().await;
    if checked.is_err() {
        bail!("Redis does not answer; reads ask the database meanwhile");
    }
    Ok(())
}

/// Who callers are, and whether development keys say so.
pub struct Credentials {
    /// End users' tokens.
    pub tokens: TokenVerifier,
    /// Service keys.
    pub service_keys: ServiceKeys,
    /// `tokens` accepts the development secret.
    pub dev_token_secret: bool,
    /// `service_keys` has the development key.
    pub dev_service_key: bool,
}

/// The configured keys, and development keys in the place of those that are not configured.
///
/// # Errors
/// If a key file cannot be read or made.
pub fn credentials(settings: &Settings) -> Result<Credentials> {
    let (auth, dev_keys) = (&settings.auth, dev_keys(settings)?);
    let dev_token_secret = !auth.has_token_keys();
    let secret = if dev_token_secret { Some(dev_keys.token_secret()?) } else { auth.hs256_secret.clone() };
    let mut tokens = token_verifier(auth)?;
    if let Some(secret) = secret {
        tokens = tokens.with_secret(secret.expose_secret().as_bytes());
    }

    let dev_service_key = auth.service_key_hashes.is_empty();
    let service_keys = if dev_service_key {
        ServiceKeys::from_key(dev_keys.service_key()?.expose_secret())
    } else {
        ServiceKeys::from_hashes(auth.service_key_hashes.clone())
    };
    Ok(Credentials { tokens, service_keys, dev_token_secret, dev_service_key })
}

/// A verifier with the configured public keys.
pub(crate) fn token_verifier(auth: &AuthSettings) -> Result<TokenVerifier> {
    let rules = TokenRules {
        issuers: auth.issuers.clone(),
        audiences: auth.audiences.clone(),
        session_claim: auth.session_claim.clone(),
        types: auth.types.clone(),
    };
    let mut tokens = TokenVerifier::new(rules, Arc::new(SystemClock));
    if let Some(path) = &auth.public_key_file {
        tokens = tokens.with_keys([VerificationKey::from_pem_file(path).context("auth.jwt.public_key_file")?]);
    }
    if let Some(path) = &auth.jwks_file {
        let text =
            std::fs::read(path).with_context(|| format!("auth.jwt.jwks_file: cannot read {}", path.display()))?;
        let keys =
            VerificationKey::from_jwk_set(&text).with_context(|| format!("auth.jwt.jwks_file: {}", path.display()))?;
        tokens = tokens.with_keys(keys);
    }
    if let Some(url) = &auth.jwks_url {
        tokens = tokens.with_remote_keys(RemoteJwks::new(url.clone())?);
    }
    Ok(tokens)
}

/// Where development keys are: beside the SQLite file, or in the working directory.
///
/// # Errors
/// If `store.url` names no file.
pub fn dev_keys(settings: &Settings) -> Result<DevKeys> {
    let dir = match &settings.store_url {
        StoreUrl::Sqlite(url) => DatabaseFile::path_of(url).context("store.url")?.parent().map(Path::to_owned),
        StoreUrl::Postgres(_) => None,
    };
    let dir = dir.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from("."));
    if !dir.is_dir() {
        bail!("store.url: there is no folder {}; make it first", dir.display());
    }
    Ok(DevKeys::beside(std::path::absolute(&dir).unwrap_or(dir)))
}
