//! The ports of a store on one SQLite file, by sea-orm: the embedded default.
//!
//! The file belongs to one process, which holds an operating-system lock on `<file>.lock`. One connection writes, several
//! read (WAL); a commit is on the disk before it is acknowledged (`synchronous = FULL`).
//!
//! To change the schema: a new file in `migrations/`, one line in `migrations/mod.rs`, and [`SCHEMA_VERSION`] one higher.

mod database_file;
mod migrations;
mod schema;
mod session_row;
mod sqlite_database;
mod sqlite_event_outbox;
mod sqlite_revocation_feed;
mod sqlite_session_repository;
mod sqlite_session_retention;

pub use database_file::{DatabaseFile, OpenError};
pub use schema::{Migrated, SCHEMA_VERSION, inspect, migrate};
pub use sqlite_database::SqliteDatabase;
pub use sqlite_event_outbox::SqliteEventOutbox;
pub use sqlite_revocation_feed::SqliteRevocationFeed;
pub use sqlite_session_repository::SqliteSessionRepository;
pub use sqlite_session_retention::SqliteSessionRetention;
