use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::ports::{HealthCheck, PortError, SessionRepository};
use domain::{Revocation, Session, SessionId, UserId};
use sea_orm::prelude::IpNetwork;
use sea_orm::{DatabaseConnection, DbErr, EntityTrait, IntoActiveModel, RuntimeErr, SqlErr, sqlx};
use uuid::Uuid;

use crate::connection::{OpenError, PoolHealth, connect_pool};
use crate::schema;

/// How long one call may take altogether, a second attempt included. Under the second that a request has.
const CALL_TIMEOUT: Duration = Duration::from_millis(900);

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

    async fn insert(&self, session: &Session) -> Result<(), PortError> {
        let row = row::Model::from(session).into_active_model();
        self.bounded(row::Entity::insert(row).exec_without_returning(&self.pool)).await.map(drop)
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
            revocation: row.revoked_at.map(|at| Revocation { at, reason: row.revoked_reason }),
        }
    }
}

impl From<&Session> for row::Model {
    fn from(session: &Session) -> Self {
        let network = |address: Option<IpAddr>| address.map(IpNetwork::from);
        Self {
            id: session.id.0,
            user_id: session.user_id.0,
            device_info: session.device_info.clone(),
            user_agent: session.user_agent.clone(),
            ip_address: network(session.ip_address),
            last_ip_address: network(session.last_ip_address),
            location: session.location.clone(),
            name: session.name.clone(),
            created_at: session.created_at,
            last_activity_at: session.last_activity_at,
            expires_at: session.expires_at,
            revoked_at: session.revocation.as_ref().map(|revocation| revocation.at),
            revoked_reason: session.revocation.as_ref().and_then(|revocation| revocation.reason.clone()),
        }
    }
}
