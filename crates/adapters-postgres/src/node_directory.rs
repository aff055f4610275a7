//! The reports of nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::ports::{NodeDirectory, NodeReport, PortError, REPORT_RETENTION};
use sea_orm::{DbErr, QueryResult};
use uuid::Uuid;

use crate::database::pool::PostgresDatabase;

/// [`NodeDirectory`] on PostgreSQL.
pub struct PostgresNodeDirectory {
    database: Arc<PostgresDatabase>,
}

impl PostgresNodeDirectory {
    /// Creates the directory of this database.
    pub fn new(database: Arc<PostgresDatabase>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl NodeDirectory for PostgresNodeDirectory {
    async fn report(&self, report: &NodeReport) -> Result<(), PortError> {
        const SQL: &str = "WITH old AS (
                DELETE FROM node_report
                WHERE node <> $1
                    AND reported_at < clock_timestamp() - $12 * interval '1 millisecond'
            )
            INSERT INTO node_report (node, host, version, started_at, is_ready, shared_cache,
                cached_sessions, poll_age_ms, reads_near, reads_shared, reads_database)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            ON CONFLICT (node) DO UPDATE SET reported_at = DEFAULT, is_ready = EXCLUDED.is_ready,
                shared_cache = EXCLUDED.shared_cache, cached_sessions = EXCLUDED.cached_sessions,
                poll_age_ms = EXCLUDED.poll_age_ms, reads_near = EXCLUDED.reads_near,
                reads_shared = EXCLUDED.reads_shared, reads_database = EXCLUDED.reads_database";
        let [near, shared, database] = report.reads.map(clamped);
        let values = [
            report.node.into(),
            report.host.as_str().into(),
            report.version.as_str().into(),
            report.started_at.into(),
            report.is_ready.into(),
            report.shared_cache.as_str().into(),
            report.cached_sessions.as_str().into(),
            milliseconds(report.poll_age).into(),
            near.into(),
            shared.into(),
            database.into(),
            milliseconds(REPORT_RETENTION).into(),
        ];
        self.database.execute(SQL, values).await.map(drop)
    }

    async fn reports(&self) -> Result<Vec<(NodeReport, Duration)>, PortError> {
        const SQL: &str = "SELECT node, host, version, started_at, is_ready, shared_cache,
                cached_sessions, poll_age_ms, reads_near, reads_shared, reads_database,
                (extract(epoch FROM clock_timestamp() - reported_at) * 1000)::bigint
            FROM node_report ORDER BY started_at, node";
        self.database.query(SQL, [], report).await
    }

    async fn leave(&self, node: Uuid) -> Result<(), PortError> {
        const SQL: &str = "DELETE FROM node_report WHERE node = $1";
        self.database.execute(SQL, [node.into()]).await.map(drop)
    }
}

fn report(row: &QueryResult) -> Result<(NodeReport, Duration), DbErr> {
    let number = |index: usize| row.try_get_by_index::<i64>(index).map(|number| number.max(0));
    let report = NodeReport {
        node: row.try_get_by_index(0)?,
        host: row.try_get_by_index(1)?,
        version: row.try_get_by_index(2)?,
        started_at: row.try_get_by_index(3)?,
        is_ready: row.try_get_by_index(4)?,
        shared_cache: row.try_get_by_index(5)?,
        cached_sessions: row.try_get_by_index(6)?,
        poll_age: Duration::from_millis(number(7)?.unsigned_abs()),
        reads: [number(8)?.unsigned_abs(), number(9)?.unsigned_abs(), number(10)?.unsigned_abs()],
    };
    Ok((report, Duration::from_millis(number(11)?.unsigned_abs())))
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn clamped(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
