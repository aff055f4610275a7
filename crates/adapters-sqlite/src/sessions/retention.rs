//! Purges sessions and events, a batch at a time: marks what has expired, deletes what is old.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::ports::{PortError, SessionRetention};
use sea_orm::QueryResult;

use crate::database::pool::SqliteDatabase;

/// [`SessionRetention`] on one SQLite file.
pub struct SqliteSessionRetention {
    database: Arc<SqliteDatabase>,
}

impl SqliteSessionRetention {
    /// Creates the retention of this file.
    pub fn new(database: Arc<SqliteDatabase>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl SessionRetention for SqliteSessionRetention {
    async fn mark_expired(&self, now: DateTime<Utc>, limit: u32) -> Result<u64, PortError> {
        const SQL: &str = "UPDATE sessions SET expired_at = ends_at WHERE id IN (
            SELECT id FROM sessions WHERE revoked_at IS NULL AND expired_at IS NULL AND ends_at <= ?
            ORDER BY ends_at LIMIT ?)";
        self.database.execute(SQL, [now.timestamp_micros().into(), limit.into()]).await
    }

    async fn delete_terminated(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError> {
        const SQL: &str = "DELETE FROM sessions WHERE id IN (
            SELECT id FROM sessions WHERE (revoked_at IS NOT NULL OR expired_at IS NOT NULL)
                AND coalesce(revoked_at, expired_at) <= ?
            ORDER BY coalesce(revoked_at, expired_at) LIMIT ?)";
        self.database.execute(SQL, [by.timestamp_micros().into(), limit.into()]).await
    }

    async fn delete_events(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError> {
        // Examines the oldest ones only, however many there are.
        const SQL: &str = "DELETE FROM session_events WHERE id IN (
            SELECT id FROM (SELECT id, recorded_at FROM session_events ORDER BY id LIMIT ?)
            WHERE recorded_at <= ?)";
        self.database.execute(SQL, [limit.into(), by.timestamp_micros().into()]).await
    }

    async fn backlog(
        &self,
        now: DateTime<Utc>,
        terminated_by: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, PortError> {
        const SQL: &str = "SELECT min(?3,
            (SELECT count(*) FROM (SELECT 1 FROM sessions
                WHERE revoked_at IS NULL AND expired_at IS NULL AND ends_at <= ?1 LIMIT ?3)) +
            (SELECT count(*) FROM (SELECT 1 FROM sessions
                WHERE (revoked_at IS NOT NULL OR expired_at IS NOT NULL)
                AND coalesce(revoked_at, expired_at) <= ?2 LIMIT ?3)))";
        let count = |row: &QueryResult| row.try_get_by_index::<i64>(0);
        let values =
            [now.timestamp_micros().into(), terminated_by.timestamp_micros().into(), limit.into()];
        let counts = self.database.query(SQL, values, count).await?;
        Ok(counts.first().map_or(0, |count| count.unsigned_abs()))
    }
}
