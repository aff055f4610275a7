//! The schema, as migrations. Each is a file of SQL that is named here; one that was released is
//! never edited.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::async_trait::async_trait;
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

/// Every migration, oldest first. Each runs in a transaction of its own.
const MIGRATIONS: [SqlMigration; 3] = [
    SqlMigration { name: "0001_sessions", sql: include_str!("0001_sessions.sql") },
    SqlMigration { name: "0002_session_events", sql: include_str!("0002_session_events.sql") },
    SqlMigration { name: "0003_revocation_log", sql: include_str!("0003_revocation_log.sql") },
];

/// Runs the migrations and records in the database which have been run.
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        MIGRATIONS.map(|migration| Box::new(migration) as Box<dyn MigrationTrait>).into()
    }
}

/// One file of SQL.
struct SqlMigration {
    name: &'static str,
    sql: &'static str,
}

impl MigrationName for SqlMigration {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
impl MigrationTrait for SqlMigration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.sql).await?;
        Ok(())
    }

    /// sea-orm-migration would begin one for PostgreSQL only.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
