//! The schema's history. A file that was released is never edited.

use sea_orm_migration::{MigrationTrait, MigratorTrait};

mod m0001_create_sessions;
mod m0002_revocations_are_final;
mod m0003_session_limits;
mod m0004_time_outs_and_labels;
mod m0005_events;
mod m0006_revocation_log;
mod m0007_database_timeline;
mod m0008_merged_on_a_timeline;
mod m0009_one_look_at_what_an_update_changed;
mod m0010_in_any_surroundings;
mod m0011_lives_of_a_database;
mod m0012_room_for_activity;
mod m0013_what_an_idempotency_key_was_given_for;
mod m0014_revoked_and_deleted;

/// Every migration, oldest first.
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_create_sessions::Migration),
            Box::new(m0002_revocations_are_final::Migration),
            Box::new(m0003_session_limits::Migration),
            Box::new(m0004_time_outs_and_labels::Migration),
            Box::new(m0005_events::Migration),
            Box::new(m0006_revocation_log::Migration),
            Box::new(m0007_database_timeline::Migration),
            Box::new(m0008_merged_on_a_timeline::Migration),
            Box::new(m0009_one_look_at_what_an_update_changed::Migration),
            Box::new(m0010_in_any_surroundings::Migration),
            Box::new(m0011_lives_of_a_database::Migration),
            Box::new(m0012_room_for_activity::Migration),
            Box::new(m0013_what_an_idempotency_key_was_given_for::Migration),
            Box::new(m0014_revoked_and_deleted::Migration),
        ]
    }
}
