//! The pool of connections, and how statements run on it within their time-outs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::ports::{HealthCheck, PortError};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, QueryResult,
    Statement, TransactionTrait, Value,
};
use tokio::time::error::Elapsed;
use tracing::{Instrument, Span};

use crate::database::connection::{
    Durability, OpenError, PoolHealth, START_TIMEOUT, Statements, TRANSACTION_SET_UP, connect_pool,
    set_url,
};
use crate::database::error::{connection_broke, outcome_unknown, port_error};
use crate::database::schema;

/// How long one call may take altogether, a second attempt included. Under the second that a
/// request has.
const CALL_TIMEOUT: Duration = Duration::from_millis(900);

/// The pool of connections that the adapters of one PostgreSQL database share.
pub struct PostgresDatabase {
    pool: DatabaseConnection,
    health: Arc<PoolHealth>,
    statements: Statements,
}

/// How to connect.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Where requests go: the primary, or a pooler in front of it.
    pub url: &'a str,
    /// The primary itself, for migrations; the same, if there is no pooler.
    pub direct_url: &'a str,
    /// Connections at most.
    pub pool_size: u32,
    /// Whether statements may be prepared by name and settings made for a session; not so behind a
    /// pooler that hands out connections by transaction.
    pub prepared: bool,
    /// Whether to bring the schema up to date.
    pub migrate: bool,
}

impl<'a> Options<'a> {
    /// Connects without a pooler in between, and migrates.
    pub fn to(url: &'a str, pool_size: u32) -> Self {
        Self { url, direct_url: url, pool_size, prepared: true, migrate: true }
    }
}

impl PostgresDatabase {
    /// Connects, and brings the schema up to date first, or requires that it is.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: Options<'_>) -> Result<Self, OpenError> {
        if options.migrate {
            schema::migrate(options.direct_url).await?;
        } else {
            schema::require_current(options.direct_url).await?;
        }
        let statements =
            if options.prepared { Statements::Prepared } else { Statements::ByTransaction };
        let health = Arc::new(PoolHealth::default());
        let pool = connect_pool(
            options.url,
            options.pool_size,
            health.clone(),
            Durability::Disk,
            statements,
        )
        .await?;
        Ok(Self { pool, health, statements })
    }

    /// Connects with what this URL says from now on, such as another password. Open connections
    /// stay.
    ///
    /// # Errors
    /// [`OpenError::Url`] if it is none.
    pub fn set_url(&self, url: &str) -> Result<(), OpenError> {
        set_url(&self.pool, url, self.statements)
    }

    /// More connections to the same database, for what must not wait for requests. Their commits
    /// survive the client, and need not survive the server.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) async fn open_beside(url: &str, pool_size: u32) -> Result<Self, OpenError> {
        let health = Arc::new(PoolHealth::default());
        let statements = Statements::Prepared;
        let pool =
            connect_pool(url, pool_size, health.clone(), Durability::Memory, statements).await?;
        Ok(Self { pool, health, statements })
    }

    /// Returns the key that signs what shared caches keep, the same for all nodes of this database:
    /// made by a migration, at random.
    ///
    /// It is read while a node starts, and tried again for five seconds: requests give up on a
    /// connection sooner than a busy machine opens the first one.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the database did not respond; [`PortError::Corrupt`]
    /// if the key is gone.
    pub async fn cache_key(&self) -> Result<[u8; 32], PortError> {
        let started = Instant::now();
        let values = loop {
            let value = |row: &QueryResult| row.try_get_by_index::<Vec<u8>>(0);
            match self
                .query("SELECT value FROM sessiond_secret WHERE name = 'cache'", [], value)
                .await
            {
                Err(PortError::Unavailable(_)) if started.elapsed() < START_TIMEOUT => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                response => break response?,
            }
        };
        let value = values.into_iter().next().and_then(|value| value.try_into().ok());
        value.ok_or_else(|| {
            PortError::corrupt("sessiond_secret: there is no key of 32 bytes by the name cache")
        })
    }

    /// Closes every connection of the pool.
    pub async fn close(&self) {
        let _ = self.pool.close_by_ref().await;
    }

    /// Runs one statement and returns its rows.
    async fn rows(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let span = span(&statement);
        self.rows_of(statement).instrument(span).await
    }

    async fn rows_of(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self.statements {
            Statements::Prepared => self.pool.query_all_raw(statement).await,
            Statements::ByTransaction => {
                let pool = self.pool.clone();
                in_a_task(async move {
                    let transaction = begin(&pool).await?;
                    let rows = transaction.query_all_raw(statement).await?;
                    transaction.commit().await?;
                    Ok(rows)
                })
                .await
            }
        }
    }

    /// Runs one statement within [`CALL_TIMEOUT`]. Cancelling a single statement outside a
    /// transaction leaves nothing half done; sqlx brings the connection back in step before its
    /// next use.
    pub(crate) async fn bounded<T>(
        &self,
        statement: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, PortError> {
        match self.in_time(statement).await {
            Ok(result) => result.map_err(port_error),
            Err(elapsed) => Err(PortError::unavailable(elapsed)),
        }
    }

    /// The same for a statement that changes something: without a response, it is unknown whether
    /// it did.
    async fn bounded_write<T>(
        &self,
        statement: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, PortError> {
        match self.in_time(statement).await {
            Ok(Err(error)) if outcome_unknown(&error) => {
                // A restarted server has left more dead connections in the pool, each of which
                // would cost a write.
                self.health.connection_broke();
                Err(PortError::outcome_unknown(error))
            }
            Ok(result) => result.map_err(port_error),
            Err(elapsed) => Err(PortError::outcome_unknown(elapsed)),
        }
    }

    async fn in_time<T>(&self, statement: impl Future<Output = T>) -> Result<T, Elapsed> {
        let result = tokio::time::timeout(CALL_TIMEOUT, statement).await;
        self.health.set_silent(result.is_err());
        result
    }

    /// Runs one statement that reads, and returns its rows. Retries once, without back-off, where
    /// the connection broke: a restarted server leaves dead connections in the pool, and the pool
    /// reconnects.
    pub(crate) async fn read(&self, statement: Statement) -> Result<Vec<QueryResult>, PortError> {
        let twice = async {
            match self.rows(statement.clone()).await {
                Err(error) if connection_broke(&error) => {
                    self.health.connection_broke();
                    self.rows(statement).await
                }
                result => result,
            }
        };
        self.bounded(twice).await
    }

    /// Runs one statement that reads, and returns its rows as `row` reads them.
    pub(crate) async fn query<T>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
        row: impl Fn(&QueryResult) -> Result<T, DbErr>,
    ) -> Result<Vec<T>, PortError> {
        let statement = statement(sql, values);
        self.bounded(async { self.rows(statement).await?.iter().map(row).collect() }).await
    }

    /// Runs one statement that writes, and returns the rows that it returns as `row` reads them.
    pub(crate) async fn write<T>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
        row: impl Fn(&QueryResult) -> Result<T, DbErr>,
    ) -> Result<Vec<T>, PortError> {
        let statement = statement(sql, values);
        self.bounded_write(async { self.rows(statement).await?.iter().map(row).collect() }).await
    }

    /// Runs one statement that writes, and returns how many rows it changed.
    pub(crate) async fn execute(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, PortError> {
        let statement = statement(sql, values);
        let span = span(&statement);
        let execute = async {
            match self.statements {
                Statements::Prepared => self.pool.execute_raw(statement).await,
                Statements::ByTransaction => {
                    let pool = self.pool.clone();
                    in_a_task(async move {
                        let transaction = begin(&pool).await?;
                        let executed = transaction.execute_raw(statement).await?;
                        transaction.commit().await?;
                        Ok(executed)
                    })
                    .await
                }
            }
        };
        self.bounded_write(async { Ok(execute.await?.rows_affected()) }.instrument(span)).await
    }
}

/// Begins a transaction for one statement: behind a pooler that hands out connections by
/// transaction, what a statement takes (preparing it, its parameters, the settings that it depends
/// on) must be in one.
async fn begin(pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let transaction = pool.begin().await?;
    transaction.execute_unprepared(TRANSACTION_SET_UP).await?;
    Ok(transaction)
}

/// Runs in a task: a transaction that is cancelled while it begins leaves its connection within it;
/// a task is not cancelled.
async fn in_a_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, DbErr>> + Send + 'static,
) -> Result<T, DbErr> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(DbErr::Custom(error.to_string())))
}

/// What keeps requests from being served though the server responds: a standby, or a primary that
/// refuses writes.
const FIND_TROUBLE: &str = "SELECT CASE
    WHEN pg_is_in_recovery() THEN 'the server is a standby'
    WHEN current_setting('transaction_read_only')::boolean
        THEN 'the server refuses writes (default_transaction_read_only)'
    WHEN NOT (
            has_table_privilege('sessions', 'SELECT') AND has_table_privilege('sessions', 'INSERT')
            AND has_table_privilege('sessions', 'UPDATE')
            AND has_table_privilege('sessions', 'DELETE')
        )
        THEN format('the role %s may not read and write the table sessions', current_user)
    END";

/// Returns the span of a statement, at `debug`. The text has placeholders and no values.
fn span(statement: &Statement) -> Span {
    tracing::debug_span!("statement", db.system = "postgresql", db.query.text = statement.sql)
}

pub(crate) fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

#[async_trait]
impl HealthCheck for PostgresDatabase {
    async fn check(&self) -> Result<(), PortError> {
        let trouble = |row: &QueryResult| row.try_get_by_index::<Option<String>>(0);
        match self.query(FIND_TROUBLE, [], trouble).await?.pop().flatten() {
            Some(trouble) => Err(PortError::unavailable(trouble)),
            None => Ok(()),
        }
    }
}
