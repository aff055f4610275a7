//! The event outbox: assigns positions on reading, and reads.

use std::sync::Arc;

use async_trait::async_trait;
use domain::ports::{EventOutbox, EventQuery, PortError};
use domain::{SessionEvent, SessionEventKind, SessionId, UserId};
use sea_orm::{DbErr, QueryResult};

use crate::database::pool::PostgresDatabase;

/// Events that get their positions at a time.
const NUMBER_BATCH: i64 = 5000;
/// How often that is done for one reading, at most.
const NUMBER_ROUNDS: u32 = 40;

/// [`EventOutbox`] on PostgreSQL.
///
/// Triggers write events in the transaction of the change, without a position: transactions commit
/// in another order than they took numbers in. A reader assigns positions to what is committed
/// by then, one reader at a time.
pub struct PostgresEventOutbox {
    database: Arc<PostgresDatabase>,
}

impl PostgresEventOutbox {
    /// Creates the outbox of this database.
    pub fn new(database: Arc<PostgresDatabase>) -> Self {
        Self { database }
    }

    /// Assigns positions to events that have none, to all of them or to a batch. A page of the feed
    /// does not need all of a large backlog: the next page goes on. The events of one session or
    /// user, and the newest position, do.
    async fn number(&self, all: bool) -> Result<(), PortError> {
        const SQL: &str = "SELECT sessiond_assign_event_positions_v1($1)";
        let count = |row: &QueryResult| row.try_get_by_index::<i64>(0);
        for _ in 0..NUMBER_ROUNDS {
            let numbered = self.database.query(SQL, [NUMBER_BATCH.into()], count).await?;
            if !all || numbered.first().is_none_or(|numbered| *numbered < NUMBER_BATCH) {
                return Ok(());
            }
        }
        Err(PortError::unavailable(
            "many events have no position yet; reading again goes on giving them",
        ))
    }
}

#[async_trait]
impl EventOutbox for PostgresEventOutbox {
    async fn events(&self, query: &EventQuery) -> Result<Vec<SessionEvent>, PortError> {
        self.number(query.session_id.is_some() || query.user_id.is_some()).await?;
        let mut sql =
            "SELECT position, kind, at, session_id, user_id, reason, actor FROM session_events \
                WHERE position > $1"
                .to_owned();
        let mut values = vec![
            i64::try_from(query.after).unwrap_or(i64::MAX).into(),
            i64::from(query.limit).into(),
        ];
        for (column, id) in [
            ("session_id", query.session_id.map(|id| id.0)),
            ("user_id", query.user_id.map(|id| id.0)),
        ] {
            if let Some(id) = id {
                values.push(id.into());
                sql.push_str(&format!(" AND {column} = ${}", values.len()));
            }
        }
        sql.push_str(" ORDER BY position LIMIT $2");
        self.database.query(&sql, values, event).await
    }

    async fn newest_position(&self) -> Result<u64, PortError> {
        const SQL: &str = "SELECT coalesce(max(position), 0) FROM session_events";
        self.number(true).await?;
        let position = |row: &QueryResult| row.try_get_by_index::<i64>(0);
        let newest = self.database.query(SQL, [], position).await?;
        Ok(newest.first().copied().unwrap_or_default().unsigned_abs())
    }
}

fn event(row: &QueryResult) -> Result<SessionEvent, DbErr> {
    let (position, kind): (i64, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    let kind = SessionEventKind::from_word(&kind).ok_or_else(|| {
        DbErr::Type(format!("session_events.kind of position {position} cannot be read"))
    })?;
    Ok(SessionEvent {
        position: position.unsigned_abs(),
        kind,
        at: row.try_get_by_index(2)?,
        session_id: SessionId(row.try_get_by_index(3)?),
        user_id: UserId(row.try_get_by_index(4)?),
        reason: row.try_get_by_index(5)?,
        actor: row.try_get_by_index::<Option<String>>(6)?.and_then(|text| text.parse().ok()),
    })
}
