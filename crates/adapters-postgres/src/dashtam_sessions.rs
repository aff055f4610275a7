//! Reads the sessions of the Python original, to be imported.

use async_trait::async_trait;
use chrono::TimeDelta;
use domain::ports::{PortError, SessionSource, SourceSession};
use domain::{Revocation, Session, SessionId, UserId};
use sea_orm::prelude::{IpNetwork, Json};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, QueryResult, Value};
use uuid::Uuid;

use crate::database::connection::{OpenError, connect_for_reading};
use crate::database::error::port_error;
use crate::database::pool::statement;

/// The `sessions` table of the Python original, as a [`SessionSource`]. Nothing is written to it.
pub struct DashtamSessions {
    connection: DatabaseConnection,
    lifetime: TimeDelta,
}

impl DashtamSessions {
    /// Connects. Sessions that never expire there get this lifetime.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(url: &str, lifetime: TimeDelta) -> Result<Self, OpenError> {
        Ok(Self { connection: connect_for_reading(url).await?, lifetime })
    }

    /// Closes the connection.
    pub async fn close(&self) {
        let _ = self.connection.close_by_ref().await;
    }

    async fn rows<T>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
        row: impl Fn(&QueryResult) -> Result<T, DbErr>,
    ) -> Result<Vec<T>, PortError> {
        let rows =
            self.connection.query_all_raw(statement(sql, values)).await.map_err(port_error)?;
        rows.iter().map(row).collect::<Result<_, _>>().map_err(port_error)
    }
}

#[async_trait]
impl SessionSource for DashtamSessions {
    async fn count(&self) -> Result<u64, PortError> {
        let counts = self
            .rows("SELECT count(*) FROM sessions", [], |row| row.try_get_by_index::<i64>(0))
            .await?;
        Ok(counts.first().map_or(0, |count| count.unsigned_abs()))
    }

    async fn batch(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SourceSession>, PortError> {
        // One row as it is to be here. What has no column here goes into the metadata.
        const SQL: &str = "SELECT
                id, user_id, device_info, user_agent, ip_address, last_ip_address, location,
                created_at, coalesce(last_activity_at, created_at),
                coalesce(expires_at, created_at + $3 * interval '1 microsecond'),
                expires_at IS NULL,
                CASE WHEN is_revoked THEN coalesce(revoked_at, updated_at) END,
                CASE WHEN is_revoked THEN revoked_reason END,
                jsonb_strip_nulls(jsonb_build_object(
                    'is_trusted', is_trusted, 'refresh_token_id', refresh_token_id,
                    'suspicious_activity_count', suspicious_activity_count,
                    'last_provider_accessed', last_provider_accessed,
                    'last_provider_sync_at', last_provider_sync_at,
                    'providers_accessed', providers_accessed))
            FROM sessions WHERE id > $1 ORDER BY id LIMIT $2";
        let lifetime = self.lifetime.num_microseconds().unwrap_or(i64::MAX);
        let after = after.map_or(Uuid::nil(), |id| id.0);
        self.rows(SQL, [after.into(), i64::from(limit).into(), lifetime.into()], source_session)
            .await
    }
}

fn source_session(row: &QueryResult) -> Result<SourceSession, DbErr> {
    let address = |index| {
        Ok::<_, DbErr>(
            row.try_get_by_index::<Option<IpNetwork>>(index)?.map(|network| network.ip()),
        )
    };
    let revoked_at = row.try_get_by_index::<Option<_>>(11)?;
    let reason = row.try_get_by_index(12)?;
    let session = Session {
        id: SessionId(row.try_get_by_index(0)?),
        user_id: UserId(row.try_get_by_index(1)?),
        device_info: row.try_get_by_index::<Option<String>>(2)?.map(Into::into),
        device: None,
        user_agent: row.try_get_by_index::<Option<String>>(3)?.map(Into::into),
        ip_address: address(4)?,
        last_ip_address: address(5)?,
        location: row.try_get_by_index::<Option<String>>(6)?.map(Into::into),
        name: None,
        created_at: row.try_get_by_index(7)?,
        last_activity_at: row.try_get_by_index(8)?,
        expires_at: row.try_get_by_index(9)?,
        idle_timeout: None,
        renewal: None,
        metadata: if let Json::Object(object) = row.try_get_by_index(13)? {
            Some(object.into())
        } else {
            None
        },
        idempotency_key: None,
        tokens: None,
        revocation: revoked_at.map(|at| Revocation { at, reason, actor: None }.into()),
    };
    Ok(SourceSession { session, never_expired: row.try_get_by_index(10)? })
}
