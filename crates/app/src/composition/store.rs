//! The adapters of the configured store.

use std::sync::Arc;

use adapters_postgres::{
    PostgresDatabase, PostgresEventOutbox, PostgresNodeDirectory, PostgresRevocationFeed,
    PostgresSessionRepository, PostgresSessionRetention,
};
use adapters_sqlite::{
    DatabaseFile, SqliteDatabase, SqliteEventOutbox, SqliteNodeDirectory, SqliteRevocationFeed,
    SqliteSessionRepository, SqliteSessionRetention,
};
use anyhow::{Context, Result, bail};
use domain::ports::{
    EventOutbox, HealthCheck, IdGenerator, NodeDirectory, RevocationFeed, SessionRepository,
    SessionRetention,
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::connections::Close;
use crate::config::{Settings, StoreUrl};
use crate::system::SystemIds;

/// Connections that read a SQLite file, at most.
const MAX_SQLITE_READERS: u32 = 4;

/// The ports of the configured store.
pub(super) struct Store {
    pub(super) session_repo: Arc<dyn SessionRepository>,
    pub(super) event_outbox: Arc<dyn EventOutbox>,
    pub(super) session_retention: Arc<dyn SessionRetention>,
    pub(super) revocation_feed: Arc<dyn RevocationFeed>,
    pub(super) node_directory: Arc<dyn NodeDirectory>,
    /// The id of this node.
    pub(super) node: Uuid,
    pub(super) health: Arc<dyn HealthCheck>,
    pub(super) description: String,
    pub(super) cache_key: [u8; 32],
    pub(super) connections: Vec<Arc<dyn Close>>,
    /// For [`Node::reload`](super::node::Node::reload), which sets a URL with another password.
    pub(super) postgres: Option<Postgres>,
}

pub(super) type Postgres = (Arc<PostgresDatabase>, Arc<PostgresRevocationFeed>);

/// Returns the URL that bypasses a transaction pooler, for `LISTEN` and waiting connections:
/// `store.direct_url`, or else `store.url`.
pub(super) fn direct_url<'a>(settings: &'a Settings, url: &'a SecretString) -> &'a SecretString {
    settings.direct_url.as_ref().unwrap_or(url)
}

impl Store {
    /// Connects to the store that the configuration names.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(super) async fn open(settings: &Settings) -> Result<Self> {
        match &settings.store_url {
            StoreUrl::Postgres(url) => Self::open_postgres(settings, url).await,
            StoreUrl::Sqlite(url) => Self::open_sqlite(settings, url).await,
        }
    }

    async fn open_postgres(settings: &Settings, url: &SecretString) -> Result<Self> {
        let direct_url = direct_url(settings, url).expose_secret();
        let options = adapters_postgres::Options {
            url: url.expose_secret(),
            direct_url,
            pool_size: settings.pool_size,
            prepared: settings.prepared,
            migrate: settings.migrate,
        };
        let database = Arc::new(PostgresDatabase::open(options).await.context("store.url")?);
        let node = SystemIds.next_id();
        let feed = PostgresRevocationFeed::open(database.clone(), direct_url, node);
        let feed = Arc::new(feed.await.context("store.url")?);
        Ok(Self {
            revocation_feed: feed.clone(),
            session_repo: Arc::new(PostgresSessionRepository::new(database.clone())),
            event_outbox: Arc::new(PostgresEventOutbox::new(database.clone())),
            session_retention: Arc::new(PostgresSessionRetention::new(database.clone())),
            node_directory: Arc::new(PostgresNodeDirectory::new(database.clone())),
            node,
            health: database.clone(),
            description: "PostgreSQL".to_owned(),
            cache_key: database.cache_key().await.context("store.url")?,
            connections: vec![feed.clone(), database.clone()],
            postgres: Some((database, feed)),
        })
    }

    async fn open_sqlite(settings: &Settings, url: &str) -> Result<Self> {
        let file = DatabaseFile::lock(url).context("store.url")?;
        if !settings.migrate {
            let found = adapters_sqlite::inspect(&file).await.context("store.url")?;
            let known = adapters_sqlite::SCHEMA_VERSION;
            if found.is_none_or(|found| found < known) {
                bail!(
                    "store.url: the schema is not version {known}: run `sessiond migrate`, or set \
                        store.migrate"
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
            node_directory: Arc::new(SqliteNodeDirectory::default()),
            node: SystemIds.next_id(),
            health: database.clone(),
            description: path.display().to_string(),
            cache_key: database.cache_key().await.context("store.url")?,
            connections: vec![database],
            postgres: None,
        })
    }
}
