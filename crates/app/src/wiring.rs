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
use secrecy::{ExposeSecret, SecretString};

use crate::auth::{
    DevKeys, Issuer, KeySet, RemoteJwks, Scopes, ServiceKey, ServiceKeys, Subject, TokenRules, TokenVerifier,
    VerificationKey,
};
use crate::config::{self, AuthSettings, IssuerSettings, ServiceKeySettings, Settings, StoreUrl, SubjectMapping};
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
    postgres: Option<Postgres>,
    location: Option<Arc<MaxMindLocationEnricher>>,
}

impl Node {
    /// Gives the adapters what was read again: the GeoIP file, and the database's URL, whose password may be another one.
    ///
    /// # Errors
    /// If one cannot be used; the adapter goes on with what it had.
    pub fn reload(&self, settings: &Settings) -> Result<()> {
        if let (Some(location), Some(path)) = (&self.location, &settings.geoip_file) {
            location.reload(path).context("enrich.geoip_file")?;
        }
        if let (Some((database, feed)), StoreUrl::Postgres(url)) = (&self.postgres, &settings.store_url) {
            database.set_url(url.expose_secret()).context("store.url")?;
            feed.set_url(direct_url(settings, url).expose_secret()).context("store.direct_url")?;
        }
        Ok(())
    }

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
    /// For another password.
    postgres: Option<Postgres>,
}

type Postgres = (Arc<PostgresDatabase>, Arc<PostgresRevocationFeed>);

/// Where what needs a session of its own goes: past a pooler, if there is one.
fn direct_url<'a>(settings: &'a Settings, url: &'a SecretString) -> &'a SecretString {
    settings.direct_url.as_ref().unwrap_or(url)
}

impl Store {
    async fn open(settings: &Settings) -> Result<Self> {
        match &settings.store_url {
            StoreUrl::Postgres(url) => {
                let direct_url = direct_url(settings, url).expose_secret();
                let options = adapters_postgres::Options {
                    url: url.expose_secret(),
                    direct_url,
                    pool_size: settings.pool_size,
                    prepared: settings.prepared,
                    migrate: settings.migrate,
                };
                let database = Arc::new(PostgresDatabase::open(options).await.context("store.url")?);
                let feed = PostgresRevocationFeed::open(database.clone(), direct_url, SystemIds.next_id());
                let feed = Arc::new(feed.await.context("store.url")?);
                Ok(Self {
                    revocation_feed: feed.clone(),
                    session_repo: Arc::new(PostgresSessionRepository::new(database.clone())),
                    event_outbox: Arc::new(PostgresEventOutbox::new(database.clone())),
                    session_retention: Arc::new(PostgresSessionRetention::new(database.clone())),
                    health: database.clone(),
                    description: "PostgreSQL".to_owned(),
                    cache_key: database.cache_key().await.context("store.url")?,
                    connections: vec![feed.clone(), database.clone()],
                    postgres: Some((database, feed)),
                })
            }
            StoreUrl::Sqlite(url) => {
                let file = DatabaseFile::lock(url).context("store.url")?;
                if !settings.migrate {
                    let found = adapters_sqlite::inspect(&file).await.context("store.url")?;
                    let known = adapters_sqlite::SCHEMA_VERSION;
                    if found.is_none_or(|found| found < known) {
                        bail!(
                            "store.url: the schema is not version {known}: run `sessiond migrate`, or set store.migrate"
                        );
                    }
                }
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
                    postgres: None,
                })
            }
        }
    }
}

/// What fills in a new session what the backend does not say.
fn enrichers(geoip_file: Option<&Path>) -> Result<(Arc<UaParserDeviceEnricher>, Option<Arc<MaxMindLocationEnricher>>)> {
    let open = |path| MaxMindLocationEnricher::open(path).context("enrich.geoip_file");
    Ok((Arc::new(UaParserDeviceEnricher::new()?), geoip_file.map(open).transpose()?.map(Arc::new)))
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

    let (device, location) = enrichers.await??;
    let ports = Ports {
        session_repo: store.session_repo,
        near_cache,
        shared_cache,
        revocation_feed: store.revocation_feed,
        event_outbox: store.event_outbox,
        session_retention: store.session_retention,
        enrichers: Enrichers {
            device,
            location: location.clone().map(|location| location as Arc<dyn LocationEnricher>),
        },
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
        postgres: store.postgres,
        location,
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
pub async fn migrate(settings: &Settings) -> Result<Migrated> {
    match &settings.store_url {
        StoreUrl::Postgres(url) => {
            let url = direct_url(settings, url);
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
pub async fn inspect_store(settings: &Settings) -> Result<StoreInspection> {
    match &settings.store_url {
        StoreUrl::Postgres(url) => {
            let url = direct_url(settings, url);
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

/// Runs every command that a node runs on the configured shared cache; returns what there is to know.
///
/// # Errors
/// If one is refused, or not answered.
pub async fn inspect_cache(settings: &Settings) -> Result<&'static str> {
    let Some(url) = &settings.cache.url else { return Ok("not configured") };
    // Nothing of it is read, so any key will do.
    let (prefix, clock) = (&settings.cache.key_prefix, Arc::new(SystemClock));
    let cache = RedisSessionCache::open(url.expose_secret(), prefix, &[0; 32], clock).await?;
    let rights = cache.inspect().await;
    cache.close().await;
    match rights {
        Ok(rights) if rights.mget => Ok("answers GET, MGET, SET and UNLINK"),
        Ok(_) => Ok("answers GET, SET and UNLINK; MGET is refused, and concurrent reads are slower for it"),
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            bail!("Redis cannot be used ({source}); reads ask the database meanwhile")
        }
    }
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
    let auth = &settings.auth;
    let dev_token_secret = !auth.has_token_keys();
    let issuers = match dev_token_secret {
        true => vec![development_issuer(auth, &dev_keys(settings)?.token_secret()?)],
        false => auth.issuers.iter().map(issuer).collect::<Result<_>>()?,
    };
    for issuer in &issuers {
        issuer.keep_keys_fresh();
    }
    let dev_service_key = auth.service_keys.is_empty();
    let service_keys = match dev_service_key {
        true => vec![ServiceKey::of(dev_keys(settings)?.service_key()?.expose_secret())],
        false => auth.service_keys.iter().map(service_key).collect(),
    };
    Ok(Credentials {
        tokens: TokenVerifier::new(issuers, Arc::new(SystemClock)),
        service_keys: ServiceKeys::new(service_keys),
        dev_token_secret,
        dev_service_key,
    })
}

/// A verifier with the configured keys, or with the development secret where there are none. Makes no file,
/// and fetches nothing yet.
///
/// # Errors
/// If a key file cannot be read.
pub(crate) fn token_verifier(settings: &Settings) -> Result<TokenVerifier> {
    let auth = &settings.auth;
    let issuers = if auth.has_token_keys() {
        auth.issuers.iter().map(issuer).collect::<Result<_>>()?
    } else {
        vec![development_issuer(auth, &DevKeys::read(&dev_keys(settings)?.token_secret_path())?)]
    };
    Ok(TokenVerifier::new(issuers, Arc::new(SystemClock)))
}

/// What makes development tokens: the rules of `auth.jwt.*`, which may be set without a key.
fn development_issuer(auth: &AuthSettings, secret: &SecretString) -> Issuer {
    Issuer::new(rules(&auth.development)).with_secret(secret.expose_secret().as_bytes())
}

fn issuer(settings: &IssuerSettings) -> Result<Issuer> {
    let mut issuer = Issuer::new(rules(settings));
    if let Some(secret) = &settings.hs256_secret {
        issuer = issuer.with_secret(secret.expose_secret().as_bytes());
    }
    if let Some(path) = &settings.public_key_file {
        issuer = issuer.with_keys([VerificationKey::from_pem_file(path).context("auth.jwt.public_key_file")?]);
    }
    if let Some(path) = &settings.jwks_file {
        let set = read_jwks_file(path)?;
        if !set.unusable.is_empty() {
            tracing::warn!(file = %path.display(), unusable = ?set.unusable, "passed over keys of a JWK Set");
        }
        issuer = issuer.with_keys(set.keys);
    }
    if let Some(url) = &settings.jwks_url {
        if settings.issuer.is_none() || settings.audiences.is_empty() {
            tracing::warn!(
                "tokens of any issuer or audience are accepted, ID tokens too, if a key at jwks_url signs them: \
                 set issuer and audience"
            );
        }
        issuer = issuer.with_remote_keys(RemoteJwks::new(url.clone())?);
    }
    Ok(issuer)
}

/// Reads a JWK Set that has keys in it: one without is a mistake where a person has written it.
///
/// # Errors
/// If it cannot be read, or has no key that can be used.
pub(crate) fn read_jwks_file(path: &Path) -> Result<KeySet> {
    let shown = path.display();
    let text = std::fs::read(path).with_context(|| format!("auth.jwt.jwks_file: cannot read {shown}"))?;
    let set = KeySet::parse(&text).with_context(|| format!("auth.jwt.jwks_file: {shown}"))?;
    if set.keys.is_empty() {
        bail!(
            "auth.jwt.jwks_file: {shown} has no RSA, EC P-256 or Ed25519 key for signatures ({})",
            set.unusable.join("; ")
        );
    }
    Ok(set)
}

fn rules(settings: &IssuerSettings) -> TokenRules {
    TokenRules {
        issuer: settings.issuer.clone(),
        audiences: settings.audiences.clone(),
        subject: match settings.subject {
            SubjectMapping::Uuid => Subject::Uuid,
            SubjectMapping::Uuid5 => Subject::Uuid5,
        },
        session_claim: settings.session_claim.clone(),
        types: settings.types.clone(),
    }
}

fn service_key(settings: &ServiceKeySettings) -> ServiceKey {
    let config::Scopes { read, write, operate } = settings.scopes;
    ServiceKey {
        name: settings.name.as_deref().map(Into::into),
        sha256: settings.sha256,
        scopes: Scopes { read, write, operate },
    }
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
