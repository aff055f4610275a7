//! The Redis cache keeps the contract of its port.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use adapters_redis::RedisSessionCache;
use testkit::fixtures;
use testkit::servers::RedisServer;

/// A private server, or a key prefix of its own on the server of `REDIS_URL`.
async fn cache() -> (Option<RedisServer>, Arc<RedisSessionCache>) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (server, url) = match std::env::var("REDIS_URL") {
        Ok(url) => (None, url),
        Err(_) => {
            let server = RedisServer::start();
            let url = server.url();
            (Some(server), url)
        }
    };
    let prefix = format!("test-{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    (
        server,
        Arc::new(
            RedisSessionCache::open(&url, &prefix, &[7; 32], fixtures::clock()).await.unwrap(),
        ),
    )
}

testkit::session_cache_contract!(cache());
