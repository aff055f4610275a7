use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0008_merged_on_a_timeline"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// What a node has merged is told by numbers of transactions, which mean something on their own timeline only: after a failover, a node
/// that had seen high numbers before it was taken to know of changes with lower ones after it.
const SQL: &str = "
ALTER TABLE node_lease ADD COLUMN applied_timeline integer;
COMMENT ON COLUMN node_lease.applied_timeline IS 'the database_timeline that applied is of';

UPDATE sessiond_schema SET version = 8;
";
