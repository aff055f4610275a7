//! The one writing connection and the reading ones, and the time-outs of their statements.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use domain::coherence::Incarnation;
use domain::ports::{HealthCheck, PortError};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, QueryResult,
    RuntimeErr, SqlErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
    Value, sqlx,
};
use tracing::{Instrument, Span};

use crate::database::file::{DatabaseFile, OpenError};
use crate::database::schema;

/// How long one call may take altogether. Under the second that a request has.
const CALL_TIMEOUT: Duration = Duration::from_millis(900);

/// The connections that the adapters of one SQLite file share: one that writes, several that read.
pub struct SqliteDatabase {
    writer: DatabaseConnection,
    readers: DatabaseConnection,
    incarnation: Incarnation,
    file: DatabaseFile,
}

/// The number that the next entry of the revocation log gets, as an expression.
pub(crate) const NEXT_SEQUENCE: &str =
    "(SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'revocation_log')";

/// What is done inside a transaction.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, DbErr>> + Send + 'a>>;

impl SqliteDatabase {
    /// Brings the schema up to date and opens the file with `readers` reading connections.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(file: DatabaseFile, readers: u32) -> Result<Self, OpenError> {
        schema::migrate(&file).await?;
        let writer = file.writer().await?;
        let readers = file.readers(readers).await?;
        // A file may be an older copy of itself: what was cached before it was opened is not
        // trusted.
        let random =
            rows(&readers, statement("SELECT random()", []), |row| row.try_get_by_index::<i64>(0))
                .await;
        let random = random.map_err(|error| file.setup_error(error))?;
        let system = random.first().copied().unwrap_or_default().cast_unsigned();
        Ok(Self {
            writer,
            readers,
            incarnation: Incarnation { system, database: 0, life: 0 },
            file,
        })
    }

    /// Returns which life of the file this is: another one each time that it is opened.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Returns the key that signs what shared caches keep, the same for all nodes of this database:
    /// made by a migration, at random.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the database did not respond; [`PortError::Corrupt`]
    /// if the key is gone.
    pub async fn cache_key(&self) -> Result<[u8; 32], PortError> {
        let value = |row: &QueryResult| row.try_get_by_index::<Vec<u8>>(0);
        let values =
            self.query("SELECT value FROM sessiond_secret WHERE name = 'cache'", [], value).await?;
        let value = values.into_iter().next().and_then(|value| value.try_into().ok());
        value.ok_or_else(|| {
            PortError::corrupt("sessiond_secret: there is no key of 32 bytes by the name cache")
        })
    }

    /// Closes every connection, which also folds the write-ahead log into the file.
    pub async fn close(&self) {
        let _ = self.readers.close_by_ref().await;
        let _ = self.writer.close_by_ref().await;
    }

    pub(crate) fn readers(&self) -> &DatabaseConnection {
        &self.readers
    }

    /// Runs one statement that reads, and returns its rows as `row` reads them.
    pub(crate) async fn query<T>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
        row: impl Fn(&QueryResult) -> Result<T, DbErr>,
    ) -> Result<Vec<T>, PortError> {
        bounded(rows(&self.readers, statement(sql, values), row)).await
    }

    /// Runs one statement that writes, and returns the rows that it returns as `row` reads them.
    pub(crate) async fn write<T>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
        row: impl Fn(&QueryResult) -> Result<T, DbErr>,
    ) -> Result<Vec<T>, PortError> {
        bounded_write(rows(&self.writer, statement(sql, values), row)).await
    }

    /// Runs one statement that writes, and returns how many rows it changed.
    pub(crate) async fn execute(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, PortError> {
        let statement = statement(sql, values);
        let span = span(&statement);
        let execute = async { Ok(self.writer.execute_raw(statement).await?.rows_affected()) };
        bounded_write(execute.instrument(span)).await
    }

    /// Runs `work` in a transaction that is the only writer from its beginning, and commits what
    /// went well.
    ///
    /// In a task of its own: a caller who goes away must not leave the one writing connection
    /// inside a transaction.
    pub(crate) async fn transaction<T: Send + 'static>(
        &self,
        work: impl for<'a> FnOnce(&'a DatabaseTransaction) -> Work<'a, T> + Send + 'static,
    ) -> Result<T, PortError> {
        let writer = self.writer.clone();
        let done = tokio::spawn(async move {
            let immediate = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..Default::default()
            };
            let transaction = writer.begin_with_options(immediate).await?;
            let result = work(&transaction).await?;
            transaction.commit().await?;
            Ok(result)
        });
        // The task goes on without us.
        bounded_write(async {
            done.await.unwrap_or_else(|error| Err(DbErr::Custom(error.to_string())))
        })
        .await
    }
}

async fn rows<T>(
    connection: &DatabaseConnection,
    statement: Statement,
    row: impl Fn(&QueryResult) -> Result<T, DbErr>,
) -> Result<Vec<T>, DbErr> {
    let span = span(&statement);
    connection.query_all_raw(statement).instrument(span).await?.iter().map(row).collect()
}

/// Returns the span of a statement, at `debug`. The text has placeholders and no values.
fn span(statement: &Statement) -> Span {
    tracing::debug_span!("statement", db.system = "sqlite", db.query.text = statement.sql)
}

pub(crate) fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

/// Waits for a statement that reads.
pub(crate) async fn bounded<T>(
    statement: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, PortError> {
    match tokio::time::timeout(CALL_TIMEOUT, statement).await {
        Ok(result) => result.map_err(port_error),
        Err(elapsed) => Err(PortError::unavailable(elapsed)),
    }
}

/// Waits for a statement that writes: without a response, it is unknown whether it did.
async fn bounded_write<T>(
    statement: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, PortError> {
    match tokio::time::timeout(CALL_TIMEOUT, statement).await {
        Ok(result) => result.map_err(port_error),
        Err(elapsed) => Err(PortError::outcome_unknown(elapsed)),
    }
}

fn port_error(error: DbErr) -> PortError {
    if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
        return PortError::conflict(error);
    }
    match &error {
        DbErr::Type(_) | DbErr::Json(_) => PortError::corrupt(error),
        DbErr::Query(RuntimeErr::SqlxError(source))
            if matches!(
                **source,
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_)
            ) =>
        {
            PortError::corrupt(error)
        }
        _ if is_refused_value(&error) => PortError::corrupt(error),
        _ => PortError::unavailable(error),
    }
}

/// Returns whether the database refuses a value, which no later attempt changes: SQLITE_CONSTRAINT
/// (but not of uniqueness, which is a conflict), SQLITE_MISMATCH, SQLITE_TOOBIG, SQLITE_RANGE, each
/// with its extended codes.
fn is_refused_value(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(source)) | DbErr::Query(RuntimeErr::SqlxError(source))) =
        error
    else {
        return false;
    };
    let code = source.as_database_error().and_then(|error| error.code());
    let primary = code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
    matches!(primary, Some(18 | 19 | 20 | 25))
}

#[async_trait]
impl HealthCheck for SqliteDatabase {
    async fn check(&self) -> Result<(), PortError> {
        if !self.file.is_in_place() {
            return Err(PortError::unavailable(
                "the file was deleted or replaced while it is open",
            ));
        }
        bounded(self.readers.ping()).await
    }
}
