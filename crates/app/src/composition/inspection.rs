//! What `sessiond doctor` asks of the configured store and shared cache. Changes nothing.

use std::error::Error;
use std::sync::Arc;

use adapters_redis::RedisSessionCache;
use adapters_sqlite::DatabaseFile;
use anyhow::{Result, bail};
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;

use super::store::direct_url;
use crate::config::{Settings, StoreUrl};
use crate::system::SystemClock;

/// What a store says about itself.
pub enum StoreInspection {
    /// A PostgreSQL server's version, the schema's version if there is a schema, and the server's
    /// clock.
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
    /// A SQLite file that no other process uses, with its schema's version if it has a schema.
    Sqlite {
        /// The schema's version.
        schema_version: Option<i32>,
    },
    /// There is no file yet; a node will make it.
    NoFile,
    /// A SQLite file that a running node has.
    InUse,
}

/// Inspects the configured store and changes nothing.
///
/// # Errors
/// If it cannot be used.
pub async fn inspect_store(settings: &Settings) -> Result<StoreInspection> {
    match &settings.store_url {
        StoreUrl::Postgres(url) => {
            let url = direct_url(settings, url);
            let found = adapters_postgres::inspect(url.expose_secret()).await?;
            let (server_version, schema_version, now) =
                (found.server_version, found.schema_version, found.now);
            let oldest_transaction =
                found.oldest_transaction.map(|transaction| (transaction.since, transaction.of));
            Ok(StoreInspection::Postgres {
                server_version,
                schema_version,
                now,
                oldest_transaction,
            })
        }
        StoreUrl::Sqlite(url) => {
            if !DatabaseFile::path_of(url)?.exists() {
                return Ok(StoreInspection::NoFile);
            }
            match DatabaseFile::lock(url) {
                Err(adapters_sqlite::OpenError::InUse { .. }) => Ok(StoreInspection::InUse),
                file => Ok(StoreInspection::Sqlite {
                    schema_version: adapters_sqlite::inspect(&file?).await?,
                }),
            }
        }
    }
}

/// Runs every command that a node runs on the configured shared cache; returns what there is to
/// know.
///
/// # Errors
/// If one is refused, or gets no response.
pub async fn inspect_cache(settings: &Settings) -> Result<&'static str> {
    let Some(url) = &settings.cache.url else { return Ok("not configured") };
    // Nothing of it is read, so any key will do.
    let prefix = &settings.cache.key_prefix;
    let clock = Arc::new(SystemClock);
    let cache = RedisSessionCache::open(url.expose_secret(), prefix, &[0; 32], clock).await?;
    let rights = cache.inspect().await;
    cache.close().await;
    match rights {
        Ok(rights) if rights.mget => Ok("serves GET, MGET, SET and UNLINK"),
        Ok(_) => Ok(
            "serves GET, SET and UNLINK; MGET is refused, and concurrent reads are slower for it",
        ),
        Err(error) => {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            bail!("Redis cannot be used ({source}); reads ask the database meanwhile")
        }
    }
}
