//! Migrates the schema, and checks its version.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use sea_orm_migration::MigratorTrait;

use crate::database::file::{DatabaseFile, OpenError};
use crate::migrations::Migrator;

/// The schema that this build makes and expects: the number of its migrations.
pub const SCHEMA_VERSION: i32 = 3;

/// What [`migrate`] found and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; `None`: there was nothing.
    pub from: Option<i32>,
    /// The version now. Higher than [`SCHEMA_VERSION`] if a newer sessiond has been here that this
    /// one can work with.
    pub to: i32,
}

/// Brings the file to [`SCHEMA_VERSION`]. The lock on the file excludes other processes meanwhile.
///
/// # Errors
/// See [`OpenError`]. What failed halfway is rolled back.
pub async fn migrate(file: &DatabaseFile) -> Result<Migrated, OpenError> {
    let database = file.writer().await?;
    let from = version(&database).await.map_err(|source| file.setup_error(source))?;
    if let Some((found, needed)) = from
        && needed > SCHEMA_VERSION
    {
        return Err(OpenError::NewerSchema { found, needed, known: SCHEMA_VERSION });
    }
    let from = from.map(|(found, _)| found);
    if from.is_none_or(|found| found < SCHEMA_VERSION) {
        Migrator::up(&database, None).await.map_err(|source| file.setup_error(source))?;
    }
    database.close().await.map_err(|source| file.setup_error(source))?;
    Ok(Migrated { from, to: from.unwrap_or_default().max(SCHEMA_VERSION) })
}

/// Returns the version of the file's schema, if it has one. Changes nothing in it.
///
/// # Errors
/// See [`OpenError`].
pub async fn inspect(file: &DatabaseFile) -> Result<Option<i32>, OpenError> {
    let database = file.writer().await?;
    let version = version(&database).await.map_err(|source| file.setup_error(source))?;
    database.close().await.map_err(|source| file.setup_error(source))?;
    Ok(version.map(|(found, _)| found))
}

/// Returns the schema's version and the oldest version that may work with it; `None` if there is no
/// schema.
async fn version(database: &DatabaseConnection) -> Result<Option<(i32, i32)>, DbErr> {
    let query = |sql: &str| Statement::from_string(DbBackend::Sqlite, sql);
    let table =
        query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'sessiond_schema'");
    if database.query_one_raw(table).await?.is_none() {
        return Ok(None);
    }
    let row =
        database.query_one_raw(query("SELECT version, oldest_able FROM sessiond_schema")).await?;
    row.map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).transpose()
}

#[cfg(test)]
mod tests {
    use testkit::TemporaryDir;

    use super::*;

    #[tokio::test]
    async fn every_earlier_schema_is_brought_up_to_date_with_its_rows() {
        for earlier in 1..SCHEMA_VERSION {
            let dir = TemporaryDir::new();
            let url = format!("sqlite://{}", dir.path().join("sessions.db").display());
            let file = DatabaseFile::lock(&url).unwrap();
            let connection = file.writer().await.unwrap();
            Migrator::up(&connection, Some(earlier.unsigned_abs())).await.unwrap();
            let row = "INSERT INTO sessions (id, user_id, created_at, last_activity_at, expires_at,
                revoked_at)
                       VALUES (randomblob(16), randomblob(16), 1, 1, 2, 1)";
            connection.execute_unprepared(row).await.unwrap();
            connection.close().await.unwrap();

            let migrated = migrate(&file).await.unwrap();
            assert_eq!(migrated, Migrated { from: Some(earlier), to: SCHEMA_VERSION });
            let connection = file.writer().await.unwrap();
            let count = Statement::from_string(
                DbBackend::Sqlite,
                "SELECT count(*) FROM sessions WHERE revoked_at = 1",
            );
            let row = connection.query_one_raw(count).await.unwrap().unwrap();
            assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 1);
        }
    }

    #[test]
    fn the_schema_version_is_the_number_of_migrations() {
        assert_eq!(Migrator::migrations().len(), SCHEMA_VERSION as usize);
    }
}
