use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::ports::{HealthCheck, PortError};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement, Value};
use tokio::time::error::Elapsed;

use crate::connection::{Durability, OpenError, PoolHealth, connect_pool};
use crate::error::{connection_broke, outcome_unknown, port_error};
use crate::schema;

/// How long one call may take altogether, a second attempt included. Under the second that a request has.
const CALL_TIMEOUT: Duration = Duration::from_millis(900);

/// The pool of connections that the adapters of one PostgreSQL database share.
pub struct PostgresDatabase {
    pool: DatabaseConnection,
    health: Arc<PoolHealth>,
}

impl PostgresDatabase {
    /// Connects, and brings the schema up to date first.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(url: &str, pool_size: u32) -> Result<Self, OpenError> {
        schema::migrate(url).await?;
        let health = Arc::new(PoolHealth::default());
        let pool = connect_pool(url, pool_size, health.clone(), Durability::Disk).await?;
        Ok(Self { pool, health })
    }

    /// More connections to the same database, for what must not wait for requests. Their commits survive the client, and need not
    /// survive the server.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) async fn open_beside(url: &str, pool_size: u32) -> Result<Self, OpenError> {
        let health = Arc::new(PoolHealth::default());
        let pool = connect_pool(url, pool_size, health.clone(), Durability::Memory).await?;
        Ok(Self { pool, health })
    }

    /// The key that signs what shared caches keep, the same for all nodes of this database: made by a migration, at random.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the database did not answer; [`PortError::Corrupt`] if the key is gone.
    pub async fn cache_key(&self) -> Result<[u8; 32], PortError> {
        let value = |row: &QueryResult| row.try_get_by_index::<Vec<u8>>(0);
        let values = self.query("SELECT value FROM sessiond_secret WHERE name = 'cache'", [], value).await?;
        let value = values.into_iter().next().and_then(|value| value.try_into().ok());
        value.ok_or_else(|| PortError::corrupt("sessiond_secret: there is no key of 32 bytes by the name cache"))
    }

    /// Closes every connection of the pool.
    pub async fn close(&self) {
        let _ = self.pool.close_by_ref().await;
    }

    pub(crate) fn pool(&self) -> &DatabaseConnection {
        &self.pool
    }

    /// Runs one statement within [`CALL_TIMEOUT`]. Cancelling a single statement outside a transaction leaves nothing half
    /// done; sqlx brings the connection back in step before its next use.
    pub(crate) async fn bounded<T>(&self, statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, PortError> {
        match self.in_time(statement).await {
            Ok(result) => result.map_err(port_error),
            Err(elapsed) => Err(PortError::unavailable(elapsed)),
        }
    }

    /// The same for a statement that changes something: without an answer, nobody knows whether it did.
    async fn bounded_write<T>(&self, statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, PortError> {
        match self.in_time(statement).await {
            Ok(Err(error)) if outcome_unknown(&error) => Err(PortError::outcome_unknown(error)),
            Ok(result) => result.map_err(port_error),
            Err(elapsed) => Err(PortError::outcome_unknown(elapsed)),
        }
    }

    async fn in_time<T>(&self, statement: impl Future<Output = T>) -> Result<T, Elapsed> {
        let result = tokio::time::timeout(CALL_TIMEOUT, statement).await;
        self.health.set_silent(result.is_err());
        result
    }

    /// A read, tried once more if its connection broke under it: after a restart of the server, pooled connections are dead.
    pub(crate) async fn read<T, F: Future<Output = Result<T, DbErr>>>(
        &self,
        read: impl Fn() -> F,
    ) -> Result<T, PortError> {
        let twice = async {
            match read().await {
                Err(error) if connection_broke(&error) => {
                    self.health.connection_broke();
                    read().await
                }
                result => result,
            }
        };
        self.bounded(twice).await
    }

    /// Runs one statement that reads, and answers its rows as `row` reads them.
    pub(crate) async fn query<T>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
        row: impl Fn(&QueryResult) -> Result<T, DbErr>,
    ) -> Result<Vec<T>, PortError> {
        let statement = statement(sql, values);
        self.bounded(async { self.pool.query_all_raw(statement).await?.iter().map(row).collect() }).await
    }

    /// Runs one statement that writes, and answers the rows that it returns as `row` reads them.
    pub(crate) async fn write<T>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
        row: impl Fn(&QueryResult) -> Result<T, DbErr>,
    ) -> Result<Vec<T>, PortError> {
        let statement = statement(sql, values);
        self.bounded_write(async { self.pool.query_all_raw(statement).await?.iter().map(row).collect() }).await
    }

    /// Runs one statement that writes, and answers how many rows it changed.
    pub(crate) async fn execute(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<u64, PortError> {
        let statement = statement(sql, values);
        self.bounded_write(async { Ok(self.pool.execute_raw(statement).await?.rows_affected()) }).await
    }
}

pub(crate) fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

#[async_trait]
impl HealthCheck for PostgresDatabase {
    async fn check(&self) -> Result<(), PortError> {
        self.bounded(self.pool.ping()).await
    }
}
