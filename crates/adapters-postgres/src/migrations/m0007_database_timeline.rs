use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0007_database_timeline"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// Which history of this database transactions are numbered in. The table is unlogged, so that it is empty after a crash, after a promotion
/// and after a restore: numbers of transactions that were lost are then used again, and nothing that was counted by them before means
/// anything any more (`docs/coherence.md`). The next look gives the history that begins a number of its own, at random.
const SQL: &str = "
CREATE UNLOGGED TABLE database_timeline (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    id      integer NOT NULL
);
COMMENT ON TABLE database_timeline IS 'unlogged on purpose: empty after a crash, a promotion, a restore';
INSERT INTO database_timeline (id) VALUES (('x' || left(md5(gen_random_uuid()::text), 8))::bit(32)::integer);

UPDATE sessiond_schema SET version = 7;
";
