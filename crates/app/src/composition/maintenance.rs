//! Work on the configured store without a node: migrating, cleaning up, importing.

use std::sync::Arc;

use adapters_postgres::DashtamSessions;
use adapters_sqlite::DatabaseFile;
use anyhow::{Context, Result};
use application::commands::handlers::{CleanUpHandler, ImportSessionsHandler};
use domain::Session;
use secrecy::ExposeSecret;

use super::connections::{Close, close_all};
use super::store::{Store, direct_url};
use crate::config::{Settings, StoreUrl};
use crate::system::SystemClock;

/// Returns the schema version that this build makes in such a store.
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
            let migrated =
                adapters_postgres::migrate(url.expose_secret()).await.context("store.url")?;
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
        close_all(&self.connections).await;
    }
}

/// Returns the handler that purges terminated sessions, on the configured store.
///
/// # Errors
/// If the database cannot be used.
pub async fn clean_up(settings: &Settings) -> Result<OnStore<CleanUpHandler>> {
    let store = Store::open(settings).await?;
    let handler = CleanUpHandler::new(
        store.session_retention,
        Arc::new(SystemClock),
        settings.policies.retention,
    );
    Ok(OnStore { handler, connections: store.connections })
}

/// Imports sessions into the configured store.
///
/// # Errors
/// If the database cannot be used.
pub async fn import(settings: &Settings, sessions: &[Session]) -> Result<()> {
    let store = Store::open(settings).await?;
    let imported = store.session_repo.import(sessions).await;
    close_all(&store.connections).await;
    imported?;
    Ok(())
}

/// Returns the handler that imports the sessions of the Python original into the configured store.
///
/// # Errors
/// If either database cannot be used.
pub async fn import_dashtam(
    settings: &Settings,
    from: &str,
) -> Result<OnStore<ImportSessionsHandler>> {
    let source =
        DashtamSessions::open(from, settings.policies.sessions.lifetime).await.context("--from")?;
    let source = Arc::new(source);
    let store = Store::open(settings).await?;
    let handler = ImportSessionsHandler::new(source.clone(), store.session_repo);
    let mut connections = store.connections;
    connections.push(source);
    Ok(OnStore { handler, connections })
}
