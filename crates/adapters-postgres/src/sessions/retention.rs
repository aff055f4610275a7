//! Purges sessions and events, a batch at a time: marks what has expired, deletes what is old.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::ports::{PortError, SessionRetention};
use sea_orm::QueryResult;

use crate::database::pool::PostgresDatabase;

/// [`SessionRetention`] on PostgreSQL.
pub struct PostgresSessionRetention {
    database: Arc<PostgresDatabase>,
}

impl PostgresSessionRetention {
    /// Creates the retention of this database.
    pub fn new(database: Arc<PostgresDatabase>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl SessionRetention for PostgresSessionRetention {
    async fn mark_expired(&self, now: DateTime<Utc>, limit: u32) -> Result<u64, PortError> {
        // By the hour, which is indexed, and then exactly. By the database's clock, where a node's
        // is ahead: what is live must neither be marked nor deleted.
        const SQL: &str = "WITH expired AS MATERIALIZED (
                SELECT id FROM sessions
                WHERE revoked_at IS NULL AND expired_at IS NULL AND ends_at <= LEAST($1, now())
                    AND ends_hour <= floor(extract(epoch FROM LEAST($1, now())) / 3600)::bigint
                ORDER BY ends_hour LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
            )
            UPDATE sessions SET expired_at = ends_at FROM expired
            WHERE sessions.id = expired.id AND ends_at <= LEAST($1, now())";
        self.database.execute(SQL, [now.into(), i64::from(limit).into()]).await
    }

    async fn delete_terminated(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError> {
        const SQL: &str = "WITH old AS MATERIALIZED (
                SELECT id FROM sessions
                WHERE (revoked_at IS NOT NULL OR expired_at IS NOT NULL)
                    AND coalesce(revoked_at, expired_at) <= LEAST($1, now())
                ORDER BY coalesce(revoked_at, expired_at) LIMIT $2 FOR UPDATE SKIP LOCKED
            )
            DELETE FROM sessions USING old WHERE sessions.id = old.id";
        self.database.execute(SQL, [by.into(), i64::from(limit).into()]).await
    }

    async fn delete_events(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError> {
        // Examines the oldest ones only, however many there are.
        const SQL: &str = "WITH oldest AS MATERIALIZED (
                SELECT id, recorded_at FROM session_events ORDER BY id LIMIT $2
                FOR UPDATE SKIP LOCKED
            )
            DELETE FROM session_events USING oldest
            WHERE session_events.id = oldest.id AND oldest.recorded_at <= $1";
        self.database.execute(SQL, [by.into(), i64::from(limit).into()]).await
    }

    async fn backlog(
        &self,
        now: DateTime<Utc>,
        terminated_by: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, PortError> {
        const SQL: &str = "SELECT count(*) FROM (
                (SELECT 1 FROM sessions
                    WHERE revoked_at IS NULL AND expired_at IS NULL AND ends_at <= $1
                    AND ends_hour <= floor(extract(epoch FROM $1::timestamptz) / 3600)::bigint
                    LIMIT $3)
                UNION ALL
                (SELECT 1 FROM sessions
                    WHERE (revoked_at IS NOT NULL OR expired_at IS NOT NULL)
                        AND coalesce(revoked_at, expired_at) <= $2 LIMIT $3)
                LIMIT $3
            ) AS waiting";
        let count = |row: &QueryResult| row.try_get_by_index::<i64>(0);
        let counts = self
            .database
            .query(SQL, [now.into(), terminated_by.into(), i64::from(limit).into()], count)
            .await?;
        Ok(counts.first().map_or(0, |count| count.unsigned_abs()))
    }
}
