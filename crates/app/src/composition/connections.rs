//! Closes the connections of adapters when a node stops.

use adapters_postgres::{DashtamSessions, PostgresDatabase, PostgresRevocationFeed};
use adapters_redis::RedisSessionCache;
use adapters_sqlite::SqliteDatabase;
use async_trait::async_trait;

/// An adapter that has connections to close.
#[async_trait]
pub(super) trait Close: Send + Sync {
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
closes!(
    DashtamSessions,
    PostgresDatabase,
    PostgresRevocationFeed,
    SqliteDatabase,
    RedisSessionCache
);

/// Closes the connections of each adapter, one adapter after the other.
pub(super) async fn close_all(connections: &[std::sync::Arc<dyn Close>]) {
    for connection in connections {
        connection.close().await;
    }
}
