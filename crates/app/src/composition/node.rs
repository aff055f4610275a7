//! A node: the application on the adapters that the configuration names.

use std::path::Path;
use std::sync::Arc;

use adapters_maxmind::MaxMindLocationEnricher;
use adapters_memory::MemorySessionCache;
use adapters_redis::RedisSessionCache;
use adapters_ua_parser::UaParserDeviceEnricher;
use anyhow::{Context, Result};
use application::commands::handlers::Enrichers;
use application::{Application, BackgroundTasks, Ports};
use domain::ports::{Clock, HealthCheck, LocationEnricher, SessionCache};
use secrecy::ExposeSecret;

use super::cache;
use super::connections::{Close, close_all};
use super::store::{Postgres, Store, direct_url};
use crate::auth::session_token::RandomTokens;
use crate::config::{Settings, StoreUrl};
use crate::http::service::{Health, NodeIdentity, Nodes};
use crate::system::{SystemClock, SystemIds, SystemMonotonicClock};

/// The use cases of sessiond, on the adapters that the configuration names.
pub struct Node {
    /// Every use case.
    pub application: Arc<Application>,
    /// The background tasks, for the caller to run. Without them, nothing is served from a cache.
    pub background_tasks: Option<BackgroundTasks>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Checks whether database and shared cache respond.
    pub health: Arc<Health>,
    /// This node among the nodes of its store, for the caller to report.
    pub nodes: Arc<Nodes>,
    /// Where sessions are stored, for the greeting.
    pub store_description: String,
    /// Where they are cached, for the greeting.
    pub cache_description: &'static str,
    connections: Vec<Arc<dyn Close>>,
    postgres: Option<Postgres>,
    redis: Option<Arc<RedisSessionCache>>,
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
        // Compiling the patterns takes as long as connecting does: do both at once.
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
        let (application, background_tasks) = Application::new(ports, settings.policies);
        let cache_health = redis.clone().map(|redis| redis as Arc<dyn HealthCheck>);
        let health = Health::new(store.health, cache_health, application.revocation_state.clone());
        let health = Arc::new(health);
        let identity = NodeIdentity {
            node: store.node,
            host: crate::system::host_name(),
            started_at: clock.now(),
        };
        let nodes = Nodes::new(
            store.node_directory,
            identity,
            health.clone(),
            application.revocation_state.clone(),
        );
        Ok(Self {
            application: Arc::new(application),
            background_tasks: Some(background_tasks),
            clock,
            health,
            nodes: Arc::new(nodes),
            store_description: store.description,
            cache_description,
            connections,
            postgres: store.postgres,
            redis,
            location,
        })
    }

    /// Gives the adapters the GeoIP file and the URLs of database and shared cache, whose passwords
    /// may have been rotated. Each is applied by itself, so that a damaged GeoIP file does not keep
    /// a new password from being used.
    ///
    /// Returns the errors, by configuration key. The adapter of each goes on with what it had.
    pub async fn reload(&self, settings: &Settings) -> Vec<anyhow::Error> {
        let mut results = Vec::new();
        if let (Some((database, feed)), StoreUrl::Postgres(url)) =
            (&self.postgres, &settings.store_url)
        {
            let direct_url = direct_url(settings, url).expose_secret();
            results.push(database.set_url(url.expose_secret()).context("store.url"));
            results.push(feed.set_url(direct_url).context("store.direct_url"));
        }
        if let (Some(redis), Some(url)) = (&self.redis, &settings.cache.url) {
            results.push(redis.set_url(url.expose_secret()).await.context("cache.url"));
        }
        if let (Some(location), Some(path)) = (&self.location, &settings.geoip_file) {
            results.push(location.reload(path).context("enrich.geoip_file"));
        }
        results.into_iter().filter_map(Result::err).collect()
    }

    /// Closes every connection, orderly.
    pub async fn close(&self) {
        close_all(&self.connections).await;
    }
}

/// Opens the adapters that name the device and the location of a new session.
fn enrichers(
    geoip_file: Option<&Path>,
) -> Result<(Arc<UaParserDeviceEnricher>, Option<Arc<MaxMindLocationEnricher>>)> {
    let open = |path| MaxMindLocationEnricher::open(path).context("enrich.geoip_file");
    Ok((Arc::new(UaParserDeviceEnricher::new()?), geoip_file.map(open).transpose()?.map(Arc::new)))
}
