//! The composition root: the only file that names concrete adapters.
//!
//! To add an adapter: one variant in `config/settings.rs`, one arm here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adapters_memory::MemorySessionCache;
use adapters_postgres::PostgresSessionRepository;
use adapters_redis::RedisSessionCache;
use adapters_sqlite::{DatabaseFile, SqliteSessionRepository};
use anyhow::{Context, Result, bail};
use application::{Application, Ports};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::ports::{Clock, HealthCheck, SessionCache, SessionRepository};
use secrecy::ExposeSecret;

use crate::auth::{DevKeys, RemoteJwks, ServiceKeys, TokenRules, TokenVerifier, VerificationKey};
use crate::config::{AuthSettings, Settings, StoreUrl};
use crate::http::Health;
use crate::system::{SystemClock, SystemIds};

/// Connections that read a SQLite file, at most.
const MAX_SQLITE_READERS: u32 = 4;

/// A running application with what it stands on.
pub struct Node {
    /// Every use case.
    pub application: Arc<Application>,
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
closes!(PostgresSessionRepository, SqliteSessionRepository, RedisSessionCache);

/// Connects the adapters that the configuration names, and builds the application on them.
///
/// # Errors
/// If the database cannot be used, or the shared cache never could. A shared cache that is down is no error.
pub async fn wire(settings: &Settings) -> Result<Node> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut adapters: Vec<Arc<dyn Close>> = Vec::new();

    let (session_repo, store_health, store_description): (Arc<dyn SessionRepository>, Arc<dyn HealthCheck>, String) =
        match &settings.store_url {
            StoreUrl::Postgres(url) => {
                let open = PostgresSessionRepository::open(url.expose_secret(), settings.pool_size).await;
                let repository = Arc::new(open.context("store.url")?);
                adapters.push(repository.clone());
                (repository.clone(), repository, "PostgreSQL".to_owned())
            }
            StoreUrl::Sqlite(url) => {
                let file = DatabaseFile::lock(url).context("store.url")?;
                let path = std::path::absolute(file.path()).unwrap_or_else(|_| file.path().to_owned());
                let readers = settings.pool_size.min(MAX_SQLITE_READERS);
                let repository = Arc::new(SqliteSessionRepository::open(file, readers).await.context("store.url")?);
                adapters.push(repository.clone());
                (repository.clone(), repository, path.display().to_string())
            }
        };

    // A near cache hears of no other process's writes. Until the revocation feed tells it of them, it is used only where
    // there is no other process: on a SQLite file, which is locked for this one.
    let (session_cache, cache_health, cache_description): (Arc<dyn SessionCache>, _, _) =
        match (&settings.cache.url, &settings.store_url) {
            (Some(url), _) => {
                let open =
                    RedisSessionCache::open(url.expose_secret(), &settings.cache.key_prefix, clock.clone()).await;
                let cache = Arc::new(open.context("cache.url")?);
                adapters.push(cache.clone());
                (cache.clone(), Some(cache as Arc<dyn HealthCheck>), "redis")
            }
            (None, StoreUrl::Sqlite(_)) if settings.cache.near_entries > 0 => {
                (Arc::new(MemorySessionCache::new(settings.cache.near_entries, clock.clone())), None, "in this process")
            }
            (None, _) => (Arc::new(MemorySessionCache::new(0, clock.clone())), None, "none"),
        };

    let ports = Ports { session_repo, session_cache, clock: clock.clone(), ids: Arc::new(SystemIds) };
    Ok(Node {
        application: Arc::new(Application::new(ports, settings.policy)),
        clock,
        health: Arc::new(Health::new(store_health, cache_health)),
        store_description,
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
            Ok(StoreInspection::Postgres { server_version, schema_version, now })
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
    let cache = RedisSessionCache::open(url.expose_secret(), &settings.cache.key_prefix, Arc::new(SystemClock)).await?;
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
