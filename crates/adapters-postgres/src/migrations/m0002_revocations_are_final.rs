use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0002_revocations_are_final"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// The database itself refuses to take back or rewrite a revocation, whoever asks for it. A binary of version 1 writes none, so
/// it goes on working.
const SQL: &str = "
ALTER TABLE sessions
    ADD COLUMN revoked_by text CHECK (char_length(revoked_by) <= 64),
    ADD CHECK (revoked_by IS NULL OR revoked_at IS NOT NULL);

CREATE FUNCTION sessiond_refuse_unrevoke() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.revoked_at, NEW.revoked_reason, NEW.revoked_by)
        IS DISTINCT FROM (OLD.revoked_at, OLD.revoked_reason, OLD.revoked_by) THEN
        RAISE EXCEPTION 'a revocation is final' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER sessions_refuse_unrevoke BEFORE UPDATE ON sessions
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL) EXECUTE FUNCTION sessiond_refuse_unrevoke();

UPDATE sessiond_schema SET version = 2;
";
