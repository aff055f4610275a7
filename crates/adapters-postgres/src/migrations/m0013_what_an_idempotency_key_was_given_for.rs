//! An idempotency key is kept with the hash of the request that it was given for.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0013_what_an_idempotency_key_was_given_for"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

const SQL: &str = "
ALTER TABLE sessions ADD COLUMN idempotency_hash bytea CHECK (length(idempotency_hash) = 32);

UPDATE sessiond_schema SET version = 13;
";
