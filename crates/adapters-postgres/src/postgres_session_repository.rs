use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::ports::{EndedSession, HealthCheck, Insertion, PortError, SessionListing, SessionPage, SessionRepository};
use domain::{OnLimit, Revocation, Session, SessionId, SessionLimit, UserId};
use sea_orm::prelude::IpNetwork;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QueryResult, QuerySelect, RuntimeErr, SqlErr, Statement, Value, sqlx,
};
use uuid::Uuid;

use crate::connection::{OpenError, PoolHealth, connect_pool};
use crate::schema;

/// How long one call may take altogether, a second attempt included. Under the second that a request has.
const CALL_TIMEOUT: Duration = Duration::from_millis(900);

/// One row, unless there is no room and the limit denies; it answers whom the room was taken from.
const INSERT: &str = "WITH room AS MATERIALIZED (SELECT sessiond_make_room_v1($2, $9, $15, $16, $17, $18) AS evicted)
    INSERT INTO sessions (id, user_id, device_info, user_agent, ip_address, last_ip_address, location, name,
        created_at, last_activity_at, expires_at, revoked_at, revoked_reason, revoked_by)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14 FROM room WHERE evicted IS NOT NULL
    RETURNING (SELECT evicted FROM room)";

const COUNT: &str = "SELECT count(*), count(*) FILTER (WHERE revoked_at IS NULL AND expires_at > $2)
    FROM sessions WHERE user_id = $1";

const REVOKE: &str = "UPDATE sessions SET revoked_at = $1, revoked_reason = $2, revoked_by = $3
    WHERE id = ANY($4) AND revoked_at IS NULL RETURNING id, user_id";

const REVOKE_ALL_OF_USER: &str = "UPDATE sessions SET revoked_at = $1, revoked_reason = $2, revoked_by = $3
    WHERE user_id = $4 AND id IS DISTINCT FROM $5 AND revoked_at IS NULL RETURNING id, user_id";

/// [`SessionRepository`] on PostgreSQL.
pub struct PostgresSessionRepository {
    pool: DatabaseConnection,
    health: Arc<PoolHealth>,
}

impl PostgresSessionRepository {
    /// Connects, and brings the schema up to date first.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(url: &str, pool_size: u32) -> Result<Self, OpenError> {
        schema::migrate(url).await?;
        let health = Arc::new(PoolHealth::default());
        Ok(Self { pool: connect_pool(url, pool_size, health.clone()).await?, health })
    }

    /// Closes every connection of the pool.
    pub async fn close(&self) {
        let _ = self.pool.close_by_ref().await;
    }

    /// Runs one statement within [`CALL_TIMEOUT`]. Cancelling a single statement outside a transaction leaves nothing half
    /// done; sqlx brings the connection back in step before its next use.
    async fn bounded<T>(&self, statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, PortError> {
        let result = tokio::time::timeout(CALL_TIMEOUT, statement).await;
        self.health.set_silent(result.is_err());
        match result {
            Ok(result) => result.map_err(port_error),
            Err(elapsed) => Err(PortError::unavailable(elapsed)),
        }
    }

    /// Runs a statement that ends sessions: the revocation is `$1` to `$3`, what to end from `$4` on.
    async fn end(&self, sql: &str, revocation: &Revocation, which: Vec<Value>) -> Result<Vec<EndedSession>, PortError> {
        let mut values = vec![revocation.at.into(), revocation.reason.clone().into(), actor_text(revocation).into()];
        values.extend(which);
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        self.bounded(async {
            let rows = self.pool.query_all_raw(statement).await?;
            rows.iter().map(ended).collect()
        })
        .await
    }

    /// A read, tried once more if its connection broke under it: after a restart of the server, pooled connections are dead.
    async fn find(&self, id: Uuid) -> Result<Option<row::Model>, DbErr> {
        let find = || row::Entity::find_by_id(id).one(&self.pool);
        match find().await {
            Err(error) if connection_broke(&error) => {
                self.health.connection_broke();
                find().await
            }
            result => result,
        }
    }
}

#[async_trait]
impl SessionRepository for PostgresSessionRepository {
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<Session>, PortError> {
        self.bounded(self.find(session_id.0)).await.map(|row| row.map(Session::from))
    }

    async fn insert(&self, session: &Session, limit: Option<SessionLimit>) -> Result<Insertion, PortError> {
        let network = |address: Option<IpAddr>| address.map(IpNetwork::from);
        let (revocation, eviction) = (session.revocation.as_ref(), SessionLimit::eviction(session.created_at));
        let values = [
            session.id.0.into(),
            session.user_id.0.into(),
            session.device_info.clone().into(),
            session.user_agent.clone().into(),
            network(session.ip_address).into(),
            network(session.last_ip_address).into(),
            session.location.clone().into(),
            session.name.clone().into(),
            session.created_at.into(),
            session.last_activity_at.into(),
            session.expires_at.into(),
            revocation.map(|revocation| revocation.at).into(),
            revocation.and_then(|revocation| revocation.reason.clone()).into(),
            revocation.and_then(actor_text).into(),
            // Nobody has two thousand million sessions.
            limit.map(|limit| i32::try_from(limit.max.get()).unwrap_or(i32::MAX)).into(),
            limit.is_some_and(|limit| limit.on_limit == OnLimit::Deny).into(),
            eviction.reason.clone().into(),
            actor_text(&eviction).into(),
        ];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, INSERT, values);
        let evicted = self.bounded(async {
            let row = self.pool.query_one_raw(statement).await?;
            row.map(|row| row.try_get_by_index::<Vec<Uuid>>(0)).transpose()
        });
        let ended = |id| EndedSession { id: SessionId(id), user_id: session.user_id };
        Ok(match evicted.await? {
            Some(ids) => Insertion::Stored { evicted: ids.into_iter().map(ended).collect() },
            None => Insertion::LimitReached,
        })
    }

    async fn list_by_user(&self, listing: &SessionListing) -> Result<SessionPage, PortError> {
        let user_id = listing.user_id.0;
        let mut page = row::Entity::find().filter(row::Column::UserId.eq(user_id));
        if listing.active_only {
            page = page.filter(row::Column::RevokedAt.is_null()).filter(row::Column::ExpiresAt.gt(listing.now));
        }
        if let Some(position) = listing.after {
            let columns = Expr::tuple([Expr::col(row::Column::CreatedAt), Expr::col(row::Column::Id)]);
            page = page.filter(columns.lt(Expr::tuple([position.created_at.into(), position.id.0.into()])));
        }
        let newest_first = page.order_by_desc(row::Column::CreatedAt).order_by_desc(row::Column::Id);
        let limited = newest_first.limit(u64::from(listing.limit));
        let count = Statement::from_sql_and_values(DbBackend::Postgres, COUNT, [user_id.into(), listing.now.into()]);
        self.bounded(async {
            let rows = limited.all(&self.pool).await?;
            let (total_count, active_count) = counts(self.pool.query_one_raw(count).await?)?;
            Ok(SessionPage { sessions: rows.into_iter().map(Session::from).collect(), total_count, active_count })
        })
        .await
    }

    async fn revoke(&self, session_ids: &[SessionId], revocation: &Revocation) -> Result<Vec<EndedSession>, PortError> {
        let ids: Vec<Uuid> = session_ids.iter().map(|id| id.0).collect();
        self.end(REVOKE, revocation, vec![ids.into()]).await
    }

    async fn revoke_all_of_user(
        &self,
        user_id: UserId,
        except: Option<SessionId>,
        revocation: &Revocation,
    ) -> Result<Vec<EndedSession>, PortError> {
        self.end(REVOKE_ALL_OF_USER, revocation, vec![user_id.0.into(), except.map(|id| id.0).into()]).await
    }
}

#[async_trait]
impl HealthCheck for PostgresSessionRepository {
    async fn check(&self) -> Result<(), PortError> {
        self.bounded(self.pool.ping()).await
    }
}

fn connection_broke(error: &DbErr) -> bool {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    match &**error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        // Class 57P: the server ended the connection (admin_shutdown, crash_shutdown, cannot_connect_now, ...).
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
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
    use chrono::{DateTime, Utc};
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter, IpNetwork,
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
        pub(super) ip_address: Option<IpNetwork>,
        pub(super) last_ip_address: Option<IpNetwork>,
        pub(super) location: Option<String>,
        pub(super) name: Option<String>,
        pub(super) created_at: DateTime<Utc>,
        pub(super) last_activity_at: DateTime<Utc>,
        pub(super) expires_at: DateTime<Utc>,
        pub(super) revoked_at: Option<DateTime<Utc>>,
        pub(super) revoked_reason: Option<String>,
        pub(super) revoked_by: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<row::Model> for Session {
    fn from(row: row::Model) -> Self {
        Self {
            id: SessionId(row.id),
            user_id: UserId(row.user_id),
            device_info: row.device_info,
            user_agent: row.user_agent,
            ip_address: row.ip_address.map(|network| network.ip()),
            last_ip_address: row.last_ip_address.map(|network| network.ip()),
            location: row.location,
            name: row.name,
            created_at: row.created_at,
            last_activity_at: row.last_activity_at,
            expires_at: row.expires_at,
            // The table refuses a reason without a time.
            revocation: row.revoked_at.map(|at| Revocation {
                at,
                reason: row.revoked_reason,
                actor: row.revoked_by.and_then(|text| text.parse().ok()),
            }),
        }
    }
}
