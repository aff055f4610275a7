//! A node: the application on the adapters that the configuration names.

use std::path::Path;
use std::sync::Arc;

use adapters_maxmind::MaxMindLocationEnricher;
use adapters_memory::MemorySessionCache;
use adapters_ua_parser::UaParserDeviceEnricher;
use anyhow::{Context, Result};
use application::commands::handlers::Enrichers;
use application::{Application, Background, Ports};
use domain::ports::{Clock, HealthCheck, LocationEnricher, SessionCache};
use secrecy::ExposeSecret;

use super::cache;
use super::connections::{Close, close_all};
use super::store::{Postgres, Store, direct_url};
use crate::auth::session_token::RandomTokens;
use crate::config::{Settings, StoreUrl};
use crate::http::service::Health;
use crate::system::{SystemClock, SystemIds, SystemMonotonicClock};

/// An application on its adapters.
pub struct Node {
    /// Every use case.
    pub application: Arc<Application>,
    /// Its background work, for the caller to run. Without it nothing is served from a cache.
    pub background: Option<Background>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Whether the dependencies respond.
    pub health: Arc<Health>,
    /// Where sessions are stored, in words.
    pub store_description: String,
    /// Where they are cached, in words.
    pub cache_description: &'static str,
    connections: Vec<Arc<dyn Close>>,
    postgres: Option<Postgres>,
    location: Option<Arc<MaxMindLocationEnricher>>,
}

impl Node {
    /// Connects the adapters that the configuration names, and builds the application on them.
    ///
    /// # Errors
    /// If the database cannot be used, or the shared cache never could. A shared cache that is down
    /// is no error.
    pub async fn connect(settings: &Settings) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // Compiling patterns takes a while, and so does connecting.
        let geoip_file = settings.geoip_file.clone();
        let enrichers = tokio::task::spawn_blocking(move || enrichers(geoip_file.as_deref()));
        let store = Store::open(settings).await?;
        let redis = cache::open(settings, &store.cache_key, clock.clone()).await?;
        let (device, location) = enrichers.await??;

        let mut connections = store.connections;
        connections.extend(redis.clone().map(|redis| redis as Arc<dyn Close>));
        let near_entries = settings.cache.near_entries;
        let near_cache =
            (near_entries > 0).then(|| MemorySessionCache::new(near_entries, clock.clone()));
        let cache_description = match (&near_cache, &redis) {
            (Some(_), Some(_)) => "in this process, redis",
            (Some(_), None) => "in this process",
            (None, Some(_)) => "redis",
            (None, None) => "none",
        };
        let ports = Ports {
            session_repo: store.session_repo,
            near_cache: near_cache.map(|near| Arc::new(near) as Arc<dyn SessionCache>),
            shared_cache: redis.clone().map(|redis| redis as Arc<dyn SessionCache>),
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
            tokens: Arc::new(RandomTokens),
        };
        let (application, background) = Application::new(ports, settings.policies);
        let cache_health = redis.map(|redis| redis as Arc<dyn HealthCheck>);
        let health = Health::new(store.health, cache_health, application.revocation_state.clone());
        Ok(Self {
            application: Arc::new(application),
            background: Some(background),
            clock,
            health: Arc::new(health),
            store_description: store.description,
            cache_description,
            connections,
            postgres: store.postgres,
            location,
        })
    }

    /// Hands the adapters what was read again: the GeoIP file, and the database's URL, whose
    /// password may have been rotated.
    ///
    /// # Errors
    /// If one cannot be used; the adapter goes on with what it had.
    pub fn reload(&self, settings: &Settings) -> Result<()> {
        if let (Some(location), Some(path)) = (&self.location, &settings.geoip_file) {
            location.reload(path).context("enrich.geoip_file")?;
        }
        if let (Some((database, feed)), StoreUrl::Postgres(url)) =
            (&self.postgres, &settings.store_url)
        {
            database.set_url(url.expose_secret()).context("store.url")?;
            feed.set_url(direct_url(settings, url).expose_secret()).context("store.direct_url")?;
        }
        Ok(())
    }

    /// Closes every connection, orderly.
    pub async fn close(&self) {
        close_all(&self.connections).await;
    }
}

/// Returns what fills in, for a new session, what the backend does not say.
fn enrichers(
    geoip_file: Option<&Path>,
) -> Result<(Arc<UaParserDeviceEnricher>, Option<Arc<MaxMindLocationEnricher>>)> {
    let open = |path| MaxMindLocationEnricher::open(path).context("enrich.geoip_file");
    Ok((Arc::new(UaParserDeviceEnricher::new()?), geoip_file.map(open).transpose()?.map(Arc::new)))
}
