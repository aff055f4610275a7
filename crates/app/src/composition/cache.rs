//! The adapter of the shared cache.

use std::sync::Arc;

use adapters_redis::RedisSessionCache;
use anyhow::{Context, Result};
use domain::ports::Clock;
use secrecy::ExposeSecret;

use crate::config::Settings;

/// Opens the shared cache that the configuration names, if it names one. Cached values are signed
/// with `cache.mac_key_file`, or else with `cache_key`. A cache that is down is no error.
///
/// # Errors
/// If it can never be used: an invalid URL, wrong credentials, missing rights.
pub(super) async fn open(
    settings: &Settings,
    cache_key: &[u8; 32],
    clock: Arc<dyn Clock>,
) -> Result<Option<Arc<RedisSessionCache>>> {
    let Some(url) = &settings.cache.url else { return Ok(None) };
    let key = match &settings.cache.mac_key {
        Some(key) => key.expose_secret().as_bytes(),
        None => cache_key,
    };
    let prefix = &settings.cache.key_prefix;
    let cache = RedisSessionCache::open(url.expose_secret(), prefix, key, clock).await;
    Ok(Some(Arc::new(cache.context("cache.url")?)))
}
