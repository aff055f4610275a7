//! The revocation log of one SQLite file.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::coherence::{Incarnation, LogPage, RevocationEntry, Scope, Snapshot};
use domain::ports::{LogPosition, Peer, Peers, Poll, PortError, RevocationFeed};
use domain::{SessionId, UserId};
use sea_orm::{DbErr, QueryResult};
use uuid::Uuid;

use crate::database::pool::{NEXT_SEQUENCE, SqliteDatabase};

/// Entries of one page, at most.
const PAGE_LIMIT: usize = 20_000;

/// [`RevocationFeed`] on one SQLite file. One process has it, so there are no peers. Each time that
/// the file is opened a life begins, so a first poll has nothing to bring.
pub struct SqliteRevocationFeed {
    database: Arc<SqliteDatabase>,
}

impl SqliteRevocationFeed {
    /// Creates the feed of this file.
    pub fn new(database: Arc<SqliteDatabase>) -> Self {
        Self { database }
    }
}

/// Where a node is in the log: the number of the next entry, and inside a row of pages the snapshot
/// of the first.
struct Position {
    next: u64,
    row: Option<u64>,
}

impl Position {
    fn parse(position: &LogPosition) -> Option<Self> {
        match position.0.split_once(' ') {
            None => Some(Self { next: position.0.parse().ok()?, row: None }),
            Some((next, row)) => {
                Some(Self { next: next.parse().ok()?, row: Some(row.parse().ok()?) })
            }
        }
    }
}

#[async_trait]
impl RevocationFeed for SqliteRevocationFeed {
    fn is_exclusive(&self) -> bool {
        true
    }

    async fn register(&self, _: Duration) -> Result<(), PortError> {
        Ok(())
    }

    async fn poll(
        &self,
        position: Option<&LogPosition>,
        _: bool,
    ) -> Result<Option<Poll>, PortError> {
        let position = position.and_then(Position::parse);
        // One statement, so one snapshot.
        let sql = format!(
            "SELECT {NEXT_SEQUENCE}, (SELECT coalesce(min(id), {NEXT_SEQUENCE}) FROM
                revocation_log),
                (SELECT group_concat(id || ':' || coalesce(hex(session_id), '') || ':' ||
                coalesce(hex(user_id), '')) FROM (
                    SELECT id, session_id, user_id FROM revocation_log WHERE id >= coalesce(?,
                    {NEXT_SEQUENCE})
                    ORDER BY id LIMIT ?))"
        );
        let since =
            position.as_ref().map(|position| i64::try_from(position.next).unwrap_or(i64::MAX));
        let values = [since.into(), (PAGE_LIMIT as i64 + 1).into()];
        let incarnation = self.database.incarnation();
        let poll = |row: &QueryResult| {
            let (next, kept_from): (i64, i64) =
                (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            let next = next.unsigned_abs();
            let kept_from = kept_from.unsigned_abs();
            let entries: String = row.try_get_by_index::<Option<String>>(2)?.unwrap_or_default();
            let entries = entries.split(',').filter(|entry| !entry.is_empty());
            let read = |text: &str| {
                entry(text)
                    .ok_or_else(|| DbErr::Type(format!("revocation_log: {text} cannot be read")))
            };
            let mut entries = entries.map(read).collect::<Result<Vec<_>, _>>()?;
            let is_last = entries.len() <= PAGE_LIMIT;
            entries.truncate(PAGE_LIMIT);
            // Entries were deleted from the log, or it is a first poll: everything until now is
            // missing.
            let position = position.as_ref().filter(|position| position.next >= kept_from);
            let starts_over = position.is_none().then(|| Snapshot::below(next));
            let row_snapshot = position.and_then(|position| position.row).unwrap_or(next);
            let position = match entries.last().filter(|_| !is_last) {
                Some(last) => format!("{} {row_snapshot}", last.sequence + 1),
                None => row_snapshot.to_string(),
            };
            let page = LogPage {
                incarnation,
                entries,
                snapshot: Snapshot::below(row_snapshot),
                is_last,
                starts_over,
            };
            Ok(Poll { page, position: LogPosition(position) })
        };
        Ok(self.database.query(&sql, values, poll).await?.pop())
    }

    async fn peers(&self, _: Duration) -> Result<Peers, PortError> {
        Ok(Peers { incarnation: Some(self.database.incarnation()), peers: Vec::new() })
    }

    async fn remove_peer(&self, _: &Peer) -> Result<(), PortError> {
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

    async fn end_incarnation(&self, _: Incarnation) -> Result<(), PortError> {
        Err(PortError::unavailable("an incarnation of a SQLite file ends with its process"))
    }
}

/// Reads `number:session:user`; each id may be absent.
fn entry(text: &str) -> Option<RevocationEntry> {
    let mut parts = text.split(':');
    let sequence = parts.next()?;
    let session = parts.next()?;
    let user = parts.next()?;
    let id = |text: &str| if text.is_empty() { Ok(None) } else { Uuid::try_parse(text).map(Some) };
    let scope = match (id(session).ok()?, id(user).ok()?) {
        (Some(id), _) => Scope::Session(SessionId(id)),
        (None, Some(id)) => Scope::User(UserId(id)),
        (None, None) => Scope::AllUsers,
    };
    Some(RevocationEntry { sequence: sequence.parse().ok()?, scope })
}
