//! How connections are made: options, settings of a session, time-outs, and why they fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection, Row};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr};
use thiserror::Error;

/// How long starting up waits for a connection.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement of an import may take.
const READING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request waits for a connection of the pool, a new one's handshake included.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(250);
/// How long the server works on one statement of a request.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(700);
/// How long a statement waits for a lock.
const LOCK_TIMEOUT: &str = "250ms";
/// How long the server leaves a transaction open in which no statement arrives.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "5s";
/// A connection that rested this long is pinged before it is used: it may have died meanwhile.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);
/// How long a connection in doubt may take to show that it lives.
const PING_TIMEOUT: Duration = Duration::from_millis(200);

/// Why the database cannot be used at all. One line each, without secrets.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The URL is none.
    #[error("not a PostgreSQL URL: {0}")]
    Url(#[source] sqlx::Error),
    /// The server did not let us in.
    #[error("cannot connect to PostgreSQL: {}", one_line(.0))]
    Connect(#[source] sqlx::Error),
    /// The server did not respond.
    #[error("PostgreSQL did not respond within {} seconds", START_TIMEOUT.as_secs())]
    Timeout,
    /// The server may only be read.
    #[error("this PostgreSQL server is a standby; connect to the primary")]
    Standby,
    /// A newer sessiond has been here, and this one is too old for what it left.
    #[error(
        "the database has schema version {found}, which needs a sessiond that knows schema \
            version {needed} or newer; \
             this one knows {known}: install a newer sessiond"
    )]
    NewerSchema {
        /// The version of the database.
        found: i32,
        /// The oldest version that may work with it.
        needed: i32,
        /// The version of this binary.
        known: i32,
    },
    /// The schema is not this build's, and migrating is switched off.
    #[error(
        "the database has {}, and this sessiond needs version {known}: run `sessiond migrate`, or \
         set store.migrate",
        found.map_or("no schema".to_owned(), |found| format!("schema version {found}"))
    )]
    OldSchema {
        /// The version of the database, if it has a schema.
        found: Option<i32>,
        /// The version of this binary.
        known: i32,
    },
    /// A statement of the set-up failed.
    #[error("cannot prepare the database: {0}")]
    Setup(#[from] DbErr),
}

/// Connects once, outside any pool, which reports what is wrong: a pool would only say that it
/// timed out.
pub(crate) async fn connect_once(url: &str) -> Result<PgConnection, OpenError> {
    let mut connection = connect(url).await?;
    let in_recovery = sqlx::query("SELECT pg_is_in_recovery()").fetch_one(&mut connection);
    let row = tokio::time::timeout(START_TIMEOUT, in_recovery)
        .await
        .map_err(|_| OpenError::Timeout)?
        .map_err(OpenError::Connect)?;
    if row.get::<bool, _>(0) { Err(OpenError::Standby) } else { Ok(connection) }
}

async fn connect(url: &str) -> Result<PgConnection, OpenError> {
    let options = parse(url)?.application_name("sessiond");
    let connect = PgConnection::connect_with(&options);
    tokio::time::timeout(START_TIMEOUT, connect)
        .await
        .map_err(|_| OpenError::Timeout)?
        .map_err(OpenError::Connect)
}

/// What calls have seen of the connections, for the pool's hooks to act on.
#[derive(Default)]
pub(crate) struct PoolHealth {
    silent: AtomicBool,
    broke_at: Mutex<Option<Instant>>,
}

impl PoolHealth {
    /// Whether the last call got no response in time.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// A connection broke under a call. Those that are idle in the pool since before then are
    /// probably dead too.
    pub(crate) fn connection_broke(&self) {
        *self.broke_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn must_ping_before_use(&self, idle_for: Duration) -> bool {
        let broke_at = *self.broke_at.lock().unwrap_or_else(PoisonError::into_inner);
        idle_for >= PING_AFTER_IDLE || broke_at.is_some_and(|at| idle_for >= at.elapsed())
    }
}

/// Pings within a bound: sqlx's own pings have none, and would lose the connection of the pool to a
/// server that is silent. An error makes the pool drop the connection without a farewell, which a
/// silent server would never read.
async fn bounded_ping(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(PING_TIMEOUT, connection.ping()).await {
        Ok(response) => response.map(|()| true),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

/// How statements are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statements {
    /// Prepared once a connection, by name, with the settings of the session.
    Prepared,
    /// Each in a transaction of its own, which prepares it and makes the settings that it depends
    /// on: for a pooler that hands out connections by transaction.
    ByTransaction,
}

/// What a commit waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The disk at least, and a standby where the server is configured so: a revocation that was
    /// acknowledged must survive a crash of the server, also where that is configured not to wait.
    Disk,
    /// Nothing.
    Memory,
}

/// Sets what a connection depends on. The defaults of server, database and role may differ, and a
/// pooler may not have passed on what a client asks for when it connects. Each is set for the
/// session, so that a later reload of the server's configuration does not change it.
///
/// - Isolation: a limit on a user's sessions holds in `read committed` only, where a statement sees
///   what was committed before it.
/// - The time-outs are within those of a call.
const SET_UP: &str = "SELECT set_config('default_transaction_isolation', 'read committed', false),
    set_config('lock_timeout', $1, false),
    set_config('idle_in_transaction_session_timeout', $2, false),
    set_config('statement_timeout', $3, false),
    set_config('synchronous_commit', CASE
        WHEN $4 THEN 'off'
        WHEN current_setting('synchronous_commit') = 'off' THEN 'on'
        ELSE current_setting('synchronous_commit') END, false),
    pg_is_in_recovery()";

/// The same for one transaction, whose connection may be another client's right after it: names of
/// prepared statements are that client's too, and are freed first. Isolation comes before anything
/// else.
pub(crate) const TRANSACTION_SET_UP: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DEALLOCATE ALL;
    SET LOCAL lock_timeout = '250ms';
    SET LOCAL statement_timeout = '700ms';
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit')
    = 'off'";

/// Makes a new connection of a pool fit for use.
///
/// # Errors
/// If the server does not let us, or is a standby: after a failover an address may lead to one.
async fn set_up(connection: &mut PgConnection, durability: Durability) -> Result<(), sqlx::Error> {
    let row = sqlx::query(SET_UP)
        .bind(LOCK_TIMEOUT)
        .bind(IDLE_IN_TRANSACTION_TIMEOUT)
        .bind(format!("{}ms", STATEMENT_TIMEOUT.as_millis()))
        .bind(durability == Durability::Memory)
        .fetch_one(connection)
        .await?;
    if row.get::<bool, _>("pg_is_in_recovery") {
        return Err(sqlx::Error::Configuration(Box::new(OpenError::Standby)));
    }
    Ok(())
}

/// Returns the pool that requests use.
pub(crate) async fn connect_pool(
    url: &str,
    pool_size: u32,
    health: Arc<PoolHealth>,
    durability: Durability,
    statements: Statements,
) -> Result<DatabaseConnection, OpenError> {
    let at_release = health.clone();
    let mut options = ConnectOptions::new(normalised(url));
    options
        .max_connections(pool_size)
        .connect_lazy(true)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(Duration::from_secs(30 * 60))
        .idle_timeout(Duration::from_secs(10 * 60))
        .test_before_acquire(false)
        .sqlx_logging(false)
        .set_application_name("sessiond")
        .map_sqlx_postgres_opts(move |options| through_poolers(options, statements))
        .map_sqlx_postgres_before_acquire(move |connection, meta| {
            let ping = health.must_ping_before_use(meta.idle_for);
            Box::pin(async move { if ping { bounded_ping(connection).await } else { Ok(true) } })
        })
        .map_sqlx_postgres_pool_opts(move |options| {
            let health = at_release.clone();
            // Otherwise each transaction makes its own settings.
            let has_session = statements == Statements::Prepared;
            let options = options.after_connect(move |connection, _| {
                Box::pin(async move {
                    if has_session { set_up(connection, durability).await } else { Ok(()) }
                })
            });
            options.after_release(move |connection, _| {
                let silent = health.silent.load(Ordering::Relaxed);
                Box::pin(
                    async move { if silent { bounded_ping(connection).await } else { Ok(true) } },
                )
            })
        });
    Ok(Database::connect(options).await?)
}

/// Connects once for migrations, which may take their time.
pub(crate) async fn connect_for_migrations(url: &str) -> Result<DatabaseConnection, OpenError> {
    let mut options = ConnectOptions::new(normalised(url));
    options
        .max_connections(1)
        .acquire_timeout(START_TIMEOUT)
        .sqlx_logging(false)
        .set_application_name("sessiond migrate")
        .map_sqlx_postgres_opts(|options| through_poolers(options, Statements::Prepared));
    Ok(Database::connect(options).await?)
}

/// Connects once without the right to write, to a database that need not be ours: a standby will
/// do.
pub(crate) async fn connect_for_reading(url: &str) -> Result<DatabaseConnection, OpenError> {
    // This one says what is wrong.
    connect(url).await?.close().await.map_err(OpenError::Connect)?;
    let mut options = ConnectOptions::new(normalised(url));
    options
        .max_connections(1)
        .acquire_timeout(START_TIMEOUT)
        .statement_timeout(READING_TIMEOUT)
        .sqlx_logging(false)
        .set_application_name("sessiond import")
        .map_sqlx_postgres_opts(|options| {
            options.options([("default_transaction_read_only", "on")])
        });
    Ok(Database::connect(options).await?)
}

/// Connects with what this URL says from now on; open connections stay.
pub(crate) fn set_url(
    pool: &DatabaseConnection,
    url: &str,
    statements: Statements,
) -> Result<(), OpenError> {
    let options = through_poolers(parse(url)?, statements)
        .application_name("sessiond")
        .disable_statement_logging();
    pool.get_postgres_connection_pool().set_connect_options(options);
    Ok(())
}

fn parse(url: &str) -> Result<PgConnectOptions, OpenError> {
    let options: PgConnectOptions = url.parse().map_err(OpenError::Url)?;
    // PgBouncer refuses a start-up parameter that it does not know; no value here has a fraction.
    Ok(options.extra_float_digits(None))
}

fn through_poolers(options: PgConnectOptions, statements: Statements) -> PgConnectOptions {
    let options = options.extra_float_digits(None);
    match statements {
        Statements::Prepared => options,
        Statements::ByTransaction => options.statement_cache_capacity(0),
    }
}

/// sea-orm knows `postgres://` only; libpq's users write `postgresql://` as well.
fn normalised(url: &str) -> String {
    url.strip_prefix("postgresql://")
        .map_or_else(|| url.to_owned(), |rest| format!("postgres://{rest}"))
}

/// Returns what the server said, without the client library's preamble, on one line.
fn one_line(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    text.replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait, DbBackend, Statement};
    use testkit::servers::PostgresServer;

    use super::*;

    /// As an operator, a role's defaults or a pooler that drops what clients ask for may have it.
    #[tokio::test]
    async fn connections_set_what_they_depend_on_and_ignore_defaults() {
        let database = PostgresServer::shared().database();
        let name = database.psql("SELECT current_database()");
        for (setting, default) in [
            ("synchronous_commit", "off"),
            ("default_transaction_isolation", "serializable"),
            ("lock_timeout", "0"),
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
        ] {
            database.psql(&format!("ALTER DATABASE {name} SET {setting} = '{default}'"));
        }
        for (durability, commits) in [(Durability::Disk, "on"), (Durability::Memory, "off")] {
            let health = Arc::new(PoolHealth::default());
            let pool = connect_pool(&database.url(), 1, health, durability, Statements::Prepared)
                .await
                .unwrap();
            let settings = "SELECT concat_ws(' ', current_setting('synchronous_commit'), \
                current_setting('transaction_isolation'), current_setting('lock_timeout'), \
                current_setting('statement_timeout'), \
                current_setting('idle_in_transaction_session_timeout'))";
            let row = pool
                .query_one_raw(Statement::from_string(DbBackend::Postgres, settings))
                .await
                .unwrap();
            let found: String = row.unwrap().try_get_by_index(0).unwrap();
            assert_eq!(found, format!("{commits} read committed 250ms 700ms 5s"));
            pool.close().await.unwrap();
        }
    }
}
