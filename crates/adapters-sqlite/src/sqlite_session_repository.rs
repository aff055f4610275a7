use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::ports::{EndedSession, HealthCheck, Insertion, PortError, SessionListing, SessionPage, SessionRepository};
use domain::{OnLimit, Revocation, Session, SessionId, SessionLimit, UserId};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QueryResult, QuerySelect, RuntimeErr, SqlErr, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait, Value, sqlx,
};

use crate::database_file::{DatabaseFile, OpenError};
use crate::schema;

/// How long one call may take altogether. Under the second that a request has.
const CALL_TIMEOUT: Duration = Duration::from_millis(900);

const COUNT: &str = "SELECT count(*), count(*) FILTER (WHERE revoked_at IS NULL AND expires_at > ?)
    FROM sessions WHERE user_id = ?";

const LIVE_OLDEST_FIRST: &str = "SELECT id, user_id FROM sessions
    WHERE user_id = ? AND revoked_at IS NULL AND expires_at > ? ORDER BY created_at, id";

const REVOKE: &str = "UPDATE sessions SET revoked_at = ?, revoked_reason = ?, revoked_by = ? WHERE revoked_at IS NULL";

/// [`SessionRepository`] on one SQLite file.
pub struct SqliteSessionRepository {
    writer: DatabaseConnection,
    readers: DatabaseConnection,
    _file: DatabaseFile,
}

impl SqliteSessionRepository {
    /// Brings the schema up to date and opens the file with `readers` reading connections.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(file: DatabaseFile, readers: u32) -> Result<Self, OpenError> {
        schema::migrate(&file).await?;
        Ok(Self { writer: file.writer().await?, readers: file.readers(readers).await?, _file: file })
    }

    /// Closes every connection, which also folds the write-ahead log into the file.
    pub async fn close(&self) {
        let _ = self.readers.close_by_ref().await;
        let _ = self.writer.close_by_ref().await;
    }

    /// Runs a statement that ends sessions: [`REVOKE`], and which ones.
    async fn end(
        &self,
        sql: String,
        revocation: &Revocation,
        which: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<EndedSession>, PortError> {
        let values = revocation_values(revocation).into_iter().chain(which);
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        bounded(async {
            let rows = self.writer.query_all_raw(statement).await?;
            rows.iter().map(ended).collect()
        })
        .await
    }
}

#[async_trait]
impl SessionRepository for SqliteSessionRepository {
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<Session>, PortError> {
        let row = bounded(row::Entity::find_by_id(session_id.0).one(&self.readers)).await?;
        row.map(Session::try_from).transpose()
    }

    async fn insert(&self, session: &Session, limit: Option<SessionLimit>) -> Result<Insertion, PortError> {
        let (writer, session) = (self.writer.clone(), session.clone());
        // In a task of its own: a caller who goes away must not leave the one writing connection inside a transaction.
        let inserted = tokio::spawn(async move { insert_within(&writer, &session, limit).await });
        match tokio::time::timeout(CALL_TIMEOUT, inserted).await {
            Ok(Ok(result)) => result.map_err(port_error),
            Ok(Err(error)) => Err(PortError::unavailable(error)),
            Err(elapsed) => Err(PortError::unavailable(elapsed)),
        }
    }

    async fn list_by_user(&self, listing: &SessionListing) -> Result<SessionPage, PortError> {
        let (user_id, now) = (listing.user_id.0, listing.now.timestamp_micros());
        let mut page = row::Entity::find().filter(row::Column::UserId.eq(user_id));
        if listing.active_only {
            page = page.filter(row::Column::RevokedAt.is_null()).filter(row::Column::ExpiresAt.gt(now));
        }
        if let Some(position) = listing.after {
            let columns = Expr::tuple([Expr::col(row::Column::CreatedAt), Expr::col(row::Column::Id)]);
            let last = [position.created_at.timestamp_micros().into(), position.id.0.into()];
            page = page.filter(columns.lt(Expr::tuple(last)));
        }
        let newest_first = page.order_by_desc(row::Column::CreatedAt).order_by_desc(row::Column::Id);
        let limited = newest_first.limit(u64::from(listing.limit));
        let count = Statement::from_sql_and_values(DbBackend::Sqlite, COUNT, [now.into(), user_id.into()]);
        let (rows, counts) = bounded(async {
            let rows = limited.all(&self.readers).await?;
            Ok((rows, counts(self.readers.query_one_raw(count).await?)?))
        })
        .await?;
        let sessions = rows.into_iter().map(Session::try_from).collect::<Result<_, _>>()?;
        Ok(SessionPage { sessions, total_count: counts.0, active_count: counts.1 })
    }

    async fn revoke(&self, session_ids: &[SessionId], revocation: &Revocation) -> Result<Vec<EndedSession>, PortError> {
        let mut all_ended = Vec::new();
        // SQLite has no arrays, and bounds the parameters of a statement.
        for ids in session_ids.chunks(500) {
            let sql = format!("{REVOKE} AND id IN ({}) RETURNING id, user_id", vec!["?"; ids.len()].join(", "));
            all_ended.extend(self.end(sql, revocation, ids.iter().map(|id| id.0.into())).await?);
        }
        Ok(all_ended)
    }

    async fn revoke_all_of_user(
        &self,
        user_id: UserId,
        except: Option<SessionId>,
        revocation: &Revocation,
    ) -> Result<Vec<EndedSession>, PortError> {
        let sql = format!("{REVOKE} AND user_id = ? AND id IS NOT ? RETURNING id, user_id");
        self.end(sql, revocation, [user_id.0.into(), except.map(|id| id.0).into()]).await
    }
}

#[async_trait]
impl HealthCheck for SqliteSessionRepository {
    async fn check(&self) -> Result<(), PortError> {
        bounded(self.readers.ping()).await
    }
}

/// One transaction, which is the only writer from its beginning.
async fn insert_within(
    writer: &DatabaseConnection,
    session: &Session,
    limit: Option<SessionLimit>,
) -> Result<Insertion, DbErr> {
    let immediate =
        TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
    let transaction = writer.begin_with_options(immediate).await?;
    let mut evicted = Vec::new();
    if let Some(limit) = limit {
        let (user_id, now) = (session.user_id.0, session.created_at.timestamp_micros());
        let live = Statement::from_sql_and_values(DbBackend::Sqlite, LIVE_OLDEST_FIRST, [user_id.into(), now.into()]);
        let live = transaction.query_all_raw(live).await?.iter().map(ended).collect::<Result<Vec<_>, _>>()?;
        let too_many = (live.len() + 1).saturating_sub(limit.max.get() as usize);
        if too_many > 0 && limit.on_limit == OnLimit::Deny {
            transaction.rollback().await?;
            return Ok(Insertion::LimitReached);
        }
        evicted.extend_from_slice(&live[..too_many.min(live.len())]);
        let eviction = SessionLimit::eviction(session.created_at);
        for oldest in &evicted {
            let values = revocation_values(&eviction).into_iter().chain([oldest.id.0.into()]);
            let sql = format!("{REVOKE} AND id = ?");
            transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)).await?;
        }
    }
    let row = row::Model::from(session).into_active_model();
    row::Entity::insert(row).exec_without_returning(&transaction).await?;
    transaction.commit().await?;
    Ok(Insertion::Stored { evicted })
}

/// The parameters of [`REVOKE`].
fn revocation_values(revocation: &Revocation) -> [Value; 3] {
    [revocation.at.timestamp_micros().into(), revocation.reason.clone().into(), actor_text(revocation).into()]
}

async fn bounded<T>(statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, PortError> {
    match tokio::time::timeout(CALL_TIMEOUT, statement).await {
        Ok(result) => result.map_err(port_error),
        Err(elapsed) => Err(PortError::unavailable(elapsed)),
    }
}

fn port_error(error: DbErr) -> PortError {
    if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
        return PortError::conflict(error);
    }
    match &error {
        DbErr::Type(_) | DbErr::Json(_) => PortError::corrupt(error),
        DbErr::Query(RuntimeErr::SqlxError(source))
            if matches!(**source, sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_)) =>
        {
            PortError::corrupt(error)
        }
        _ => PortError::unavailable(error),
    }
}

/// The counts of [`COUNT`].
fn counts(row: Option<QueryResult>) -> Result<(u64, u64), DbErr> {
    let row = row.ok_or_else(|| DbErr::RecordNotFound("count(*)".to_owned()))?;
    let (total, active): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    Ok((total.unsigned_abs(), active.unsigned_abs()))
}

/// A row of `RETURNING id, user_id`.
fn ended(row: &QueryResult) -> Result<EndedSession, DbErr> {
    Ok(EndedSession { id: SessionId(row.try_get_by_index(0)?), user_id: UserId(row.try_get_by_index(1)?) })
}

fn actor_text(revocation: &Revocation) -> Option<String> {
    revocation.actor.map(|actor| actor.to_string())
}

/// A row of `sessions`, private to this file.
mod row {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait, Uuid,
    };

    #[derive(Clone, Debug, DeriveEntityModel)]
    #[sea_orm(table_name = "sessions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: Uuid,
        pub(super) user_id: Uuid,
        pub(super) device_info: Option<String>,
        pub(super) user_agent: Option<String>,
        pub(super) ip_address: Option<String>,
        pub(super) last_ip_address: Option<String>,
        pub(super) location: Option<String>,
        pub(super) name: Option<String>,
        pub(super) created_at: i64,
        pub(super) last_activity_at: i64,
        pub(super) expires_at: i64,
        pub(super) revoked_at: Option<i64>,
        pub(super) revoked_reason: Option<String>,
        pub(super) revoked_by: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl TryFrom<row::Model> for Session {
    type Error = PortError;

    fn try_from(row: row::Model) -> Result<Self, PortError> {
        let id = row.id;
        let corrupt = |column| PortError::corrupt(format!("sessions.{column} of row {id} cannot be read"));
        let time = |column, micros| DateTime::<Utc>::from_timestamp_micros(micros).ok_or_else(|| corrupt(column));
        let address = |column, text: Option<String>| {
            text.map(|text| text.parse::<IpAddr>()).transpose().map_err(|_| corrupt(column))
        };
        let revoked_at = row.revoked_at.map(|micros| time("revoked_at", micros)).transpose()?;
        Ok(Self {
            id: SessionId(id),
            user_id: UserId(row.user_id),
            device_info: row.device_info,
            user_agent: row.user_agent,
            ip_address: address("ip_address", row.ip_address)?,
            last_ip_address: address("last_ip_address", row.last_ip_address)?,
            location: row.location,
            name: row.name,
            created_at: time("created_at", row.created_at)?,
            last_activity_at: time("last_activity_at", row.last_activity_at)?,
            expires_at: time("expires_at", row.expires_at)?,
            // The table refuses a reason without a time.
            revocation: revoked_at.map(|at| Revocation {
                at,
                reason: row.revoked_reason,
                actor: row.revoked_by.and_then(|text| text.parse().ok()),
            }),
        })
    }
}

impl From<&Session> for row::Model {
    fn from(session: &Session) -> Self {
        Self {
            id: session.id.0,
            user_id: session.user_id.0,
            device_info: session.device_info.clone(),
            user_agent: session.user_agent.clone(),
            ip_address: session.ip_address.map(|address| address.to_string()),
            last_ip_address: session.last_ip_address.map(|address| address.to_string()),
            location: session.location.clone(),
            name: session.name.clone(),
            created_at: session.created_at.timestamp_micros(),
            last_activity_at: session.last_activity_at.timestamp_micros(),
            expires_at: session.expires_at.timestamp_micros(),
            revoked_at: session.revocation.as_ref().map(|revocation| revocation.at.timestamp_micros()),
            revoked_reason: session.revocation.as_ref().and_then(|revocation| revocation.reason.clone()),
            revoked_by: session.revocation.as_ref().and_then(actor_text),
        }
    }
}
