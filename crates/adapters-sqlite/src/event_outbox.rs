//! The event outbox.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use domain::ports::{EventOutbox, EventQuery, PortError};
use domain::{SessionEvent, SessionEventKind, SessionId, UserId};
use sea_orm::{DbErr, QueryResult};

use crate::database::pool::SqliteDatabase;

/// [`EventOutbox`] on one SQLite file. Triggers write events; as there is one writer, they commit
/// in the order of their ids.
pub struct SqliteEventOutbox {
    database: Arc<SqliteDatabase>,
}

impl SqliteEventOutbox {
    /// Creates the outbox of this file.
    pub fn new(database: Arc<SqliteDatabase>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl EventOutbox for SqliteEventOutbox {
    async fn events(&self, query: &EventQuery) -> Result<Vec<SessionEvent>, PortError> {
        let mut sql =
            "SELECT id, kind, at, session_id, user_id, reason, actor FROM session_events WHERE id \
                > ?"
            .to_owned();
        let mut values = vec![i64::try_from(query.after).unwrap_or(i64::MAX).into()];
        if let Some(id) = query.session_id {
            sql.push_str(" AND session_id = ?");
            values.push(id.0.into());
        }
        if let Some(id) = query.user_id {
            sql.push_str(" AND user_id = ?");
            values.push(id.0.into());
        }
        sql.push_str(" ORDER BY id LIMIT ?");
        values.push(query.limit.into());
        self.database.query(&sql, values, event).await
    }

    async fn newest_position(&self) -> Result<u64, PortError> {
        const SQL: &str = "SELECT coalesce(max(id), 0) FROM session_events";
        let position = |row: &QueryResult| row.try_get_by_index::<i64>(0);
        let newest = self.database.query(SQL, [], position).await?;
        Ok(newest.first().copied().unwrap_or_default().unsigned_abs())
    }
}

fn event(row: &QueryResult) -> Result<SessionEvent, DbErr> {
    let (id, kind, at): (i64, String, i64) =
        (row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?);
    let corrupt =
        |column| DbErr::Type(format!("session_events.{column} of row {id} cannot be read"));
    Ok(SessionEvent {
        position: id.unsigned_abs(),
        kind: SessionEventKind::from_word(&kind).ok_or_else(|| corrupt("kind"))?,
        at: DateTime::from_timestamp_micros(at).ok_or_else(|| corrupt("at"))?,
        session_id: SessionId(row.try_get_by_index(3)?),
        user_id: UserId(row.try_get_by_index(4)?),
        reason: row.try_get_by_index(5)?,
        actor: row.try_get_by_index::<Option<String>>(6)?.and_then(|text| text.parse().ok()),
    })
}
