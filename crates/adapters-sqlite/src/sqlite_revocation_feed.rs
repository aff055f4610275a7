use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::SessionId;
use domain::coherence::{FeedPage, LoggedEnd, Scope};
use domain::ports::{Look, Mark, OtherNode, PortError, RevocationFeed};
use sea_orm::{DbErr, QueryResult};
use uuid::Uuid;

use crate::sqlite_database::{NEXT_CHANGE, SqliteDatabase};

/// Entries that one look brings at most.
const LOOK_LIMIT: usize = 20_000;

/// [`RevocationFeed`] on one SQLite file: one process has it, so there is nobody to wait for.
pub struct SqliteRevocationFeed {
    database: Arc<SqliteDatabase>,
}

impl SqliteRevocationFeed {
    /// The feed of this file.
    pub fn new(database: Arc<SqliteDatabase>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl RevocationFeed for SqliteRevocationFeed {
    async fn register(&self, _: Duration) -> Result<(), PortError> {
        Ok(())
    }

    async fn look(&self, from: Option<u64>, _: Option<&str>) -> Result<Option<Look>, PortError> {
        // One statement, so one snapshot.
        let sql = format!(
            "SELECT {NEXT_CHANGE}, (SELECT coalesce(min(id), {NEXT_CHANGE}) FROM revocation_log),
                (SELECT group_concat(id || ':' || hex(session_id)) FROM (
                    SELECT id, session_id FROM revocation_log WHERE id >= coalesce(?, {NEXT_CHANGE}) ORDER BY id LIMIT ?))"
        );
        let from = from.map(|from| i64::try_from(from).unwrap_or(i64::MAX));
        let values = [from.into(), (LOOK_LIMIT as i64 + 1).into()];
        let incarnation = self.database.incarnation();
        let page = |row: &QueryResult| {
            let (next, kept_from): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            let entries: String = row.try_get_by_index::<Option<String>>(2)?.unwrap_or_default();
            let entries = entries.split(',').filter(|entry| !entry.is_empty());
            let end = |entry: &str| {
                logged_end(entry).ok_or_else(|| DbErr::Type(format!("revocation_log: {entry} cannot be read")))
            };
            let ends = entries.map(end).collect::<Result<Vec<_>, _>>()?;
            let complete = ends.len() <= LOOK_LIMIT;
            let (next, kept_from) = (next.unsigned_abs(), kept_from.unsigned_abs());
            Ok(FeedPage { incarnation, ends, complete, next, kept_from })
        };
        let pages = self.database.query(&sql, values, page).await?;
        Ok(pages.into_iter().next().map(|page| Look { page, moment: String::new() }))
    }

    async fn mark(&self) -> Result<Mark, PortError> {
        Ok(Mark { change: 0, others: Vec::new() })
    }

    async fn behind(&self, _: u64) -> Result<Vec<OtherNode>, PortError> {
        Ok(Vec::new())
    }

    async fn remove(&self, _: &OtherNode) -> Result<(), PortError> {
        Ok(())
    }

    async fn leave(&self) -> Result<(), PortError> {
        Ok(())
    }

    async fn prune(&self, limit: u32) -> Result<u64, PortError> {
        let sql = "DELETE FROM revocation_log WHERE id IN (
            SELECT id FROM (SELECT id, recorded_at FROM revocation_log ORDER BY id LIMIT ?)
            WHERE recorded_at < unixepoch() - 3600)";
        self.database.execute(sql, [limit.into()]).await
    }
}

fn logged_end(entry: &str) -> Option<LoggedEnd> {
    let (change, id) = entry.split_once(':')?;
    let scope = Scope::Session(SessionId(Uuid::try_parse(id).ok()?));
    Some(LoggedEnd { change: change.parse().ok()?, scope })
}
