use std::sync::Arc;

use async_trait::async_trait;
use domain::ports::{EventOutbox, EventQuery, PortError};
use domain::{SessionEvent, SessionEventKind, SessionId, UserId};
use sea_orm::{DbErr, QueryResult};

use crate::postgres_database::PostgresDatabase;

const EVENTS: &str =
    "SELECT position, kind, at, session_id, user_id, reason, actor FROM sessiond_events_v1($1, $2, $3, $4)";

/// [`EventOutbox`] on PostgreSQL.
///
/// Triggers write events in the transaction of the change, without a position: transactions commit in another order than they
/// took numbers in. Whoever reads gives positions to what is committed by then, one reader at a time.
pub struct PostgresEventOutbox {
    database: Arc<PostgresDatabase>,
}

impl PostgresEventOutbox {
    /// The outbox of this database.
    pub fn new(database: Arc<PostgresDatabase>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl EventOutbox for PostgresEventOutbox {
    async fn events(&self, query: &EventQuery) -> Result<Vec<SessionEvent>, PortError> {
        let values = [
            i64::try_from(query.after).unwrap_or(i64::MAX).into(),
            i64::from(query.limit).into(),
            query.session_id.map(|id| id.0).into(),
            query.user_id.map(|id| id.0).into(),
        ];
        self.database.query(EVENTS, values, event).await
    }
}

fn event(row: &QueryResult) -> Result<SessionEvent, DbErr> {
    let (position, kind): (i64, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    let kind = SessionEventKind::from_word(&kind)
        .ok_or_else(|| DbErr::Type(format!("session_events.kind of position {position} cannot be read")))?;
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
