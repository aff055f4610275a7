//! The schema's history. A file that was released is never edited.

use sea_orm_migration::{MigrationTrait, MigratorTrait};

mod m0001_create_sessions;
mod m0002_revocations_are_final;
mod m0003_time_outs_and_labels;
mod m0004_events;
mod m0005_revocation_log;
mod m0006_in_any_surroundings;
mod m0007_revocations_of_no_session;
mod m0008_what_an_idempotency_key_was_given_for;
mod m0009_revoked_and_deleted;

/// Every migration, oldest first.
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_create_sessions::Migration),
            Box::new(m0002_revocations_are_final::Migration),
            Box::new(m0003_time_outs_and_labels::Migration),
            Box::new(m0004_events::Migration),
            Box::new(m0005_revocation_log::Migration),
            Box::new(m0006_in_any_surroundings::Migration),
            Box::new(m0007_revocations_of_no_session::Migration),
            Box::new(m0008_what_an_idempotency_key_was_given_for::Migration),
            Box::new(m0009_revoked_and_deleted::Migration),
        ]
    }
}
