//! Migrates the schema, checks its version, and inspects the server.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sqlx::postgres::PgConnection;
use sea_orm::sqlx::{self, Connection, Executor, Row};
use sea_orm_migration::MigratorTrait;

use crate::database::connection::{OpenError, connect_for_migrations, connect_once};
use crate::migrations::Migrator;

/// The schema that this build makes and expects: the number of its migrations.
pub const SCHEMA_VERSION: i32 = 3;

/// How long one node waits for another to finish migrating.
const MIGRATION_WAIT: Duration = Duration::from_secs(120);

/// "sessiond" as a number: the advisory lock under which migrations run.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"sessiond");

/// What [`migrate`] found and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; `None`: there was nothing.
    pub from: Option<i32>,
    /// The version now. Higher than [`SCHEMA_VERSION`] if a newer sessiond has been here that this
    /// one can work beside.
    pub to: i32,
}

/// What a database says about itself.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Such as "15.18 (Debian 15.18-0+deb12u1)".
    pub server_version: String,
    /// The schema's version, if there is a schema.
    pub schema_version: Option<i32>,
    /// The server's wall clock.
    pub now: DateTime<Utc>,
    /// The transaction that has been open for longest, as far as this user may see.
    pub oldest_transaction: Option<OpenTransaction>,
}

/// A transaction that is open, in any database of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Whose: a process and its database, or a prepared transaction's name.
    pub of: String,
}

/// Of those that have an id: the revocation log is not pruned beyond them.
const OLDEST_TRANSACTION: &str = "SELECT since, name FROM (
        SELECT xact_start AS since,
            format('process %s of database %s (%s)', pid, datname, state) AS name
        FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL
        UNION ALL
        SELECT prepared, format('prepared transaction %L of database %s', gid, database)
        FROM pg_prepared_xacts
    ) AS transaction ORDER BY since LIMIT 1";

/// Brings the database to [`SCHEMA_VERSION`]. Any number of nodes may do so at once: one works, the
/// others wait for it.
///
/// The lock is held by a transaction on a connection of its own, so it ends with that connection,
/// and also works through a pooler that hands out connections by transaction. sea-orm-migration
/// itself takes none.
///
/// # Errors
/// See [`OpenError`]. What failed halfway is rolled back.
pub async fn migrate(url: &str) -> Result<Migrated, OpenError> {
    let mut guard = connect_once(url).await?;
    let wait = format!("SET LOCAL lock_timeout = {}", MIGRATION_WAIT.as_millis());
    let locked = async {
        guard.execute("BEGIN").await?;
        guard.execute(sqlx::AssertSqlSafe(wait)).await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(MIGRATION_LOCK)
            .execute(&mut guard)
            .await
    };
    tokio::time::timeout(2 * MIGRATION_WAIT, locked)
        .await
        .map_err(|_| OpenError::Timeout)?
        .map_err(OpenError::Connect)?;

    let from = version(&mut guard).await?;
    if let Some((found, needed)) = from
        && needed > SCHEMA_VERSION
    {
        return Err(OpenError::NewerSchema { found, needed, known: SCHEMA_VERSION });
    }
    let from = from.map(|(found, _)| found);
    if from.is_none_or(|found| found < SCHEMA_VERSION) {
        let database = connect_for_migrations(url).await?;
        let migrated = Migrator::up(&database, None).await;
        database.close().await?;
        migrated?;
    }
    guard.execute("COMMIT").await.map_err(OpenError::Connect)?;
    guard.close().await.map_err(OpenError::Connect)?;
    Ok(Migrated { from, to: from.unwrap_or_default().max(SCHEMA_VERSION) })
}

/// Requires that the schema is this build's, or one that it can work with.
///
/// # Errors
/// [`OpenError::OldSchema`], [`OpenError::NewerSchema`], or that the database cannot be asked.
pub(crate) async fn require_current(url: &str) -> Result<(), OpenError> {
    let mut connection = connect_once(url).await?;
    let version = version(&mut connection).await?;
    connection.close().await.map_err(OpenError::Connect)?;
    match version {
        Some((found, needed)) if needed > SCHEMA_VERSION => {
            Err(OpenError::NewerSchema { found, needed, known: SCHEMA_VERSION })
        }
        Some((found, _)) if found >= SCHEMA_VERSION => Ok(()),
        other => Err(OpenError::OldSchema {
            found: other.map(|(found, _)| found),
            known: SCHEMA_VERSION,
        }),
    }
}

/// Inspects the database and changes nothing.
///
/// # Errors
/// See [`OpenError`].
pub async fn inspect(url: &str) -> Result<Inspection, OpenError> {
    let mut connection = connect_once(url).await?;
    let schema_version = version(&mut connection).await?.map(|(found, _)| found);
    let row = sqlx::query("SELECT current_setting('server_version'), clock_timestamp()")
        .fetch_one(&mut connection)
        .await
        .map_err(OpenError::Connect)?;
    let oldest = sqlx::query(OLDEST_TRANSACTION)
        .fetch_optional(&mut connection)
        .await
        .map_err(OpenError::Connect)?;
    let oldest_transaction =
        oldest.map(|row| OpenTransaction { since: row.get(0), of: row.get(1) });
    let inspection = Inspection {
        server_version: row.get(0),
        schema_version,
        now: row.get(1),
        oldest_transaction,
    };
    connection.close().await.map_err(OpenError::Connect)?;
    Ok(inspection)
}

/// Returns the schema's version and the oldest version that may work with it; `None` if there is no
/// schema.
async fn version(connection: &mut PgConnection) -> Result<Option<(i32, i32)>, OpenError> {
    let read = async {
        let row = sqlx::query("SELECT to_regclass('sessiond_schema') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
        if !row.get::<bool, _>(0) {
            return Ok(None);
        }
        let row = sqlx::query("SELECT version, oldest_able FROM sessiond_schema")
            .fetch_optional(connection)
            .await?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    };
    read.await.map_err(OpenError::Connect)
}

#[cfg(test)]
mod tests {
    use testkit::servers::PostgresServer;

    use super::*;

    #[tokio::test]
    async fn every_earlier_schema_is_brought_up_to_date_with_its_rows() {
        for earlier in 1..SCHEMA_VERSION {
            let database = PostgresServer::shared().database();
            let connection = connect_for_migrations(&database.url()).await.unwrap();
            Migrator::up(&connection, Some(earlier.unsigned_abs())).await.unwrap();
            connection.close().await.unwrap();
            database.psql(
                "INSERT INTO sessions (id, user_id, created_at, last_activity_at, expires_at,
                    revoked_at)
                 VALUES (gen_random_uuid(), gen_random_uuid(), now(), now(), now() + '1 day',
                 now())",
            );
            let migrated = migrate(&database.url()).await.unwrap();
            assert_eq!(migrated, Migrated { from: Some(earlier), to: SCHEMA_VERSION });
            assert_eq!(
                inspect(&database.url()).await.unwrap().schema_version,
                Some(SCHEMA_VERSION)
            );
            assert_eq!(
                database.psql("SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL"),
                "1"
            );
        }
    }

    #[test]
    fn the_schema_version_is_the_number_of_migrations() {
        assert_eq!(Migrator::migrations().len(), SCHEMA_VERSION as usize);
    }
}
